"""TPM structures: real quotes, keys and PCR files parse, say what the manifest says, and serialise back."""

from __future__ import annotations

import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import tpm, tpm_public
from evident.evidence import tpm_algorithms as alg
from evident.evidence.importers import tpm2_tools

QUOTES = (
    ("tpm/keylime-swtpm-quote", "quote.bin"),
    ("tpm/cmc-quote", "quote.bin"),
    ("tpm/go-attestation-windows-gcp", "quote.bin"),
    ("tpm/dstack-attest-body", "quote.bin"),
    ("tpm/kinvolk-azure-vtpm-quote", "quote.msg"),
    ("azure/trustee-snp-milan-v2-raw", "quote.msg"),
)
PUBLICS = (
    ("tpm/keylime-swtpm-quote", "ak.pub"),
    ("tpm/keylime-swtpm-quote", "ek.pub"),
    ("tpm/go-attestation-windows-gcp", "ak_public.bin"),
)


@pytest.mark.parametrize(("case", "name"), QUOTES)
def test_real_quotes_serialise_back(vectors, case, name):
    raw = vectors.read(case, name)
    attest = tpm.parse_attest(raw)
    assert (attest.magic, attest.type) == (tpm.GENERATED, tpm.ST_ATTEST_QUOTE)
    assert tpm.serialize_attest(attest) == raw
    assert tpm.serialize_quote_info(tpm.quote_info(attest)) == attest.attested


@pytest.mark.parametrize("case", ["tpm/keylime-swtpm-quote", "tpm/cmc-quote"])
def test_quotes_say_what_the_manifest_says(vectors, case):
    facts = vectors.facts(case)
    attest = tpm.parse_attest(vectors.read(case, "quote.bin"))
    info = tpm.quote_info(attest)
    assert attest.extra_data.hex() == facts["extra_data"]
    assert [[item.bank, list(item.indices)] for item in info.selections] == facts["pcr_selection"]
    assert info.pcr_digest.hex() == facts["pcr_digest"]
    assert f"{attest.firmware_version:016x}" == facts["firmware_version"]
    assert (attest.clock, attest.reset_count, attest.restart_count) == (facts["clock"], facts["reset_count"], facts["restart_count"])
    assert attest.safe is bool(facts["clock_safe"])
    assert attest.qualified_signer.hex() == facts["qualified_signer"]
    assert tpm.parse_signature(vectors.read(case, "signature.bin")).name == facts["signature_scheme_verified"]


@pytest.mark.parametrize(("case", "name"), PUBLICS)
def test_public_areas_serialise_back(vectors, case, name):
    raw = vectors.read(case, name)
    public = tpm_public.parse(raw)
    assert tpm_public.serialize(public) == public.raw
    assert raw in (public.raw, public.tpm2b)
    assert public.public_key().key_size == 2048


def test_a_qualified_name_follows_the_parents(vectors):
    case = "tpm/keylime-swtpm-quote"
    ek, ak = (tpm_public.parse(vectors.read(case, name)) for name in ("ek.pub", "ak.pub"))
    expected = ak.qualified_name(ek.qualified_name(tpm_public.HANDLE_ENDORSEMENT.to_bytes(4, "big")))
    assert expected.hex() == vectors.facts(case)["qualified_signer"]


def test_a_public_area_holds_the_key_of_the_pem_file(vectors):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    case = "tpm/keylime-swtpm-quote"
    assert tpm_public.parse(vectors.read(case, "ak.pub")).public_key() == load_pem_public_key(vectors.read(case, "ak.pem"))


def test_the_pcr_file_of_tpm2_tools_opens_the_digest(vectors):
    case = "tpm/keylime-swtpm-quote"
    info = tpm.quote_info(tpm.parse_attest(vectors.read(case, "quote.bin")))
    selections, values = tpm2_tools.parse(vectors.read(case, "pcrs.bin"))
    assert [(item.bank, item.indices) for item in selections] == [("sha256", (15, 16, 22))]
    assert tpm.pcr_digest(info.selections, values, alg.ALG_SHA256) == info.pcr_digest


def _attest(**changes: object) -> bytes:
    info = tpm.QuoteInfo((tpm.PcrSelection.of("sha256", (0, 7)),), bytes(32))
    fields = {
        "magic": tpm.GENERATED,
        "type": tpm.ST_ATTEST_QUOTE,
        "qualified_signer": bytes(34),
        "extra_data": b"nonce",
        "clock": 1,
        "reset_count": 2,
        "restart_count": 3,
        "safe": True,
        "firmware_version": 4,
        "attested": tpm.serialize_quote_info(info),
        "raw": b"",
    }
    return tpm.serialize_attest(tpm.Attest(**(fields | changes)))


def test_selections_name_their_registers():
    selection = tpm.PcrSelection.of("sha384", (0, 8, 23))
    assert selection.select == b"\x01\x01\x80"
    assert selection.indices == (0, 8, 23)
    assert selection.bank == "sha384"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "tpm.attest.truncated"),
        (_attest()[:-1], "tpm.attest.truncated"),
        (_attest() + b"\0", "tpm.attest.trailing"),
        (bytes.fromhex("474354ff") + _attest()[4:], "tpm.attest.endianness"),
        (_attest(attested=b"\0\0\xff\xff"), "tpm.selection"),
        (_attest(attested=b"\0\0\0\x01\0\x0b\x05" + bytes(5)), "tpm.selection"),
        (_attest(extra_data=bytes(67)), "tpm.oversized"),
        (_attest().replace(bytes.fromhex("0000000301"), bytes.fromhex("0000000302")), "tpm.attest.safe"),
    ],
)
def test_damaged_quotes_are_refused_by_name(raw, code):
    with pytest.raises(Malformed) as refused:
        tpm.parse_attest(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (b"", Malformed, "tpm.signature.truncated"),
        (bytes.fromhex("0014000b0001"), Malformed, "tpm.signature.truncated"),
        (bytes.fromhex("0014000b0001aaff"), Malformed, "tpm.signature.trailing"),
        (bytes.fromhex("0014000bffff"), Malformed, "tpm.oversized"),
        (bytes.fromhex("9999000b0001aa"), Malformed, "tpm.signature.scheme"),
        (bytes.fromhex("001a000b0001aa0001aa"), Unsupported, "tpm.signature.scheme"),
        (bytes.fromhex("001477770001aa"), Unsupported, "tpm.hash"),
    ],
)
def test_damaged_signatures_are_refused_by_name(raw, kind, code):
    with pytest.raises(kind) as refused:
        tpm.parse_signature(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("raw", "kind", "code"),
    [
        (b"", Malformed, "tpm.public.truncated"),
        (bytes.fromhex("0008000b00000000"), Unsupported, "tpm.public.type"),
        (bytes.fromhex("4242000b00000000"), Malformed, "tpm.public.type"),
        (bytes.fromhex("0001000b000000010000"), Malformed, "tpm.public.reserved"),
        (bytes.fromhex("0001000b000000000000001000100800000000000000ff"), Malformed, "tpm.public.trailing"),
    ],
)
def test_damaged_public_areas_are_refused_by_name(raw, kind, code):
    with pytest.raises(kind) as refused:
        tpm_public.parse(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "key",
    [
        tpm_public.RsaKey(2048, 0, b""),
        tpm_public.RsaKey(2048, 0, b"\xc1" + bytes(127)),
        tpm_public.RsaKey(1024, 2, b"\xc1" * 128),
        tpm_public.EccKey(alg.CURVE_P256, tpm_public.Scheme(), b"\1" * 32, b"\1" * 32),
    ],
    ids=["no modulus", "shorter than declared", "even exponent", "not on the curve"],
)
def test_numbers_that_are_no_key_are_refused(key):
    public = tpm_public.Public(alg.ALG_SHA256, 0, b"", tpm_public.Symmetric(), tpm_public.Scheme(), key, b"")
    parsed = tpm_public.parse(tpm_public.serialize(public))
    assert parsed.key == key
    with pytest.raises(Malformed) as refused:
        parsed.public_key()
    assert refused.value.code == "tpm.public.key"


def test_a_curve_without_a_name_is_unsupported():
    key = tpm_public.EccKey(0x0020, tpm_public.Scheme(), b"\1", b"\1")
    with pytest.raises(Unsupported):
        tpm_public.Public(alg.ALG_SHA256, 0, b"", tpm_public.Symmetric(), tpm_public.Scheme(), key, b"").public_key()


def test_a_missing_value_is_named():
    with pytest.raises(Malformed, match="PCR 7 of the sha256 bank") as refused:
        tpm.pcr_digest((tpm.PcrSelection.of("sha256", (7,)),), {"sha256": {}}, alg.ALG_SHA256)
    assert refused.value.code == "tpm.pcrs.missing"


def test_a_bank_that_cannot_be_computed_is_unsupported():
    selection = tpm.PcrSelection(alg.ALG_SM3_256, b"\x01\0\0")
    with pytest.raises(Unsupported):
        tpm.pcr_digest((selection,), {"sm3_256": {0: bytes(32)}}, alg.ALG_SM3_256)
