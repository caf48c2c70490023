"""Bytes that reach the guest from its host, and a key server from its guests: refused in the tree's own words, or read."""

from __future__ import annotations

import json
from typing import Any

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import cmw, nsm, sp_channel
from evident.guest import config, http
from evident.guest.steps import network
from evident.keys import messages
from evident.verification import environment

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.text(max_size=8)
    | st.sampled_from(["00" * 64, "report", "derive-key", "ff" * 32])
)
NAMES = st.sampled_from(
    (
        *("id", "op", "report_data", "vmpl", "fields", "guest_svn", "report", "auxblob", "launch", "key", "error", "version", "disk"),
        *("nonce", "evidence", "beside", "confirmation", "offer", "statement", "iv", "sealed", "signature", "releaser", "codes"),
        *("decision", "units", "ek", "ak", "credential_blob", "encrypted_secret", "answer"),
    )
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=12)
TEXTS = st.builds(lambda value: json.dumps(value).encode(), JSON) | st.binary(max_size=200)


RESPONSES = st.recursive(
    st.none() | st.binary(max_size=300) | st.sampled_from(["InvalidArgument", "document", -1, 1.5, [b""]]),
    lambda inner: st.dictionaries(st.sampled_from(["Attestation", "Error", "document", "nonce"]), inner, max_size=2),
    max_leaves=6,
)


@given(st.builds(cbor2.dumps, RESPONSES) | st.binary(max_size=100), st.binary(max_size=4), st.integers(0, 400))
def test_answers_of_a_nitro_module(answer: bytes, after: bytes, end: int) -> None:
    try:
        document = nsm.read_document((answer + after)[:end])
    except (Malformed, Unsupported):
        return
    assert cbor2.loads(answer + after)["Attestation"]["document"] == document


@given(TEXTS)
def test_channel_messages(text: bytes) -> None:
    for parse in (sp_channel.parse_request, sp_channel.parse_reply):
        try:
            message = parse(text)
        except Malformed:
            continue
        assert parse(sp_channel.serialize(message)[4:]) == message


@given(st.binary(max_size=64))
def test_channel_frames(data: bytes) -> None:
    left = bytearray(data)

    def read(count: int) -> bytes:
        if count > len(left):
            raise EOFError
        taken = bytes(left[:count])
        del left[:count]
        return taken

    try:
        payload = sp_channel.read_frame(read)
    except (Malformed, EOFError):
        return
    assert payload == data[4 : 4 + len(payload)]


@given(TEXTS)
def test_key_servers_messages(text: bytes) -> None:
    kinds: tuple[Any, ...] = (
        *(messages.ChallengeRequest, messages.ChallengeReply, messages.EvidenceRequest, messages.EvidenceReply),
        *(messages.ConfirmRequest, messages.KeyRequest, messages.Refusal, messages.Volume, messages.AttestRequest, messages.AttestReply),
        *(messages.CredentialRequest, messages.CredentialReply, messages.ActivateRequest, messages.ActivateReply),
    )
    for kind in kinds:
        try:
            message = messages.loads(kind, text)
        except Malformed:
            continue
        assert messages.loads(kind, messages.dumps(message)) == message


@given(
    st.dictionaries(
        st.sampled_from(["report.0", "quote.0", "hcl.0", "tpm-quote.0", "ak.0", "key.0", "x"]), st.binary(max_size=40), min_size=1
    )
)
def test_any_pieces(members: dict[str, bytes]) -> None:
    form = cmw.encode(cmw.Collection(cmw.EVIDENCE_TYPE + "snp", {name: cmw.Record(cmw.OCTETS, value) for name, value in members.items()}))
    try:
        _, pieces = cmw.to_pieces(cmw.decode(form))
    except (Malformed, Unsupported):
        return
    assert isinstance(environment.candidates(pieces), tuple)


WORDS = st.sampled_from(
    ["evident.mode=encrypted", "evident.mode=microcvm", "evident.tee=simulated", "evident.key=" + "ab" * 32, "quiet", "roothash="]
)
LINES = st.lists(
    WORDS | st.text(max_size=20) | st.builds("evident.{}={}".format, st.sampled_from(config._PARAMETERS), st.text(max_size=12))
).map(" ".join)


@given(LINES)
def test_command_lines(line: str) -> None:
    try:
        read = config.parse_command_line(line)
    except Malformed:
        return
    assert read.mode in ("integrity", "encrypted", "microcvm")
    assert line.count("evident.mode=") >= 1


@given(TEXTS)
def test_configurations(text: bytes) -> None:
    try:
        config.parse_configuration(text)
    except Malformed:
        return


HEADS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 2000 OK", b"POST /v1/attest HTTP/1.1", b"GET / HTTP/1.1", b"Content-Length: 3", b"Content-Length: +3"]
)
PARTS = st.lists(
    HEADS | st.sampled_from([b"\r\n", b"\r\n\r\n", b"abc", b"Transfer-Encoding: chunked"]) | st.binary(max_size=12), max_size=8
)


@given(PARTS.map(b"".join) | PARTS.map(b"\r\n".join))
def test_http_messages(data: bytes) -> None:
    for parse in (http.parse_response, http.parse_request):
        try:
            parse(data)
        except Malformed:
            continue


@given(st.binary(max_size=120), st.binary(min_size=4, max_size=4))
def test_leases(tail: bytes, transaction: bytes) -> None:
    for data in (tail, b"\2\1\6\0" + transaction + bytes(228) + b"\x63\x82\x53\x63" + tail):
        try:
            kind, offered, server, address = network.parse_reply(data, transaction)
        except Malformed:
            continue
        assert (len(offered), len(server)) == (4, 4)
        assert 0 <= address.prefix <= 32
        assert 0 <= kind < 256


@given(st.text(max_size=30))
def test_addresses(text: str) -> None:
    try:
        address = network.parse_address(text)
    except EvidentError:
        return
    assert 0 <= address.prefix <= 32
