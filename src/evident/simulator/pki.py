"""TEST roots: a look-alike of AMD's SEV-SNP key hierarchy that nobody can mistake for it.

    TEST-ARK-<product> ── TEST-SEV-<product> ────── TEST-SEV-VCEK   (one per chip and TCB)
          │          └─── TEST-SEV-VLEK-<product> ─ TEST-SEV-VLEK   (one per cloud and TCB)
          └─ CRL

Same key types (RSA-4096 with PSS, SHA-384, 48-byte salt above P-384 leaves), extensions, RDN order, lifetimes and leaf serial 0
as the certificates AMD's key distribution service hands out (publication 57230 "VCEK Certificate and KDS Interface
Specification", and real certificates); only the names differ: all begin with TEST. One RSA key per role is shared by all
products, because RSA-4096 keys are slow to make. Leaf keys derive from one seed, so that any chip at any TCB has its key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from cryptography.x509.oid import NameOID

from evident import codec
from evident.endorsements import amd, pem
from evident.endorsements.anchors import Anchor, amd_intermediate_purpose, amd_root_purpose
from evident.errors import Malformed
from evident.evidence.snp_report import PRODUCTS, Product, SigningKey, Tcb
from evident.files import locked, read_private, write_private, write_private_bytes

Role = Literal["ark", "ask", "asvk"]
ROLES: Final[tuple[Role, ...]] = ("ark", "ask", "asvk")
PKI_FILE: Final = "test-pki.json"
ROOTS_FILE: Final = "test-roots.pem"
"""The TEST-ARKs in PEM, for whoever is to believe them."""

_CA_LIFE = timedelta(days=25 * 365)
_VCEK_LIFE = timedelta(days=7 * 365)
_VLEK_LIFE = timedelta(days=365)
_CRL_LIFE = timedelta(days=30)
_P384_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
_PSS = padding.PSS(padding.MGF1(hashes.SHA384()), salt_length=48)
_RSA_4096_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Stored:
    """The file that `SimulatorPki.save` writes; DER throughout."""

    version: Literal[1]
    made_at: datetime
    seed: bytes
    keys: Mapping[str, bytes]
    certificates: Mapping[str, bytes]


class SimulatorPki:
    """TEST-ARK, TEST-ASK and TEST-ASVK of every product, and the leaves and CRLs they sign."""

    def __init__(self, keys: Mapping[Role, rsa.RSAPrivateKey], seed: bytes, made_at: datetime, certificates: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self._seed = seed
        self._certificates = dict(certificates)
        self.made_at = made_at

    @classmethod
    def generate(
        cls,
        *,
        made_at: datetime,
        randomness: Callable[[int], bytes] = os.urandom,
        progress: Callable[[str], None] = lambda _: None,
    ) -> SimulatorPki:
        """A new hierarchy, valid from a day before `made_at`. Takes a few seconds: `progress` is told what is going on."""
        progress("making TEST keys of the simulated secure processor (RSA-4096, three of them)")
        with ThreadPoolExecutor(len(ROLES)) as pool:
            keys = dict(zip(ROLES, pool.map(lambda _: rsa.generate_private_key(65537, 4096), ROLES), strict=True))
        certificates = {f"{role}:{product.name}": _ca(product, role, keys, made_at) for product in PRODUCTS for role in ROLES}
        progress("TEST keys made")
        return cls(keys, randomness(32), made_at, certificates)

    @classmethod
    def load(cls, directory: Path) -> SimulatorPki:
        """What `save` wrote below `directory`."""
        stored = codec.decode(_Stored, codec.loads(read_private(directory / PKI_FILE), "simulator.pki"), "simulator.pki")
        names = {f"{role}:{product.name}" for product in PRODUCTS for role in ROLES}
        try:
            # Validation takes half a second per key, and a TEST key that was altered harms nobody: its signatures merely fail.
            loaded = {role: load_der_private_key(stored.keys[role], None, unsafe_skip_rsa_key_validation=True) for role in ROLES}
        except (KeyError, ValueError, UnsupportedAlgorithm):
            loaded = {}
        keys = {role: key for role, key in loaded.items() if isinstance(key, rsa.RSAPrivateKey)}
        if keys.keys() != set(ROLES) or stored.certificates.keys() != names:
            raise Malformed.of(
                "simulator.pki.incomplete",
                expected="three RSA keys and nine TEST certificates",
                found=f"{len(keys)} keys, {len(stored.certificates)} certificates",
                remedy=f"Delete {directory / PKI_FILE}; a new TEST hierarchy is made when one is needed.",
            )
        return cls(keys, stored.seed, stored.made_at, stored.certificates)

    def save(self, directory: Path) -> None:
        """Write everything, private keys included, to a file below `directory` that only its owner may read."""
        keys: dict[str, bytes] = {
            role: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()) for role, key in self._keys.items()
        }
        stored = _Stored(1, self.made_at, self._seed, keys, self._certificates)
        write_private_bytes(directory / ROOTS_FILE, b"".join(pem.encode(anchor.der, "CERTIFICATE") for anchor in self.anchors()))
        write_private(directory / PKI_FILE, codec.encode(stored))

    @classmethod
    def load_or_generate(cls, directory: Path, *, made_at: datetime, progress: Callable[[str], None] = lambda _: None) -> SimulatorPki:
        """The hierarchy below `directory`, made and saved there when there is none yet."""
        if not (directory / PKI_FILE).exists():
            with locked(directory / "lock"):
                if not (directory / PKI_FILE).exists():  # another process may have made it while we waited
                    cls.generate(made_at=made_at, progress=progress).save(directory)
        return cls.load(directory)

    def certificate(self, product: Product, role: Role) -> bytes:
        """DER of the TEST-ARK, TEST-ASK (``ask``) or TEST-ASVK (``asvk``) of `product`."""
        return self._certificates[f"{role}:{product.name}"]

    def anchors(self) -> tuple[Anchor, ...]:
        """The TEST-ARKs, each marked as simulated; only ever added by a caller who means it."""
        return tuple(
            Anchor(
                name=f"TEST-ARK-{product.name}",
                vendor="Evident simulator",
                purpose=amd_root_purpose(product),
                der=self.certificate(product, "ark"),
                origin=f"made by the simulator on this machine at {codec.format_time(self.made_at)}",
                cross_checked="with nothing: a TEST root stands for no hardware",
                simulated=True,
            )
            for product in PRODUCTS
        )

    def intermediates(self) -> tuple[Anchor, ...]:
        """The TEST-ASKs and TEST-ASVKs, as AMD's ship with Evident: only for evidence that brings no chain of its own."""
        return tuple(
            replace(
                root,
                name=_common_name(product, role),
                purpose=amd_intermediate_purpose(product, kind),
                der=self.certificate(product, role),
                role="intermediate",
            )
            for root, product in zip(self.anchors(), PRODUCTS, strict=True)
            for role, kind in _SIGNS.items()
        )

    def chain_pem(self, product: Product, kind: Literal["vcek", "vlek"]) -> bytes:
        """The intermediate and then the root, PEM, as the KDS path ``cert_chain`` gives them."""
        intermediate: Role = "ask" if kind == "vcek" else "asvk"
        return b"".join(pem.encode(self.certificate(product, role), "CERTIFICATE") for role in (intermediate, "ark"))

    def vcek_key(self, product: Product, hwid: bytes, tcb: Tcb) -> ec.EllipticCurvePrivateKey:
        """The key that chip `hwid` signs with while REPORTED_TCB is `tcb`."""
        return self._leaf_key(b"vcek", product, hwid, tcb)

    def vlek_key(self, product: Product, csp_id: str, tcb: Tcb) -> ec.EllipticCurvePrivateKey:
        """The key that cloud `csp_id` loads into its chips."""
        return self._leaf_key(b"vlek", product, csp_id.encode(), tcb)

    def derivation_root(self, product: Product, kind: Literal["vcek", "vlek"], identity: bytes) -> bytes:
        """The secret (32 bytes) from which the chip or cloud `identity` derives guests' keys."""
        return self._secret(b"derivation root", kind.encode(), product.name.encode(), identity)[:32]

    def vcek(self, product: Product, hwid: bytes, tcb: Tcb, *, serial: int = 0, not_before: datetime | None = None) -> bytes:
        """DER of the VCEK of chip `hwid` (64 bytes; Turin 8) at `tcb`."""
        identity = x509.UnrecognizedExtension(x509.ObjectIdentifier(amd.HWID_OID), hwid)
        extensions = [*_product_extensions(_VCEK_PRODUCT_NAMES[product.name], tcb), identity]
        start = (not_before or self.made_at) - timedelta(days=1)
        public = self.vcek_key(product, hwid, tcb).public_key()
        return self._leaf("TEST-SEV-VCEK", product, "ask", public, extensions, start, _VCEK_LIFE, serial)

    def vlek(self, product: Product, csp_id: str, tcb: Tcb, *, serial: int = 0, not_before: datetime | None = None) -> bytes:
        """DER of the VLEK of cloud `csp_id` at `tcb`; valid for one year."""
        identity = x509.UnrecognizedExtension(x509.ObjectIdentifier(amd.CSP_ID_OID), _ia5(csp_id))
        extensions = [*_product_extensions(product.name, tcb), identity]
        start = (not_before or self.made_at) - timedelta(days=1)
        public = self.vlek_key(product, csp_id, tcb).public_key()
        return self._leaf("TEST-SEV-VLEK", product, "asvk", public, extensions, start, _VLEK_LIFE, serial)

    def crl(
        self,
        product: Product,
        *,
        at: datetime,
        number: int = 1,
        revoked: Iterable[Role] = (),
        signer: Role = "ark",
        lifetime: timedelta = _CRL_LIFE,
    ) -> bytes:
        """DER of the TEST-ARK's CRL, issued a day before `at` and listing the `revoked` intermediates.

        `signer` other than ``ark`` makes a forgery: the ARK's name over somebody else's signature.
        """
        ark = x509.load_der_x509_certificate(self.certificate(product, "ark"))
        issued = at - timedelta(days=1)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ark.subject)
            .last_update(issued)
            .next_update(issued + lifetime)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._keys["ark"].public_key()), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for role in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(_serial(product, role)).revocation_date(issued).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self._keys[signer], hashes.SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)

    def _leaf_key(self, kind: bytes, product: Product, identity: bytes, tcb: Tcb) -> ec.EllipticCurvePrivateKey:
        material = self._secret(b"leaf key", kind, product.name.encode(), identity, tcb.serialize())
        return ec.derive_private_key(int.from_bytes(material, "big") % (_P384_ORDER - 1) + 1, ec.SECP384R1())

    def _secret(self, *parts: bytes) -> bytes:
        """64 bytes that depend on the seed and every part."""
        return hashlib.shake_256(b"".join(len(part).to_bytes(4, "big") + part for part in (self._seed, *parts))).digest(64)

    def _leaf(
        self,
        name: str,
        product: Product,
        issuer: Role,
        public: ec.EllipticCurvePublicKey,
        extensions: Iterable[x509.UnrecognizedExtension],
        start: datetime,
        life: timedelta,
        serial: int,
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(_common_name(product, issuer)))
            .public_key(public)
            .serial_number(serial or 1)
            .not_valid_before(start)
            .not_valid_after(start + life)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._keys[issuer], hashes.SHA384(), rsa_padding=_PSS)
        return certificate.public_bytes(Encoding.DER) if serial else self._with_serial_zero(certificate, issuer)

    def _with_serial_zero(self, certificate: x509.Certificate, issuer: Role) -> bytes:
        """`certificate` (serial 1) with AMD's serial 0, signed anew: the builder refuses 0, and one byte is all the difference."""
        der, tbs = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
        header = len(tbs) - int.from_bytes(tbs[2:4], "big")
        prefix = tbs[:header] + bytes.fromhex("a003020102020101")
        if not tbs.startswith(prefix):
            raise AssertionError("a version 3 certificate of serial 1 begins otherwise")
        patched = prefix[:-1] + b"\0" + tbs[len(prefix) :]
        start = der.index(tbs)
        signature = self._keys[issuer].sign(patched, _PSS, hashes.SHA384())
        return der[:start] + patched + der[start + len(tbs) : -_RSA_4096_BYTES] + signature


_VCEK_PRODUCT_NAMES: Mapping[str, str] = {"Milan": "Milan-B0", "Genoa": "Genoa", "Turin": "Turin"}
_SIGNS: Mapping[Role, SigningKey] = {"ask": SigningKey.VCEK, "asvk": SigningKey.VLEK}
_SERIAL_OFFSETS: Mapping[Role, int] = {"ark": 0x000, "ask": 0x001, "asvk": 0x101}


def _serial(product: Product, role: Role) -> int:
    return (PRODUCTS.index(product) + 1 << 16) + _SERIAL_OFFSETS[role]


def _common_name(product: Product, role: Role) -> str:
    return {"ark": "TEST-ARK-", "ask": "TEST-SEV-", "asvk": "TEST-SEV-VLEK-"}[role] + product.name


def _name(common_name: str) -> x509.Name:
    """AMD's RDN order with values that belong to nobody."""
    values = (
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "TEST"),
        (NameOID.COUNTRY_NAME, "XX"),
        (NameOID.LOCALITY_NAME, "TEST"),
        (NameOID.STATE_OR_PROVINCE_NAME, "XX"),
        (NameOID.ORGANIZATION_NAME, "TEST Evident Simulator"),
        (NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


def _ca(product: Product, role: Role, keys: Mapping[Role, rsa.RSAPrivateKey], made_at: datetime) -> bytes:
    start = made_at - timedelta(days=1)
    public, root = keys[role].public_key(), keys["ark"].public_key()
    is_root = role == "ark"
    point = x509.DistributionPoint(
        [x509.UniformResourceIdentifier(f"https://kds.test.invalid/{'vlek' if role == 'asvk' else 'vcek'}/v1/{product.name}/crl")],
        None,
        None,
        None,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(_common_name(product, role)))
        .issuer_name(_name(_common_name(product, "ark")))
        .public_key(public)
        .serial_number(_serial(product, role))
        .not_valid_before(start)
        .not_valid_after(start + _CA_LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if not is_root:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root), critical=False)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None if is_root else 0), critical=True)
        .add_extension(_ca_usage(crl_sign=is_root), critical=True)
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
    )
    return builder.sign(keys["ark"], hashes.SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)


def _ca_usage(*, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _product_extensions(product_name: str, tcb: Tcb) -> list[x509.UnrecognizedExtension]:
    """Structure version, product name and the SPLs, in the order AMD writes them."""
    turin = tcb.fmc is not None
    numbers = {amd.SPL_OIDS[name]: number for name, number in tcb.components().items()}
    arc = amd.STRUCT_VERSION_OID.removesuffix(".1")
    order = ("9", "1", "2", "3", "5", "6", "7", "8") if turin else ("1", "2", "4", "5", "6", "7", "3", "8")
    values = {
        amd.STRUCT_VERSION_OID: _integer(int(turin)),
        amd.PRODUCT_NAME_OID: _ia5(product_name),
        **{oid: _integer(numbers.get(oid, 0)) for oid in (f"{arc}.3.{last}" for last in order)},
    }
    return [x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value) for oid, value in values.items()]


def _integer(value: int) -> bytes:
    """DER INTEGER of 0-255."""
    content = value.to_bytes(1 if value < 0x80 else 2, "big")
    return bytes((2, len(content))) + content


def _ia5(text: str) -> bytes:
    """DER IA5String of fewer than 128 characters."""
    content = text.encode("ascii")
    return bytes((0x16, len(content))) + content
