"""Without boto3 everything but talking to AWS works, and that says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import importlib.abc, importlib.util, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"boto3", "botocore", "s3transfer"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "boto3" else real(name, *rest)
"""


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCKED + program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("module", ["cli.main", "platforms.registry", "platforms.cloud", "platforms.resources", "lifecycle.deployment"])
def test_core_and_command_line_start(module: str) -> None:
    run(f"import evident.{module}")


def test_the_builders_need_no_sdk_either() -> None:
    run("import evident.platforms.aws.requests, evident.platforms.aws.clients, evident.platforms.aws.executor")


def test_doctor_says_what_is_missing() -> None:
    words = ["doctor", "--platform", "aws", "--set", "type=a", "--set", "subnet=b", "--set", "image=c"]
    program = f"from evident.cli.main import main; main({words})"
    command = [sys.executable, "-c", BLOCKED + program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'evident[aws]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_connecting_says_what_is_missing() -> None:
    program = """
from evident.errors import Unsupported
from evident.platforms.aws.clients import connect
try:
    connect("eu-west-1")
except Unsupported as error:
    print(error.code, error.findings[0].remedy)
"""
    assert run(program) == "aws.sdk Install it: pip install 'evident[aws]'."


def test_nothing_loads_the_sdk_before_it_is_needed() -> None:
    program = "import sys, evident.cli.main, evident.platforms.registry, evident.platforms.aws.clients; print('boto3' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
