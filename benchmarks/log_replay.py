"""Replay of a real log of 120 events: framing, decoding, judging every event and telling the boot chain, against the bare hash chain.

    python benchmarks/log_replay.py [rounds]

The baseline extends the digests of the parsed log in both banks and does nothing else; the second row hashes each event's data once per
bank too, which is the least that telling *verified* from *asserted* events can cost.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from evident.evidence import tcg_log
from evident.evidence.pcr import digest, extend
from evident.verification.boot_chain import boot_chain
from evident.verification.log import initial_value, replay
from ratio import compare

VECTORS = Path(os.environ.get("EVIDENT_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))
LOG = "eventlog/keylime-mb-policy/binary_bios_measurements"


def main() -> None:
    raw = (VECTORS / LOG).read_bytes()
    parsed = tcg_log.parse(raw)
    extending = [event for event in parsed.events if event.type != tcg_log.EV_NO_ACTION]
    banks = tuple(parsed.banks)
    replayed = replay(parsed)

    def chain() -> dict[str, dict[int, bytes]]:
        registers: dict[str, dict[int, bytes]] = {}
        for bank in banks:
            values = registers[bank] = {0: initial_value("pcr", 0, bank, 3)}
            for event in extending:
                values[event.register] = extend(
                    bank, values.get(event.register) or initial_value("pcr", event.register, bank), event.digests[bank]
                )
        return registers

    def with_data() -> None:
        chain()
        for event in extending:
            for bank in banks:
                digest(bank, event.data)

    def whole() -> None:
        again = replay(tcg_log.parse(raw))
        boot_chain(again, again.registers, measured_by="vtpm")

    assert chain() == {bank: dict(values) for bank, values in replayed.registers.items()}, "the two disagree"
    print(f"{len(parsed.events)} events, banks {', '.join(banks)}, {len(raw)} bytes")
    compare(
        {
            "bare hash chain": chain,
            "and each event's data": with_data,
            "framing": lambda: tcg_log.parse(raw),
            "replay": lambda: replay(parsed),
            "frame, replay, boot chain": whole,
        },
        "bare hash chain",
        rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 200,
    )


if __name__ == "__main__":
    main()
