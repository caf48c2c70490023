"""What guests of Azure, Google, AWS and of an SVSM host would send, made on the simulated secure processor and vTPM.

Each function takes a launched guest (`secure_processor.Guest`), a vTPM and the verifier's nonce, and gives the pieces of that kind,
without certificates: the caller adds the processor's table (role ``auxblob``) or its VCEK.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from evident.evidence import azure_hcl, binding, svsm_manifest
from evident.evidence.tpm import PcrValues
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.secure_processor import Guest
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import svsm

Pieces = dict[str, tuple[bytes, ...]]


def pcrs_json(values: PcrValues, *banks: str) -> bytes:
    """PCR values as role ``pcrs`` takes them."""
    return json.dumps({bank: {str(index): value.hex() for index, value in values[bank].items()} for bank in banks}).encode()


def quoted(tpm: SimulatedTpm, nonce: bytes, role: str = "tpm-quote") -> Pieces:
    """One quote over all PCRs of the SHA-256 bank, with its signature, values and AK."""
    quote, signature = tpm.quote(nonce)
    return {role: (quote,), "signature": (signature,), "pcrs": (pcrs_json(tpm.pcrs, "sha256"),), "ak": (tpm.ak.tpm2b,)}


def hcl_report(guest: Guest, tpm: SimulatedTpm, user_data: bytes = bytes(64)) -> bytes:
    """An HCL report of version 1 whose claims name the vTPM's RSA attestation key."""
    key = tpm.ak_key.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise TypeError("Azure's attestation key is RSA")
    numbers = key.public_numbers()
    jwk = {"kid": azure_hcl.AK_KEY_ID, "key_ops": ["sign"], "kty": "RSA", "e": _base64url(numbers.e), "n": _base64url(numbers.n)}
    claims = json.dumps(
        {"keys": [jwk], "vm-configuration": {"secure-boot": True, "tpm-enabled": True}, "user-data": user_data.hex().upper()},
        separators=(",", ":"),
    ).encode()
    report = guest.report(hashlib.sha256(claims).digest().ljust(64, b"\0"))
    parsed = azure_hcl.HclReport(
        version=1,
        report_size=azure_hcl.CLAIMS_OFFSET + len(claims),
        request_type=2,
        status=0,
        report_type=azure_hcl.TYPE_SNP,
        hash_type=1,
        runtime_version=1,
        hardware_report=report,
        claims_raw=claims,
        claims=azure_hcl.parse_claims(claims),
        padding=16,
        raw=b"",
    )
    return azure_hcl.serialize(parsed)


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def azure_snp(guest: Guest, tpm: SimulatedTpm, nonce: bytes, *, fresh: bool = False) -> Pieces:
    """Kind ``azure-snp``; `fresh`: the report was made again for this nonce (NV 0x01400002)."""
    pieces = quoted(tpm, nonce)
    del pieces["ak"]  # Azure's guests read the key from the claims
    return {"hcl": (hcl_report(guest, tpm, nonce.ljust(64, b"\0")[:64] if fresh else bytes(64)),), **pieces}


def gcp_snp(guest: Guest, tpm: SimulatedTpm, nonce: bytes, pki: CloudPki, at: datetime) -> Pieces:
    """Kind ``gcp-snp``, with the AK's certificate by the TEST authority."""
    report = guest.report(binding.beside(tpm.ak.raw, nonce))
    return {"report": (report,), "ak-cert": (pki.ak_certificate(tpm.ak_key.public_key(), at),), **quoted(tpm, nonce)}


def first_evident(guest: Guest, tpm: SimulatedTpm, nonce: bytes, instance: bytes, pki: CloudPki, at: datetime) -> Pieces:
    """Kind ``gcp-snp`` as a guest of the first public Evident makes it, with its key `instance` (DER)."""
    certificate = pki.ak_certificate(tpm.ak_key.public_key(), at)
    report = guest.report(binding.first_evident(nonce, instance, certificate))
    quote = quoted(tpm, hashlib.sha256(nonce + instance).digest())
    return {"report": (report,), "ak-cert": (certificate,), "instance-key": (instance,), **quote}


def aws_snp(guest: Guest, tpm: SimulatedTpm, nonce: bytes, pki: CloudPki, at: datetime, *, key: bytes | None = None) -> Pieces:
    """Kind ``aws-snp``: the NitroTPM document first, which names the guest's `key`, then the report that names the document."""
    document = pki.nitro_document(tpm.pcrs["sha384"], nonce, at, public_key=key)
    return {"document": (document,), "report": (guest.report(binding.beside(document, nonce)),)}


def svsm_vtpm(guest: Guest, tpm: SimulatedTpm, nonce: bytes, *, vmpl: int = 0) -> Pieces:
    """Kind ``svsm`` after COCONUT: nonce and services manifest in REPORT_DATA."""
    manifest = svsm_manifest.serialize((svsm_manifest.Service(svsm_manifest.VTPM_GUID, tpm.ek.raw),))
    report = guest.report(svsm.report_data(nonce, manifest), vmpl=vmpl, current_vmpl=vmpl)
    return {"report": (report,), "manifest": (manifest,), **quoted(tpm, nonce)}


def ephemeral_vtpm(guest: Guest, tpm: SimulatedTpm, nonce: bytes) -> Pieces:
    """Kind ``svsm`` after the e-vTPM paper: the EK alone in a report made at boot."""
    report = guest.report(hashlib.sha512(tpm.ek.tpm2b).digest())
    return {"report": (report,), "ek": (tpm.ek.tpm2b,), **quoted(tpm, nonce)}
