"""A look-alike of Intel's TDX signing stack under its own TEST root: provisioning certificates, collateral, quoting enclave, quotes.

    TEST-Intel SGX Root CA ── TEST-Intel SGX PCK Platform CA ── TEST-Intel SGX PCK Certificate ── QE report ── attestation key ── quote
          │        │                 └─ CRL
          └─ CRL   └── TEST-Intel SGX TCB Signing ── TCB info, QE identity

Key types, extensions, layouts and signatures as in Intel's documents (see `evident.evidence.tdx_quote`, `evident.endorsements.intel`); only
the names differ: all begin with TEST. Every key derives from one seed, so the seed is all there is to keep.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from evident import codec
from evident.endorsements import intel, pem
from evident.endorsements.anchors import Anchor
from evident.evidence import tdx_quote

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SGX: Final = "1.2.840.113741.1.13.1"
_ROOT_LIFE = timedelta(days=30 * 365)
_CA_LIFE = timedelta(days=15 * 365)
_LEAF_LIFE = timedelta(days=7 * 365)
COLLATERAL_LIFE = timedelta(days=30)
QE_MRSIGNER: Final = hashlib.sha256(b"TEST quoting enclave signer").digest()
QE_PROD_ID: Final = 2
SIGNERS: Final = ("root", "platform-ca", "tcb-signing")


@dataclass(frozen=True, slots=True)
class Platform:
    """One simulated machine with TDX; every value may be chosen freely, as an attacker would."""

    name: str = "platform-1"
    """Its keys and PPID derive from this."""
    fmspc: bytes = bytes.fromhex("00e5d0000000")
    pce_id: bytes = b"\0\0"
    component_svns: tuple[int, ...] = (5, 5, 2, 2, 3, 1, 0, 5, *(0,) * 8)
    pce_svn: int = 13
    tee_tcb_svn: bytes = bytes((6, 1, 3, *(0,) * 13))
    """ISVSVN and version of the TDX module at launch, then microcode SVN."""
    tee_tcb_svn2: bytes = b""
    """The same of the module now running, in TD reports 1.5; empty means as at launch."""
    mrseam: bytes = hashlib.sha384(b"TEST TDX module").digest()
    mrsignerseam: bytes = bytes(48)
    seamattributes: bytes = bytes(8)
    qe_isv_svn: int = 6


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """What the TDX module measured of one guest."""

    mrtd: bytes = hashlib.sha384(b"TEST virtual firmware").digest()
    rtmrs: tuple[bytes, bytes, bytes, bytes] = (bytes(48), bytes(48), bytes(48), bytes(48))
    attributes: int = 1 << 28
    """SEPT_VE_DISABLE."""
    xfam: int = 0x00061AE7
    mrconfigid: bytes = bytes(48)
    mrowner: bytes = bytes(48)
    mrownerconfig: bytes = bytes(48)
    mrservicetd: bytes = bytes(48)

    def extend(self, register: int, digest: bytes) -> TrustDomain:
        """The guest after RTMR `register` was extended by `digest` (48 bytes)."""
        rtmrs = list(self.rtmrs)
        rtmrs[register] = hashlib.sha384(rtmrs[register] + digest).digest()
        return replace(self, rtmrs=(rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]))


@dataclass(frozen=True, slots=True)
class Forgery:
    """What an attacker changes while making a quote; every part is optional, and whatever signs, signs the changed bytes."""

    signed: Mapping[int, bytes] = field(default_factory=dict)
    """Offset to bytes in header and body, before the attestation key signs."""
    qe_report: Mapping[int, bytes] = field(default_factory=dict)
    """Offset to bytes in the quoting enclave's report, before the PCK signs."""
    attestation_key: ec.EllipticCurvePrivateKey | None = None
    """Signs in place of the reported attestation key, and is given as such."""
    pck_key: ec.EllipticCurvePrivateKey | None = None
    """Signs the QE report in place of the PCK."""
    pck_chain: bytes | None = None
    trailing: bytes = b""


_HONEST = Forgery()


class TdxPki:
    """The whole hierarchy of one seed; certificates start a day before `made_at`."""

    def __init__(self, seed: bytes, made_at: datetime) -> None:
        self._seed = seed
        self.made_at = made_at

    def key(self, role: str) -> ec.EllipticCurvePrivateKey:
        """The P-256 key of a member of `SIGNERS`, of ``pck:<platform>`` or of ``attestation:<platform>``."""
        material = hashlib.shake_256(self._seed + b"|" + role.encode()).digest(48)
        return ec.derive_private_key(int.from_bytes(material, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())

    def anchors(self) -> tuple[Anchor, ...]:
        """The TEST root, marked as simulated; only ever added by a caller who means it."""
        return (
            Anchor(
                name="TEST-Intel SGX Root CA",
                vendor="Evident simulator",
                purpose="tdx",
                der=self.certificate("root"),
                origin=f"made by the simulator on this machine at {codec.format_time(self.made_at)}",
                cross_checked="with nothing: a TEST root stands for no hardware",
                simulated=True,
            ),
        )

    def certificate(self, role: str) -> bytes:
        """DER of a member of `SIGNERS`."""
        names = {"root": intel.ROOT_NAME, "platform-ca": "Intel SGX PCK Platform CA", "tcb-signing": intel.TCB_SIGNING_NAME}
        life = {"root": _ROOT_LIFE, "platform-ca": _CA_LIFE}.get(role, _LEAF_LIFE)
        return self.issue(
            names[role], self.key(role), "root", SIGNERS.index(role) + 1, life, ca_depth={"root": 1, "platform-ca": 0}.get(role)
        )

    def pck(self, platform: Platform, *, serial: int | None = None) -> bytes:
        """DER of the PCK certificate of `platform` at its present TCB."""
        number = serial or int.from_bytes(hashlib.sha256(platform.name.encode()).digest()[:8], "big") | 1
        key = self.key(f"pck:{platform.name}")
        return self.issue(intel.PCK_NAME, key, "platform-ca", number, _LEAF_LIFE, extension=sgx_extension(platform))

    def issue(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        serial: int,
        life: timedelta,
        *,
        ca_depth: int | None = None,
        extension: bytes | None = None,
        signed_by: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """A certificate under a member of `SIGNERS`; `signed_by` another key than the issuer's makes a forgery."""
        issuer_name = {"root": intel.ROOT_NAME, "platform-ca": "Intel SGX PCK Platform CA"}.get(issuer, intel.TCB_SIGNING_NAME)
        authority = ca_depth is not None
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer_name))
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(self.made_at - timedelta(days=1))
            .not_valid_after(self.made_at - timedelta(days=1) + life)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=ca_depth), critical=True)
            .add_extension(_key_usage(authority=authority), critical=True)
        )
        if extension is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(_SGX), extension), critical=False)
        return builder.sign(signed_by or self.key(issuer), hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)

    def pck_chain(self, platform: Platform) -> bytes:
        """PEM as it stands in quotes: PCK certificate, its CA, the root."""
        ders = (self.pck(platform), self.certificate("platform-ca"), self.certificate("root"))
        return b"".join(pem.encode(der, "CERTIFICATE") for der in ders)

    def tcb_chain(self) -> bytes:
        """PEM as Intel's service sends it in a header: the signing certificate and the root."""
        return b"".join(pem.encode(self.certificate(role), "CERTIFICATE") for role in ("tcb-signing", "root"))

    def crl(
        self,
        issuer: str,
        *,
        at: datetime,
        number: int = 1,
        revoked: Iterable[int] = (),
        signed_by: ec.EllipticCurvePrivateKey | None = None,
    ) -> bytes:
        """DER of the CRL of ``root`` or ``platform-ca``, issued a day before `at` over the serial numbers `revoked`."""
        issued = at - timedelta(days=1)
        subject = x509.load_der_x509_certificate(self.certificate(issuer)).subject
        builder = x509.CertificateRevocationListBuilder().issuer_name(subject).last_update(issued)
        builder = builder.next_update(issued + COLLATERAL_LIFE).add_extension(x509.CRLNumber(number), critical=False)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued)
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(signed_by or self.key(issuer), hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)

    def document(self, member: str, body: Mapping[str, Any], *, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """A signed JSON document as Intel's service sends it; `member` is ``tcbInfo`` or ``enclaveIdentity``."""
        text = json.dumps(body, separators=(",", ":")).encode()
        signature = raw_signature(key or self.key("tcb-signing"), text)
        return b'{"%s":%s,"signature":"%s"}' % (member.encode(), text, signature.hex().encode())

    def collateral(self, platform: Platform, at: datetime) -> dict[str, bytes]:
        """Everything that verifies a quote of `platform` at `at`, by the roles of kind ``tdx``."""
        return {
            "tcb-info": self.document("tcbInfo", tcb_info(platform, at)),
            "qe-identity": self.document("enclaveIdentity", qe_identity(platform, at)),
            "pck-crl": self.crl("platform-ca", at=at),
            "root-crl": self.crl("root", at=at),
            "tcb-chain": self.tcb_chain(),
        }

    def quote(self, platform: Platform, guest: TrustDomain, report_data: bytes, *, version: int = 4, forgery: Forgery = _HONEST) -> bytes:
        """A quote of `guest` over 64 bytes of `report_data`: version 4 with a TD report 1.0, version 5 with a TD report 1.5."""
        signed = bytearray(_header(version) + _body(platform, guest, report_data, later=version == 5))
        _edit(signed, forgery.signed)
        key = forgery.attestation_key or self.key(f"attestation:{platform.name}")
        numbers = key.public_key().public_numbers()
        public = numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        authentication = bytes(range(32))
        reported = public
        if forgery.attestation_key is not None:
            honest = self.key(f"attestation:{platform.name}").public_key().public_numbers()
            reported = honest.x.to_bytes(32, "big") + honest.y.to_bytes(32, "big")
        report = bytearray(_qe_report(platform, hashlib.sha256(reported + authentication).digest()))
        _edit(report, forgery.qe_report)
        report_signature = raw_signature(forgery.pck_key or self.key(f"pck:{platform.name}"), bytes(report))
        chain = self.pck_chain(platform) if forgery.pck_chain is None else forgery.pck_chain
        certification = bytes(report) + report_signature + _sized(authentication, 2)
        certification += tdx_quote.CERTIFICATION_PCK_CHAIN.to_bytes(2, "little") + _sized(chain, 4)
        data = raw_signature(key, bytes(signed)) + public
        data += tdx_quote.CERTIFICATION_QE_REPORT.to_bytes(2, "little") + _sized(certification, 4)
        return bytes(signed) + _sized(data, 4) + forgery.trailing


def raw_signature(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """ECDSA over SHA-256 as R and S, 32 big-endian bytes each."""
    r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def tcb_info(platform: Platform, at: datetime) -> dict[str, Any]:
    """TCB info by which `platform` is up to date, with a level below that is out of date and one that is revoked."""
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    own = (platform.component_svns, platform.tee_tcb_svn, platform.pce_svn)
    lower = tuple(max(0, svn - 1) for svn in platform.component_svns)
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": codec.format_time(at - timedelta(days=1)),
        "nextUpdate": codec.format_time(at - timedelta(days=1) + COLLATERAL_LIFE),
        "fmspc": platform.fmspc.hex().upper(),
        "pceId": platform.pce_id.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": 17,
        "tdxModule": module,
        "tdxModuleIdentities": [
            {"id": f"TDX_{version:02X}", **module, "tcbLevels": [_isv_level(4, "UpToDate"), _isv_level(2, "OutOfDate", "INTEL-SA-00002")]}
            for version in (1, 3)
        ],
        "tcbLevels": [
            _tcb_level(*own, "UpToDate"),
            _tcb_level(lower, platform.tee_tcb_svn, 5, "OutOfDate", "INTEL-SA-00001"),
            _tcb_level((0,) * 16, bytes(16), 1, "Revoked", "INTEL-SA-00009"),
        ],
    }


def qe_identity(platform: Platform, at: datetime) -> dict[str, Any]:
    """The identity by which the quoting enclave of `platform` is up to date."""
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": codec.format_time(at - timedelta(days=1)),
        "nextUpdate": codec.format_time(at - timedelta(days=1) + COLLATERAL_LIFE),
        "tcbEvaluationDataNumber": 17,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": QE_PROD_ID,
        "tcbLevels": [_isv_level(platform.qe_isv_svn, "UpToDate"), _isv_level(1, "OutOfDate", "INTEL-SA-00003")],
    }


def _isv_level(isv_svn: int, status: str, *advisories: str) -> dict[str, Any]:
    return _with_advisories({"tcb": {"isvsvn": isv_svn}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}, advisories)


def _tcb_level(sgx: Iterable[int], tdx: Iterable[int], pce_svn: int, status: str, *advisories: str) -> dict[str, Any]:
    tcb = {"sgxtcbcomponents": [{"svn": svn} for svn in sgx], "pcesvn": pce_svn, "tdxtcbcomponents": [{"svn": svn} for svn in tdx]}
    return _with_advisories({"tcb": tcb, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": status}, advisories)


def _with_advisories(level: dict[str, Any], advisories: tuple[str, ...]) -> dict[str, Any]:
    return {**level, "advisoryIDs": list(advisories)} if advisories else level


def sgx_extension(platform: Platform) -> bytes:
    """The SGX extensions of a PCK certificate, DER."""
    ppid = hashlib.sha256(b"PPID " + platform.name.encode()).digest()[:16]
    tcb = [_pair(f"2.{number}", _integer(svn)) for number, svn in enumerate(platform.component_svns, start=1)]
    tcb += [_pair("2.17", _integer(platform.pce_svn)), _pair("2.18", _tlv(0x04, bytes(platform.component_svns)))]
    flags = [_pair(f"7.{number}", _tlv(0x01, b"\xff" if number == 3 else b"\0")) for number in (1, 2, 3)]
    members = (
        _pair("1", _tlv(0x04, ppid)),
        _pair("2", _tlv(0x30, b"".join(tcb))),
        _pair("3", _tlv(0x04, platform.pce_id)),
        _pair("4", _tlv(0x04, platform.fmspc)),
        _pair("5", _tlv(0x0A, b"\x01")),
        _pair("6", _tlv(0x04, hashlib.sha256(b"instance " + platform.name.encode()).digest()[:16])),
        _pair("7", _tlv(0x30, b"".join(flags))),
    )
    return _tlv(0x30, b"".join(members))


def _pair(number: str, value: bytes) -> bytes:
    arcs = [int(arc) for arc in f"{_SGX}.{number}".split(".")]
    content = bytes((arcs[0] * 40 + arcs[1],)) + b"".join(_base128(arc) for arc in arcs[2:])
    return _tlv(0x30, _tlv(0x06, content) + value)


def _base128(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(arc & 0x7F | 0x80)
    return bytes(reversed(septets))


def _tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + content


def _integer(value: int) -> bytes:
    return _tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _name(common_name: str) -> x509.Name:
    """Intel's RDN order with values that belong to nobody."""
    values = (
        (NameOID.COMMON_NAME, f"TEST-{common_name}"),
        (NameOID.ORGANIZATION_NAME, "TEST Evident Simulator"),
        (NameOID.LOCALITY_NAME, "TEST"),
        (NameOID.STATE_OR_PROVINCE_NAME, "XX"),
        (NameOID.COUNTRY_NAME, "XX"),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _header(version: int) -> bytes:
    head = version.to_bytes(2, "little") + tdx_quote.KEY_TYPE_ECDSA_P256.to_bytes(2, "little") + tdx_quote.TEE_TDX.to_bytes(4, "little")
    head += bytes(4) + tdx_quote.INTEL_QE_VENDOR + bytes(20)
    if version == 5:
        head += tdx_quote.BODY_TD_REPORT_15.to_bytes(2, "little") + tdx_quote.TD_REPORT_15_BYTES.to_bytes(4, "little")
    return head


def _body(platform: Platform, guest: TrustDomain, report_data: bytes, *, later: bool) -> bytes:
    body = platform.tee_tcb_svn + platform.mrseam + platform.mrsignerseam + platform.seamattributes
    body += guest.attributes.to_bytes(8, "little") + guest.xfam.to_bytes(8, "little")
    body += guest.mrtd + guest.mrconfigid + guest.mrowner + guest.mrownerconfig + b"".join(guest.rtmrs) + report_data
    return body + (platform.tee_tcb_svn2 or platform.tee_tcb_svn) + guest.mrservicetd if later else body


def _qe_report(platform: Platform, bound: bytes) -> bytes:
    report = bytearray(tdx_quote.QE_REPORT_BYTES)
    report[0:16] = bytes(platform.component_svns)
    report[48:64] = bytes.fromhex("1500000000000000e700000000000000")
    report[64:96] = hashlib.sha256(b"TEST quoting enclave").digest()
    report[128:160] = QE_MRSIGNER
    report[256:258], report[258:260] = QE_PROD_ID.to_bytes(2, "little"), platform.qe_isv_svn.to_bytes(2, "little")
    report[320:352] = bound
    return bytes(report)


def _edit(target: bytearray, edits: Mapping[int, bytes]) -> None:
    for offset, content in edits.items():
        target[offset : offset + len(content)] = content


def _sized(content: bytes, size: int) -> bytes:
    return len(content).to_bytes(size, "little") + content
