"""Bad measured-boot input through the public command: each kind of it has a code of its own, and none is an internal error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Vectors
from tests.unit.evidence.test_tcg_log import a_header, an_event
from tests.unit.verification.test_log import measured

from evident.cli.main import main
from evident.evidence.tpm_public import Public
from evident.simulator.vtpm import SimulatedTpm

NONCE = b"challenge"
Answer = tuple[int, str, str]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))

    def run(kind: str, **pieces: bytes) -> dict[str, Any]:
        words = []
        for role, content in pieces.items():
            path = tmp_path / role
            path.write_bytes(content)
            words.append(f"{role.replace('_', '-')}={path}")
        code = main(["verify", "--kind", kind, "--offline", "--at", "2026-11-22T00:00:00Z", "-o", "json", *words])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code != 1
        return {**answer, "exit": code}

    return run


def wrong_endian() -> bytes:
    little = a_header()
    return b"".join(little[start : start + 4][::-1] for start in (0, 4)) + bytes(20) + little[28:32][::-1] + little[32:]


LOGS: dict[str, tuple[bytes, int, str]] = {
    "cut in the middle of an event": (a_header() + an_event()[:-2], 30, "tcg.log.truncated"),
    "an event that says it has 2 GiB": (a_header() + an_event(data=b"")[:-4] + b"\xf0\xff\xff\x7f", 30, "tcg.log.event-size"),
    "only SM3": (a_header(((0x12, 32),)) + an_event(digests=((0x12, bytes(32)),)), 20, "tcg.log.bank"),
    "the other byte order": (wrong_endian(), 30, "tcg.log.byte-order"),
    "a register that no TPM has": (a_header() + an_event(register=77), 30, "tcg.log.register"),
    "nothing": (b"", 30, "input.empty"),
}


@pytest.mark.parametrize("what", LOGS)
def test_a_bad_log_is_named(verify: Callable[..., dict[str, Any]], what: str) -> None:
    raw, exit_code, code = LOGS[what]
    answer = verify("tcg-log", log=raw)
    assert (answer["exit"], answer["code"]) == (exit_code, code)
    assert answer["authentic"] is (False if exit_code == 30 else None)


def test_a_second_separator_is_replayed_and_named(verify: Callable[..., dict[str, Any]]) -> None:
    """The registers hold it, so the log is not refused for it; what comes behind it is not the firmware's."""
    answer = verify("tcg-log", log=a_header() + measured(4, 4, bytes(4)) + measured(4, 4, bytes(4)))
    (quirk,) = [quirk for quirk in answer["claims"]["quirks"] if quirk["name"] == "duplicate-separator"]
    assert quirk["statement"]
    assert len(quirk["events"]) >= 1


def quoted(machine: SimulatedTpm, *, ak: Public | None = None, values: dict[int, bytes] | None = None, **more: bytes) -> dict[str, bytes]:
    quote, signature = machine.quote(NONCE, indices=(0, 4, 7))
    registers = values if values is not None else {index: machine.pcrs["sha256"][index] for index in (0, 4, 7)}
    pcrs = {"sha256": {str(index): value.hex() for index, value in registers.items()}}
    pieces = {"quote": quote, "signature": signature, "ak": (ak or machine.ak).tpm2b, "pcrs": json.dumps(pcrs).encode(), "nonce": NONCE}
    return pieces | more


@pytest.fixture(scope="module")
def machine() -> SimulatedTpm:
    return SimulatedTpm()


def refused(answer: dict[str, Any]) -> Answer:
    finding = answer["findings"][0]
    return answer["exit"], finding["code"], finding["layer"]


def test_honest_pieces_are_authentic(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    assert verify("tpm", **quoted(machine))["authentic"] is True


def test_a_quote_of_another_selection_than_the_values(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    others = {index: machine.pcrs["sha256"][index] for index in (0, 4, 9)}
    assert refused(verify("tpm", **quoted(machine, values=others))) == (10, "tpm.selection.values", "vtpm")


def test_values_of_another_boot(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    others = {index: bytes([index]) * 32 for index in (0, 4, 7)}
    assert refused(verify("tpm", **quoted(machine, values=others))) == (10, "tpm.pcr-digest", "vtpm")


def test_the_ak_of_another_machine(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    assert refused(verify("tpm", **quoted(machine, ak=SimulatedTpm().ak))) == (10, "tpm.signature", "vtpm")


def test_an_old_quote(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    assert refused(verify("tpm", **quoted(machine, nonce=b"another"))) == (10, "tpm.challenge", "vtpm")


def test_a_quote_in_the_other_byte_order(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    pieces = quoted(machine)
    answer = verify("tpm", **{**pieces, "quote": pieces["quote"][:4][::-1] + pieces["quote"][4:]})
    assert (answer["exit"], answer["code"]) == (30, "tpm.attest.endianness")


@pytest.mark.parametrize("role", ["quote", "signature", "ak", "pcrs"])
def test_a_truncated_piece_is_malformed(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm, role: str) -> None:
    pieces = quoted(machine)
    answer = verify("tpm", **{**pieces, role: pieces[role][:-3]})
    assert answer["exit"] == 30, answer["findings"]
    assert answer["code"].startswith(("tpm.", "doc.")), answer["code"]


def test_a_public_area_that_says_it_is_huge(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    pieces = quoted(machine)
    assert verify("tpm", **{**pieces, "ak": b"\xff\xff" + pieces["ak"][2:]})["exit"] == 30


def test_a_log_of_another_boot_names_its_layer(verify: Callable[..., dict[str, Any]], machine: SimulatedTpm) -> None:
    log = a_header() + measured(4, 4, bytes(4)) + measured(7, 4, bytes(4))
    exit_code, code, layer = refused(verify("tpm", **quoted(machine, log=log)))
    assert (exit_code, code, layer) == (10, "log.replay", "boot_chain")


def test_every_cut_of_a_real_hcl_report_is_malformed(verify: Callable[..., dict[str, Any]], vectors: Vectors) -> None:
    raw = vectors.read("azure/trustee-snp-milan-v2-raw", "hcl-report.bin")
    for length in (3, 31, 1000, 1215, 1236, 1500):
        answer = verify("azure-snp", hcl=raw[:length])
        assert (answer["exit"], answer["code"][:9]) == (30, "azure.hcl"), length


def test_every_cut_of_a_real_nitro_document_is_malformed(verify: Callable[..., dict[str, Any]], vectors: Vectors) -> None:
    raw = vectors.read("aws/reclaim-nitrotpm-doc", "nitrotpm.cose")
    for length in (1, 5, 100, len(raw) // 2, len(raw) - 1):
        answer = verify("nitrotpm", document=raw[:length])
        assert (answer["exit"], answer["code"].split(".")[0]) == (30, "nitro"), length
    assert verify("nitrotpm", document=raw + b"\0")["exit"] == 30
