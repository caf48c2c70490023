"""Logs as machines hand them out: dstack's JSON of all four RTMRs replays to the quote of the same machine."""

from __future__ import annotations

import json

import pytest
from tests.conftest import Vectors

from evident.errors import Malformed
from evident.evidence.importers import event_log
from evident.verification.log import authenticate, replay

CASE = "tdx/dstack-quote-report"


def test_a_real_json_log_replays_to_all_four_registers(vectors: Vectors) -> None:
    raw = vectors.read(CASE, "quote-report.json")
    facts = vectors.facts(CASE)
    registers = {"sha384": {index: bytes.fromhex(facts[f"rtmr{index}"]) for index in range(4)}}
    replayed = replay(event_log.read(raw))
    authentic = authenticate(replayed, registers)
    assert authentic.explained == {"rtmr0", "rtmr1", "rtmr2", "rtmr3"}
    assert all(item.verified for item in replayed.events if item.register == "rtmr3")
    assert "compose-hash" in {str(item.decoded).split(":")[0] for item in replayed.events}
    array = json.loads(raw)["event_log"]
    assert event_log.read(array.encode()).events == replayed.log.events


def test_an_edited_payload_is_only_asserted(vectors: Vectors) -> None:
    listed = json.loads(json.loads(vectors.read(CASE, "quote-report.json"))["event_log"])
    index = next(number for number, item in enumerate(listed) if item["event"] == "compose-hash")
    listed[index]["event_payload"] = "00" * 32
    edited = replay(event_log.read(json.dumps(listed).encode()))
    assert not edited.events[index].verified


def test_binary_logs_go_to_their_own_reader(vectors: Vectors) -> None:
    raw = vectors.read("eventlog/dstack-ccel", "ccel.bin")
    assert event_log.read(raw).raw == raw


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"event_log": 3},
        {"event_log": "{"},
        [{"imr": 4, "event_type": 4, "digest": "00" * 48, "event": "", "event_payload": ""}],
        [{"imr": 0, "event_type": 1 << 32, "digest": "00" * 48, "event": "", "event_payload": ""}],
        [{"imr": 0, "event_type": 4, "digest": "00" * 32, "event": "", "event_payload": ""}],
        [{"imr": 0, "event_type": 4, "digest": "00" * 48, "event": "", "event_payload": "", "more": 1}],
    ],
)
def test_broken_documents_are_malformed(document: object) -> None:
    with pytest.raises(Malformed) as caught:
        event_log.read(json.dumps(document).encode())
    assert caught.value.code.startswith("event-log.")
