"""The published schemas are those of the code that reads the documents."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from evident import codec
from evident.appraisal.policy import STRICT
from evident.cli.documents import read_document
from evident.platforms.registry import PROFILES

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = REPOSITORY / "docs" / "schemas"


def test_the_published_schemas_are_current() -> None:
    result = subprocess.run([sys.executable, "tools/schemas.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + "\nRun tools/schemas.py."


@pytest.mark.parametrize("name", [path.name for path in FOLDER.glob("*.json")])
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads((FOLDER / name).read_text()))


@pytest.mark.parametrize("name", ["deployment.yaml", "shop.yaml"])
def test_an_example_tells_editors_its_schema_and_satisfies_it(name: str) -> None:
    path = REPOSITORY / "examples" / name
    told = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
    assert told
    schema = json.loads((path.parent / told[1]).read_text())
    assert schema["$id"].endswith(Path(told[1]).name)
    jsonschema.Draft202012Validator(schema).validate(read_document(path, "example"))


def test_documents_satisfy_their_schema() -> None:
    policy = jsonschema.Draft202012Validator(json.loads((FOLDER / "policy.json").read_text()))
    policy.validate(codec.encode(STRICT))
    assert not policy.is_valid({**codec.encode(STRICT), "allow_debg": True})
    profile = jsonschema.Draft202012Validator(json.loads((FOLDER / "profile.json").read_text()))
    for candidate in PROFILES:
        profile.validate(codec.encode(candidate))
