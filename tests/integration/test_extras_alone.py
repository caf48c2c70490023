"""Each cloud's extra brings what its folder needs, and works without the others."""

from __future__ import annotations

import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

from evident.cli.main import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
SDK = {"aws": "boto3", "azure": "azure.mgmt.compute", "gcp": "google.cloud.compute_v1"}


@pytest.mark.slow
@pytest.mark.parametrize("extra", SDK)
def test_the_extra_installs_alone(tmp_path: Path, extra: str) -> None:
    environment = tmp_path / extra
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{REPOSITORY}[{extra}]"]
    subprocess.run(install, check=True)
    program = (
        "import importlib, pathlib, evident\n"
        f"for path in sorted((pathlib.Path(evident.__file__).parent / 'platforms' / {extra!r}).glob('*.py')):\n"
        f"    importlib.import_module('evident.platforms.{extra}.' + path.stem)\n"
        f"importlib.import_module({SDK[extra]!r})\n"
    )
    result = subprocess.run([python, "-c", program], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    started = subprocess.run([environment / "bin" / "evident", "--help"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    document = str(REPOSITORY / "examples" / "deployment.yaml")
    for words in (["plan", document], ["plan", document, "-o", "json"], ["doctor"], ["fleet"], ["verify", document]):
        told = subprocess.run([environment / "bin" / "evident", *words], check=False, capture_output=True, text=True, cwd=tmp_path)
        assert (told.returncode, "cli.packages" in told.stderr) == (2, True), told.stderr
        assert "pip install 'evident[cli]'" in told.stderr


def test_the_command_line_knows_what_its_extra_installs() -> None:
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cli"]
    names = {re.split("[><=]", each)[0] for each in extra}
    assert {"yaml" if name == "pyyaml" else name for name in names} == PACKAGES
