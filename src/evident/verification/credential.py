"""Does this attestation key live in the TPM of that endorsement key? The verifier's half of credential activation.

The verifier encrypts a secret to the EK for the name of the AK (TPM2_MakeCredential done in software). Only the TPM that has
that EK *and* an object of that name returns the secret (TPM2_ActivateCredential). The answer proves it to this verifier and to
nobody else, so it cannot be replayed from an audit bundle: the statement says so.

Source: TCG TPM 2.0 Library 1.83, Part 1 sections 11.4.10 (KDFa, KDFe), 24 (credential protection), B.10.4 and C.6.4 (secret
sharing under RSA and ECC); EK templates: TCG "EK Credential Profile" 2.6, annex B (AES-128 and AES-256 in CFB mode).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from evident.errors import NotAuthentic, Unsupported
from evident.evidence import tpm_algorithms as alg
from evident.evidence.tpm_public import Public, sized

ALG_AES, ALG_CFB = 0x0006, 0x0043
IDENTITY, STORAGE, INTEGRITY = b"IDENTITY\0", b"STORAGE\0", b"INTEGRITY\0"
SECRET_BYTES = 32
TPM2_TOOLS_HEADER = bytes.fromhex("badcc0de00000001")
_HASHES: dict[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


@dataclass(frozen=True, slots=True)
class Challenge:
    """What goes to the guest (`credential_blob`, `encrypted_secret`), and what stays with the verifier (`secret`)."""

    ak_name: bytes
    secret: bytes
    credential_blob: bytes
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""

    @property
    def tpm2_tools_file(self) -> bytes:
        """The file that ``tpm2_activatecredential -i`` reads."""
        return TPM2_TOOLS_HEADER + self.credential_blob + self.encrypted_secret

    def confirm(self, answer: bytes) -> None:
        """`NotAuthentic` ``tpm.credential`` unless `answer` is the secret (AT-22)."""
        if not hmac.compare_digest(answer, self.secret):
            raise NotAuthentic.of(
                "tpm.credential",
                expected="the secret that only the TPM with this EK and this AK can decrypt",
                found="another answer" if answer else "no answer",
                remedy="The AK is not in the TPM of this EK: do not trust its quotes.",
                layer="vtpm",
            )


def challenge(ek: Public, ak_name: bytes, random: Callable[[int], bytes]) -> Challenge:
    """A fresh challenge to the TPM that has `ek`, for its object named `ak_name`; `random(n)` gives `n` secret bytes.

    `Unsupported` for an EK that does not protect with AES in CFB mode (no EK template does otherwise).
    """
    secret = random(SECRET_BYTES)
    blob, encrypted = make_credential(ek, ak_name, secret, random)
    return Challenge(ak_name, secret, blob, encrypted)


def make_credential(ek: Public, ak_name: bytes, secret: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """TPM2_MakeCredential: the TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET of `secret`."""
    hash_name = _hash_name(ek)
    seed, encrypted = _share_seed(ek, hash_name, random)
    identity = cipher(ek, hash_name, seed, ak_name).encryptor().update(sized(secret))
    return sized(sized(integrity(hash_name, seed, identity, ak_name)) + identity), sized(encrypted)


def cipher(ek: Public, hash_name: str, seed: bytes, ak_name: bytes) -> Cipher[CFB]:
    """The cipher over the credential: AES-CFB under a key derived from `seed` for `ak_name`, with a zero IV."""
    if ek.symmetric.id != ALG_AES or ek.symmetric.mode != ALG_CFB:
        raise _unsupported("an EK that protects with AES in CFB mode", f"algorithm {ek.symmetric.id:#06x}, mode {ek.symmetric.mode:#06x}")
    key = kdfa(hash_name, seed, STORAGE, ak_name, b"", ek.symmetric.bits)
    return Cipher(algorithms.AES(key), CFB(bytes(16)))


def integrity(hash_name: str, seed: bytes, identity: bytes, ak_name: bytes) -> bytes:
    """The outer HMAC that ties the encrypted credential to `ak_name`."""
    key = kdfa(hash_name, seed, INTEGRITY, b"", b"", 8 * hashlib.new(hash_name).digest_size)
    return hmac.digest(key, identity + ak_name, hash_name)


def kdfa(hash_name: str, key: bytes, label: bytes, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """KDFa: HMAC in counter mode; `label` ends with its zero byte."""
    blocks, counter = b"", 0
    while len(blocks) < bits // 8:
        counter += 1
        blocks += hmac.digest(key, counter.to_bytes(4, "big") + label + party_u + party_v + bits.to_bytes(4, "big"), hash_name)
    return blocks[: bits // 8]


def kdfe(hash_name: str, z: bytes, label: bytes, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """KDFe: one hash (all EK templates need no more than one block)."""
    return hashlib.new(hash_name, (1).to_bytes(4, "big") + z + label + party_u + party_v).digest()[: bits // 8]


def coordinate(key: ec.EllipticCurvePublicKey) -> bytes:
    """The x coordinate at the curve's full length."""
    return key.public_numbers().x.to_bytes((key.curve.key_size + 7) // 8, "big")


def _share_seed(ek: Public, hash_name: str, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    key = ek.public_key()
    size = hashlib.new(hash_name).digest_size
    if isinstance(key, rsa.RSAPublicKey):
        seed, digest = random(size), _HASHES[hash_name]
        return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(digest), digest, IDENTITY))
    ephemeral = ec.generate_private_key(key.curve)
    public = ephemeral.public_key()
    z = ephemeral.exchange(ec.ECDH(), key)
    seed = kdfe(hash_name, z, IDENTITY, coordinate(public), coordinate(key), 8 * size)
    length = (key.curve.key_size + 7) // 8
    return seed, sized(coordinate(public)) + sized(public.public_numbers().y.to_bytes(length, "big"))


def _hash_name(ek: Public) -> str:
    name = alg.hash_of(ek.name_alg, "nameAlg").name
    if name not in _HASHES:
        raise _unsupported("an EK named by SHA-256, SHA-384 or SHA-512", name)
    return name


def _unsupported(expected: str, found: str) -> Unsupported:
    return Unsupported.of("tpm.credential.ek", expected=expected, found=found, remedy="Use an EK made from a template of the TCG profile.")
