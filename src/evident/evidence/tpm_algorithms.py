"""TPM algorithm identifiers, as TPM structures and TCG event logs both use them.

Source: TCG Algorithm Registry revision 1.34, tables "TPM_ALG_ID" and "TPM_ECC_CURVE".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.errors import Unsupported

ALG_RSA = 0x0001
ALG_SHA1 = 0x0004
ALG_KEYEDHASH = 0x0008
ALG_SHA256 = 0x000B
ALG_SHA384 = 0x000C
ALG_SHA512 = 0x000D
ALG_NULL = 0x0010
ALG_SM3_256 = 0x0012
ALG_RSASSA = 0x0014
ALG_RSAES = 0x0015
ALG_RSAPSS = 0x0016
ALG_ECDSA = 0x0018
ALG_ECDAA = 0x001A
ALG_ECC = 0x0023

CURVE_P256 = 0x0003
CURVE_P384 = 0x0004
CURVE_P521 = 0x0005


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash algorithm: its identifier, the bank's name, its digest size in bytes, and whether it can be computed here."""

    id: int
    name: str
    size: int
    computable: bool = True

    def digest(self, *parts: bytes) -> bytes:
        """Hash of the concatenation of `parts`; `Unsupported` for an algorithm that no standard library has."""
        if not self.computable:
            raise Unsupported.of(
                "tpm.hash",
                expected="SHA-1, SHA-256, SHA-384, SHA-512 or SHA-3",
                found=self.name,
                remedy="Quote a bank whose hash Evident can recompute (sha256 or sha384).",
            )
        return hashlib.new(self.name, b"".join(parts), usedforsecurity=False).digest()


HASHES: Mapping[int, Hash] = MappingProxyType(
    {
        item.id: item
        for item in (
            Hash(ALG_SHA1, "sha1", 20),
            Hash(ALG_SHA256, "sha256", 32),
            Hash(ALG_SHA384, "sha384", 48),
            Hash(ALG_SHA512, "sha512", 64),
            Hash(ALG_SM3_256, "sm3_256", 32, computable=False),
            Hash(0x0027, "sha3_256", 32),
            Hash(0x0028, "sha3_384", 48),
            Hash(0x0029, "sha3_512", 64),
        )
    }
)
HASH_BY_NAME: Mapping[str, Hash] = MappingProxyType({item.name: item for item in HASHES.values()})


def hash_of(identifier: int, field: str) -> Hash:
    """The hash behind a TPM_ALG_ID, or `Unsupported`."""
    if identifier not in HASHES:
        raise Unsupported.of(
            "tpm.hash",
            expected=f"a known hash algorithm in {field}",
            found=f"{identifier:#06x}",
            remedy="Use SHA-256 or SHA-384; a newer algorithm needs a newer Evident.",
        )
    return HASHES[identifier]
