"""TEST authorities beside AMD's look-alike: for Nitro documents, for vTPM keys, and for launch endorsements.

Every name begins with TEST. Keys are made anew for each instance; nothing of it is kept.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evident.endorsements import google, tpm_ca
from evident.endorsements.anchors import Anchor
from evident.evidence import cose, protobuf
from evident.evidence.nitro import NitroDocument, serialize_payload
from evident.verification import nitro

_CA_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(hours=3)
_ORIGIN = "made by the simulator"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    subject: str,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    not_before: datetime,
    life: timedelta,
    *,
    ca: bool = False,
    extension: x509.UnrecognizedExtension | None = None,
) -> bytes:
    """One certificate in DER, signed with SHA-384 (EC) or SHA-256 (RSA)."""
    usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    algorithm = hashes.SHA384() if isinstance(issuer_key, ec.EllipticCurvePrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm).public_bytes(Encoding.DER)


class CloudPki:
    """The three TEST authorities, valid from `made_at` on."""

    def __init__(self, made_at: datetime) -> None:
        self.made_at = made_at

    def anchors(self) -> tuple[Anchor, ...]:
        """What a verifier must add to believe them; marked as simulated."""
        rows = (
            ("TEST-nitro", nitro.PURPOSE, self.nitro_root),
            ("TEST-vtpm-ca", tpm_ca.GCE_PURPOSE, self.vtpm_root),
            ("TEST-tcb-root", google.PURPOSE, self.tcb_root),
        )
        return tuple(Anchor(name, "Evident simulator", purpose, der, _ORIGIN, "never: a TEST root", True) for name, purpose, der in rows)

    @cached_property
    def _nitro_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP384R1())

    @cached_property
    def _vtpm_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP384R1())

    @cached_property
    def _tcb_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def _tcb_signer_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def nitro_root(self) -> bytes:
        """The look-alike of ``aws.nitro-enclaves``, DER."""
        return self._root("TEST-nitro", self._nitro_key)

    @cached_property
    def vtpm_root(self) -> bytes:
        return self._root("TEST-vtpm-ca", self._vtpm_key)

    @cached_property
    def tcb_root(self) -> bytes:
        return self._root("TEST-tcb-root", self._tcb_key)

    def _root(self, name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
        return certificate(name, key.public_key(), name, key, self.made_at, _CA_LIFE, ca=True)

    def ak_certificate(self, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, at: datetime) -> bytes:
        """A certificate for an attestation key (or an EK), DER."""
        return certificate("TEST-instance", key, "TEST-vtpm-ca", self._vtpm_key, at - timedelta(hours=1), _CA_LIFE)

    def nitro_document(self, pcrs: dict[int, bytes], nonce: bytes, at: datetime, *, public_key: bytes | None = None) -> bytes:
        """A NitroTPM document over SHA-384 `pcrs`, made and signed at `at`."""
        leaf_key = ec.generate_private_key(ec.SECP384R1())
        begin = at - timedelta(seconds=3)
        leaf = certificate("TEST-nitro-leaf", leaf_key.public_key(), "TEST-nitro", self._nitro_key, begin, _LEAF_LIFE)
        order = ("module_id", "digest", "timestamp", "nitrotpm_pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce")
        placed = NitroDocument(
            kind="nitrotpm",
            module_id="TEST-instance-tpm0000000000000000",
            digest="SHA384",
            timestamp=int(at.timestamp() * 1000),
            pcrs=pcrs,
            certificate=leaf,
            cabundle=(self.nitro_root,),
            public_key=public_key,
            user_data=None,
            nonce=nonce,
            indefinite=True,
            order=order,
            sign1=cose.Sign1(b"", cose.ES384, b"", b"", False, b""),
        )
        return self.sign1(serialize_payload(placed), leaf_key)

    @staticmethod
    def sign1(payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        """COSE_Sign1 over `payload` with ES384."""
        protected = cose.encode({cose.HEADER_ALGORITHM: cose.ES384})
        unsigned = cose.Sign1(protected, cose.ES384, payload, b"", False, b"")
        r, s = utils.decode_dss_signature(key.sign(unsigned.to_be_signed, ec.ECDSA(hashes.SHA384())))
        return cose.encode([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])

    def endorsement(self, firmware_digest: bytes, measurements: dict[int, bytes], at: datetime) -> bytes:
        """A launch endorsement in the form of Google's, signed by the TEST authority: SNP measurements by vCPU count."""
        entries = tuple((2, protobuf.encode(((1, vcpus), (2, value)))) for vcpus, value in sorted(measurements.items()))
        return self._endorse(firmware_digest, at, (7, protobuf.encode(((1, 1), *entries, (5, 0x30000)))))

    def tdx_endorsement(self, firmware_digest: bytes, mrtds: dict[int, bytes], at: datetime) -> bytes:
        """The same for TDX: MRTDs by memory size in GiB, 0 for any."""
        entries = tuple((2, protobuf.encode((*(((1, ram),) if ram else ()), (3, value)))) for ram, value in sorted(mrtds.items()))
        return self._endorse(firmware_digest, at, (8, protobuf.encode(((1, 1), *entries))))

    def _endorse(self, firmware_digest: bytes, at: datetime, measurements: tuple[int, bytes]) -> bytes:
        signer = certificate("TEST-tcb-signer", self._tcb_signer_key.public_key(), "TEST-tcb-root", self._tcb_key, self.made_at, _CA_LIFE)
        golden = protobuf.encode(
            (
                (1, protobuf.encode(((1, int(at.timestamp())),))),
                (2, 1),
                (4, signer),
                (5, firmware_digest),
                measurements,
            )
        )
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        return protobuf.encode(((1, golden), (2, self._tcb_signer_key.sign(golden, pss, hashes.SHA256()))))
