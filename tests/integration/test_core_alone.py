"""The verifying core works where nothing but its two libraries is installed (rule 1 of the architecture)."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("evidence", "endorsements", "verification", "reference_values", "appraisal")

PROGRAM = """
import importlib, pathlib, sys
before = set(sys.modules)  # what the interpreter brings along, such as a distribution's sitecustomize
import evident
root = pathlib.Path(evident.__file__).parent
for room in sys.argv[1:]:
    for path in sorted((root / room).rglob("*.py")):
        name = ".".join(("evident", *path.relative_to(root).with_suffix("").parts))
        importlib.import_module(name.removesuffix(".__init__"))
foreign = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {
    "evident", "cryptography", "_cffi_backend", "cffi", "cbor2", "_cbor2", "__main__", "__mp_main__"}
print(sorted(name for name in foreign if not name.startswith("_")))
"""


def test_core_imports_with_its_two_libraries_alone(tmp_path: Path) -> None:
    environment = tmp_path / "core"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REPOSITORY], check=True)
    installed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    names = {line.split("==")[0].lower() for line in installed.splitlines()} - {"pip", "setuptools", "evident"}
    assert names <= {"cryptography", "cbor2", "cffi", "pycparser"}, names
    result = subprocess.run([python, "-c", PROGRAM, *ROOMS], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
