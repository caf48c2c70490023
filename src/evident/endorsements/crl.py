"""X.509 certificate revocation lists: read strictly, checked for issuer, window and replay.

Source: RFC 5280 section 5 (profile), 5.2.3 (CRL number), 5.3.1 (reason), 6.3 for what to refuse. AMD's CRLs are signed by the
ARK and can revoke the ASK or ASVK (publication 57230); leaf serials are all 0, so a leaf is denied by hwID, not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType

from evident.endorsements import der, pem
from evident.endorsements.signatures import SignatureAlgorithm, check_signature, parse_algorithm
from evident.endorsements.x509 import SERIAL_LIMIT, Certificate, Extension, common_name, read_extension_list, read_extensions
from evident.errors import Indeterminate, Malformed, NotAuthentic, Unsupported

WHAT = "crl"
MAX_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 100_000
_LAST_SECOND = 253402300799
"""Of the year 9999: no calendar here has a later one."""
NUMBER_LIMIT = (1 << 8 * 20) - 1

_CRL_NUMBER = "2.5.29.20"
_REASON = "2.5.29.21"
_REASONS: Mapping[int, str] = MappingProxyType(
    {
        0: "unspecified",
        1: "key compromise",
        2: "CA compromise",
        3: "affiliation changed",
        4: "superseded",
        5: "cessation of operation",
        6: "certificate hold",
        9: "privilege withdrawn",
        10: "AA compromise",
    }
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of a CRL."""

    serial: int
    at: datetime
    reason: str


@dataclass(frozen=True, repr=False)
class Crl:
    """One CRL, unverified. Byte strings are DER as found; times are UTC."""

    der: bytes
    tbs: bytes
    issuer: bytes
    issuer_cn: str | None
    this_update: datetime
    next_update: datetime | None
    number: int | None
    """CRL number; None where the issuer gives none."""
    revoked: Mapping[int, Revocation]
    algorithm_identifier: bytes
    signature: bytes

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<CRL of {self.issuer_cn}, number {self.number}, {self.this_update:%Y-%m-%d}>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the DER, hex."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def signature_algorithm(self) -> SignatureAlgorithm:
        """Raises `Unsupported` or `Malformed`."""
        return parse_algorithm(self.algorithm_identifier, WHAT)

    def revokes(self, serial: int) -> Revocation | None:
        """The entry for this serial number, None when it is not listed."""
        return self.revoked.get(serial)


def load(data: bytes) -> Crl:
    """Exactly one CRL, PEM or DER."""
    blocks = pem.decode(data, ("X509 CRL",), WHAT)
    if len(blocks) != 1:
        raise Malformed.of(f"{WHAT}.count", expected="one CRL", found=str(len(blocks)), remedy="Pass each CRL in its own file.")
    return parse(blocks[0])


def parse(data: bytes) -> Crl:
    """One CRL from exactly its DER; raises `Malformed`, and `Unsupported` for critical extensions that change its meaning."""
    if len(data) > MAX_BYTES:
        raise Malformed.of(f"{WHAT}.oversized", expected=f"at most {MAX_BYTES} bytes", found=f"{len(data)} bytes", remedy="Pass a CRL.")
    top = der.Der(data, WHAT)
    outer = top.enter(der.SEQUENCE, "CRL")
    top.end("the CRL")
    tbs = outer.raw(der.SEQUENCE, "the signed part")
    algorithm_identifier = outer.raw(der.SEQUENCE, "signature algorithm")
    signature = outer.whole_bytes("signature")
    outer.end("the signature")

    body = der.Der(tbs, WHAT).enter(der.SEQUENCE, "the signed part")
    if body.at(der.INTEGER) and (version := body.integer("version")) != 1:
        raise body.fail("version", expected="version 2 (1)", found=str(version))
    if body.raw(der.SEQUENCE, "inner signature algorithm") != algorithm_identifier:
        raise body.fail("algorithm-mismatch", expected="the same algorithm inside and outside the signed part", found="two")
    issuer = body.raw(der.SEQUENCE, "issuer")
    this_update = body.time("thisUpdate")
    next_update = body.time("nextUpdate") if body.at(der.UTC_TIME) or body.at(der.GENERALIZED_TIME) else None
    revoked = _entries(body.enter(der.SEQUENCE, "revoked certificates")) if body.at(der.SEQUENCE) else {}
    number: int | None = None
    if body.at(der.context(0)):
        extensions = read_extensions(body.enter(der.context(0), "extensions"))
        _refuse_critical(extensions, {_CRL_NUMBER}, "the CRL")
        if _CRL_NUMBER in extensions:
            reader = der.Der(extensions[_CRL_NUMBER].value, WHAT)
            number = reader.unsigned("CRL number", NUMBER_LIMIT)
            reader.end("CRL number")
    body.end("the extensions")
    return Crl(
        data,
        tbs,
        issuer,
        common_name(issuer, WHAT),
        this_update,
        next_update,
        number,
        MappingProxyType(revoked),
        algorithm_identifier,
        signature,
    )


def _entries(sequence: der.Der) -> dict[int, Revocation]:
    revoked: dict[int, Revocation] = {}
    tails: dict[bytes, tuple[datetime, str]] = {}  # most entries of a CRL share date and reason, byte for byte
    while sequence.more:
        item = sequence.enter(der.SEQUENCE, "revoked certificate")
        serial = item.unsigned("revoked serial number", SERIAL_LIMIT)
        tail = item.rest()
        if tail not in tails:
            tails[tail] = _date_and_reason(der.Der(tail, WHAT), serial)
        revoked[serial] = Revocation(serial, *tails[tail])
        if len(revoked) > MAX_ENTRIES:
            raise sequence.fail("oversized", expected=f"at most {MAX_ENTRIES} entries", found="more")
    return revoked


def _date_and_reason(item: der.Der, serial: int) -> tuple[datetime, str]:
    """What follows the serial number in an entry."""
    at = item.time("revocation date")
    reason = "unspecified"
    if item.more:
        extensions = read_extension_list(item.enter(der.SEQUENCE, "entry extensions"))
        _refuse_critical(extensions, {_REASON}, f"entry {serial}")
        if _REASON in extensions:
            reason = _reason(extensions[_REASON].value)
    item.end("revoked certificate")
    return at, reason


def _reason(value: bytes) -> str:
    reader = der.Der(value, WHAT)
    code = reader.integer("reason", der.ENUMERATED)
    reader.end("reason")
    if code not in _REASONS:  # removeFromCRL (8) belongs to delta CRLs only, which are refused as critical
        raise reader.fail("reason", expected="a reason code of a full CRL", found=str(code))
    return _REASONS[code]


def _refuse_critical(extensions: Mapping[str, Extension], known: set[str], where: str) -> None:
    unknown = [oid for oid, extension in extensions.items() if extension.critical and oid not in known]
    if unknown:
        raise Unsupported.of(
            f"{WHAT}.critical-extension",
            expected=f"no unknown critical extension in {where}",
            found=", ".join(unknown),
            remedy="Delta, indirect and partitioned CRLs are not supported; pass the issuer's full CRL.",
        )


def verify_issued_by(crl: Crl, issuer: Certificate) -> None:
    """Check that `issuer` signed `crl` and may.

    `NotAuthentic`: ``crl.issuer-name``, ``crl.issuer-key-usage``, ``crl.signature``. The caller has verified `issuer`.
    """
    if crl.issuer != issuer.subject:
        raise _refuse("issuer-name", f"a CRL of {issuer.name}", f"one of {crl.issuer_cn}", "Pass the CRL of this issuer.")
    if issuer.key_usage is None or "crl_sign" not in issuer.key_usage:
        found = ", ".join(sorted(issuer.key_usage or ())) or "no key usage"
        raise _refuse("issuer-key-usage", "an issuer whose key may sign CRLs", found, "Pass the CRL that the root signed.")
    check_signature(issuer.public_key, crl.signature_algorithm, crl.signature, crl.tbs, WHAT)


def check_window(crl: Crl, at: datetime) -> None:
    """`Indeterminate` (``crl.not-yet-valid``, ``crl.stale``, ``crl.no-window``) unless thisUpdate <= `at` <= nextUpdate."""
    if at < crl.this_update:
        raise _undecided(
            "not-yet-valid",
            f"a CRL in force at {_text(at)}",
            f"one of {_text(crl.this_update)}",
            "Check the clock or the time given with --at.",
        )
    if crl.next_update is None:
        raise _undecided("no-window", "a CRL that says when the next one is due", "none", "Fetch the issuer's CRL anew.")
    if at > crl.next_update:
        raise _undecided(
            "stale",
            f"a CRL in force at {_text(at)}",
            f"one that was due for replacement at {_text(crl.next_update)}",
            "Run evident trust fetch --crl, or pass a current CRL.",
        )


def check_floor(crl: Crl, floor: int | None) -> None:
    """`Indeterminate` ``crl.replayed`` for a CRL older than one seen before: `floor` is the highest number seen (AT-28)."""
    if floor is not None and (crl.number is None or crl.number < floor):
        raise _undecided(
            "replayed",
            f"CRL number {floor} or later of {crl.issuer_cn}",
            "no number" if crl.number is None else str(crl.number),
            "Somebody serves an old CRL; fetch it from the issuer over another path.",
        )


def check_issued_since(crl: Crl, floor: int | None) -> None:
    """`check_floor` for an authority that gives every list the number 1: `floor` is the latest thisUpdate seen, in seconds since 1970."""
    if floor is not None and issued(crl) < floor:
        raise _undecided(
            "replayed",
            f"a CRL of {crl.issuer_cn} of {_text(datetime.fromtimestamp(min(floor, _LAST_SECOND), UTC))} or later",
            f"one of {_text(crl.this_update)}",
            "Somebody serves an old CRL; fetch it from the issuer over another path.",
        )


def issued(crl: Crl) -> int:
    """thisUpdate in seconds since 1970."""
    return int(crl.this_update.timestamp())


def check_not_revoked(crl: Crl, certificate: Certificate) -> None:
    """`NotAuthentic` ``crl.revoked`` when `crl`, of this certificate's issuer, lists it."""
    entry = crl.revokes(certificate.serial)
    if entry is not None and crl.issuer == certificate.issuer:
        raise _refuse(
            "revoked",
            f"{certificate.name} not revoked by {crl.issuer_cn}",
            f"serial {certificate.serial:#x} revoked on {_text(entry.at)}: {entry.reason}",
            "Do not use this machine: its vendor has withdrawn the key.",
        )


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _refuse(problem: str, expected: str, found: str, remedy: str) -> NotAuthentic:
    return NotAuthentic.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy, layer="root_of_trust")


def _undecided(problem: str, expected: str, found: str, remedy: str) -> Indeterminate:
    return Indeterminate.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy=remedy, layer="root_of_trust")
