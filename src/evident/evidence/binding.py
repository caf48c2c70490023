"""How a guest binds the verifier's challenge and a key of its own: in the 64 bytes that its report signs, and in its TPM's answers.

    REPORT_DATA = SHA-512( "evident report data v1" ‖ 00 ‖ u32 length of nonce ‖ nonce ‖ SHA-384(SPKI) )
    answer      = HMAC-SHA256( activated secret, "evident credential v1" ‖ 00 ‖ REPORT_DATA )

and in a cloud's machine, where the report names what the hypervisor's TPM says beside it:

    REPORT_DATA = SHA-512( TPMT_PUBLIC of the attestation key ‖ nonce )     Google (kind ``gcp-snp``)
    REPORT_DATA = SHA-512( NitroTPM document ‖ nonce )                      AWS (kind ``aws-snp``)
    REPORT_DATA = SHA-512( nonce (64) ‖ SPKI ‖ certificate or SPKI of the attestation key )    the first public Evident, at Google,
    extraData   = SHA-256( nonce (64) ‖ SPKI )                                                 with SPKI of the instance's key

big endian; SPKI is the DER SubjectPublicKeyInfo of a key made in the guest. The label keeps the value apart from every other
use of REPORT_DATA, and the length keeps nonce and digest apart, so one report never speaks for two challenges or two keys. The secret
that a TPM activated never leaves the guest, which therefore opens nothing for others that was encrypted to its TPM.
Evident's own format, but for Google's and AWS's, which reclaimprotocol/attestor-core (51afb434) makes so, and the first Evident's
(joao-hs/evident, ``client/internal/attest/workflows/snpgce.go``, 44b9a9b5); both sides call these functions.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

_LABEL: Final = b"evident report data v1\0"
_CREDENTIAL_LABEL: Final = b"evident credential v1\0"


def key_digest(spki: bytes) -> bytes:
    """SHA-384 of a SubjectPublicKeyInfo in DER, 48 bytes."""
    return hashlib.sha384(spki).digest()


def report_data(nonce: bytes, spki: bytes) -> bytes:
    """The 64 bytes that bind `nonce` and the key `spki` (DER)."""
    return hashlib.sha512(_LABEL + len(nonce).to_bytes(4, "big") + nonce + key_digest(spki)).digest()


def beside(said: bytes, nonce: bytes) -> bytes:
    """The 64 bytes that bind a report to what a TPM beside it says: `said` is its key (TPMT_PUBLIC) or its document."""
    return hashlib.sha512(said + nonce).digest()


def first_evident(nonce: bytes, spki: bytes, named: bytes) -> bytes:
    """The 64 bytes in which the first public Evident binds nonce, instance key and attestation key; `named`: the latter's certificate."""
    return hashlib.sha512(nonce + spki + named).digest()


def credential_answer(secret: bytes, challenge: bytes) -> bytes:
    """What shows, for this challenge alone, that the TPM activated the credential with this `secret` (32 bytes).

    `challenge` is what the quote answers: `report_data` of nonce and key, or the bare nonce where no key is bound.
    """
    return hmac.digest(secret, _CREDENTIAL_LABEL + challenge, "sha256")
