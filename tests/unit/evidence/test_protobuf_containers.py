"""Protobuf by hand: go-tpm-tools' attestations and Google's launch endorsement."""

from __future__ import annotations

import pytest

from evident.errors import Malformed
from evident.evidence import gce_endorsement, protobuf, snp_report, tpm
from evident.evidence.importers import go_tpm_tools


def test_the_report_of_a_protobuf_is_the_report(vectors):
    case = "gcp/reclaim-snp-vtpm-combined"
    attestation = go_tpm_tools.parse(vectors.read(case, "attestation.pb"))
    assert attestation.snp is not None
    assert attestation.snp.report == vectors.read(case, "snp-report.bin")
    assert attestation.snp.vcek == vectors.read(case, "vcek.der")
    assert attestation.snp.chain == (vectors.read(case, "ask.der"), vectors.read(case, "ark.der"))
    assert attestation.ak_certificate == vectors.read(case, "ak_cert.der")
    snp_report.parse(attestation.snp.report)
    alone = go_tpm_tools.parse_snp(vectors.read("aws/reclaim-vlek-v5", "attestation.pb"))
    assert alone.report == vectors.read("aws/reclaim-vlek-v5", "report.bin")
    assert alone.vlek == vectors.read("aws/reclaim-vlek-v5", "vlek.der")


@pytest.mark.parametrize(("case", "banks"), [("gcp/reclaim-snp-vtpm-combined", "quotes"), ("gcp/go-tpm-tools-cos85-no-nonce", "banks")])
def test_every_bank_opens_its_quote(vectors, case, banks):
    attestation = go_tpm_tools.parse(vectors.read(case, "attestation.pb"))
    for quote, stated in zip(attestation.quotes, vectors.facts(case)[banks], strict=True):
        assert quote.bank == stated["bank"]
        assert {str(index): value.hex() for index, value in quote.values.items()} == stated["pcrs"]
        signature = tpm.parse_signature(quote.signature)
        assert signature.name == stated["signature"]
        info = tpm.quote_info(tpm.parse_attest(quote.quote))
        # The digest is SHA-256 in every bank: the hash of the signing scheme.
        assert tpm.pcr_digest(info.selections, {quote.bank: quote.values}, signature.hash) == info.pcr_digest


@pytest.mark.parametrize(
    "raw",
    [
        b"\x08",  # no value
        b"\x08\x80\x00",  # not the shortest form
        b"\x08" + b"\xff" * 10,
        b"\x0b",  # group
        b"\x00\x00",  # field 0
        b"\x0a\x05abc",  # shorter than it says
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_loose_protobuf_is_refused(raw):
    with pytest.raises(Malformed) as refused:
        protobuf.parse(raw, "x")
    assert refused.value.code == "x.protobuf"


def test_fields_come_once_and_of_their_kind():
    message = protobuf.parse(protobuf.encode(((1, 5), (1, 6), (2, b"a"))), "x")
    for wrong in (lambda: message.one_int(1), lambda: message.one_int(2), lambda: message.only(1)):
        with pytest.raises(Malformed):
            wrong()
    with pytest.raises(Malformed):
        message.one_bytes(1)
    with pytest.raises(Malformed):
        message.all_bytes(1)
    assert (message.one_int(3), message.one_bytes(3)) == (0, b"")


def _endorsement(measurements: tuple[tuple[int, bytes], ...] = ((2, b"\2" * 48), (4, b"\4" * 48)), digest: bytes = b"d" * 48) -> bytes:
    entries = tuple((2, protobuf.encode(((1, vcpus), (2, value)))) for vcpus, value in measurements)
    snp = protobuf.encode(((1, 3), *entries, (3, b"f" * 16), (5, 0x30000)))
    tdx = protobuf.encode(((1, 1), (2, protobuf.encode(((1, 16), (2, 1), (3, b"m" * 48))))))
    golden = protobuf.encode(
        ((1, protobuf.encode(((1, 1700000000),))), (2, 42), (3, b"commit"), (4, b"cert"), (5, digest), (7, snp), (8, tdx), (99, b"new"))
    )
    return protobuf.encode(((1, golden), (2, b"signature")))


def test_an_endorsement_says_its_measurements():
    raw = _endorsement()
    endorsement = gce_endorsement.parse(raw)
    assert gce_endorsement.serialize(endorsement) == raw
    assert endorsement.snp is not None
    assert endorsement.snp.measurements == {2: b"\2" * 48, 4: b"\4" * 48}
    assert (endorsement.snp.svn, endorsement.snp.policy, endorsement.changelist) == (3, 0x30000, 42)
    assert endorsement.firmware_digest == b"d" * 48
    assert endorsement.tdx == (gce_endorsement.TdxGolden(16, True, b"m" * 48),)
    assert endorsement.timestamp is not None
    assert endorsement.timestamp.year == 2023


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        _endorsement()[:-1],
        _endorsement() + b"\x1a\x01a",
        _endorsement(((2, b"\2" * 48), (2, b"\4" * 48))),
        _endorsement(((2, b"\2" * 47),)),
        _endorsement(digest=b"short"),
        protobuf.encode(((1, b""), (2, b"s"))),
    ],
)
def test_damaged_endorsements_are_refused(raw):
    with pytest.raises(Malformed) as refused:
        gce_endorsement.parse(raw)
    assert refused.value.code == "gce.endorsement.protobuf"
