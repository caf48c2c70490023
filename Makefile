# Two commands for a fresh machine: `make demo` does the main job, `make test` passes the tests.
# Both make .venv first; `evident` is then at .venv/bin/evident.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test check install clean

demo: $(READY)
	$(VENV)/bin/evident demo

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

install: $(READY)

$(READY): pyproject.toml requirements.txt tools/make-venv
	tools/make-venv $(PYTHON) $(VENV)
	touch $(READY)

clean:
	rm -rf $(VENV) out
