"""DER and nothing but DER (X.690), and PEM told from DER."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evident.endorsements import der, pem
from evident.endorsements.der import Der
from evident.errors import Malformed


def cursor(text: str) -> Der:
    return Der(bytes.fromhex(text), "x")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "x.truncated"),
        ("30", "x.truncated"),
        ("3003 0201", "x.truncated"),
        ("3080 0201 00 0000", "x.der"),  # indefinite length
        ("308103 020100", "x.der"),  # one length byte too many
        ("30820003 020100", "x.der"),
        ("3085 0000000003 020100", "x.der"),  # more length bytes than any file needs
        ("3084 7fffffff 00", "x.truncated"),
        ("3f2003 020100", "x.der"),  # tag number above 30
        ("0403 020100", "x.der"),  # another tag
    ],
)
def test_bad_headers_are_refused(text: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        cursor(text).enter(der.SEQUENCE, "a sequence")
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "value"), [("020100", 0), ("02017f", 127), ("02020080", 128), ("020200db", 219), ("0201ff", -1), ("0203010001", 65537)]
)
def test_integers(text: str, value: int) -> None:
    assert cursor(text).integer("n") == value


@pytest.mark.parametrize("text", ["0200", "0202007f", "0202ff80"])
def test_integers_have_one_form(text: str) -> None:
    with pytest.raises(Malformed):
        cursor(text).integer("n")


def test_unsigned_holds_its_bounds() -> None:
    assert cursor("020200ff").unsigned("n", 255) == 255
    for text in ("02020100", "0201ff"):
        with pytest.raises(Malformed, match="range"):
            cursor(text).unsigned("n", 255)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0603550403", "2.5.4.3"), ("06092b060104019c780104", "1.3.6.1.4.1.3704.1.4"), ("0603883703", "2.999.3"), ("060100", "0.0")],
)
def test_object_identifiers(text: str, value: str) -> None:
    assert cursor(text).oid("o") == value


@pytest.mark.parametrize("text", ["0600", "060255 80".replace(" ", ""), "0603558003", "0641" + "01" * 65])
def test_bad_object_identifiers(text: str) -> None:
    with pytest.raises(Malformed):
        cursor(text).oid("o")


def test_bit_strings() -> None:
    assert cursor("03020106").bits("b") == (b"\x06", 1)
    assert cursor("030200ff").whole_bytes("b") == b"\xff"
    for text in ("0300", "030108", "030101", "03020107"):  # nothing, eight unused bits, unused bits of nothing, set unused bit
        with pytest.raises(Malformed):
            cursor(text).bits("b")
    with pytest.raises(Malformed, match="whole bytes"):
        cursor("03020106").whole_bytes("b")


def test_booleans_are_00_or_ff() -> None:
    assert cursor("0101ff").boolean("b") is True
    assert cursor("010100").boolean("b") is False
    for text in ("010101", "0100", "0102ffff"):
        with pytest.raises(Malformed):
            cursor(text).boolean("b")


def time(tag: int, text: str) -> Der:
    return Der(bytes([tag, len(text)]) + text.encode(), "x")


def test_times_of_both_centuries() -> None:
    assert time(der.UTC_TIME, "491231235959Z").time("t") == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert time(der.UTC_TIME, "500101000000Z").time("t") == datetime(1950, 1, 1, tzinfo=UTC)
    assert time(der.GENERALIZED_TIME, "20500101000000Z").time("t") == datetime(2050, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (der.UTC_TIME, "2601010000Z"),
        (der.UTC_TIME, "260101000000+0000"),
        (der.UTC_TIME, "260230000000Z"),
        (der.UTC_TIME, "2601010000\u00b2\u00b2Z"),
        (der.GENERALIZED_TIME, "20260101000000.5Z"),
        (der.GENERALIZED_TIME, "00000101000000Z"),
        (der.INTEGER, "260101000000Z"),
    ],
)
def test_bad_times(tag: int, text: str) -> None:
    with pytest.raises(Malformed):
        Der(bytes([tag, len(text.encode())]) + text.encode(), "x").time("t")


def test_trailing_bytes_are_refused() -> None:
    reader = cursor("020100 00")
    reader.integer("n")
    with pytest.raises(Malformed, match="trailing"):
        reader.end("n")


def test_pem_round_trip_and_explanatory_text() -> None:
    blocks = b"subject=/CN=x\r\n" + pem.encode(b"\x30\x01\x00", "CERTIFICATE") + b"between" + pem.encode(b"second", "CERTIFICATE") + b"\0"
    assert pem.decode(blocks, ("CERTIFICATE",), "x") == (b"\x30\x01\x00", b"second")
    assert pem.decode(b"\x30\x82...-----BEGIN CERTIFICATE-----", ("CERTIFICATE",), "x") == (b"\x30\x82...-----BEGIN CERTIFICATE-----",)


@pytest.mark.parametrize(
    "text",
    [
        b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nA*AA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END X509 CRL-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 65,
        b"-----BEGIN CERTIFICATE-----\n" + b"A" * (5 * 1024 * 1024),
    ],
    ids=["no-end", "padding", "alphabet", "labels-differ", "other-label", "too-many", "too-big"],
)
def test_bad_pem(text: bytes) -> None:
    with pytest.raises(Malformed):
        pem.decode(text, ("CERTIFICATE",), "x")
