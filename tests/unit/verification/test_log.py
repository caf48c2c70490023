"""Replay: real logs come out at their stated registers, edited ones are refused by the register's name, and every quirk is named."""

from __future__ import annotations

import hashlib
import random

import pytest
from tests.conftest import Vectors, vector_cases
from tests.unit.evidence.test_tcg_log import LOG_NAMES, a_header, an_event

from evident.errors import Indeterminate, Malformed, NotAuthentic, Unsupported
from evident.evidence import tcg_log
from evident.evidence.pcr import extend
from evident.verification.log import authenticate, initial_value, replay
from evident.verification.tcg_log import claims

SMALL = ("go-tpm-tools-cos-93-amd-sev", "trustee-ccel-data-grub", "tpm2-tools-event-sd-boot-fedora37")


def measured(register: int, kind: int, data: bytes) -> bytes:
    return an_event(register, kind, data, ((0x0B, hashlib.sha256(data).digest()),))


def raw_log(vectors: Vectors, case: str) -> bytes:
    name = next(entry["name"] for entry in vectors.cases[case]["files"] if entry["name"] in LOG_NAMES)
    return vectors.read(case, name)


@pytest.mark.parametrize("case", vector_cases("eventlog/"))
def test_real_logs_replay_to_their_stated_registers(vectors: Vectors, case: str) -> None:
    facts = vectors.facts(case)
    replayed = replay(tcg_log.parse(raw_log(vectors, case)))
    compared = 0
    for bank, values in (*facts.get("computed_pcrs", {}).items(), *facts.get("peer_pcrs", {}).items()):
        for index, value in values.items():
            ours = replayed.registers[bank].get(int(index), initial_value("pcr", int(index), bank))
            assert ours.hex() == value, f"pcr{index} ({bank})"
            compared += 1
    for name, value in facts.get("replayed_rtmr", {}).items():
        assert replayed.registers["sha384"].get(int(name[4:]), bytes(48)).hex() == value, name
        compared += 1
    assert compared


@pytest.mark.parametrize("case", vector_cases("eventlog/"))
def test_claims_equal_the_facts_of_real_logs(vectors: Vectors, case: str) -> None:
    facts = vectors.facts(case)
    said = claims(replay(tcg_log.parse(raw_log(vectors, case))))
    assert said["format"] == facts["format"]
    assert said["banks"] == facts["banks"]
    assert said["events"] == facts["events"]
    if "replayed_rtmr" in facts:
        assert {name: said[name] for name in facts["replayed_rtmr"]} == facts["replayed_rtmr"]
    elif "computed_pcrs" in facts:
        assert said["pcrs"] == facts["computed_pcrs"]


@pytest.mark.parametrize("case", vector_cases("eventlog/"))
def test_events_that_their_data_explain_are_verified_and_no_others(vectors: Vectors, case: str) -> None:
    replayed = replay(tcg_log.parse(raw_log(vectors, case)))
    banks = list(replayed.registers)
    for item in replayed.events:
        if item.verified and item.basis.rule == "event-data":
            assert all(hashlib.new(bank, item.event.data).digest() == item.event.digests[bank] for bank in banks)
    kinds = {item.event.type for item in replayed.events if item.register and not item.verified}
    # separators, actions, Secure Boot variables, GPT and S-CRTM version always follow from their own data
    assert not kinds & {0x04, 0x08, 0x80000001, 0x80000006, 0x80000007}


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("go-tpm-tools-glinux-alex", {"startup-locality"}),
        ("go-tpm-tools-arch-linux-workstation", {"loader-text-half-nul", "empty-secure-boot"}),
        ("go-tpm-tools-debian-10", {"sha1-only", "shim-authority-size", "image-trailing", "variable-trailing"}),
        ("go-eventlog-ccel-27-events", {"duplicate-separator"}),
        ("go-eventlog-ccel-unpadded", {"untagged-event"}),
        ("tpm2-tools-event-uefivar", {"bank-not-replayed"}),
        ("dstack-gcp-tpm-log", {"image-in-pcr2"}),
        ("go-tpm-tools-ubuntu-2104-no-dbx", set()),
    ],
)
def test_deviations_of_real_logs_are_named(vectors: Vectors, case: str, names: set[str]) -> None:
    assert {quirk.name for quirk in replay(tcg_log.parse(raw_log(vectors, f"eventlog/{case}"))).quirks} == names


@pytest.mark.parametrize("case", SMALL)
def test_a_hundred_mutations_of_a_log_are_refused(vectors: Vectors, case: str) -> None:
    raw = raw_log(vectors, f"eventlog/{case}")
    genuine = replay(tcg_log.parse(raw))
    length = len(raw) - len(genuine.log.padding)
    events_begin = raw.index(genuine.log.events[0].data) - 64
    authenticate(genuine, genuine.registers)
    chooser, refused = random.Random(5), 0
    while refused < 100:
        mutated = bytearray(raw)
        mutated[chooser.randrange(events_begin, length)] ^= 1 << chooser.randrange(8)
        try:
            other = replay(tcg_log.parse(bytes(mutated), registers=genuine.log.registers))
            authenticate(other, genuine.registers)
        except (Malformed, Unsupported, NotAuthentic):
            refused += 1
            continue
        # What replays all the same has every digest intact, and whole data where an event's data are what was measured: the edit
        # changed a label, a frame, or words that were asserted in the first place.
        for ours, theirs in zip(genuine.events, other.events, strict=True):
            assert not ours.register or ours.event.digests == theirs.event.digests
            assert theirs.basis.rule != "event-data" or ours.event.data == theirs.event.data
    assert refused == 100


def test_removed_reordered_and_added_events_are_refused_naming_the_register() -> None:
    events = [measured(4, 0x80000007, b"one"), measured(4, 0x80000007, b"two"), measured(5, 4, bytes(4))]
    genuine = replay(tcg_log.parse(a_header() + b"".join(events)))
    for edited in ([events[1], events[2]], [events[1], events[0], events[2]], [*events[:2], measured(4, 4, b"more"), events[2]]):
        with pytest.raises(NotAuthentic) as caught:
            authenticate(replay(tcg_log.parse(a_header() + b"".join(edited))), genuine.registers)
        assert caught.value.code == "log.replay"
        assert "pcr4 (sha256)" in caught.value.findings[0].expected
        assert len(caught.value.findings) == 1


def test_every_register_that_differs_is_reported() -> None:
    replayed = replay(tcg_log.parse(a_header() + measured(4, 4, bytes(4)) + measured(5, 4, bytes(4))))
    with pytest.raises(NotAuthentic) as caught:
        authenticate(replayed, {"sha256": {4: bytes(32), 5: bytes(32)}})
    assert [finding.layer for finding in caught.value.findings] == ["boot_chain"] * 2


def test_a_bank_in_common_is_needed_and_a_register_too() -> None:
    replayed = replay(tcg_log.parse(a_header() + measured(4, 4, bytes(4))))
    for registers, code in (({"sha1": {4: bytes(20)}}, "log.bank"), ({}, "log.bank"), ({"sha256": {7: bytes(32)}}, "log.uncovered")):
        with pytest.raises(Indeterminate) as caught:
            authenticate(replayed, registers)
        assert caught.value.code == code


def test_events_of_unsigned_registers_are_not_believed() -> None:
    replayed = replay(tcg_log.parse(a_header() + measured(4, 4, bytes(4)) + measured(8, 0x0D, b"kernel_cmdline: evil")))
    authentic = authenticate(replayed, {"sha256": {4: replayed.registers["sha256"][4], 10: b"\1" * 32}})
    assert {item.register for item in authentic.events()} == {"pcr4"}
    assert {quirk.name for quirk in authentic.quirks} == {"register-unsigned", "register-unexplained"}


def test_exit_boot_services_may_be_missing_from_the_log_and_from_nothing_else() -> None:
    kept = measured(5, 4, bytes(4))
    exits = [
        measured(5, 0x80000007, b"Exit Boot Services Invocation"),
        measured(5, 0x80000007, b"Exit Boot Services Returned with Success"),
    ]
    machine = replay(tcg_log.parse(a_header() + kept + b"".join(exits))).registers
    authentic = authenticate(replay(tcg_log.parse(a_header() + kept)), machine)
    assert [quirk.name for quirk in authentic.quirks] == ["exit-boot-services-unlogged"]
    half = replay(tcg_log.parse(a_header() + kept + exits[0])).registers
    with pytest.raises(NotAuthentic):
        authenticate(replay(tcg_log.parse(a_header() + kept)), half)
    elsewhere = {"sha256": {4: machine["sha256"][5]}}
    with pytest.raises(NotAuthentic):
        authenticate(replay(tcg_log.parse(a_header() + measured(4, 4, bytes(4)))), elsewhere)


def test_phases_of_systemd_explain_pcr_11() -> None:
    replayed = replay(tcg_log.parse(a_header() + measured(11, 0x0D, b"x")))
    value = replayed.registers["sha256"][11]
    for word in (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready"):
        value = extend("sha256", value, hashlib.sha256(word).digest())
        assert authenticate(replayed, {"sha256": {11: value}}).quirks[0].name == "systemd-boot-phases"
    with pytest.raises(NotAuthentic):
        authenticate(replayed, {"sha256": {11: extend("sha256", value, hashlib.sha256(b"debug").digest())}})


def test_pcr_0_starts_at_the_startup_locality() -> None:
    locality = an_event(0, 3, b"StartupLocality\0\x03", ((0x0B, bytes(32)),))
    replayed = replay(tcg_log.parse(a_header() + locality + measured(0, 4, bytes(4))))
    assert replayed.registers["sha256"][0] == extend("sha256", bytes(31) + b"\x03", hashlib.sha256(bytes(4)).digest())
    assert initial_value("pcr", 17, "sha256") == b"\xff" * 32


def test_a_bank_without_a_digest_in_every_event_is_not_replayed() -> None:
    header = a_header(((0x04, 20), (0x0B, 32)))
    both = an_event(digests=((0x04, bytes(20)), (0x0B, bytes(32))))
    replayed = replay(tcg_log.parse(header + both + an_event(digests=((0x0B, bytes(32)),))))
    assert list(replayed.registers) == ["sha256"]
    with pytest.raises(Unsupported) as caught:
        replay(tcg_log.parse(header + an_event(digests=((0x04, bytes(20)),)) + an_event(digests=((0x0B, bytes(32)),))))
    assert caught.value.code == "log.bank"


def test_banks_that_disagree_about_the_data_leave_an_event_asserted() -> None:
    header = a_header(((0x04, 20), (0x0B, 32)))
    data = b"kernel_cmdline: good"
    honest = an_event(8, 0x0D, data, ((0x04, hashlib.sha1(b"good").digest()), (0x0B, hashlib.sha256(b"good").digest())))  # noqa: S324 - the bank
    forged = an_event(8, 0x0D, data, ((0x04, hashlib.sha1(b"good").digest()), (0x0B, hashlib.sha256(b"evil").digest())))  # noqa: S324 - the bank
    assert replay(tcg_log.parse(header + honest)).events[0].verified
    assert not replay(tcg_log.parse(header + forged)).events[0].verified
