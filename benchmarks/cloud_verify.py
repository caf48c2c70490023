"""Verifying and appraising a cloud's evidence, against the signatures in it that nobody can avoid (aim: warm at most 1.5 x).

    python benchmarks/cloud_verify.py [rounds]

The evidence is the simulator's: report, vTPM quote or NitroTPM document, and their certificates. *Warm*: AMD's chain and CRL, and the
AK's certificate, were verified before under the same `ChainCache`. The baseline repeats, with the library alone, every signature check
that a warm verification makes: report and quote for Azure and Google; report, document and its leaf for AWS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy
from evident.endorsements import pem, x509
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable
from evident.evidence import cert_table, nitro, snp_report, tpm
from evident.evidence.tpm_algorithms import ALG_RSASSA, ALG_SHA256
from evident.evidence.tpm_public import Scheme
from evident.simulator import clouds, scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.pki import SimulatorPki
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import kinds
from evident.verification.context import ChainCache, Context
from evident.verification.pieces import Pieces
from ratio import compare

AT = datetime(2026, 6, 10, tzinfo=UTC)
POLICY = Policy(version=1, allow_simulated=True)
P384, P256 = ec.ECDSA(hashes.SHA384()), ec.ECDSA(hashes.SHA256())
Check = Callable[[], object]


class Nowhere:
    """No network: everything that a verification needs is given to it."""

    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=f"{url} ({limit} bytes)", found="no network", remedy="Give it.")


def report_check(raw: bytes, vcek: bytes) -> Check:
    """The P-384 signature of an SNP report."""
    report, key = snp_report.parse(raw), x509.parse(vcek).public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signature = utils.encode_dss_signature(report.signature_r, report.signature_s)
    return lambda: key.verify(signature, report.signed, P384)


def quote_check(pieces: Pieces, machine: SimulatedTpm) -> Check:
    """The signature of a quote, RSASSA or ECDSA P-256."""
    message, signature, key = pieces["tpm-quote"][0], tpm.parse_signature(pieces["signature"][0]), machine.ak_key.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return lambda: key.verify(signature.rsa, message, padding.PKCS1v15(), hashes.SHA256())
    der = utils.encode_dss_signature(int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big"))
    return lambda: key.verify(der, message, P256)


def certificate_check(certificate: bytes, issuer: bytes) -> Check:
    """The P-384 signature of a certificate."""
    leaf, key = x509.parse(certificate), x509.parse(issuer).public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return lambda: key.verify(leaf.signature, leaf.tbs, P384)


def document_check(raw: bytes) -> Check:
    """The P-384 signature of a Nitro document."""
    document = nitro.parse(raw)
    key, sign1 = x509.parse(document.certificate).public_key, document.sign1
    assert isinstance(key, ec.EllipticCurvePublicKey)
    der = utils.encode_dss_signature(*(int.from_bytes(half, "big") for half in (sign1.signature[:48], sign1.signature[48:])))
    signed = sign1.to_be_signed
    return lambda: key.verify(der, signed, P384)


def main() -> None:
    simulated = SimulatorPki.generate(made_at=AT - timedelta(days=1), progress=lambda text: print(text, file=sys.stderr))
    deployment, pki, nonce = scenario.good(simulated, at=AT), CloudPki(AT - timedelta(days=1)), os.urandom(32)
    running = deployment.start()
    table = running.collect(nonce)["auxblob"][0]
    entries = cert_table.parse(table)
    vcek, ask = entries.get("vcek") or b"", entries.get("ask") or b""
    chain = {
        "crl": (simulated.crl(deployment.chip.product, at=AT),),
        "vcek": (pem.encode(vcek, "CERTIFICATE") + pem.encode(ask, "CERTIFICATE"),),
    }
    azure_tpm = SimulatedTpm(ak_key=rsa.generate_private_key(65537, 2048), ak_scheme=Scheme(ALG_RSASSA, ALG_SHA256))
    google_tpm = SimulatedTpm()
    azure = clouds.azure_snp(running.guest, azure_tpm, nonce) | chain
    google = clouds.gcp_snp(running.guest, google_tpm, nonce, pki, AT) | chain
    amazon = clouds.aws_snp(running.guest, azure_tpm, nonce, pki, AT) | chain
    checks = {
        "azure-snp": (report_check(azure["hcl"][0][0x20:0x4C0], vcek), quote_check(azure, azure_tpm)),
        "gcp-snp": (report_check(google["report"][0], vcek), quote_check(google, google_tpm)),
        "aws-snp": (
            report_check(amazon["report"][0], vcek),
            document_check(amazon["document"][0]),
            certificate_check(nitro.parse(amazon["document"][0]).certificate, pki.nitro_root),
        ),
    }
    anchors = AnchorSet((*simulated.anchors(), *pki.anchors()))
    context = Context(AT, anchors, Nowhere(), nonce=nonce, unsafe=frozenset({"simulated-root"}), chain_cache=ChainCache())
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for kind, pieces in (("azure-snp", azure), ("gcp-snp", google), ("aws-snp", amazon)):
        assert not kinds.verify(kind, pieces, context).open_points
        baseline = f"{kind}: its signatures alone"
        compare(
            {
                baseline: lambda kind=kind: [check() for check in checks[kind]],  # type: ignore[misc]  # bound per kind
                f"{kind}: verify, warm": lambda kind=kind, pieces=pieces: kinds.verify(kind, pieces, context),  # type: ignore[misc]
                f"{kind}: verify and appraise, warm": lambda kind=kind, pieces=pieces: appraise(  # type: ignore[misc]
                    kinds.verify(kind, pieces, context), policy=POLICY
                ),
            },
            baseline,
            rounds=rounds,
        )


if __name__ == "__main__":
    main()
