"""IMA: a measurement list against PCR 10, its boot_aggregate against the boot, and its files against an allow-list and keys.

Procedure:
 1. every entry's template hash is recomputed from its own fields (a violation has none, and extends ff);
 2. the list is replayed; `authenticate` finds the *prefix* that yields the quoted PCR 10. The kernel appends before it extends, so
    entries behind that prefix may be honest and are dropped with a remark; a list without such a prefix is `NotAuthentic`;
 3. boot_aggregate, always the first entry, is compared with the PCRs of the same boot, by the rule of either kernel generation;
 4. each file is *listed* when the allow-list has its digest, or a given key signed it.

What IMA cannot see (`GAPS`) is part of every result.

Sources: Linux security/integrity/ima (ima_calc_boot_aggregate, ima_pcr_extend, ima_invalidate_pcr) and IMA-templates.rst; ima-evm-utils(1).
Kernels before 5.8 extend every bank with the SHA-1 template hash padded with zeros; later ones hash the template data anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evident.errors import Finding, Indeterminate, Malformed, NotAuthentic, Unsupported
from evident.evidence import ima_log
from evident.evidence.ima_log import Entry, ImaLog
from evident.evidence.pcr import extend
from evident.verification.facts import Runtime
from evident.verification.log import BANK_PREFERENCE

BOOT_AGGREGATE = "boot_aggregate"
IMA_PCR = 10
GENERATIONS = ("per-bank", "padded-sha1")

GAPS = (
    "A script that is handed to an interpreter (python x.py, source x) is data to the kernel: listed only where the policy measures reads.",
    "Code that never was a file is not seen: just-in-time compilation, memory written at run time, code received over the network.",
    "Time of check to time of use: a file is measured when opened or mapped; a change after that shows only as a violation, if at all.",
    "Files and file systems that the policy leaves out are not in the list, and the list does not contain the policy.",
    "Data and configuration that steer measured programs are not measured unless the policy says so.",
)
"""What IMA cannot see (AT-33, AT-34); printed with every result."""
NOTHING_COMPARED = "No allow-list and no keys were given: every file counts as unlisted."


@dataclass(frozen=True, slots=True)
class AllowList:
    """Acceptable digests: path to digests as ``ALGORITHM:hex``; ``*`` for digests that are acceptable anywhere."""

    digests: Mapping[str, frozenset[str]]

    def names(self, entry: Entry) -> bool:
        digest = f"{entry.algorithm}:{entry.digest.hex()}"
        return digest in self.digests.get(entry.name, ()) or digest in self.digests.get("*", ())


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The part of a list that an authentic PCR 10 covers."""

    entries: tuple[Entry, ...]
    bank: str
    generation: str
    """Which kernels' way of extending replayed: ``per-bank`` or ``padded-sha1``."""
    later: int
    """Entries behind the covered part, not believed."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """boot_aggregate as it was found to tie the list to the boot."""

    rule: str
    """In words: ``sha256 over sha256 PCR 0-9``."""


def parse_allow_list(raw: bytes) -> AllowList:
    """Lines of ``DIGEST  PATH`` as sha256sum and its siblings print them; ``*`` as the path allows a digest anywhere, # starts a remark.

    Raises `Malformed` (``ima.allow-list``).
    """
    sizes = {2 * size: name for name, size in ima_log.DIGEST_SIZES.items()}
    digests: dict[str, set[str]] = {}
    for number, line in enumerate(raw.splitlines(), start=1):
        if not line.strip() or line.startswith(b"#"):
            continue
        text = line.decode("utf-8", "surrogateescape")
        digest, _, path = text.partition(" ")
        path = path[1:] if path[:1] in (" ", "*") and len(path) > 1 else path
        algorithm, colon, value = digest.partition(":")
        value = value if colon else digest
        known = sizes.get(len(value))
        if not path or known is None or (colon and algorithm != known) or any(letter not in "0123456789abcdef" for letter in value):
            raise Malformed.of(
                "ima.allow-list",
                expected="DIGEST and PATH, as sha256sum prints them",
                found=f"line {number}: {text[:80]!r}",
                remedy="Correct the line, or make the list anew with sha256sum.",
            )
        digests.setdefault(path, set()).add(f"{known}:{value}")
    return AllowList({path: frozenset(values) for path, values in digests.items()})


def merge(lists: Iterable[AllowList]) -> AllowList | None:
    """All lists as one; None when there are none."""
    merged: dict[str, frozenset[str]] = {}
    given = tuple(lists)
    for single in given:
        for path, digests in single.digests.items():
            merged[path] = merged.get(path, frozenset()) | digests
    return AllowList(merged) if given else None


def check_template_hashes(log: ImaLog) -> None:
    """Step 1. Raises `NotAuthentic` (``ima.template-hash``) naming the first entry whose fields do not give its template hash."""
    for entry in log.entries:
        if not entry.violation and entry.template_digest("sha1") != entry.template_hash:
            raise NotAuthentic.of(
                "ima.template-hash",
                expected=f"template hash {entry.template_hash.hex()} of entry {entry.number}",
                found=f"{entry.template_digest('sha1').hex()} from its fields ({entry.name})",
                remedy="The entry was edited: do not trust this machine's list.",
                layer="userspace",
            )


def measured_digest(entry: Entry, bank: str, generation: str) -> bytes:
    """What the kernel extended for an entry."""
    size = hashlib.new(bank).digest_size
    if entry.violation:
        return b"\xff" * size
    return entry.template_hash.ljust(size, b"\0") if generation == "padded-sha1" else entry.template_digest(bank)


def replay(entries: Iterable[Entry], bank: str, generation: str = GENERATIONS[0], *, pcr: int = IMA_PCR) -> bytes:
    """The value of one PCR after all entries that were extended into it."""
    value = bytes(hashlib.new(bank).digest_size)
    for entry in entries:
        if entry.pcr == pcr:
            value = extend(bank, value, measured_digest(entry, bank, generation))
    return value


def authenticate(log: ImaLog, registers: Mapping[str, Mapping[int, bytes]]) -> Authenticated:
    """Steps 1 and 2 against authentic PCR values (bank to index to value).

    Raises `NotAuthentic` (``ima.template-hash``, ``ima.replay``) and `Indeterminate` (``ima.uncovered``: no signed PCR 10, or entries that
    were extended elsewhere).
    """
    check_template_hashes(log)
    bank = next((name for name in BANK_PREFERENCE if IMA_PCR in registers.get(name, {})), None)
    elsewhere = sorted({entry.pcr for entry in log.entries} - {IMA_PCR})
    if bank is None or elsewhere:
        raise Indeterminate.of(
            "ima.uncovered",
            expected="a signed value of PCR 10, and entries of PCR 10 alone",
            found=f"entries of PCR {elsewhere}" if elsewhere else "no value of PCR 10",
            remedy="Ask for a quote over PCR 10 (and 0 to 9).",
            layer="userspace",
        )
    wanted = registers[bank][IMA_PCR]
    for generation in GENERATIONS:
        covered = _covered(log.entries, bank, generation, wanted)
        if covered is not None:
            return Authenticated(log.entries[:covered], bank, generation, len(log.entries) - covered)
    raise NotAuthentic.of(
        "ima.replay",
        expected=f"pcr10 ({bank}) {wanted.hex()} as signed",
        found=f"{replay(log.entries, bank).hex()} after {len(log.entries)} entries, and no earlier",
        remedy="The list was edited, cut short, or is of another boot: collect list and quote together, the list last.",
        layer="userspace",
    )


def _covered(entries: tuple[Entry, ...], bank: str, generation: str, wanted: bytes) -> int | None:
    """The number of leading entries after which the PCR holds `wanted`."""
    value = bytes(hashlib.new(bank).digest_size)
    if value == wanted:
        return 0
    for count, entry in enumerate(entries, start=1):
        value = extend(bank, value, measured_digest(entry, bank, generation))
        if value == wanted:
            return count
    return None


def boot_aggregate(entries: tuple[Entry, ...], registers: Mapping[str, Mapping[int, bytes]]) -> Aggregate:
    """Step 3, against authentic or replayed PCRs of the same boot.

    The digest's own algorithm names the bank. SHA-1 covers PCR 0-7; others 0-9 since Linux 5.8, and 0-7 before.
    Raises `NotAuthentic` (``ima.boot-aggregate``) and `Indeterminate` (``ima.boot-aggregate-undecided``: PCRs missing).
    """
    if not entries or entries[0].name != BOOT_AGGREGATE:
        raise NotAuthentic(_aggregate_finding("boot_aggregate as the first entry", "another entry" if entries else "an empty list"))
    entry = entries[0]
    if entry.violation:  # PCR 10 took ff for it, so that nothing stands for its digest
        raise NotAuthentic(_aggregate_finding("boot_aggregate as the first entry", "a violation"))
    bank = registers.get(entry.algorithm, {})
    tried: list[str] = []
    for last in (9, 7) if entry.algorithm != "sha1" else (7,):
        if all(index in bank for index in range(last + 1)):
            digest = hashlib.new(entry.algorithm, b"".join(bank[index] for index in range(last + 1))).digest()
            tried.append(f"{digest.hex()} over PCR 0-{last}")
            if digest == entry.digest:
                return Aggregate(f"{entry.algorithm} over {entry.algorithm} PCR 0-{last}")
    if not tried:
        raise Indeterminate.of(
            "ima.boot-aggregate-undecided",
            expected=f"{entry.algorithm} values of PCR 0 to 7 (and 8, 9)",
            found="PCRs " + (", ".join(map(str, sorted(bank))) or "none"),
            remedy="Ask for a quote over PCR 0 to 10 in that bank, or give the firmware log.",
            layer="userspace",
        )
    raise NotAuthentic(_aggregate_finding(f"{entry.algorithm}:{entry.digest.hex()} as listed", "; ".join(tried)))


def _aggregate_finding(expected: str, found: str) -> Finding:
    return Finding("ima.boot-aggregate", "userspace", expected, found, "List and boot do not belong together: collect both from one boot.")


PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def load_key(raw: bytes) -> PublicKey:
    """An RSA or EC public key, PEM or DER (SubjectPublicKeyInfo). Raises `Malformed` (``ima.key``)."""
    try:
        key = serialization.load_pem_public_key(raw) if raw.startswith(b"-----") else serialization.load_der_public_key(raw)
    except ValueError as error:
        raise Malformed.of(
            "ima.key", expected="a public key", found=str(error)[:80], remedy="Export it with openssl pkey -pubout."
        ) from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise Malformed.of("ima.key", expected="an RSA or EC key", found=type(key).__name__, remedy="IMA signs with RSA or EC keys.")
    return key


def key_id(key: PublicKey) -> bytes:
    """The last four bytes of the subject key identifier (RFC 5280, 4.2.1.2, method 1), by which a signature names its key."""
    form = serialization.PublicFormat.PKCS1 if isinstance(key, rsa.RSAPublicKey) else serialization.PublicFormat.UncompressedPoint
    encoding = serialization.Encoding.DER if isinstance(key, rsa.RSAPublicKey) else serialization.Encoding.X962
    return hashlib.sha1(key.public_bytes(encoding, form)).digest()[-4:]  # noqa: S324 - an identifier, fixed by the RFC


def signer(entry: Entry, keys: Iterable[PublicKey]) -> PublicKey | None:
    """The one of `keys` that signed the file's digest; an unreadable or foreign signature, or one over SHA-1, is no signature."""
    if not entry.extra or entry.template not in ("ima-sig", "ima-sigv2"):
        return None
    try:
        signature = ima_log.parse_signature(entry.extra)
    except (Malformed, Unsupported):  # counts as unsigned, so the file stays unlisted
        return None
    if signature.algorithm != entry.algorithm or signature.algorithm not in _HASHES:
        return None
    return next((key for key in keys if key_id(key) == signature.key_id and _holds(key, signature, entry.digest)), None)


_HASHES: Mapping[str, hashes.HashAlgorithm] = MappingProxyType(
    {"sha224": hashes.SHA224(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
)


def _holds(key: PublicKey, signature: ima_log.Signature, digest: bytes) -> bool:
    prehashed = Prehashed(_HASHES[signature.algorithm])
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature.value, digest, padding.PKCS1v15(), prehashed)
        else:
            key.verify(signature.value, digest, ec.ECDSA(prehashed))
    except InvalidSignature:
        return False
    return True


def runtime(authentic: Authenticated, *, allowed: AllowList | None = None, keys: tuple[PublicKey, ...] = ()) -> Runtime:
    """Step 4: what ran, as far as IMA saw it. Without list and keys every file is unlisted: nothing unknown reads as a pass."""
    unlisted: list[str] = []
    violated: list[str] = []
    files = [entry for entry in authentic.entries if (entry.number, entry.name) != (0, BOOT_AGGREGATE)]
    for entry in files:
        if entry.violation:
            violated.append(entry.name)
        elif not (allowed is not None and allowed.names(entry)) and signer(entry, keys) is None:
            unlisted.append(entry.name)
    gaps = list(GAPS)
    if allowed is None and not keys:
        gaps.insert(0, NOTHING_COMPARED)
    if authentic.later:
        gaps.append(f"{authentic.later} entries were listed after the quote and are not covered by it.")
    return Runtime(len(files), len(violated), tuple(dict.fromkeys(unlisted)), tuple(gaps), tuple(dict.fromkeys(violated)))


def claims(log: ImaLog, value: Mapping[str, bytes]) -> dict[str, Any]:
    """JSON-ready: entries, violations, templates, and the replayed PCR 10 by bank."""
    return {
        "entries": len(log.entries),
        "violations": sum(entry.violation for entry in log.entries),
        "templates": sorted({entry.template for entry in log.entries}),
        "pcrs": {bank: {str(IMA_PCR): digest.hex()} for bank, digest in value.items()},
    }
