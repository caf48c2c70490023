"""TDX verification against dcap-qvl on the same quote and collateral: cold (everything) and warm (chain and collateral verified before).

    python benchmarks/tdx_verify.py [rounds]

dcap-qvl keeps nothing between calls, so it is the same on both rows. Aims: cold at most 1.5 x, warm at most 0.5 x.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl

from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.verification import tdx
from evident.verification.context import ChainCache, Context
from ratio import compare

VECTORS = Path(os.environ.get("EVIDENT_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))
AT = datetime(2025, 7, 1, tzinfo=UTC)
REPEAT = 20


def main() -> None:
    folder = VECTORS / "tdx/dcap-qvl-uptodate"
    quote, collateral = (folder / "quote.bin").read_bytes(), (folder / "collateral.json").read_bytes()
    pieces = {"quote": (quote,), "collateral": (collateral,)}
    cold = Context(AT, anchors.production(), StaticFetcher({}))
    warm = Context(AT, cold.anchors, StaticFetcher({}), chain_cache=ChainCache())
    peer_collateral, now = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode()), int(AT.timestamp())

    def peer() -> None:
        for _ in range(REPEAT):
            assert dcap_qvl.verify(quote, peer_collateral, now).status == "UpToDate"

    def ours(context: Context) -> None:
        for _ in range(REPEAT):
            facts = tdx.verify(pieces, context).facts
            assert facts.tee is not None
            assert facts.tee.tcb_status == "UpToDate"

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    compare({"dcap-qvl": peer, "evident, cold": lambda: ours(cold), "evident, warm": lambda: ours(warm)}, "dcap-qvl", rounds=rounds)


if __name__ == "__main__":
    main()
