"""A bundle holds, or names what is wrong with it: every byte, every input, the result and the signer."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.audit.conftest import key_of

from evident.appraisal.policy import STRICT, RequiredLevels
from evident.appraisal.statement import TrustStatement
from evident.audit import bundle, canonical, dsse, intoto
from evident.audit.case import decide
from evident.audit.replay import reappraise, replay
from evident.endorsements import amd
from evident.endorsements.anchors import production
from evident.endorsements.fetcher import RecordingFetcher, StaticFetcher
from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported
from evident.evidence.snp_report import SigningKey
from evident.reports.json_report import document


def refusal(packed: Any, data: bytes) -> EvidentError:
    with pytest.raises(EvidentError) as caught:
        replay(data, trusted=[packed.key.public], anchors=packed.anchors)
    return caught.value


def test_the_decision_is_made_again(packed: Any) -> None:
    held = replay(packed.data, trusted=[packed.key.public], anchors=packed.anchors)
    assert held.same_code
    assert isinstance(held.outcome, TrustStatement)
    assert held.outcome.decision == "accepted"
    assert held.outcome.simulated
    assert document(held.outcome) == document(packed.outcome)


def test_equal_decisions_are_equal_files(packed: Any) -> None:
    assert bundle.build(packed.case, packed.recorded, packed.outcome, packed.key) == packed.data


@pytest.mark.parametrize("attack", ["swap-kernel", "no-crl", "altered-report", "revoked"])
def test_refusals_and_undecided_cases_replay_as_well(pack: Callable[..., Any], attack: str) -> None:
    packed = pack(attack)
    held = replay(packed.data, trusted=[packed.key.public], anchors=packed.anchors)
    assert document(held.outcome)["decision"] != "accepted"
    assert document(held.outcome) == document(packed.outcome)


def test_every_byte_counts(packed: Any) -> None:
    """All structural bytes of the envelope, and a spread of payload and signature bytes, each flipped in two ways."""
    data = packed.data
    payload = data.index(b'"payload":"') + len(b'"payload":"')
    end = data.index(b'"', payload)
    positions = [*range(payload), *range(end, len(data)), *range(payload, end, 397), *range(payload, payload + 40), *range(end - 40, end)]
    for position in positions:
        for flip in (0x01, 0x20):
            changed = data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :]
            assert refusal(packed, changed).exit_code in (10, 30), f"byte {position}"


@pytest.mark.parametrize("cut", [0, 1, 100, 1000, -1, -2, -200])
def test_a_half_written_bundle_is_malformed(packed: Any, cut: int) -> None:
    assert isinstance(refusal(packed, packed.data[:cut]), Malformed)


@pytest.mark.parametrize("extra", [b" ", b"\n", b"{}", b"\0"])
def test_trailing_bytes_are_malformed(packed: Any, extra: bytes) -> None:
    assert isinstance(refusal(packed, packed.data + extra), Malformed)


def test_another_signer_is_not_trusted(packed: Any) -> None:
    with pytest.raises(NotAuthentic) as caught:
        replay(packed.data, trusted=[], anchors=packed.anchors)
    assert caught.value.code == "bundle.signer-untrusted"
    other = dsse.seal(intoto.PAYLOAD_TYPE, dsse.read(packed.data)[1], _other_key())
    assert refusal(packed, other).code == "bundle.signer-untrusted"
    assert replay(other, trusted=[_other_key().public], anchors=packed.anchors).outcome  # the attack, with just this check off


def test_another_signer_under_the_trusted_name_is_refused(packed: Any) -> None:
    envelope = json.loads(dsse.seal(intoto.PAYLOAD_TYPE, dsse.read(packed.data)[1], _other_key()))
    envelope["signatures"][0]["keyid"] = packed.key.public.keyid
    assert refusal(packed, canonical.dumps(envelope)).code == "bundle.signature"


def test_production_trust_refuses_a_simulated_bundle(packed: Any) -> None:
    with pytest.raises(NotAuthentic) as caught:
        replay(packed.data, trusted=[packed.key.public], anchors=production())
    assert [finding.code for finding in caught.value.findings][:2] == ["bundle.replay-differs", "snp.root.unknown"]


def test_a_result_that_is_not_the_outcome_is_refused_though_signed(pack: Callable[..., Any], packed: Any) -> None:
    """A verifier that lies, or was made to: the record of a swapped kernel says accepted."""
    lie = pack("swap-kernel").with_outcome(packed.outcome)
    error = refusal(lie, lie.data)
    assert error.code == "bundle.replay-differs"
    assert 'decision = "refused"' in error.findings[0].found


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(32)},
        {"nonce": None},
        {"unsafe": frozenset()},
        {"references": ()},
        {"policy": STRICT},
        {"kind": "nothing"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_inputs_that_do_not_give_the_recorded_result_are_refused(packed: Any, change: dict[str, Any]) -> None:
    lie = packed.with_case(replace(packed.case, **change))
    assert refusal(lie, lie.data).code == "bundle.replay-differs"


def test_the_floor_of_revocation_lists_is_part_of_the_record(packed: Any) -> None:
    ark = next(anchor.certificate for anchor in packed.anchors if anchor.name == "TEST-ARK-Milan")
    floor = dict.fromkeys((ark.name, amd.crl_scope(ark, SigningKey.VCEK)), 10**9)
    lie = packed.with_case(replace(packed.case, crl_floor=floor))
    assert refusal(lie, lie.data).code == "bundle.replay-differs"


def test_wording_may_differ_under_other_code_but_nothing_that_decides(packed: Any) -> None:
    other_code = _put("00" * 32, "predicate", "tool", "source_sha256")
    reworded = packed.with_outcome(dataclasses.replace(packed.outcome, headline={**packed.outcome.headline, "use": "Go ahead."}))
    held = replay(resealed(reworded, other_code), trusted=[packed.key.public], anchors=packed.anchors)
    assert not held.same_code
    raised = packed.with_outcome(dataclasses.replace(packed.outcome, claims={}))
    assert refusal(raised, resealed(raised, other_code)).code == "bundle.replay-differs"
    assert refusal(reworded, reworded.data).code == "bundle.replay-differs"


def test_old_evidence_under_another_policy(packed: Any) -> None:
    held = replay(packed.data, trusted=[packed.key.public], anchors=packed.anchors)
    refused = reappraise(held, STRICT, anchors=packed.anchors)
    assert isinstance(refused, TrustStatement)
    assert refused.decision == "refused"
    assert refused.policy_name == "strict"
    lenient = replace(packed.case.policy, levels=RequiredLevels(nominal=1))
    accepted = reappraise(held, lenient, anchors=packed.anchors)
    assert isinstance(accepted, TrustStatement)
    assert accepted.decision == "accepted"


def resealed(packed: Any, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bundle with its content changed and signed again by the trusted key."""
    statement = json.loads(dsse.read(packed.data)[1])
    change(statement)
    return dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), packed.key)


def _swap_body(statement: dict[str, Any]) -> None:
    bodies = statement["predicate"]["cmw"]["endorsements"]
    bodies[next(iter(bodies))][1] = base64.urlsafe_b64encode(b"another body").rstrip(b"=").decode()


def _drop(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(statement: dict[str, Any]) -> None:
        item: Any = statement
        for name in path[:-1]:
            item = item[name]
        del item[path[-1]]

    return change


def _put(value: Any, *path: str) -> Callable[[dict[str, Any]], object]:
    def change(statement: dict[str, Any]) -> None:
        item: Any = statement
        for name in path[:-1]:
            item = item[name]
        item[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_swap_body, "bundle.endorsement"),
        (_put([], "predicate", "fetched"), "bundle.endorsement"),
        (_put([], "subject"), "bundle.subjects"),
        (_put([{"name": "report.0", "digest": {"sha256": "00" * 32}}], "subject"), "bundle.subjects"),
        (_drop("predicate", "cmw", "evidence"), "bundle.members"),
        (_drop("predicate", "cmw", "policy"), "bundle.member"),
        (_drop("predicate", "cmw", "result"), "bundle.member"),
        (_put(["application/json", "e30", 8], "predicate", "cmw", "result"), "bundle.member"),
        (_put(["a/b", "e30", 8], "predicate", "cmw", "else"), "bundle.members"),
        (_put("x", "predicate", "cmw", "__cmwc_t"), "bundle.collection"),
        (_put("x", "predicate", "surprise"), "bundle.unknown-key"),
        (_drop("predicate", "conditions", "at"), "bundle.missing-key"),
        (_put("https://in-toto.io/Statement/v2", "_type"), "bundle._type"),
        (_put("https://evident.example/audit-bundle/v2", "predicateType"), "bundle.predicateType"),
    ],
)
def test_content_is_read_strictly_even_under_a_good_signature(packed: Any, change: Callable[[dict[str, Any]], object], code: str) -> None:
    error = refusal(packed, resealed(packed, change))
    assert isinstance(error, Malformed | Unsupported)
    assert error.code == code


def test_another_payload_is_unsupported(packed: Any) -> None:
    assert isinstance(refusal(packed, dsse.seal("application/json", b"{}", packed.key)), Unsupported)
    assert refusal(packed, dsse.seal(intoto.PAYLOAD_TYPE, b"[]", packed.key)).code == "bundle._type"
    assert refusal(packed, dsse.seal(intoto.PAYLOAD_TYPE, b"{ }", packed.key)).code == "bundle.not-canonical"


def _other_key() -> Any:
    from evident.audit import keys

    return keys.generate(lambda size: b"somebody else".ljust(size, b"\x02"))


def _forged(packed: Any) -> bytes:
    """Somebody else's signature over other content, under the trusted verifier's name."""
    statement = json.loads(dsse.read(packed.data)[1])
    statement["predicate"]["fetched"][0]["retrieved_at"] = "2020-01-01T00:00:00Z"
    form = json.loads(dsse.seal(intoto.PAYLOAD_TYPE, canonical.dumps(statement), _other_key()))
    form["signatures"][0]["keyid"] = packed.key.public.keyid
    return canonical.dumps(form)


def _lie(packed: Any, pack: Callable[..., Any]) -> bytes:
    return bytes(pack("swap-kernel").with_outcome(packed.outcome).data)


@pytest.mark.parametrize(
    ("attack", "code", "check", "switched_off"),
    [
        (lambda packed, _: _forged(packed), "bundle.signature", "evident.audit.keys.VerifyingKey.holds", lambda *_: None),
        (_lie, "bundle.replay-differs", "evident.audit.replay._whole", lambda _: {}),
        (
            lambda packed, _: packed.data.replace(b'","signatures"', b'", "signatures"'),
            "bundle.not-canonical",
            "evident.audit.dsse._refuse_other_spelling",
            lambda *_: None,
        ),
        (
            lambda packed, _: resealed(packed, _put([], "subject")),
            "bundle.subjects",
            "evident.audit.bundle._check_subjects",
            lambda *_: None,
        ),
    ],
    ids=["signature", "outcome", "spelling", "subjects"],
)
def test_each_attack_succeeds_with_just_its_check_off(
    packed: Any,
    pack: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[Any, Any], bytes],
    code: str,
    check: str,
    switched_off: Callable[..., Any],
) -> None:
    data = attack(packed, pack)
    assert refusal(packed, data).code == code
    monkeypatch.setattr(check, switched_off)
    assert replay(data, trusted=[packed.key.public], anchors=packed.anchors).outcome


def test_a_tdx_decision_is_made_again(vectors: Any, tdx_case: Callable[[Any], Any]) -> None:
    """Real quote and collateral: the record holds as SNP's does, and another quote, or none of its collateral, does not pass for it."""
    case, trusted = tdx_case(vectors)
    recorded = RecordingFetcher(StaticFetcher({}))
    outcome = decide(case, anchors=trusted, fetcher=recorded)
    key = key_of(b"verifier")
    held = replay(bundle.build(case, recorded, outcome, key), trusted=[key.public], anchors=trusted)
    assert document(held.outcome) == document(outcome)
    assert isinstance(held.outcome, TrustStatement)
    assert held.outcome.technology == "tdx"
    for role in case.pieces:
        (content,) = case.pieces[role]
        place = content.index(b"fmspc") + 10 if role == "collateral" else 700
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        other = replace(case, pieces={**case.pieces, role: (changed,)})
        with pytest.raises(EvidentError) as caught:
            replay(bundle.build(other, recorded, outcome, key), trusted=[key.public], anchors=trusted)
        assert caught.value.code == "bundle.replay-differs"
