"""Whether a guest gets its disk key and secrets: denied by default, and logged. By a TrustStatement, once for each challenge:

(1) challenge    redeemed before anything else is looked at, for the disk it was given for (`challenge.*`)
(2) terms        the disk is registered, opens for evidence, and is not revoked (`keys.disk-unknown`, `keys.by-svid`, `keys.revoked`)
(3) verify       the evidence is authentic, answers this challenge and binds this key (`snp.*`, `tdx.*`, `exchange.unbound`...); where a TPM
                 quotes, its answer to the credential for its keys and this challenge is right (`tpm.activation.*`)
(4) appraise     under the server's policy, raised to the levels, identities and reference values of the terms (`launch.*`, `policy.*`...)
(5) revocation   nothing that it is identified by was revoked (`keys.revoked`)
(6) unwrap       key and secrets are stored under these very terms, and are those that they name (`keys.store.altered`)
(7) log          the release is on disk before the key leaves; one that cannot be logged does not happen
(8) seal         to the attested key alone (`evident.keys.exchange`)

or, where the terms name an SVID, by the SPIFFE ID of whoever holds it, which SPIRE has attested (`evident.identity`; the connection is
TLS with that SVID, `evident.keys.server`): (2), (5), (6) and (7), and in the place of all the others

    holder       the SVID is that of the terms (`keys.spiffe-id`)

`tests/attacks/test_release.py` and `test_svid.py` show what gets through without each of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from evident import codec
from evident.appraisal.accepted import check_accepted
from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy
from evident.appraisal.profile import Profile
from evident.appraisal.statement import TrustStatement
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched, Fetcher, RecordingFetcher
from evident.errors import EvidentError, Indeterminate, NotAuthentic, PolicyRefused
from evident.evidence import cmw, tpm_public
from evident.evidence.tpm_public import Public, sized
from evident.identity.spiffe_id import SpiffeId
from evident.keys.admission import Rate, Unlisted
from evident.keys.exchange import Offer, Sealed, seal, spki
from evident.keys.log import Event, ReleaseLog
from evident.keys.messages import CredentialRequest, EvidenceRequest, KeyRequest, Volume, dumps
from evident.keys.store import Revocation, RootVolume, Secrets, VolumeStore, altered
from evident.reference_values import programs
from evident.verification import activation, credential, environment
from evident.verification.context import Context
from evident.verification.credential import Activation
from evident.verification.credential import Challenge as Credential
from evident.verification.pieces import Pieces, of_machine
from evident.verification.verified import Verified

PENDING_LIMIT = 1024
"""Releases whose confirmation may be outstanding; the oldest is forgotten first."""
DRAWN_LIMIT = 256
"""More bytes than any credential draws."""
LINES_PER_SECOND, LINES_AT_ONCE = 0.25, 64
"""Of challenges and denials in the log; what comes faster is counted, and the next line says how much it was. Releases are all there."""


class Challenges(Protocol):
    """`evident.lifecycle.challenges.Challenges`, from below."""

    def issue(self, session: str) -> bytes: ...

    def redeem(self, session: str, nonce: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Surety:
    """What the decision rests on besides the evidence and the terms."""

    anchors: AnchorSet
    fetcher: Fetcher
    policy: Policy
    profile: Profile | None = None
    unsafe: frozenset[str] = frozenset()
    crl_floors: Callable[[], Mapping[str, int]] = dict
    """How new the revocation lists are that were seen so far, asked at every decision."""
    remember: Callable[[Mapping[str, Fetched], Pieces], None] = lambda _fetched, _pieces: None
    """Told what was fetched for a decision, by URL, and for which evidence, however it went: for how new those lists are."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One accepted machine."""

    statement: TrustStatement
    verified: Verified[Any]
    bound_key: bytes | None
    """SHA-384 of the SPKI that the evidence binds to the challenge."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the statement, over which the key is released."""
        return hashlib.sha256(json.dumps(codec.encode(self.statement), sort_keys=True).encode()).digest()


class ReleaseService:
    """Decides for the disks of `volumes`. `signer` is the P-384 key that guests' measured command lines name."""

    def __init__(
        self,
        volumes: VolumeStore,
        secrets: Secrets,
        *,
        surety: Surety,
        challenges: Challenges,
        log: ReleaseLog,
        signer: ec.EllipticCurvePrivateKey,
        clock: Callable[[], datetime],
        on_statement: Callable[[str, TrustStatement], None] = lambda _disk, _statement: None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`on_statement` hears, before anything is sealed, on what a key is released, and what else was not accepted."""
        self._volumes = volumes
        self._secrets = secrets
        self._surety = surety
        self._challenges = challenges
        self._log = log
        self._signer = signer
        self._clock = clock
        self._on_statement = on_statement
        self._credentials = random(32)
        self._unlisted = Unlisted(Rate(LINES_PER_SECOND, LINES_AT_ONCE))
        self._pending: dict[bytes, tuple[str, Sealed]] = {}
        self._lock = Lock()

    @property
    def public_key(self) -> bytes:
        """SubjectPublicKeyInfo of the signer, DER."""
        return spki(self._signer.public_key())

    def challenge(self, disk: str) -> bytes:
        """A challenge for whoever wants to open `disk`. `PolicyRefused` ``keys.disk-unknown`` for one that nobody registered."""
        try:
            self._volumes.get(disk)
        except PolicyRefused as error:
            self._denied(error, disk)
            raise
        nonce = self._challenges.issue(disk)
        if self._unlisted.listed("challenged"):
            self._append("challenged", disk, nonce=nonce)
        return nonce

    def credential(self, request: CredentialRequest) -> Credential:
        """A credential for the TPM that quotes in answer to `request.nonce`: it decides nothing, so it is not logged.

        Raises `Malformed` and `Unsupported` for keys that none can be made for.
        """
        return self._credential(request.nonce, tpm_public.parse(request.ek), tpm_public.parse(request.ak))

    def _credential(self, nonce: bytes, ek: Public, ak: Public) -> Credential:
        """What is random in it follows from this service's own secret and all that it is for, so that nothing has to be kept of it."""
        seed = b"".join(map(sized, (self._credentials, nonce, ek.raw, ak.name)))
        return credential.challenge(ek, ak.name, io.BytesIO(hashlib.shake_256(seed).digest(DRAWN_LIMIT)).read)

    def _activation(self, request: EvidenceRequest, pieces: Pieces) -> Activation | None:
        keys = activation.keys(pieces) if request.activated is not None else None
        return self._credential(request.nonce, *keys).answered(request.activated or b"") if keys else None

    def release(self, request: EvidenceRequest) -> Offer:
        """The sealed key of `request.disk`, or the `EvidentError` that denies it; logged either way."""
        try:
            judged, volume, secret = self._decide(request)
            sealed = seal(
                secret,
                nonce=request.nonce,
                guest=request.key,
                bound_key=judged.bound_key,
                statement=judged.digest,
                signer=self._signer,
            )
        except EvidentError as error:
            self._denied(error, request.disk, nonce=request.nonce, guest=request.key)
            raise
        self._append(
            "released", volume.disk, nonce=request.nonce, guest=request.key, statement=judged.digest, secrets=tuple(sorted(volume.secrets))
        )
        with self._lock:
            while len(self._pending) >= PENDING_LIMIT:
                del self._pending[next(iter(self._pending))]
            self._pending[request.nonce] = (volume.disk, sealed)
        return sealed.offer

    def release_to(self, holder: SpiffeId, request: KeyRequest) -> Volume:
        """What goes to the SVID that `request` came with, or the `EvidentError` that denies it; logged either way."""
        try:
            volume = self._volumes.get(request.disk)
            check_holder(volume, holder)
            check_revoked({"disk": request.disk, "spiffe_id": str(holder)}, self._volumes.revocations())
            released = self._held(volume)
        except EvidentError as error:
            self._denied(error, request.disk, spiffe_id=str(holder))
            raise
        self._append("released", request.disk, spiffe_id=str(holder), secrets=tuple(sorted(released.secrets)))
        return released

    def confirm(self, nonce: bytes, confirmation: bytes) -> None:
        """The guest proves that it opened the key released for `nonce`; raises `NotAuthentic` otherwise. Once per release."""
        with self._lock:
            disk, sealed = self._pending.pop(nonce, ("", None))
        if sealed is None:
            raise NotAuthentic.of(
                "keys.confirmation.unknown",
                expected="a release that awaits its confirmation",
                found="none for this challenge",
                remedy="Attest again; a release is confirmed once, soon after it.",
            )
        sealed.confirm(confirmation)
        self._append("confirmed", disk, nonce=nonce)

    def _denied(self, error: EvidentError, disk: str, **details: Any) -> None:
        if self._unlisted.listed("denied"):
            self._append("denied", disk, codes=tuple(dict.fromkeys(finding.code for finding in error.findings)), **details)

    def _append(self, event: Event, disk: str, **details: Any) -> None:
        """One line, and before it how many were left out since the last one."""
        left_out = self._unlisted.counts()
        if left_out:
            self._log.append("unlisted", "", codes=left_out)
        self._log.append(event, disk, **details)

    def revoke(self, name: str, value: str, reason: str) -> None:
        """From now on no key for whoever has this identity (see `Revocation`)."""
        self._volumes.revoke(Revocation(name, value, self._clock(), reason))
        self._log.append("revoked", value if name == "disk" else "", codes=(f"{name}={value}",))

    def _decide(self, request: EvidenceRequest) -> tuple[Judged, RootVolume, bytes]:
        self._challenges.redeem(request.disk, request.nonce)
        volume = self._volumes.get(request.disk)
        check_by_evidence(volume)
        revocations = self._volumes.revocations()
        check_revoked({"disk": request.disk, "guest_key": hashlib.sha384(request.key).hexdigest()}, revocations)
        judged = self._judge(request, volume)
        check_revoked(judged.verified.facts.identities, revocations)
        secret = dumps(self._held(volume))
        self._on_statement(request.disk, judged.statement)
        return judged, volume, secret

    def _held(self, volume: RootVolume) -> Volume:
        """(6)"""
        held = self._secrets.get(volume)
        if held.secrets.keys() != set(volume.secrets):
            raise altered(volume.disk)
        return Volume(1, volume.disk, held.key, volume.root_hash, held.secrets)

    def _judge(self, request: EvidenceRequest, volume: RootVolume) -> Judged:
        surety = self._surety
        references = self._volumes.references(volume.reference_set).values
        verified, bound = self._verified(request, volume, self._clock())
        statement = appraise(verified, policy=raised(surety.policy, volume), references=references, profile=surety.profile)
        judged = Judged(statement, verified, bound)
        if statement.decision != "accepted":
            self._on_statement(request.disk, statement)
        check_accepted(statement)
        check_tee(verified)
        return judged

    def _verified(self, request: EvidenceRequest, volume: RootVolume, at: datetime) -> tuple[Verified[Any], bytes | None]:
        """(3) on the TEE's evidence, together with what the terms demand beside it. What they do not demand is not looked at."""
        surety, references = self._surety, self._volumes.references(volume.reference_set).values
        recorded = RecordingFetcher(surety.fetcher)
        context = Context(at, surety.anchors, recorded, crl_floor=surety.crl_floors(), unsafe=surety.unsafe)
        _, given = cmw.to_pieces(cmw.decode(request.evidence))
        pieces = programs.held_against(of_machine(given), references)
        try:
            return self._verified_in(context, pieces, request, volume)
        finally:
            surety.remember(recorded.recorded, pieces)

    def _verified_in(
        self, context: Context, pieces: Pieces, request: EvidenceRequest, volume: RootVolume
    ) -> tuple[Verified[Any], bytes | None]:
        if not volume.beside or environment.OF_THE_BOOT & pieces.keys():
            asked = replace(context, activation=self._activation(request, pieces))
            return environment.verify(pieces, asked, request.nonce, request.key)
        beside = dict(cmw.to_pieces(cmw.decode(form)) for form in request.beside)
        missing = [kind for kind in volume.beside if kind not in beside]
        if missing:
            raise Indeterminate.of(
                "keys.beside",
                expected="evidence beside the TEE's: " + ", ".join(volume.beside),
                found="no " + ", ".join(missing),
                remedy="Boot with the TPM attached, so that the agent can quote it.",
                layer="vtpm",
            )
        quotes = programs.held_against(of_machine(beside["tpm"]), self._volumes.references(volume.reference_set).values)
        asked = replace(context, activation=self._activation(request, quotes))
        return environment.with_tpm(pieces, quotes, asked, request.nonce, request.key)


def raised(policy: Policy, volume: RootVolume) -> Policy:
    """`policy` with at least the levels that the terms of this disk demand, and no machine but those that they name."""
    levels = policy.levels
    wanted = replace(levels, nominal=max(levels.nominal, volume.nominal), trustworthy=max(levels.trustworthy, volume.trustworthy))
    both = {name: _both(policy.allowed_identities.get(name, values), values) for name, values in volume.identities.items()}
    return replace(policy, levels=wanted, allowed_identities={**policy.allowed_identities, **both})


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value for value in one if value.lower() in {each.lower() for each in other})


def check_by_evidence(volume: RootVolume) -> None:
    """(2) What opens for an SVID opens for nothing else: whoever may not hold it shall not come with evidence."""
    if volume.spiffe_id is not None:
        raise PolicyRefused.of(
            "keys.by-svid",
            expected="a disk that opens for evidence",
            found=f"{volume.disk}, which opens for an SVID",
            remedy="Ask with the SVID, over TLS; or register the disk without one.",
            layer="identity",
        )


def check_holder(volume: RootVolume, holder: SpiffeId) -> None:
    """The SVID is the one that the terms name, to the character; where they name none, no SVID opens the disk (AT-53)."""
    if volume.spiffe_id != str(holder):
        raise PolicyRefused.of(
            "keys.spiffe-id",
            expected=f"the SVID of {volume.spiffe_id}" if volume.spiffe_id else "evidence: the terms name no SVID",
            found=f"that of {holder}",
            remedy="Ask for the disk that is registered for this machine, or register it for this SPIFFE ID.",
            layer="identity",
        )


def check_tee(verified: Verified[Any]) -> None:
    """(4) A TPM's word alone says nothing of whose memory the secret would be in, whatever the policy is content with."""
    if verified.facts.tee is None:
        raise PolicyRefused.of(
            "keys.no-tee",
            expected="evidence of a TEE",
            found=f"kind {verified.facts.kind!r} alone",
            remedy="Attest with the TEE's report; a TPM alone opens no disk.",
            layer="root_of_trust",
        )


def check_revoked(known: Mapping[str, str], revocations: tuple[Revocation, ...]) -> None:
    """(2) (5)"""
    for revocation in revocations:
        if known.get(revocation.name) == revocation.value:
            raise PolicyRefused.of(
                "keys.revoked",
                expected=f"a {revocation.name} that was not revoked",
                found=f"{revocation.value}, revoked at {codec.format_time(revocation.at)}: {revocation.reason}",
                remedy="It gets no key again. Launch a new machine with new keys.",
                layer="identity",
            )
