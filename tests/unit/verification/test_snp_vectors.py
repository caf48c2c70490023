"""Real reports of real processors get the right answer at the time they were made for, and say exactly what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509 as cryptography_x509

from evident.endorsements import anchors
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable, EvidentError, Malformed, NotAuthentic
from evident.verification import kinds, snp
from evident.verification.context import ChainCache, Context
from evident.verification.pieces import Pieces

CASES = {  # case to its certificates by role; every case of kind snp that has a report, and SNP reports of other kinds
    "snp/trustee-milan-v2": {"vcek": "vcek.der"},
    "snp/trustee-milan-v2-vcek-altered-legacy": {"vcek": "vcek.der"},
    "snp/trustee-aws-milan-vlek-v3": {"vlek": "vlek.der"},
    "snp/microsoft-milan": {"vcek": "vcek.pem", "chain": "ask.pem"},
    "snp/microsoft-genoa": {"vcek": "vcek.pem", "chain": "ask.pem"},
    "snp/go-sev-guest-milan-v2-debug": {"vcek": "vcek.der"},
    "snp/virtee-milan-v2": {"vcek": "vcek.der"},
    "snp/attestation-rs-genoa-v5": {"vcek": "vcek.der"},
    "snp/veraison-genoa-v3-tsm": {"auxblob": "auxblob.bin"},
    "snp/dstack-milan-v3-hostdata": {"vcek": "vcek.pem"},
    "snp/cmc-milan-v2": {"vcek": "vcek.pem", "chain": "ark.pem"},
    "snp/cmc-milan-v2-bad-signature": {"vcek": "vcek.pem"},
    "snp/cmc-milan-v2-malformed": {},
    "snp/snpguard-milan-json-v2": {"vcek": "vcek.der"},
    "aws/reclaim-vlek-v5": {"vlek": "vlek.der"},
    "gcp/reclaim-snp-vtpm-combined": {"vcek": "vcek.der"},
}
WITHOUT_REPORT = {"snp/virtee-turin-vcek"}
REFUSED = {
    "snp/trustee-milan-v2-vcek-altered-legacy": ("x509.signature", "snp.tcb", "snp.chip-id.mismatch", "snp.signature"),
    "snp/cmc-milan-v2-bad-signature": ("snp.signature",),
    "snp/cmc-milan-v2-malformed": ("snp.report.header",),
}


class Offline:
    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=url, found=f"no network for up to {limit} bytes", remedy="Go online.")


@pytest.fixture(scope="module")
def production() -> AnchorSet:
    return anchors.production()


def pieces_of(vectors: Any, case: str) -> Pieces:
    report = {"snp/snpguard-milan-json-v2": "report.json", "gcp/reclaim-snp-vtpm-combined": "snp-report.bin"}.get(case, "report.bin")
    roles = {"report": report, **CASES[case]}
    return {role: (vectors.read(case, name),) for role, name in roles.items()}


def context_of(vectors: Any, case: str, trusted: AnchorSet, **more: Any) -> Context:
    at = vectors.facts(case).get("evaluate_at", "2026-11-22T00:00:00Z")
    return Context(datetime.fromisoformat(at), trusted, Offline(), **more)


def test_no_case_of_the_manifest_is_left_out(vectors: Any) -> None:
    assert {case for case in vectors.cases if case.startswith("snp/")} <= {*CASES, *WITHOUT_REPORT}


def compare(stated: Any, found: Any, path: str) -> int:
    """Every key that both have is equal, down to the leaves; how many leaves were compared."""
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        return sum(compare(stated[key], found[key], f"{path}.{key}") for key in stated.keys() & found.keys())
    assert found == stated, path
    return 1


@pytest.mark.parametrize("case", CASES)
def test_vector(vectors: Any, production: AnchorSet, case: str) -> None:
    context = context_of(vectors, case, production)
    expected = vectors.cases[case]["expect"]
    if expected == "invalid":
        with pytest.raises(EvidentError) as refusal:
            kinds.verify("snp", pieces_of(vectors, case), context)
        assert isinstance(refusal.value, NotAuthentic | Malformed)
        assert tuple(finding.code for finding in refusal.value.findings) == REFUSED[case]
        if isinstance(refusal.value, NotAuthentic):  # what it says all the same, for who wants to know whose it might be
            assert compare(vectors.facts(case), refusal.value.claims, case) >= 25
        return
    verified = kinds.verify("snp", pieces_of(vectors, case), context)
    assert {step.id for step in verified.steps} == verified.required
    assert verified.revocation == "unknown"
    assert [point.code for point in verified.open_points] == ["snp.revocation.unknown", "snp.challenge.missing"]
    assert not verified.simulated
    assert not verified.unsafe
    facts = vectors.facts(case).get("snp", vectors.facts(case))
    assert compare(facts, verified.facts.claims, case) >= 35
    assert verified.facts.tee is not None
    assert verified.facts.tee.debug == facts["policy_debug"]


@pytest.mark.parametrize("case", [case for case in CASES if case not in REFUSED])
def test_with_the_unsafe_options_nothing_is_open_and_everything_is_visible(vectors: Any, production: AnchorSet, case: str) -> None:
    context = context_of(vectors, case, production, unsafe=frozenset({"revocation-unknown", "no-challenge"}))
    verified = kinds.verify("snp", pieces_of(vectors, case), context)
    assert not verified.open_points
    assert verified.unsafe == ("revocation-unknown", "no-challenge")
    assert verified.revocation == "unknown"
    assert {"snp.revocation.unknown", "snp.challenge.missing"} <= set(verified.facts.caveats)
    assert verified.facts.freshness.scope == "unknown"


@pytest.mark.parametrize(
    ("case", "challenge", "how"),
    [
        ("snp/cmc-milan-v2", {"nonce": b"\x23" * 64}, "nonce"),
        ("snp/attestation-rs-genoa-v5", {"nonce": b"hello-attestation"}, "nonce"),
        ("snp/dstack-milan-v3-hostdata", {"report_data": b"attest-test-fixture-2026".ljust(64, b"\0")}, "expects"),
    ],
)
def test_stated_challenges_are_bound(vectors: Any, production: AnchorSet, case: str, challenge: dict[str, bytes], how: str) -> None:
    verified = kinds.verify("snp", pieces_of(vectors, case), context_of(vectors, case, production, **challenge))
    assert verified.facts.freshness.scope == "challenge"
    assert how in verified.facts.freshness.how
    assert [point.code for point in verified.open_points] == ["snp.revocation.unknown"]


def test_vlek_is_refused_after_its_year(vectors: Any, production: AnchorSet) -> None:
    context = Context(datetime(2026, 11, 22, tzinfo=UTC), production, Offline())
    with pytest.raises(NotAuthentic) as refusal:
        kinds.verify("snp", pieces_of(vectors, "snp/trustee-aws-milan-vlek-v3"), context)
    assert refusal.value.code == "x509.expired"


def test_both_forms_of_a_tsm_document(vectors: Any, production: AnchorSet) -> None:
    case = "snp/veraison-genoa-v3-tsm"
    for name in ("tsm-report.json", "tsm-report.cbor"):
        verified = kinds.verify("snp", {"report": (vectors.read(case, name),)}, context_of(vectors, case, production))
        assert compare(vectors.facts(case), verified.facts.claims, case) >= 35


def test_hex_text_is_told_by_content(vectors: Any, production: AnchorSet) -> None:
    case = "snp/virtee-milan-v2"
    pieces = {role: (content[0].hex().encode() + b"\n",) for role, content in pieces_of(vectors, case).items()}
    assert kinds.verify("snp", pieces, context_of(vectors, case, production)).facts.claims["vmpl"] == 0


def test_every_byte_of_the_signed_region_counts(vectors: Any, production: AnchorSet) -> None:
    case = "snp/attestation-rs-genoa-v5"
    pieces = dict(pieces_of(vectors, case))
    (report,) = pieces["report"]
    context = context_of(vectors, case, production, chain_cache=ChainCache())
    snp.verify(pieces, context)
    for offset in range(0x2A0):
        flipped = bytearray(report)
        flipped[offset] ^= 1 << offset % 8
        with pytest.raises(EvidentError) as refusal:
            snp.verify({**pieces, "report": (bytes(flipped),)}, context)
        assert refusal.value.decision in ("not_authentic", "malformed", "unsupported"), hex(offset)


def test_peer_stated_negative_mutations(vectors: Any, production: AnchorSet) -> None:
    """The four mutations that the vector's source names, each with the step that must refuse it."""
    case = "snp/trustee-milan-v2"
    pieces, context = pieces_of(vectors, case), context_of(vectors, case, production)

    def mutated(role: str, offset: int) -> Pieces:
        content = bytearray(pieces[role][0])
        content[offset] += 1
        return {**pieces, role: (bytes(content),)}

    for changed, code in ((mutated("report", 42), "snp.signature"), (mutated("report", 384), "snp.tcb"), (mutated("vcek", 42), None)):
        with pytest.raises(EvidentError) as refusal:
            snp.verify(changed, context)
        assert code is None or code in {finding.code for finding in refusal.value.findings}
    trust_only_asvk = AnchorSet(anchor for anchor in production if anchor.role == "root" or anchor.name == "SEV-VLEK-Milan")
    with pytest.raises(NotAuthentic) as refusal:
        snp.verify(pieces, dataclasses.replace(context, anchors=trust_only_asvk))
    assert refusal.value.code == "snp.issuer-unknown"


def test_serial_number_zero_keeps_working_when_cryptography_refuses_it(
    vectors: Any, production: AnchorSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every VCEK has serial 0, which `cryptography` has announced to refuse: nothing on the path may use its certificate loader."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("serial number 0 is not allowed")

    for name in ("load_der_x509_certificate", "load_pem_x509_certificate", "load_pem_x509_certificates", "load_der_x509_crl"):
        monkeypatch.setattr(cryptography_x509, name, refuse)
    with pytest.raises(ValueError, match="serial"):
        cryptography_x509.load_der_x509_certificate(vectors.read("snp/virtee-milan-v2", "vcek.der"))
    for case in ("snp/trustee-aws-milan-vlek-v3", "snp/veraison-genoa-v3-tsm"):
        verified = kinds.verify("snp", pieces_of(vectors, case), context_of(vectors, case, anchors.production()))
        assert verified.facts.claims["endorsement_cert"]["serial"] == 0
