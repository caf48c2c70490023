"""Whatever the bytes: readers of event logs, their data and device paths raise known errors only; what is framed serialises back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Indeterminate, Malformed, Unsupported
from evident.evidence import efi, ima_log, tcg_events, tcg_log
from evident.evidence.importers import event_log
from evident.evidence.tcg_log import LogEvent
from evident.verification.boot_chain import boot_chain
from evident.verification.log import replay

_SPEC = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + (1).to_bytes(4, "little") + b"\x0b\0\x20\0" + b"\0"
_HEADER = bytes(4) + b"\3\0\0\0" + bytes(20) + len(_SPEC).to_bytes(4, "little") + _SPEC


def _event(register: int, kind: int, data: bytes) -> bytes:
    digest = b"\x0b\0" + hashlib.sha256(data).digest()
    return register.to_bytes(4, "little") + kind.to_bytes(4, "little") + b"\1\0\0\0" + digest + len(data).to_bytes(4, "little") + data


_LOG = _HEADER + _event(4, tcg_events.EV_EFI_ACTION, b"Calling EFI Application from Boot Option") + _event(4, 4, bytes(4))
_PATH = bytes.fromhex("02010c00d041030a00000000" + "0101060000010404" + "0800410042000000" + "7fff0400")
_NG = b"\x28\0\0\0sha256:\0" + bytes(32) + b"\3\0\0\0/a\0"
_IMA = b"\x0a\0\0\0" + bytes(20) + b"\6\0\0\0ima-ng" + len(_NG).to_bytes(4, "little") + _NG
SEEDS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "log": (tcg_log.parse, _LOG),
    "legacy": (tcg_log.parse, bytes(4) + b"\x08\0\0\0" + bytes(20) + b"\2\0\0\0\0\0"),
    "path": (efi.parse_device_path, _PATH),
    "variable": (efi.parse_variable, bytes(16) + b"\2" + bytes(7) + b"\1" + bytes(7) + b"d\0b\0" + b"\1"),
    "signatures": (efi.parse_signature_lists, bytes(16) + b"\x4c\0\0\0\0\0\0\0\x30\0\0\0" + bytes(48)),
    "gpt": (efi.parse_gpt, b"EFI PART" + bytes(76) + b"\x80\0\0\0" + bytes(4) + b"\1" + bytes(7) + bytes(128)),
    "json log": (
        event_log.read,
        b'[{"imr": 0, "event_type": 4, "digest": "' + b"0" * 96 + b'", "event": "", "event_payload": "00000000"}]',
    ),
    "ima binary": (ima_log.parse, _IMA * 2),
    "ima text": (ima_log.parse, b"10 " + b"0" * 40 + b" ima-sig sha1:" + b"a" * 40 + b" /bin/sh 0302\n"),
    "ima signature": (ima_log.parse_signature, b"\x03\x02\x04abcd\0\x02xy"),
    "load option": (efi.parse_load_option, b"\1\0\0\0" + len(_PATH).to_bytes(2, "little") + b"A\0\0\0" + _PATH),
}


def _mutated(seed: bytes, edits: list[tuple[int, int]], cut: int | None, tail: bytes) -> bytes:
    data = bytearray(seed)
    for position, value in edits:
        data[position % len(data)] = value
    return bytes(data[: len(data) if cut is None else cut % len(data)]) + tail


_EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)


@pytest.mark.parametrize("name", SEEDS)
@given(edits=_EDITS, cut=st.none() | st.integers(0, 1 << 16), tail=st.binary(max_size=40))
def test_mutated_bytes_raise_known_errors_only(name: str, edits: list[tuple[int, int]], cut: int | None, tail: bytes) -> None:
    parse, seed = SEEDS[name]
    try:
        parsed = parse(_mutated(seed, edits, cut, tail))
    except (Malformed, Unsupported):
        return
    if isinstance(parsed, tcg_log.TcgLog) and name != "json log":
        assert tcg_log.serialize(parsed) == parsed.raw
    if isinstance(parsed, ima_log.ImaLog):
        assert ima_log.parse(ima_log.serialize_binary(parsed)).entries == parsed.entries


@given(edits=_EDITS, cut=st.none() | st.integers(0, 1 << 16), tail=st.binary(max_size=40))
def test_whatever_is_framed_can_be_replayed_and_told(edits: list[tuple[int, int]], cut: int | None, tail: bytes) -> None:
    try:
        replayed = replay(tcg_log.parse(_mutated(_LOG, edits, cut, tail)))
        boot_chain(replayed, replayed.registers, measured_by="vtpm")
    except (Malformed, Unsupported, Indeterminate):  # a log that extends nothing is undecidable
        return


@given(kind=st.sampled_from(sorted(tcg_events.TYPE_NAMES)), data=st.binary(max_size=200))
def test_any_data_of_any_type_decode_or_are_malformed(kind: int, data: bytes) -> None:
    try:
        str(tcg_events.decode(LogEvent(0, 4, kind, {}, data)))
    except Malformed:
        return
