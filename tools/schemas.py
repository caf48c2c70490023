"""Write the published JSON Schemas from the dataclasses that read the documents; with --check, say whether they are current.

python tools/schemas.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evident import codec
from evident.appraisal.policy import Policy
from evident.appraisal.profile import Profile
from evident.image.spec import ImageSpec
from evident.lifecycle import document_schema
from evident.reference_values import documents
from evident.reports import json_report

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
BASE = "https://evident.example/schemas"

SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "deployment.json": lambda: document_schema.schema(f"{BASE}/deployment.json"),
    "image.json": lambda: codec.json_schema(ImageSpec, title="Evident image specification, version 1", identifier=f"{BASE}/image.json"),
    "policy.json": lambda: codec.json_schema(Policy, title="Evident appraisal policy, version 1", identifier=f"{BASE}/policy.json"),
    "profile.json": lambda: codec.json_schema(Profile, title="Evident platform profile", identifier=f"{BASE}/profile.json"),
    "reference-values.json": documents.schema,
    "statement.json": json_report.schema,
}


def text(name: str) -> str:
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    stale = [name for name in SCHEMAS if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != text(name)]
    for name in stale:
        sys.stdout.write(f"{name}: {'stale' if '--check' in arguments else 'written'}\n")
        if "--check" not in arguments:
            (FOLDER / name).write_text(text(name))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
