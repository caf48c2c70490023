"""spire-server's half of Evident's node attestor: which machine is it, and does it get an identity at all?

(1) hello       a key made in this boot
(2) challenge   32 random bytes for this stream alone; whatever answers another challenge is refused by (5)
(3) possession  that key itself signs challenge and trust domain (`spire.possession`; AT-03)
(4) credential  where a TPM quotes: does the quoting key live in the TPM whose endorsement key came along (`tpm.activation.*`; AT-22)?
(5) verify      the evidence is authentic, and binds challenge and key; its kind is found out by what verifies (`snp.*`, `tdx.*`...; NA-04)
(6) appraise    under the owner's policy and reference values, if any are given (`policy.*`, `launch.*`...); some TEE speaks
(7) attributes  the agent's SPIFFE ID, and selectors for what verified (`evident.identity.selectors`; NA-29)

An agent's SVID is no more than leave to ask: which workloads get which identity there, registration entries say, by the selectors.
`tests/attacks/test_node_attestor.py` shows what gets through without each check.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from evident.appraisal.accepted import check_accepted
from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.appraisal.profile import Profile
from evident.appraisal.statement import TrustStatement
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched, Fetcher, RecordingFetcher
from evident.errors import EvidentError, Malformed, NotAuthentic, PolicyRefused
from evident.evidence import binding, cmw, protobuf
from evident.identity import attestation, go_plugin, selectors
from evident.identity.attestation import Activated, Answer, Challenge, Credential, Hello
from evident.reference_values import programs
from evident.reference_values.model import ReferenceValue
from evident.verification import activation, credential, environment
from evident.verification.context import Context
from evident.verification.credential import Activation
from evident.verification.pieces import Pieces, of_machine
from evident.verification.verified import Verified

T = TypeVar("T")

TYPE, SERVICE, METHOD = "NodeAttestor", "spire.plugin.server.nodeattestor.v1.NodeAttestor", "Attest"
POLICY = Policy(version=1, name="spire node", levels=RequiredLevels(nominal=1, verifiability={"root_of_trust": 1}))
"""Where the owner gives none: genuine hardware with the strict rules for it, whatever it booted. Entries demand their measurements."""
_PAYLOAD, _RESPONSE = 1, 2
_CHALLENGE, _ATTRIBUTES = 1, 2


@dataclass(frozen=True, slots=True)
class Surety:
    """What the decision rests on besides the evidence."""

    anchors: AnchorSet
    fetcher: Fetcher
    policy: Policy = POLICY
    references: tuple[ReferenceValue, ...] = ()
    """Where there are any, no other machine is admitted."""
    profile: Profile | None = None
    unsafe: frozenset[str] = frozenset()
    crl_floors: Callable[[], Mapping[str, int]] = dict
    """How new the revocation lists are that were seen so far, asked at every decision."""
    remember: Callable[[Mapping[str, Fetched], Pieces], None] = lambda _fetched, _pieces: None
    """Told what was fetched for a decision, by URL, and for which evidence, however it went."""


@dataclass(frozen=True, slots=True)
class Given:
    """One machine's evidence: the TEE's, and beside it what a TPM says that the TEE's did not come through."""

    pieces: Pieces
    quotes: Pieces | None = None


class NodeAttestor:
    """Decides by `surety`. `on_decision` gets one line for SPIRE's log for every machine that asked: codes, and nothing secret."""

    def __init__(
        self,
        surety: Surety,
        *,
        clock: Callable[[], datetime],
        on_decision: Callable[[str], None],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._surety = surety
        self._clock = clock
        self._on_decision = on_decision
        self._random = random

    @property
    def plugin(self) -> go_plugin.Plugin:
        """As SPIRE loads it."""
        return go_plugin.Plugin(TYPE, SERVICE, METHOD, self.converse)

    def converse(self, requests: Iterator[bytes], trust_domain: str) -> Iterator[bytes]:
        """One attestation: SPIRE's AttestRequests in, AttestResponses out. Raises the `EvidentError` that denies it."""
        agent = ""
        try:
            hello = _message(Hello, requests, _PAYLOAD)
            attestation.public(hello.key)
            agent = str(attestation.agent_id(trust_domain, hello.key))
            nonce = self._random(attestation.NONCE_BYTES)
            yield _challenge(Challenge(1, nonce))
            answer = _message(Answer, requests, _RESPONSE)
            attestation.check_possession(hello.key, answer.signature, nonce, trust_domain)
            given = self._given(answer)
            made, activated = self._credential(given), None
            if made is not None:
                yield _challenge(Credential(1, made.credential_blob, made.encrypted_secret))
                opened = _message(Activated, requests, _RESPONSE).answer
                activated = None if opened is None else made.answered(opened)
            verified, statement = self._judged(given, nonce, hello.key, activated)
        except EvidentError as error:
            codes = ", ".join(dict.fromkeys(finding.code for finding in error.findings))
            self._on_decision(go_plugin.log_line(self._clock(), "warn", "denied", agent=agent, decision=error.decision, codes=codes))
            raise
        self._on_decision(
            go_plugin.log_line(
                self._clock(), "info", "attested", agent=agent, kind=statement.kind, simulated=str(statement.simulated).lower()
            )
        )
        yield _attributes(agent, selectors.found(verified, statement))

    def _given(self, answer: Answer) -> Given:
        pieces = self._pieces(answer.evidence)
        others = dict(cmw.to_pieces(cmw.decode(form)) for form in answer.beside)
        alone = "report" in pieces and not environment.OF_THE_BOOT & pieces.keys()
        return Given(pieces, self._held(others["tpm"]) if alone and "tpm" in others else None)

    def _pieces(self, form: Any) -> Pieces:
        return self._held(cmw.to_pieces(cmw.decode(form))[1])

    def _held(self, pieces: Pieces) -> Pieces:
        return programs.held_against(of_machine(pieces), self._surety.references)

    def _credential(self, given: Given) -> credential.Challenge | None:
        """(4) None where no TPM quotes, or its keys did not come along: what its word is worth then, appraisal says."""
        keys = activation.keys(given.pieces if given.quotes is None else given.quotes)
        return None if keys is None else credential.challenge(keys[0], keys[1].name, self._random)

    def _judged(self, given: Given, nonce: bytes, key: bytes, activated: Activation | None) -> tuple[Verified[Any], TrustStatement]:
        """(5) (6)"""
        surety = self._surety
        recorded = RecordingFetcher(surety.fetcher)
        context = Context(
            self._clock(), surety.anchors, recorded, crl_floor=surety.crl_floors(), unsafe=surety.unsafe, activation=activated
        )
        try:
            verified, bound = _verified(given, context, nonce, key)
        finally:
            surety.remember(recorded.recorded, given.pieces)
        check_bound(bound, key)
        statement = appraise(verified, policy=surety.policy, references=surety.references, profile=surety.profile)
        check_accepted(statement)
        check_tee(verified)
        return verified, statement


def _verified(given: Given, context: Context, nonce: bytes, key: bytes) -> tuple[Verified[Any], bytes | None]:
    if given.quotes is None:
        return environment.verify(given.pieces, context, nonce, key)
    return environment.with_tpm(given.pieces, given.quotes, context, nonce, key)


def check_bound(bound: bytes | None, key: bytes) -> None:
    """(5) Of some kinds, evidence may answer a challenge and bind no key."""
    if bound != binding.key_digest(key):
        raise NotAuthentic.of(
            "spire.unbound",
            expected="evidence that binds the key of this boot",
            found="no key" if bound is None else "another key",
            remedy="Attest with evidence made for this key.",
            layer="identity",
        )


def check_tee(verified: Verified[Any]) -> None:
    """(6) A TPM's word alone says nothing of whose memory the identity's key would be in, whatever the policy is content with."""
    if verified.facts.tee is None:
        raise PolicyRefused.of(
            "spire.no-tee",
            expected="evidence of a TEE",
            found=f"kind {verified.facts.kind!r} alone",
            remedy="Attest with the TEE's report; a TPM alone gets no identity.",
            layer="root_of_trust",
        )


def _message(kind: type[T], requests: Iterator[bytes], number: int) -> T:
    """The next one of the agent's, out of field `number` of SPIRE's AttestRequest. Raises `Malformed`."""
    request = next(requests, None)
    if request is None:
        raise Malformed.of(
            f"{attestation.WHAT}.end", expected=f"a {kind.__name__}", found="the end", remedy="See the agent's log: it gave up."
        )
    return attestation.loads(kind, protobuf.parse(request, attestation.WHAT).one_bytes(number))


def _challenge(message: object) -> bytes:
    return protobuf.encode(((_CHALLENGE, attestation.dumps(message)),))


def _attributes(agent: str, values: tuple[str, ...]) -> bytes:
    """AgentAttributes: spiffe_id 1, selector_values 2, can_reattest 3."""
    own = protobuf.encode(((1, agent.encode()), *((2, value.encode()) for value in values), (3, 1)))
    return protobuf.encode(((_ATTRIBUTES, own),))
