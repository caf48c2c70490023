"""A full decision, from bytes to statement, against the one P-384 verification that nobody can avoid.

    python benchmarks/appraisal.py [rounds]

*Appraisal alone* starts from verified evidence: rules, reference values, folds and the statement in words. *Warm* and *cold* add the
verification with and without remembered chains. The deployment is the simulator's good one, with reference values for every layer.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from evident.appraisal.appraise import appraise
from evident.reports import json_report
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import good
from evident.verification import snp
from evident.verification.context import ChainCache
from ratio import compare


def main() -> None:
    pki = SimulatorPki.generate(made_at=datetime(2026, 6, 10, tzinfo=UTC), progress=lambda text: print(text, file=sys.stderr))
    scenario, nonce = good(pki), os.urandom(32)
    pieces, cold = {**scenario.collect(nonce), "crl": (pki.crl(scenario.chip.product, at=scenario.at),)}, scenario.context(nonce)
    warm = dataclasses.replace(cold, chain_cache=ChainCache())
    policy, references = scenario.policy, scenario.reference.values
    verified = snp.verify(pieces, warm)
    assert appraise(verified, policy=policy, references=references).decision == "accepted"

    report = verified.evidence
    key = pki.vcek_key(scenario.chip.product, scenario.chip.hwid, scenario.chip.tcb("reported")).public_key()
    signature, algorithm = utils.encode_dss_signature(report.signature_r, report.signature_s), ec.ECDSA(hashes.SHA384())
    statement = appraise(verified, policy=policy, references=references)
    compare(
        {
            "P-384 verification alone": lambda: key.verify(signature, report.signed, algorithm),
            "appraisal alone": lambda: appraise(verified, policy=policy, references=references),
            "verified and appraised, warm": lambda: appraise(snp.verify(pieces, warm), policy=policy, references=references),
            "verified and appraised, cold": lambda: appraise(snp.verify(pieces, cold), policy=policy, references=references),
            "the statement as JSON": lambda: json_report.render(statement),
        },
        "P-384 verification alone",
        rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 100,
    )


if __name__ == "__main__":
    main()
