"""Verifying an SNP report, against the one P-384 verification that nobody can avoid (aim: warm at most 1.10 x).

    python benchmarks/snp_verify.py [rounds]

*Warm*: chain and CRL were verified before under the same `ChainCache`; the report itself is parsed, matched against them and its
signature verified anew every time. *Cold*: nothing is remembered, so three certificates, two RSA-4096 signatures and the CRL come on
top. The evidence is the simulator's, complete with a CRL, so that no step is left open.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import timeit
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evident.endorsements import anchors
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable
from evident.evidence import snp_report
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Chip, SecureProcessor
from evident.verification import snp
from evident.verification.context import ChainCache, Context
from ratio import compare

AT = datetime(2026, 6, 10, tzinfo=UTC)
REPEAT = 2


class Nowhere:
    """No network: everything that a verification needs is given to it."""

    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=f"{url} ({limit} bytes)", found="no network", remedy="Give it.")


def repeated(action: Callable[[], object]) -> Callable[[], None]:
    """`action` several times over: one run of it is too short to time."""

    def run() -> None:
        for _ in range(REPEAT):
            action()

    return run


def main() -> None:
    pki = SimulatorPki.generate(made_at=AT, progress=lambda text: print(text, file=sys.stderr))
    chip, nonce = Chip(), os.urandom(32)
    report = SecureProcessor(pki, chip).launch_start(0x30000).finish().report(nonce.ljust(64, b"\0"))
    pieces = {
        "report": (report,),
        "vcek": (pki.vcek(chip.product, chip.hwid, chip.tcb("reported")),),
        "chain": (pki.chain_pem(chip.product, "vcek"),),
        "crl": (pki.crl(chip.product, at=AT),),
    }
    trusted = anchors.production().plus(*pki.anchors())
    cold = Context(AT, trusted, Nowhere(), nonce=nonce, unsafe=frozenset({"simulated-root"}))
    warm = dataclasses.replace(cold, chain_cache=ChainCache())
    assert not snp.verify(pieces, warm).open_points

    parsed = snp_report.parse(report)
    key = pki.vcek_key(chip.product, chip.hwid, chip.tcb("reported")).public_key()
    signature, algorithm = utils.encode_dss_signature(parsed.signature_r, parsed.signature_s), ec.ECDSA(hashes.SHA384())
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    contenders = {
        "P-384 verification alone": repeated(lambda: key.verify(signature, parsed.signed, algorithm)),
        "evident, warm": repeated(lambda: snp.verify(pieces, warm)),
        "evident, cold": repeated(lambda: snp.verify(pieces, cold)),
        "parsing the report": repeated(lambda: snp_report.parse(report)),
    }
    ratios = compare(contenders, "P-384 verification alone", rounds=rounds)
    # On a busy machine the mean says more about its other tenants: the quietest moment of each is the nearest to the code.
    quietest = {name: min(timeit.repeat(contender, number=1, repeat=2 * rounds)) for name, contender in contenders.items()}
    base = quietest["P-384 verification alone"]
    print("quietest of each: " + ", ".join(f"{name} {time / base:.3f} x" for name, time in quietest.items()))
    print(f"warm: mean {ratios['evident, warm']:.3f} x, quietest {quietest['evident, warm'] / base:.3f} x, aim 1.10 x")


if __name__ == "__main__":
    main()
