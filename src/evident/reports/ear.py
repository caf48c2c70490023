"""The machine's view for other people's relying parties: an EAT Attestation Result with an AR4SI trustworthiness vector.

Formats: draft-ietf-rats-ear-04 (26 May 2026; claim names with underscores, section 3 and 4 CDDL) over draft-ietf-rats-ar4si-09
(tiers and values, section 2.3). Signed as a JWT (RFC 7519) with ES384.

Pessimistic: every claim begins at the worst that fits ("not recognised", "not approved") and has to be earned. A simulator's
hardware is never recognised, so nothing simulated is ever affirmed. Claims that Evident does not appraise are absent.

    hardware          97 → 2 when the root of trust is authentic and not revoked · 32 when its TCB is out of date · 96 revoked, denied
    configuration     36 → 2 when no finding concerns it · 96 when the policy refuses it (debug, migration, command line...)
    executables       33 → 3 when firmware and boot chain match references · 2 with user space clean as well · 96 on a mismatch
    file-system       absent → 2 when the root file system matches · 32 measured, nothing to compare with · 96 on a mismatch
    runtime-opaque    absent → 2 when a genuine TEE encrypts the memory · 96 when the host may read it
    instance-identity absent → 96 when the policy denies this machine

Evidence that is not authentic gets 99 in every claim; evidence of an unknown kind 1 (no tier).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from joserfc import jwt
from joserfc.jwk import ECKey

from evident import __version__
from evident.appraisal.degrees import Verifiability
from evident.appraisal.statement import Layer, TrustStatement
from evident.errors import EvidentError
from evident.reports.json_report import Outcome
from evident.reports.view import differs

PROFILE = "tag:ietf.org,2026:rats/ear#04"
DEVELOPER = "https://evident.example"
SUBMODULE = "cvm"
LIFETIME = timedelta(minutes=5)
VERIFIER_CLAIMS_PROFILE = "https://evident.example/ear/verifier-claims/v1"

Tier = Literal["none", "affirming", "warning", "contraindicated"]
_TIERS: tuple[Tier, ...] = ("none", "affirming", "warning", "contraindicated")

_CRYPTO_FAILED = 99
_NOT_UNDERSTOOD = 1
_EVERY_CLAIM = ("instance-identity", "configuration", "executables", "file-system", "hardware", "runtime-opaque")
_OUTDATED = frozenset({"policy.tcb-minimum", "policy.tcb-status"})
_UNACCEPTABLE = frozenset(
    {
        *("policy.debug", "policy.migration", "policy.setting", "policy.command-line", "policy.component", "policy.register"),
        *("policy.privilege-level", "policy.guest-svn", "policy.report-key", "vtpm.privilege-level"),
    }
)
_DENIED = frozenset({"policy.denied-identity", "policy.denied-tcb", "policy.identity"})
_DECISION_TIER: Mapping[str, Tier] = MappingProxyType(
    {"accepted": "affirming", "refused": "contraindicated", "indeterminate": "warning", "unsupported": "none"}
)
"""The best tier that a decision leaves open; errors without one leave none but contraindicated."""


def tier(value: int) -> Tier:
    """The tier of an AR4SI claim value (draft-ietf-rats-ar4si-09, section 2.3.2)."""
    if -1 <= value <= 1:
        return "none"
    if -32 <= value <= 31:
        return "affirming"
    return "warning" if -96 <= value <= 95 else "contraindicated"


def trustworthiness_vector(outcome: Outcome) -> dict[str, int]:
    """The AR4SI vector of a statement, or of the error that prevented one."""
    if isinstance(outcome, EvidentError):
        value = {"not_authentic": _CRYPTO_FAILED, "malformed": _CRYPTO_FAILED, "unsupported": _NOT_UNDERSTOOD}.get(outcome.decision)
        if value is not None:
            return dict.fromkeys(_EVERY_CLAIM, value)
        return {"configuration": 36, "executables": 33, "hardware": 97}
    layers = {layer.name: layer for layer in outcome.layers}
    codes = {finding.code for finding in outcome.findings}
    vector = {
        "hardware": _hardware(outcome, layers.get("root_of_trust"), codes),
        "configuration": _configuration(outcome, codes),
        "executables": _executables(outcome, layers),
    }
    file_system = _file_system(outcome, layers.get("root_filesystem"))
    if file_system is not None:
        vector["file-system"] = file_system
    if "policy.debug" in codes or "policy.migration" in codes or "policy.allow-debug" in outcome.unsafe:
        vector["runtime-opaque"] = 96
    elif tier(vector["hardware"]) in ("affirming", "warning"):
        vector["runtime-opaque"] = 2
    if codes & _DENIED:
        vector["instance-identity"] = 96
    return vector


def claims(outcome: Outcome, *, issued_at: datetime, nonce: bytes | None = None, lifetime: timedelta = LIFETIME) -> dict[str, Any]:
    """The EAR claims set. `nonce` (8 to 64 bytes) is the challenge that the evidence answered, `issued_at` the token's own time."""
    vector = trustworthiness_vector(outcome)
    verdict = [tier(value) for value in vector.values()]
    verdict.append(_DECISION_TIER.get(outcome.decision, "contraindicated"))
    submodule: dict[str, Any] = {
        "ear_status": max(verdict, key=_TIERS.index),
        "ear_trustworthiness_vector": vector,
        "ear_verifier_claims": _verifier_claims(outcome),
    }
    if isinstance(outcome, TrustStatement) and outcome.policy_sha256:
        submodule["ear_appraisal_policy_ids"] = [f"ni:///sha-256;{_b64(bytes.fromhex(outcome.policy_sha256))}"]
    issued = int(issued_at.timestamp())
    token: dict[str, Any] = {
        "eat_profile": PROFILE,
        "iat": issued,
        "exp": issued + int(lifetime.total_seconds()),
        "ear_verifier_id": {"developer": DEVELOPER, "build": f"evident {__version__}"},
        "submods": {SUBMODULE: submodule},
    }
    if nonce is not None and 8 <= len(nonce) <= 64:
        token["eat_nonce"] = _b64(nonce)
    return token


def sign(claims_set: Mapping[str, Any], private_key_pem: bytes, keyid: str) -> str:
    """The claims as a compact JWT, signed with the verifier's P-384 key (ES384, RFC 7518 section 3.4)."""
    header = {"alg": "ES384", "typ": "eat+jwt", "kid": keyid}
    return jwt.encode(header, dict(claims_set), ECKey.import_key(private_key_pem), algorithms=["ES384"])


def _hardware(statement: TrustStatement, root: Layer | None, codes: set[str]) -> int:
    if statement.revocation == "revoked" or codes & _DENIED:
        return 96
    if statement.simulated or not statement.authentic or statement.revocation != "good" or root is None:
        return 97
    if codes & _OUTDATED:
        return 32
    return 2 if root.verifiability >= Verifiability.LINK else 97


def _configuration(statement: TrustStatement, codes: set[str]) -> int:
    if codes & _UNACCEPTABLE:
        return 96
    return 2 if statement.authentic and statement.decision == "accepted" else 36


def _executables(statement: TrustStatement, layers: Mapping[str, Layer]) -> int:
    if any(differs(layers.get(name), name, statement.findings) for name in ("firmware", "boot_chain")):
        return 96
    approved = [name for name, layer in layers.items() if layer.verifiability >= Verifiability.REFERENCE]
    if "firmware" not in approved or "boot_chain" not in approved:
        return 33
    return 2 if "userspace" in approved else 3


def _file_system(statement: TrustStatement, layer: Layer | None) -> int | None:
    if layer is None:
        return None
    if differs(layer, layer.name, statement.findings):
        return 96
    if layer.verifiability >= Verifiability.REFERENCE:
        return 2
    return 32 if layer.verifiability == Verifiability.LINK else None


def _verifier_claims(outcome: Outcome) -> dict[str, Any]:
    """What a reader of the token must not miss, under our own names."""
    shared: dict[str, Any] = {
        "evident_profile": VERIFIER_CLAIMS_PROFILE,
        "evident_decision": outcome.decision,
        "evident_code": outcome.code,
    }
    if isinstance(outcome, EvidentError):
        return shared
    return {
        **shared,
        "evident_simulated": outcome.simulated,
        "evident_levels": {"nominal": outcome.levels.nominal, "trustworthy": outcome.levels.trustworthy},
        "evident_trusted_parties": sorted({party for layer in outcome.layers for party in layer.trusted_parties}),
        "evident_unsafe": list(outcome.unsafe),
        "evident_findings": [finding.code for finding in outcome.findings],
    }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
