"""Bundles, envelopes and wrapped messages from anywhere: only `Malformed`, `Unsupported` or `NotAuthentic`, whatever the bytes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from evident.audit import bundle, canonical, dsse, farewell, intoto, keys
from evident.errors import Malformed, NotAuthentic, Unsupported
from evident.evidence import cmw
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential
from evident.verification.credential import Activation

REFUSALS = (Malformed, Unsupported, NotAuthentic)
KEY = keys.generate(lambda size: b"\x03" * size)

SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4), max_leaves=12
)
RECORDS = st.tuples(
    st.sampled_from(["a/b", "ab", "application/octet-stream"]), st.sampled_from(["", "eA", "e30", "eA=="]), st.integers(-1, 40)
).map(list)
LABELS = st.sampled_from(
    ["__cmwc_t", "report.0", "report.1", "evidence", "endorsements", "policy", "result", "reference-values", "profile", ""]
)
MESSAGES = st.recursive(RECORDS | JSON, lambda inner: st.dictionaries(LABELS, inner, max_size=5), max_leaves=10)
KINDS = st.sampled_from([cmw.EVIDENCE_TYPE + "snp", bundle.COLLECTION_TYPE, "tag:else"])


def refuses(action: Any, *arguments: Any) -> None:
    with contextlib.suppress(*REFUSALS):
        action(*arguments)


@given(st.binary(max_size=400))
def test_any_bytes_as_a_bundle(data: bytes) -> None:
    refuses(bundle.open_bundle, data, [KEY.public])
    refuses(bundle.decode, data)
    refuses(farewell.decode, data)
    refuses(cmw.parse, data)
    assert not farewell.looks_like_farewell(data)


@given(st.text(alphabet='{}[]",:\\ud8f01e-.payloTypsinturkg', max_size=60))
def test_any_odd_text_as_a_bundle(text: str) -> None:
    refuses(bundle.open_bundle, text.encode(), [KEY.public])
    refuses(cmw.parse, text.encode())
    member = json.dumps("x") if len(text) % 2 else '"\\ud800"'
    envelope = '{"payload":"","payloadType":' + member + ',"signatures":[{"keyid":"","sig":""}]}'
    refuses(bundle.open_bundle, envelope.encode(), [KEY.public])


@given(JSON)
def test_any_json_as_a_bundle(form: Any) -> None:
    data = json.dumps(form).encode()
    refuses(bundle.open_bundle, data, [KEY.public])
    refuses(cmw.parse, data)


@given(JSON)
def test_any_json_under_a_good_signature(form: Any) -> None:
    refuses(bundle.open_bundle, dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(form), KEY), [KEY.public])


@given(MESSAGES, KINDS)
def test_any_message_as_evidence(form: Any, kind: str) -> None:
    if isinstance(form, dict):
        form = {**form, cmw.TYPE_KEY: kind}
    try:
        message = cmw.decode(form)
    except Malformed:
        return
    assert cmw.encode(message) == form
    refuses(cmw.to_pieces, message)


@given(MESSAGES, JSON, JSON)
def test_any_predicate_of_the_right_types_under_a_good_signature(message: Any, conditions: Any, fetched: Any) -> None:
    collection = {**message, cmw.TYPE_KEY: bundle.COLLECTION_TYPE} if isinstance(message, dict) else message
    at = {"at": "2026-11-22T00:00:00Z", "nonce": None, "report_data": None, "crl_floor": {}, "unsafe": []}
    for chosen in (conditions, at):
        statement = {
            "_type": intoto.STATEMENT_TYPE,
            "subject": [],
            "predicateType": bundle.PREDICATE_TYPE,
            "predicate": {
                "tool": {"name": "x", "version": "0", "source_sha256": ""},
                "conditions": chosen,
                "fetched": fetched,
                "failed": [],
                "cmw": collection,
            },
        }
        refuses(bundle.open_bundle, dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), KEY), [KEY.public])
        statement["predicate"]["fetched"] = []  # type: ignore[index]  # the literal above is an object there
        refuses(bundle.open_bundle, dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), KEY), [KEY.public])


FAREWELL = {
    "tool": {"name": "x", "version": "0", "source_sha256": ""},
    "deployment": "shop",
    "life": 1,
    "platform": "qemu",
    "planned": "2026-11-22T00:00:00Z",
    "began": "2026-11-22T00:00:00Z",
    "at": "2026-11-22T00:00:00Z",
    "destroyed": [],
    "surveyed": False,
    "denied": [],
    "last": None,
    "release_log": None,
    "journal": {"lines": 1, "sha256": "ab"},
    "notes": [],
}


@given(st.sampled_from(sorted(FAREWELL)), JSON, st.booleans())
def test_any_final_record_under_a_good_signature(name: str, value: Any, whole: bool) -> None:
    statement = {
        "_type": intoto.STATEMENT_TYPE,
        "subject": [{"name": "journal.jsonl", "digest": {"sha256": "ab"}}],
        "predicateType": farewell.PREDICATE_TYPE,
        "predicate": value if whole else {**FAREWELL, name: value},
    }
    refuses(farewell.open_farewell, dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), KEY), [KEY.public])
    statement["predicate"] = FAREWELL
    assert farewell.open_farewell(dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), KEY), [KEY.public]).farewell.life == 1


MACHINES = SimulatedTpm(), SimulatedTpm(ek_key=rsa.generate_private_key(65537, 2048))
MADE = [credential.challenge(item.ek, item.ak.name, lambda size: b"\x05" * size).answered(b"an answer") for item in MACHINES]
FIELDS = ("ek", "ak_name", "drawn", "credential_blob", "encrypted_secret")


@given(st.sampled_from(MADE), st.sampled_from(FIELDS), st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_any_record_of_an_activation(made: Activation, field: str, junk: bytes, at: int, value: int) -> None:
    """Junk in its place, or one byte of it changed: made again it is refused, or differs. (Which EK it is, verification compares.)"""
    true = getattr(made, field)
    for changed in (junk, true[:at] + bytes((value,)) + true[at + 1 :]):
        record = replace(made, **{field: changed})
        with contextlib.suppress(*REFUSALS):
            again = credential.again(record).answered(record.answer)
            assert changed == true or field == "ek" or again != record
