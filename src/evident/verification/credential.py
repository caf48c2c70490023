"""Does this attestation key live in the TPM of that endorsement key? The verifier's half of credential activation.

The verifier encrypts a secret to the EK for the name of the AK (TPM2_MakeCredential done in software). Only the TPM that has
that EK *and* an object of that name gets at the secret (TPM2_ActivateCredential). It answers with a MAC of the attestation's challenge
under the secret (`evident.evidence.binding.credential_answer`), so that an answer speaks for one challenge alone.

Everything random is drawn from the caller, and kept (`Activation.drawn`): a stranger makes the same credential again, and sees that it
was for this EK, this AK and this challenge. That the answer came from outside, and was not made by the verifier who knows the secret, is
that verifier's word; the statement says so.

Source: TCG TPM 2.0 Library 1.83, Part 1 sections 11.4.10 (KDFa, KDFe), 24 (credential protection), B.4 and B.10.4 (OAEP, secret sharing
under RSA), C.6.4 (under ECC); RFC 8017, section 7.1.1 (OAEP); EK templates: TCG "EK Credential Profile" 2.6, annex B (AES-128 and AES-256
in CFB mode).
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from evident.errors import Malformed, Unsupported
from evident.evidence import tpm_algorithms as alg
from evident.evidence import tpm_public
from evident.evidence.tpm_public import Public, sized

ALG_AES, ALG_CFB = 0x0006, 0x0043
IDENTITY, STORAGE, INTEGRITY = b"IDENTITY\0", b"STORAGE\0", b"INTEGRITY\0"
SECRET_BYTES = 32
MIN_RSA_BITS = 2048
TPM2_TOOLS_HEADER = bytes.fromhex("badcc0de00000001")
_HASHES = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class NamedKey:
    """Which endorsement key a machine's TPM has, as somebody says who runs that TPM and signed nothing."""

    key: bytes
    """SubjectPublicKeyInfo, DER."""
    operator: str
    """Whose word it is: ``AWS``."""
    location: Literal["hypervisor", "unknown"]
    """Where that TPM runs."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A credential as it was sent, and what came back: enough for a stranger to make it again and to judge the answer."""

    ek: bytes
    """TPMT_PUBLIC of the key that it was encrypted to."""
    ak_name: bytes
    drawn: bytes
    """All randomness that went into it, in order; the first `SECRET_BYTES` are the secret."""
    credential_blob: bytes
    encrypted_secret: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """What goes to the guest (`credential_blob`, `encrypted_secret`), and what stays with the verifier until it answered (`drawn`)."""

    ek: Public
    ak_name: bytes
    drawn: bytes
    credential_blob: bytes
    """TPM2B_ID_OBJECT."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET."""

    @property
    def secret(self) -> bytes:
        return self.drawn[:SECRET_BYTES]

    @property
    def tpm2_tools_file(self) -> bytes:
        """The file that ``tpm2_activatecredential -i`` reads."""
        return TPM2_TOOLS_HEADER + self.credential_blob + self.encrypted_secret

    def answered(self, answer: bytes) -> Activation:
        """The record of this challenge with what came back, right or wrong: verification judges it (AT-22)."""
        return Activation(self.ek.raw, self.ak_name, self.drawn, self.credential_blob, self.encrypted_secret, answer)


def challenge(ek: Public, ak_name: bytes, random: Callable[[int], bytes]) -> Challenge:
    """A fresh challenge to the TPM that has `ek`, for its object named `ak_name`; `random(n)` gives `n` secret bytes.

    `Unsupported` for an EK that does not protect with AES in CFB mode (no EK template does otherwise), `Malformed` for one that is no key.
    """
    drawn = bytearray()

    def draw(count: int) -> bytes:
        taken = random(count)
        drawn.extend(taken)
        return taken

    blob, encrypted = make_credential(ek, ak_name, draw(SECRET_BYTES), draw)
    return Challenge(ek, ak_name, bytes(drawn), blob, encrypted)


def again(activation: Activation) -> Challenge:
    """The challenge of this record, made anew from what was drawn for it. Raises as `challenge`, and `Malformed` when too little was."""
    stream = io.BytesIO(activation.drawn)

    def draw(count: int) -> bytes:
        taken = stream.read(count)
        if len(taken) != count:
            raise Malformed.of(
                "tpm.activation.drawn",
                expected=f"{count} more bytes of what was drawn for the credential",
                found=f"{len(taken)}",
                remedy="Get the bundle again from whoever exported it; this one is damaged.",
            )
        return taken

    return challenge(tpm_public.parse(activation.ek), activation.ak_name, draw)


def make_credential(ek: Public, ak_name: bytes, secret: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """TPM2_MakeCredential: the TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET of `secret`."""
    hash_name = _hash_name(ek)
    seed, encrypted = _share_seed(ek, hash_name, random)
    identity = cipher(ek, hash_name, seed, ak_name).encryptor().update(sized(secret))
    return sized(sized(integrity(hash_name, seed, identity, ak_name)) + identity), sized(encrypted)


def cipher(ek: Public, hash_name: str, seed: bytes, ak_name: bytes) -> Cipher[CFB]:
    """The cipher over the credential: AES-CFB under a key derived from `seed` for `ak_name`, with a zero IV."""
    used = ek.symmetric
    if used.id != ALG_AES or used.mode != ALG_CFB or used.bits not in (128, 192, 256):
        found = f"algorithm {used.id:#06x} with {used.bits} bits, mode {used.mode:#06x}"
        raise _unsupported("an EK that protects with AES in CFB mode", found)
    key = kdfa(hash_name, seed, STORAGE, ak_name, b"", used.bits)
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


def oaep(key: rsa.RSAPublicKey, message: bytes, seed: bytes, hash_name: str, label: bytes) -> bytes:
    """RSAES-OAEP under a given seed, which libraries draw themselves: here others have to be able to make the same again."""
    size, length = len(seed), key.key_size // 8
    block = hashlib.new(hash_name, label).digest() + bytes(length - len(message) - 2 * size - 2) + b"\1" + message
    masked = _xor(block, _mgf1(hash_name, seed, len(block)))
    hidden = _xor(seed, _mgf1(hash_name, masked, size))
    numbers = key.public_numbers()
    return pow(int.from_bytes(hidden + masked, "big"), numbers.e, numbers.n).to_bytes(length, "big")


def _mgf1(hash_name: str, seed: bytes, length: int) -> bytes:
    blocks = -(-length // hashlib.new(hash_name).digest_size)
    return b"".join(hashlib.new(hash_name, seed + counter.to_bytes(4, "big")).digest() for counter in range(blocks))[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))


def _share_seed(ek: Public, hash_name: str, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    key = ek.public_key()
    size = hashlib.new(hash_name).digest_size
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise _unsupported(f"an RSA EK of at least {MIN_RSA_BITS} bits", f"{key.key_size} bits")
        seed = random(size)
        return seed, oaep(key, seed, random(size), hash_name, IDENTITY)
    length = (key.curve.key_size + 7) // 8
    scalar = int.from_bytes(random(length + 8), "big") % (key.curve.group_order - 1) + 1  # FIPS 186-5, A.2.1: 64 bits more than needed
    ephemeral = ec.derive_private_key(scalar, key.curve)
    public = ephemeral.public_key()
    z = ephemeral.exchange(ec.ECDH(), key)
    seed = kdfe(hash_name, z, IDENTITY, coordinate(public), coordinate(key), 8 * size)
    return seed, sized(coordinate(public)) + sized(public.public_numbers().y.to_bytes(length, "big"))


def _hash_name(ek: Public) -> str:
    name = alg.hash_of(ek.name_alg, "nameAlg").name
    if name not in _HASHES:
        raise _unsupported("an EK named by SHA-256, SHA-384 or SHA-512", name)
    return name


def _unsupported(expected: str, found: str) -> Unsupported:
    return Unsupported.of("tpm.credential.ek", expected=expected, found=found, remedy="Use an EK made from a template of the TCG profile.")
