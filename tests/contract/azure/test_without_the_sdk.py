"""Without Microsoft's SDK everything but talking to Azure works, and that says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"azure", "msal"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCKED + program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["cli.main", "platforms.registry", "platforms.azure.launch", "platforms.azure.outline"])
def test_core_and_command_line_start(module: str) -> None:
    run(f"import evident.{module}")


def test_connecting_says_what_is_missing() -> None:
    program = """
from evident.errors import Unsupported
from evident.platforms.azure.clients import connect
try:
    connect({"subscription": "s", "group": "g"})
except Unsupported as error:
    print(error.code, error.findings[0].remedy)
"""
    assert run(program) == "azure.sdk Install it: pip install 'evident[azure]'."


def test_doctor_says_what_is_missing() -> None:
    words = ["doctor", "--platform", "azure"]
    for name in ("subscription", "group", "region", "type", "image"):
        words += ["--set", f"{name}=x"]
    command = [sys.executable, "-c", BLOCKED + f"from evident.cli.main import main; main({words})"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'evident[azure]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_loads_the_sdk_before_it_is_needed() -> None:
    program = "import sys, evident.cli.main, evident.platforms.registry, evident.platforms.azure.launch; print('azure' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
