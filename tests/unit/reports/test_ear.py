"""The EAR: pessimistic, worst tier wins, never affirming a simulator, and verifiable without the library that signed it."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from evident.appraisal.degrees import Verifiability
from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, Indeterminate, Malformed, NotAuthentic, Unsupported
from evident.reports import ear

AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
AR4SI_CLAIMS = {
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
}


def status(outcome: Any) -> str:
    found: str = ear.claims(outcome, issued_at=AT)["submods"]["cvm"]["ear_status"]
    return found


def finding(code: str, layer: str = "root_of_trust") -> Finding:
    return Finding(code, layer, "one", "other", "Change it.")


def test_a_good_machine_is_affirmed(statement: Callable[..., TrustStatement]) -> None:
    assert ear.trustworthiness_vector(statement()) == {"hardware": 2, "configuration": 2, "executables": 3, "runtime-opaque": 2}
    assert status(statement()) == "affirming"


def test_nothing_simulated_is_ever_affirmed(statement: Callable[..., TrustStatement]) -> None:
    claims = ear.claims(statement(simulated=True), issued_at=AT)["submods"]["cvm"]
    assert claims["ear_trustworthiness_vector"]["hardware"] == 97
    assert "runtime-opaque" not in claims["ear_trustworthiness_vector"]
    assert claims["ear_status"] == "contraindicated"
    assert claims["ear_verifier_claims"]["evident_simulated"] is True


@pytest.mark.parametrize(
    ("changes", "claim", "value"),
    [
        ({"revocation": "unknown", "decision": "indeterminate"}, "hardware", 97),
        ({"revocation": "revoked", "decision": "refused"}, "hardware", 96),
        ({"decision": "refused", "findings": (finding("policy.tcb-minimum"),)}, "hardware", 32),
        ({"decision": "refused", "findings": (finding("policy.denied-tcb"),)}, "hardware", 96),
        ({"decision": "refused", "findings": (finding("policy.denied-identity"),)}, "instance-identity", 96),
        ({"decision": "refused", "findings": (finding("policy.debug"),)}, "configuration", 96),
        ({"decision": "refused", "findings": (finding("policy.debug"),)}, "runtime-opaque", 96),
        ({"decision": "refused", "findings": (finding("policy.verifiability"),)}, "configuration", 36),
        ({"decision": "refused", "findings": (finding("launch.kernel", "boot_chain"),)}, "executables", 96),
        ({"decision": "refused", "findings": (finding("reference.mismatch", "firmware"),)}, "executables", 96),
        ({"decision": "refused", "findings": (finding("launch.root-hash", "root_filesystem"),)}, "file-system", 96),
        ({"layers": ()}, "hardware", 97),
        ({"layers": ()}, "executables", 33),
    ],
)
def test_each_shortcoming_shows_in_its_claim(
    statement: Callable[..., TrustStatement], changes: dict[str, Any], claim: str, value: int
) -> None:
    outcome = statement(**changes)
    assert ear.trustworthiness_vector(outcome)[claim] == value
    assert status(outcome) != "affirming"


@pytest.mark.parametrize(("degree", "value"), [(0, None), (1, 32), (2, 2), (4, 2)])
def test_the_file_system_is_claimed_as_far_as_it_is_measured(
    statement: Callable[..., TrustStatement], degree: int, value: int | None
) -> None:
    layers = tuple(
        dataclasses.replace(layer, verifiability=Verifiability(degree)) if layer.name == "root_filesystem" else layer
        for layer in statement().layers
    )
    assert ear.trustworthiness_vector(statement(layers=layers)).get("file-system") == value


@pytest.mark.parametrize("name", ["firmware", "boot_chain"])
def test_executables_need_every_layer_of_the_boot(statement: Callable[..., TrustStatement], name: str) -> None:
    layers = tuple(
        dataclasses.replace(layer, verifiability=Verifiability.LINK) if layer.name == name else layer for layer in statement().layers
    )
    assert ear.trustworthiness_vector(statement(layers=layers))["executables"] == 33


def test_a_refusal_is_never_affirmed_even_with_a_clean_vector(statement: Callable[..., TrustStatement]) -> None:
    assert status(statement(decision="refused", findings=(finding("policy.party"),))) == "contraindicated"
    assert status(statement(decision="indeterminate", findings=(finding("reference.missing"),))) in ("warning", "contraindicated")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [(NotAuthentic, 99, "contraindicated"), (Malformed, 99, "contraindicated"), (Unsupported, 1, "none")],
)
def test_errors_speak_in_every_claim(kind: Any, value: int, expected: str) -> None:
    outcome = kind(finding("a.b"))
    assert set(ear.trustworthiness_vector(outcome).values()) == {value}
    assert status(outcome) == expected


def test_what_could_not_be_decided_starts_and_stays_pessimistic() -> None:
    assert ear.trustworthiness_vector(Indeterminate(finding("a.b"))) == {"configuration": 36, "executables": 33, "hardware": 97}
    assert status(Indeterminate(finding("a.b"))) == "contraindicated"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1, "none"), (0, "none"), (1, "none"), (2, "affirming"), (31, "affirming"), (-2, "affirming"), (-32, "affirming"),
     (32, "warning"), (95, "warning"), (-33, "warning"), (-96, "warning"), (96, "contraindicated"), (127, "contraindicated"),
     (-97, "contraindicated"), (-128, "contraindicated")],
)  # fmt: skip
def test_tiers_have_the_draft_s_bounds(value: int, expected: str) -> None:
    assert ear.tier(value) == expected


def test_claims_have_the_draft_s_names(statement: Callable[..., TrustStatement]) -> None:
    """draft-ietf-rats-ear-04, CDDL of sections 3 and 4: required members, no unknown one at the top."""
    claims = ear.claims(statement(), issued_at=AT, nonce=bytes(32))
    assert claims.keys() == {"eat_profile", "iat", "exp", "ear_verifier_id", "submods", "eat_nonce"}
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#04"
    assert claims["ear_verifier_id"].keys() == {"developer", "build"}
    assert claims["exp"] - claims["iat"] == 300
    assert 8 <= len(claims["eat_nonce"]) <= 88
    submodule = claims["submods"]["cvm"]
    assert submodule.keys() == {"ear_status", "ear_trustworthiness_vector", "ear_verifier_claims", "ear_appraisal_policy_ids"}
    assert submodule["ear_trustworthiness_vector"].keys() <= AR4SI_CLAIMS


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_token_is_verified_without_the_library_that_signed_it(statement: Callable[..., TrustStatement]) -> None:
    key = ec.derive_private_key(2**200 + 17, ec.SECP384R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    claims = ear.claims(statement(), issued_at=AT, nonce=bytes(32))
    token = ear.sign(claims, pem, "a-key")
    header, payload, signature = token.split(".")
    assert json.loads(_part(header)) == {"alg": "ES384", "typ": "eat+jwt", "kid": "a-key"}
    assert json.loads(_part(payload)) == claims
    raw = _part(signature)
    assert len(raw) == 96
    der = encode_dss_signature(int.from_bytes(raw[:48]), int.from_bytes(raw[48:]))
    key.public_key().verify(der, f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA384()))
    with pytest.raises(InvalidSignature):
        key.public_key().verify(der, f"{header}.{payload}x".encode(), ec.ECDSA(hashes.SHA384()))
