"""Event logs: the framing of every real log, and each way in which a log can be broken, by its own code."""

from __future__ import annotations

import pytest
from tests.conftest import Vectors, vector_cases

from evident.errors import Malformed, Unsupported
from evident.evidence import tcg_log

LOG_NAMES = {"ccel.bin", "binary_bios_measurements", "event_log.bin"}


def a_header(algorithms: tuple[tuple[int, int], ...] = ((0x0B, 32),), register: int = 0) -> bytes:
    table = b"".join(identifier.to_bytes(2, "little") + size.to_bytes(2, "little") for identifier, size in algorithms)
    spec = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + len(algorithms).to_bytes(4, "little") + table + b"\0"
    return register.to_bytes(4, "little") + b"\3\0\0\0" + bytes(20) + len(spec).to_bytes(4, "little") + spec


def an_event(
    register: int = 4, kind: int = 4, data: bytes = bytes(4), digests: tuple[tuple[int, bytes], ...] = ((0x0B, bytes(32)),)
) -> bytes:
    listed = b"".join(identifier.to_bytes(2, "little") + digest for identifier, digest in digests)
    head = register.to_bytes(4, "little") + kind.to_bytes(4, "little") + len(digests).to_bytes(4, "little")
    return head + listed + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize("case", vector_cases("eventlog/"))
def test_frames_real_logs_as_their_facts_say(vectors: Vectors, case: str) -> None:
    facts = vectors.facts(case)
    for entry in vectors.cases[case]["files"]:
        if entry["name"] not in LOG_NAMES:
            continue
        raw = vectors.read(case, entry["name"])
        log = tcg_log.parse(raw)
        assert log.format == facts["format"]
        assert list(log.banks) == facts["banks"]
        assert len(log.events) == facts["events"]
        assert sorted({event.register for event in log.events}) == facts["register_indices"]
        assert len(raw) - len(log.padding) == facts["end_of_log"]
        assert {hex(event.type) for event in log.events} == set(facts["event_types"])
        assert log.registers == ("rtmr" if "replayed_rtmr" in facts else "pcr")
        assert tcg_log.serialize(log) == raw


def test_what_the_caller_knows_of_the_registers_comes_before_the_content() -> None:
    raw = a_header(((0x0C, 48),)) + an_event(register=1, digests=((0x0C, bytes(48)),))
    assert tcg_log.parse(raw).registers == "rtmr"
    assert tcg_log.parse(raw, registers="pcr").registers == "pcr"


def test_every_truncation_of_a_log_is_refused_or_ends_between_events() -> None:
    events = [an_event(register) for register in (4, 5, 7)]
    raw = a_header() + b"".join(events)
    ends = {len(a_header() + b"".join(events[:count])) for count in range(4)}
    for length in range(len(raw)):
        if length in ends:
            tcg_log.parse(raw[:length])
        else:
            with pytest.raises(Malformed):
                tcg_log.parse(raw[:length])


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "tcg.log.truncated"),
        (a_header() + an_event()[:-2], "tcg.log.truncated"),
        (a_header() + an_event(data=b"")[:-4] + b"\xf0\xff\xff\x7f", "tcg.log.event-size"),
        (a_header() + an_event(digests=()), "tcg.log.digests"),
        (a_header() + an_event(digests=((0x0B, bytes(32)),) * 2), "tcg.log.digests"),
        (a_header(((0x0B, 32), (0x04, 20))) + an_event(digests=((0x0B, bytes(32)),) * 2), "tcg.log.digests"),
        (a_header() + an_event(digests=((0x0C, bytes(48)),)), "tcg.log.digests"),
        (a_header() + an_event(register=77), "tcg.log.register"),
        (a_header(((0x0B, 20),)), "tcg.log.header"),
        (a_header(((0x0B, 32), (0x0B, 32))), "tcg.log.header"),
        (a_header(((0x0B, 32),) * 9), "tcg.log.header"),
        (a_header(register=9), "tcg.log.header"),
        (a_header() + an_event() + b"\xff" * 20 + b"\x00", "tcg.log.digests"),
        (bytes(tcg_log.MAX_LOG_BYTES + 1), "tcg.log.oversized"),
    ],
)
def test_broken_logs_are_malformed_by_their_own_code(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        tcg_log.parse(raw)
    assert caught.value.code == code


def test_a_log_in_the_wrong_byte_order_is_called_that() -> None:
    little = a_header()
    big = b"".join(little[start : start + 4][::-1] for start in (0, 4)) + bytes(20) + little[28:32][::-1] + little[32:]
    with pytest.raises(Malformed) as caught:
        tcg_log.parse(big)
    assert caught.value.code == "tcg.log.byte-order"


def test_a_log_with_nothing_but_sm3_is_unsupported() -> None:
    with pytest.raises(Unsupported) as caught:
        tcg_log.parse(a_header(((0x12, 32),)) + an_event(digests=((0x12, bytes(32)),)))
    assert caught.value.code == "tcg.log.bank"


def test_an_unknown_bank_beside_a_known_one_is_framed() -> None:
    log = tcg_log.parse(a_header(((0x7777, 8), (0x0B, 32))) + an_event(digests=((0x7777, bytes(8)), (0x0B, bytes(32)))))
    assert log.banks == ("0x7777", "sha256")


def test_a_ccel_is_never_a_sha1_log() -> None:
    legacy = bytes(4) + b"\x08\0\0\0" + bytes(20) + b"\2\0\0\0ab"
    assert tcg_log.parse(legacy).format == "sha1-legacy"
    with pytest.raises(Malformed) as caught:
        tcg_log.parse(legacy, registers="rtmr")
    assert caught.value.code == "tcg.log.format"


def test_a_ccel_has_no_register_beyond_rtmr3() -> None:
    raw = a_header(((0x0C, 48),)) + an_event(register=5, digests=((0x0C, bytes(48)),))
    with pytest.raises(Malformed) as caught:
        tcg_log.parse(raw, registers="rtmr")
    assert caught.value.code == "tcg.log.register"


def test_events_that_begin_like_padding_cost_no_search_each() -> None:
    """Each of these begins with eight zero bytes; looking for the end of the zeros from every one of them took minutes."""
    like_padding = an_event(register=0, kind=0, data=b"")
    raw = a_header() + like_padding * 20_000 + an_event(data=bytes(1 << 20)) * 8
    log = tcg_log.parse(raw)
    assert len(log.events) == 20_008
    assert tcg_log.serialize(log) == raw


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
@pytest.mark.parametrize("length", [1, 7, 8, 4096])
def test_an_area_may_be_filled_up(filler: bytes, length: int) -> None:
    log = tcg_log.parse(a_header() + an_event() + filler * length)
    assert len(log.events) == 1
    assert log.padding == filler * length
