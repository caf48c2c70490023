# Two commands for a fresh machine: `make demo` does the main job, `make test` passes the tests.
# Both make .venv first; `evident` is then at .venv/bin/evident.

PYTHON ?= python3
VENV := .venv

.PHONY: demo test boot lives install clean

demo: $(VENV)/.installed
	$(VENV)/bin/evident demo

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile -m "not boot"

# Whole machines, power-on to served page, one per core: a quarter of an hour under emulation. Needs tools/install-debian.
boot: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile -m "boot and not life" tests/boot

# Deployments by document, each with several boots: updates, rollbacks, crashes in between. As long again.
lives: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile -m life tests/boot

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.txt tools/install
	tools/install $(PYTHON) $(VENV) requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	tools/install $(PYTHON) $(VENV) requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) out
