"""Files of reference values: strict JSON of a `ReferenceSet` (schema: ``docs/schemas/reference-values.json``)."""

from __future__ import annotations

import json
from typing import Any

from evident import codec
from evident.reference_values.model import ReferenceSet

WHAT = "reference"
SCHEMA_ID = "https://evident.example/schemas/reference-values.json"


def load(data: bytes) -> ReferenceSet:
    """Parse a file of reference values, or another tool's: expected PCRs, or the measurements of systemd-pcrlock.

    Raises `Malformed` with the member at fault.
    """
    value = codec.loads(data, WHAT)
    if isinstance(value, dict) and "version" in value:
        return codec.decode(ReferenceSet, value, WHAT)
    return _foreign(value, data)


def _foreign(value: Any, data: bytes) -> ReferenceSet:
    from evident.reference_values import expected_pcrs, pcr  # here, for most files need nothing of what a boot measures

    if isinstance(value, dict) and set(value) == {"records"}:
        return pcr.read_records(data)
    if expected_pcrs.looks_like(value):
        return expected_pcrs.read(value, data)
    return codec.decode(ReferenceSet, value, WHAT)  # which says what is missing


def dump(values: ReferenceSet) -> bytes:
    """The file of `values`: indented JSON with sorted keys, ending in a newline."""
    return json.dumps(codec.encode(values), indent=2, sort_keys=True).encode() + b"\n"


def schema() -> dict[str, Any]:
    """The published JSON Schema."""
    return codec.json_schema(ReferenceSet, title="Evident reference values, version 1", identifier=SCHEMA_ID)
