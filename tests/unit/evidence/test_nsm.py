"""The two messages of a Nitro security module, beside what an independent CBOR library makes of them."""

from __future__ import annotations

import cbor2
import pytest

from evident.errors import Malformed, Unsupported
from evident.evidence import nsm


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 1024])
def test_a_request_is_what_serde_writes(size: int) -> None:
    value = bytes(size)
    written = nsm.request(nonce=value, public_key=value)
    assert written == cbor2.dumps({"Attestation": {"user_data": None, "nonce": value, "public_key": value}})


def test_a_request_of_too_much() -> None:
    for nonce, key in ((bytes(1025), b""), (b"", bytes(1025))):
        with pytest.raises(Unsupported, match=r"nsm\.parameter"):
            nsm.request(nonce=nonce, public_key=key)


@pytest.mark.parametrize("size", [1, 23, 24, 255, 256, 5000, 70000])
def test_the_document_of_a_response(size: int) -> None:
    document = bytes(size)
    response = cbor2.dumps({"Attestation": {"document": document}})
    for after in (b"", b"\xff" * 50, b"\0" * 50):
        assert nsm.read_document(response + after) == document


def test_maps_without_a_length() -> None:
    inner = b"\xbf" + cbor2.dumps("document") + cbor2.dumps(b"cose") + b"\xff"
    assert nsm.read_document(b"\xbf" + cbor2.dumps("Attestation") + inner + b"\xff") == b"cose"


def test_a_refusal_is_quoted() -> None:
    with pytest.raises(Unsupported, match=r"nsm\.refused.*InputTooLarge"):
        nsm.read_document(cbor2.dumps({"Error": "InputTooLarge"}))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 20,
        cbor2.dumps("DescribeNSM"),
        cbor2.dumps({"Attestation": None}),
        cbor2.dumps({"Attestation": {"document": "text"}}),
        cbor2.dumps({"Attestation": {"document": [1]}}),
        cbor2.dumps({1: b""}),
        cbor2.dumps({"a": {"a": {"a": {"a": {"a": None}}}}}),
        b"\xa2" + 2 * (cbor2.dumps("Error") + cbor2.dumps("twice")),
        b"\xa1\x65Error\x7f\x61a\xff",
        b"\xa1\x65Error\x61\xff",
        cbor2.dumps({"Attestation": {"document": bytes(100)}})[:-1],
        b"\xa1\x6bAttestation\xa1\x68document\x5a\xff\xff\xff\xff",
    ],
)
def test_anything_else_is_malformed(answer: bytes) -> None:
    with pytest.raises(Malformed, match=r"nsm\."):
        nsm.read_document(answer)
