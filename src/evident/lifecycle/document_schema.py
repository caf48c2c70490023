"""The schema of deployment documents that editors complete by: what the dataclasses say, and every name that the code knows besides.

Platforms, the settings of each, and identities are plain text to the codec; whoever reads the document refuses other names, and so does
the schema.
"""

from __future__ import annotations

from typing import Any

from evident import codec
from evident.appraisal import identities
from evident.lifecycle.specification import ANY, Specification
from evident.platforms import registry
from evident.platforms.outline import Setting


def schema(identifier: str) -> dict[str, Any]:
    """JSON Schema of `Specification`, called `identifier`."""
    made = codec.json_schema(Specification, title="Evident deployment document, version 1", identifier=identifier)
    members = made["$defs"]["Specification"]["properties"]
    platform = {"enum": [*registry.OUTLINES, ANY]}
    members["platform"] |= {"anyOf": [platform, {"type": "array", "items": platform, "minItems": 1}]}
    settings = {
        name: _closed({key: _setting(each) for key, each in outline.settings.items()}) for name, outline in registry.OUTLINES.items()
    }
    members["where"] |= _closed(settings)
    members["identity"] |= _closed(dict.fromkeys(identities.NAMES, members["identity"]["additionalProperties"]))
    made["$defs"]["Image"]["properties"]["sha256"]["pattern"] = "^[0-9a-f]{64}$"
    return made


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _setting(setting: Setting) -> dict[str, Any]:
    form: dict[str, Any] = {"enum": list(setting.choices)} if setting.choices else {"type": "string"}
    return {**form, "description": setting.doc}
