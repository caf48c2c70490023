"""Without Google's SDK everything but talking to Google works, and that says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"google", "requests", "grpc", "proto"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCKED + program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_everything_can_be_imported() -> None:
    rooms = "evident.cli.main, evident.platforms.registry, evident.lifecycle.deployment"
    names = ("requests", "clients", "errors", "executor", "images", "launch", "outline", "preflight", "upload")
    run(f"import {rooms}, {', '.join(f'evident.platforms.gcp.{name}' for name in names)}")


def test_doctor_says_what_is_missing() -> None:
    words = ["doctor", "--platform", "gcp", "--set", "zone=a-b-c", "--set", "type=b", "--set", "image=c"]
    program = f"from evident.cli.main import main; main({words})"
    result = subprocess.run([sys.executable, "-c", BLOCKED + program], capture_output=True, text=True, check=False)
    assert "pip install 'evident[gcp]'" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("call", ["clients.connect(None, 'a-b-c')", "launch.cloud({'zone': 'a-b-c'}, None)"])
def test_connecting_says_what_is_missing(call: str) -> None:
    program = f"""
from evident.errors import Unsupported
from evident.platforms.gcp import clients, launch
try:
    {call}
except Unsupported as error:
    print(error.code, error.findings[0].remedy)
"""
    assert run(program) == "gcp.sdk Install it: pip install 'evident[gcp]'."


def test_nothing_loads_the_sdk_before_it_is_needed() -> None:
    program = "import sys, evident.cli.main, evident.platforms.registry, evident.platforms.gcp.launch; print('google' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
