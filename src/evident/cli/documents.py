"""Documents that people write: JSON, or a plain subset of YAML, read once and strictly.

Of YAML only what JSON has too: mappings with text keys, sequences, text, numbers, ``true``, ``false``, ``null``. Anchors and aliases
(which blow up when expanded), tags (which name code), several documents and doubled keys are refused; ``yes``, ``no``, dates and
octal numbers stay text, so that a digest of digits never turns into a number in silence when quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evident import codec
from evident.cli.inputs import read_bytes
from evident.errors import Malformed

if TYPE_CHECKING:
    import yaml

    from evident.appraisal.policy import Policy
    from evident.lifecycle.specification import Specification
    from evident.reference_values.model import ReferenceValue

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
MAX_YAML_NODES = 20_000
MAX_YAML_DEPTH = 64


def read_policy(path: str | Path | None) -> Policy:
    """The policy in the file `path`, or the strict one when there is none."""
    from evident.appraisal.policy import STRICT, Policy

    with _own_document():
        return STRICT if path is None else codec.decode(Policy, read_document(path, "policy"), "policy")


def read_references(paths: Iterable[str]) -> tuple[ReferenceValue, ...]:
    """The reference values in all of the files."""
    from evident.reference_values import documents

    with _own_document():
        return tuple(value for path in paths for value in documents.load(read_bytes(path)).values)


@contextmanager
def _own_document() -> Iterator[None]:
    """What is wrong with a document of the caller's own says nothing of any evidence."""
    try:
        yield
    except Malformed as error:
        error.of_evidence = False
        raise


def read_specification(path: str | Path) -> Specification:
    """The deployment document in the file `path`; its paths are seen from there."""
    from evident.lifecycle import specification

    return specification.read(read_document(path, specification.WHAT), Path(path).parent)


def read_document(path: str | Path, what: str) -> Any:
    """The parsed contents of a JSON or YAML file; `what` prefixes the error codes.

    Raises `UsageError` (no such file, a directory, unreadable) or `Malformed` (empty, oversized, binary, not a document).
    """
    data = read_bytes(path, limit=MAX_DOCUMENT_BYTES)
    return parse_document(data, what)


def parse_document(data: bytes, what: str) -> Any:
    """Told by content: what begins with a brace or bracket is JSON."""
    if data.lstrip()[:1] in (b"{", b"["):
        return codec.loads(data, what, limit=MAX_DOCUMENT_BYTES)
    return _load_yaml(data, what)


def _refuse(what: str, problem: str, expected: str, found: str, remedy: str) -> Malformed:
    return Malformed.of(f"{what}.{problem}", expected=expected, found=found, remedy=remedy)


def _load_yaml(data: bytes, what: str) -> Any:
    import yaml

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refuse(
            what, "not-text", "JSON or YAML in UTF-8", f"binary data ({error.reason})", "Check that this is the right file."
        ) from None
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where PyYAML was built with it
        _refuse_tricks(yaml.parse(text, loader), what)
        node = yaml.compose(text, loader)
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise _refuse(what, "yaml", "one YAML document", problem[:200], "Correct the document.") from None
    if node is None:
        raise _refuse(what, "empty", "a document", "nothing but comments", "Write the document first.")
    return _value(node, what, "")


def _refuse_tricks(events: Any, what: str) -> None:
    """Look at the events before anything is built: what could explode or call code never gets that far."""
    import yaml

    depth = documents = 0
    for count, event in enumerate(events):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refuse(what, "yaml-alias", "no anchors and aliases", _where(event), "Write the value out where it is meant.")
        if getattr(event, "tag", None) is not None:
            raise _refuse(what, "yaml-tag", "no tags", f"{event.tag} {_where(event)}", "Remove the tag.")
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise _refuse(what, "yaml-documents", "one document", f"a second one {_where(event)}", "Split the file.")
        if depth > MAX_YAML_DEPTH or count > MAX_YAML_NODES:
            raise _refuse(
                what,
                "yaml-size",
                f"at most {MAX_YAML_DEPTH} levels and {MAX_YAML_NODES} nodes",
                f"more {_where(event)}",
                "Check that this is the right file.",
            )


def _where(marked: Any) -> str:
    return f"in line {marked.start_mark.line + 1}"


def _value(node: yaml.Node, what: str, path: str) -> Any:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [_value(item, what, f"{path}[{index}]") for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        members: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refuse(what, "yaml-key", "text as key", f"a collection {_where(key)}", "Use a plain key.")
            if key.value in members:
                found = f"{key.value!r} again {_where(key)}"
                raise _refuse(what, "duplicate-key", "every key once", found, "Remove one of the two.")
            members[key.value] = _value(item, what, f"{path}.{key.value}")
        return members
    return _scalar(node.value, plain=not getattr(node, "style", None))


def _scalar(text: str, *, plain: bool) -> Any:
    """The core of YAML 1.2's scalars: quoted text stays text."""
    words: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}
    if not plain:
        return text
    if text in words:
        return words[text]
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdecimal() and len(digits) <= 18 and str(int(digits)) == digits:
        return int(text)
    return text
