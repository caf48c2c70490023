"""How an event's digest follows from its own data, rule by rule.

An event is *verified* when one of these rules yields its digest in every bank that is replayed, else it is *asserted*: the digest is
authentic (once the registers are), what it is a digest of is only the log's word. Rules marked as quirks are known deviations of
firmware and loaders; each use of one is named in the result.

Sources: TCG PFP 1.06, section 10.4.1 (what is measured per event type); the quirks as observed in public logs
(docs/platforms/tcg-log.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evident.errors import Malformed
from evident.evidence import efi
from evident.evidence import tcg_events as events
from evident.evidence.pcr import digest
from evident.evidence.tcg_log import LogEvent


@dataclass(frozen=True, slots=True)
class Rule:
    """`content` gives the bytes whose hash should be the digest, or None where the rule does not apply to these data."""

    name: str
    types: frozenset[int] | None
    """Event types it may be used for; None for every type."""
    content: Callable[[bytes], bytes | None]
    quirk: str = ""
    """Empty for what the specification says; else what deviates, in words."""


def _shim_table(data: bytes) -> bytes | None:
    """td-shim measures its tables without the frame that it logs around them."""
    return data[20:] if len(data) >= 20 and int.from_bytes(data[16:20], "little") == len(data) - 20 else None


def _runtime(data: bytes) -> bytes | None:
    return events.EV_RUNTIME.to_bytes(4, "little") + b":" + data


def _whole(data: bytes) -> bytes:
    return data


def _variable_data(data: bytes) -> bytes | None:
    try:
        return efi.parse_variable(data).data
    except Malformed:
        return None


def _after_prefix(data: bytes) -> bytes | None:
    """The text behind the loader's prefix, its NUL included if there is one."""
    for prefix in events.IPL_PREFIXES:
        if data.startswith(prefix.encode()):
            return data[len(prefix) :]
    return None


def _after_prefix_stripped(data: bytes) -> bytes | None:
    content = _after_prefix(data)
    return None if content is None else content.rstrip(b"\0")


def _section_name(data: bytes) -> bytes | None:
    """systemd-stub logs the name in UTF-16 and measures it in ASCII; both with their NUL."""
    if not data.startswith(b".\0") or not data.endswith(b"\0\0") or data[1::2].strip(b"\0"):
        return None
    return data[::2]


def _with_half_nul(data: bytes) -> bytes | None:
    return data + b"\0" if len(data) % 2 else None


def _without_last(data: bytes) -> bytes | None:
    return data[:-1] if data else None


RULES: tuple[Rule, ...] = (
    Rule("event-data", None, _whole),
    Rule("variable-data", frozenset({events.EV_EFI_VARIABLE_BOOT, events.EV_EFI_VARIABLE_BOOT2}), _variable_data),
    Rule("loader-command", frozenset({events.EV_IPL}), _after_prefix_stripped),
    Rule("loader-command-nul", frozenset({events.EV_IPL}), _after_prefix),
    Rule("stub-section-name", frozenset({events.EV_IPL}), _section_name),
    Rule("runtime-event", frozenset({events.EV_RUNTIME}), _runtime),
    Rule("shim-table", frozenset({events.EV_PLATFORM_CONFIG_FLAGS}), _shim_table),
    Rule(
        "loader-text-half-nul",
        frozenset({events.EV_IPL}),
        _with_half_nul,
        quirk="the boot loader logged its text one byte shorter than it measured it (older systemd-boot)",
    ),
    Rule(
        "shim-authority-size",
        frozenset({events.EV_EFI_VARIABLE_AUTHORITY}),
        _without_last,
        quirk="older shims measure one byte less of the authority than they log",
    ),
)


@dataclass(frozen=True, slots=True)
class Basis:
    """How far an event's digest can be recomputed: `rule` is empty for an asserted event."""

    rule: str = ""
    quirk: str = ""

    @property
    def verified(self) -> bool:
        return bool(self.rule)


ASSERTED = Basis()


def basis(event: LogEvent, banks: tuple[str, ...]) -> Basis:
    """The first rule that yields the digest of `event` in every one of `banks`; `ASSERTED` where none does."""
    if not banks:
        return ASSERTED
    leading = event.digests[banks[0]]
    for rule in RULES:
        if rule.types is not None and event.type not in rule.types:
            continue
        content = rule.content(event.data)
        if content is None or digest(banks[0], content) != leading:
            continue
        if all(digest(bank, content) == event.digests[bank] for bank in banks[1:]):
            return Basis(rule.name, rule.quirk)
    return ASSERTED
