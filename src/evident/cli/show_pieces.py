"""What `evident show` says of the pieces beside a report or quote: keys, signatures, PCR values, and other tools' containers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import content, tpm, tpm_public
from evident.evidence.importers import azure_cvm, containers, pcr_values, tpm2_tools
from evident.verification.tpm_case import Key, key_of

Describe = Callable[[bytes], tuple[str, Any]]


def is_container(data: bytes) -> bool:
    """Whether some importer takes `data` apart."""
    if not (data.lstrip()[:1] == b"{" or azure_cvm.looks_like_bincode(data) or containers.looks_like_protobuf(data)):
        return False
    try:
        return bool(containers.read(data))
    except (Malformed, Unsupported):
        return False


def container(data: bytes, describe: Describe) -> Any:
    """Every piece by its role, decoded where its format is known."""
    return {role: [_piece(item, describe) for item in items] for role, items in containers.read(data).items()}


def _piece(data: bytes, describe: Describe) -> Any:
    told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        name, shown = describe(data)
    except EvidentError as refused:  # a piece that says nothing by itself, such as a bare signature, is still in the container
        return {**told, "not_decoded": refused.findings[0].code}
    return {**told, "format": name, "content": shown}


def is_public_key(data: bytes) -> bool:
    """A bare public key: PEM, TPM2B_PUBLIC or TPMT_PUBLIC."""
    raw = content.unhex(data)
    return raw.startswith(b"-----BEGIN PUBLIC KEY-----") or _parses(tpm_public.parse, raw)


def public_key(data: bytes) -> Any:
    """The key, and what a TPM says of it where it is a TPM's public area."""
    key, public = key_of(data)
    shown = _key(key)
    if public is not None:
        shown |= {"name": public.name.hex(), "attributes": public.attribute_flags, "auth_policy": public.auth_policy.hex()}
    return shown


def _key(key: Key) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"type": "RSA", "bits": key.key_size, "exponent": numbers.e, "modulus": f"{numbers.n:x}"}
    point = key.public_numbers()
    return {"type": "ECC", "curve": key.curve.name, "x": f"{point.x:x}", "y": f"{point.y:x}"}


def is_signature(data: bytes) -> bool:
    """A TPMT_SIGNATURE; a bare signature looks like nothing."""
    return _parses(tpm.parse_signature, content.unhex(data))


def signature(data: bytes) -> Any:
    """Scheme and numbers."""
    parsed = tpm.parse_signature(content.unhex(data))
    numbers = {"rsa": parsed.rsa, "r": parsed.r, "s": parsed.s}
    return {"scheme": parsed.name, **{name: value.hex() for name, value in numbers.items() if value}}


def is_pcr_values(data: bytes) -> bool:
    """A file of tpm2-tools, or JSON of banks."""
    return tpm2_tools.looks_like(data) or (data.lstrip()[:1] == b"{" and _parses(lambda raw: pcr_values.parse(raw, ()), data))


def pcrs(data: bytes) -> Any:
    """Values by bank and index."""
    return {bank: {str(index): value.hex() for index, value in sorted(found.items())} for bank, found in pcr_values.parse(data, ()).items()}


def _parses(parser: Callable[[bytes], object], data: bytes) -> bool:
    try:
        parser(data)
    except (Malformed, Unsupported):
        return False
    return True
