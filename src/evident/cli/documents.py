"""Documents that people write: JSON or YAML, read with the same strictness.

YAML is read as JSON written comfortably: no tags, no anchors or aliases (so no bombs), no duplicate keys, no second document, and
only the JSON schema's scalars (YAML 1.2, chapter 10.2), so that ``no`` and ``1.10`` stay the text they look like.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evident import codec
from evident.appraisal.policy import STRICT, Policy
from evident.cli.inputs import read_bytes
from evident.errors import Malformed

if TYPE_CHECKING:
    import yaml

MAX_DOCUMENT_BYTES = 1024 * 1024


def read_policy(path: str | Path | None) -> Policy:
    """The policy in `path`, or the strict default."""
    return STRICT if path is None else codec.decode(Policy, read_document(path, "policy"), "policy")


def read_document(path: str | Path, what: str) -> Any:
    """The JSON-able value in `path`; `what` prefixes the error codes. Told by content: JSON begins with ``{`` or ``[``."""
    data = read_bytes(path, limit=MAX_DOCUMENT_BYTES)
    if data.lstrip()[:1] in (b"{", b"["):
        return codec.loads(data, what)
    return _Yaml(what).load(data)


class _Yaml:
    """One document: PyYAML's parser for the syntax, our own construction from its nodes."""

    def __init__(self, what: str) -> None:
        self._what = what

    def load(self, data: bytes) -> Any:
        import yaml

        try:
            self._refuse_aliases(yaml.parse(data.decode("utf-8"), Loader=yaml.SafeLoader))
            node = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise self._refuse("yaml", "one YAML or JSON document in UTF-8", " ".join(str(error).split())[:200]) from None
        if node is None:
            raise self._refuse("yaml", "a document", "nothing but comments")
        return self._value(node, 0)

    def _refuse_aliases(self, events: Any) -> None:
        import yaml

        for event in events:
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise self._refuse("yaml-alias", "no anchors and no aliases", f"one in line {event.start_mark.line + 1}")
            if getattr(event, "tag", None):
                raise self._refuse("yaml-tag", "no tags", f"{event.tag!r} in line {event.start_mark.line + 1}")

    def _value(self, node: yaml.Node, depth: int) -> Any:
        import yaml

        if depth > codec.MAX_JSON_DEPTH:
            raise self._refuse("yaml", f"at most {codec.MAX_JSON_DEPTH} levels", "deeper nesting")
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            members: dict[str, Any] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise self._refuse("yaml", "plain keys", f"a structure in line {key.start_mark.line + 1}")
                if key.value in members:
                    raise self._refuse("duplicate-key", "every key once", f"{key.value!r} twice, line {key.start_mark.line + 1}")
                members[key.value] = self._value(value, depth + 1)
            return members
        if not isinstance(node, yaml.ScalarNode):
            raise TypeError(f"PyYAML has no other node than {type(node)}")
        return _scalar(node.value) if node.style is None else str(node.value)

    def _refuse(self, problem: str, expected: str, found: str) -> Malformed:
        return Malformed.of(f"{self._what}.{problem}", expected=expected, found=found, remedy="Correct the document; JSON is YAML too.")


def _scalar(text: str) -> Any:
    """A plain scalar: true, false, null and decimal integers; everything else is text."""
    if text in ("true", "false"):
        return text == "true"
    if text in ("null", "~", ""):
        return None
    if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 20 and str(int(text.removeprefix("-"))) == text.removeprefix("-"):
        return int(text)
    return text
