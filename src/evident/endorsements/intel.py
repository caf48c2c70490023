"""Intel's provisioning certification: what a PCK certificate says, what TCB info and QE identity say, and where they are published.

Source: Intel "SGX PCK Certificate and Certificate Revocation List Profile Specification" 1.5, section 1.3.5 (SGX extensions); Intel PCS API
version 4 (TCB info version 3, enclave identity version 2). TCB info and identities are JSON, signed over their exact bytes (ECDSA
P-256, R and S). Members that this version does not know are ignored, because Intel adds some; those that are used are checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evident import codec
from evident.endorsements import crl, der
from evident.endorsements.signatures import SignatureAlgorithm, check_signature
from evident.endorsements.x509 import Certificate
from evident.errors import Malformed, Unsupported
from evident.evidence import content

PCS_BASE = "https://api.trustedservices.intel.com"
ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
DOCUMENT_LIMIT = 1024 * 1024
CRL_LIMIT = 4 * 1024 * 1024
MAX_LEVELS = 256
TCB_SIGNING_PURPOSE = "tdx:tcb-signing"

ROOT_NAME = "Intel SGX Root CA"
TCB_SIGNING_NAME = "Intel SGX TCB Signing"
PCK_NAME = "Intel SGX PCK Certificate"
PCK_CA_NAMES: Mapping[str, str] = MappingProxyType({"Intel SGX PCK Platform CA": "platform", "Intel SGX PCK Processor CA": "processor"})
"""Name of a PCK CA to the word by which its CRL is asked for."""

_SGX = "1.2.840.113741.1.13.1"
_WHAT_PCK = "intel.pck"


class TcbStatus(StrEnum):
    """Intel's word for a TCB level (PCS API version 4, tcbStatus), and what its verification library makes of several."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    TD_RELAUNCH_ADVISED = "TDRelaunchAdvised"
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = "TDRelaunchAdvisedConfigurationNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True)
class Pck:
    """What the SGX extensions of a PCK certificate say. Authentic only once the certificate's chain is verified."""

    certificate: Certificate
    ppid: bytes
    component_svns: tuple[int, ...]
    """The 16 SGX TCB component SVNs."""
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None = None
    configuration: Mapping[str, bool] = field(default_factory=dict)
    """Of multi-package platforms: ``dynamic_platform``, ``cached_keys``, ``smt_enabled``."""


def parse_pck(certificate: Certificate) -> Pck:
    """Read the SGX extensions; raises `Malformed` with a code ``intel.pck...``."""
    extension = certificate.extensions.get(_SGX)
    if extension is None:
        raise Malformed.of(
            f"{_WHAT_PCK}.extension",
            expected=f"the SGX extensions ({_SGX}) in a PCK certificate",
            found=f"none in {certificate.name}",
            remedy="Pass the PCK certificate chain as the quote or Intel's service gives it.",
        )
    top = der.Der(extension.value, _WHAT_PCK)
    members = _pairs(top.enter(der.SEQUENCE, "SGX extensions"), _SGX)
    top.end("SGX extensions")
    tcb = _pairs(_sequence(members, 2, "TCB"), f"{_SGX}.2")
    configuration = {}
    if 7 in members:
        flags = _pairs(_sequence(members, 7, "configuration"), f"{_SGX}.7")
        names = {1: "dynamic_platform", 2: "cached_keys", 3: "smt_enabled"}
        configuration = {name: _boolean(flags, number, name) for number, name in names.items() if number in flags}
    return Pck(
        certificate=certificate,
        ppid=_octets(members, 1, "PPID", 16),
        component_svns=tuple(_integer(tcb, number, f"component {number}", 255) for number in range(1, 17)),
        pce_svn=_integer(tcb, 17, "PCESVN", 0xFFFF),
        cpu_svn=_octets(tcb, 18, "CPUSVN", 16),
        pce_id=_octets(members, 3, "PCEID", 2),
        fmspc=_octets(members, 4, "FMSPC", 6),
        sgx_type=_sgx_type(members),
        platform_instance_id=_octets(members, 6, "platform instance id", 16) if 6 in members else None,
        configuration=MappingProxyType(configuration),
    )


def _pairs(sequence: der.Der, arc: str) -> dict[int, tuple[int, bytes]]:
    """A SEQUENCE OF SEQUENCE { OID, value } by the last number of the OID: tag and content of each value."""
    pairs: dict[int, tuple[int, bytes]] = {}
    while sequence.more:
        item = sequence.enter(der.SEQUENCE, "extension member")
        oid = item.oid("extension member")
        value = item.any("extension member")
        item.end("extension member")
        prefix, _, number = oid.rpartition(".")
        if prefix != arc or int(number) in pairs:
            raise sequence.fail("extension", expected=f"every member of {arc} once", found=oid)
        pairs[int(number)] = value
    return pairs


def _member(members: Mapping[int, tuple[int, bytes]], number: int, tag: int, field: str) -> bytes:
    found = members.get(number)
    if found is None or found[0] != tag:
        raise Malformed.of(
            f"{_WHAT_PCK}.extension",
            expected=f"{field} with tag {tag:#04x}",
            found="nothing" if found is None else f"tag {found[0]:#04x}",
            remedy="The certificate is not Intel's.",
        )
    return found[1]


def _sequence(members: Mapping[int, tuple[int, bytes]], number: int, field: str) -> der.Der:
    return der.Der(_member(members, number, der.SEQUENCE, field), _WHAT_PCK)


def _octets(members: Mapping[int, tuple[int, bytes]], number: int, field: str, length: int) -> bytes:
    value = _member(members, number, der.OCTET_STRING, field)
    if len(value) != length:
        raise Malformed.of(
            f"{_WHAT_PCK}.extension",
            expected=f"{length} bytes of {field}",
            found=f"{len(value)} bytes",
            remedy="The certificate is not Intel's.",
        )
    return value


def _number(tag: int, content: bytes, field: str, limit: int) -> int:
    reader = der.Der(bytes((tag, len(content))) + content if len(content) < 0x80 else b"", _WHAT_PCK)
    value = reader.integer(field, tag)
    if not 0 <= value <= limit:
        raise reader.fail("range", expected=f"{field} from 0 to {limit}", found=str(value))
    return value


def _integer(members: Mapping[int, tuple[int, bytes]], number: int, field: str, limit: int) -> int:
    return _number(der.INTEGER, _member(members, number, der.INTEGER, field), field, limit)


def _boolean(members: Mapping[int, tuple[int, bytes]], number: int, field: str) -> bool:
    return _member(members, number, der.BOOLEAN, field) == b"\xff"


def _sgx_type(members: Mapping[int, tuple[int, bytes]]) -> int:
    return _number(der.ENUMERATED, _member(members, 5, der.ENUMERATED, "SGX type"), "SGX type", 255)


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A JSON document and the signature over exactly these bytes. Unverified."""

    body: bytes
    signature: bytes
    """R and S, 32 bytes each, big endian."""


def signed_document(text: bytes, member: str, what: str) -> SignedDocument:
    """Take ``{"<member>": {...}, "signature": "<hex>"}`` apart without changing a byte of the signed part.

    Raises `Malformed`; `member` is ``tcbInfo`` or ``enclaveIdentity``.
    """
    whole = codec.loads(text, what, limit=DOCUMENT_LIMIT)
    if not isinstance(whole, dict) or whole.keys() != {member, "signature"} or not isinstance(whole[member], dict):
        raise _malformed(what, f"an object with {member} and signature", _shape(whole))
    head = re.match(rb'\s*\{\s*"' + member.encode() + rb'"\s*:\s*', text)
    if head is None:
        raise _malformed(what, f"{member} before its signature, as Intel's service sends it", "another order")
    rest = text[head.end() :].decode("utf-8")  # valid: the whole text was parsed above
    _, length = json.JSONDecoder().raw_decode(rest)
    body = rest[:length].encode("utf-8")
    return SignedDocument(body, _hex(whole["signature"], 64, what, "signature"))


def _shape(value: Any) -> str:
    return ", ".join(sorted(value)) or "an empty object" if isinstance(value, dict) else type(value).__name__


def _malformed(what: str, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{what}.form", expected=expected, found=found, remedy="Obtain the document again from Intel's service or your PCCS."
    )


def _hex(value: Any, length: int, what: str, field: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * length}}}", value, re.ASCII):
        raise _malformed(what, f"{length} bytes of hex for {field}", repr(value)[:60])
    return bytes.fromhex(value)


class _Members:
    """The members of one JSON object, each read once and checked."""

    __slots__ = ("_members", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(what, "an object", type(value).__name__)
        self._members = value
        self._what = what

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def _get(self, name: str) -> Any:
        if name not in self._members:
            raise _malformed(self._what, f"a member {name}", _shape(self._members))
        return self._members[name]

    def hex(self, name: str, length: int) -> bytes:
        return _hex(self._get(name), length, self._what, name)

    def integer(self, name: str, limit: int = 0xFFFF) -> int:
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
            raise _malformed(self._what, f"{name} from 0 to {limit}", repr(value)[:60])
        return value

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str) or not value.isprintable() or len(value) > 128:
            raise _malformed(self._what, f"text for {name}", repr(value)[:60])
        return value

    def document(self, name: str) -> str:
        """Text of any length: a document within the document."""
        value = self._get(name)
        if not isinstance(value, str):
            raise _malformed(self._what, f"text for {name}", type(value).__name__)
        return value

    def time(self, name: str) -> datetime:
        text = self.text(name)
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII):
            raise _malformed(self._what, f"a time such as 2026-01-01T00:00:00Z for {name}", text)
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise _malformed(self._what, f"a time of the calendar for {name}", text) from None

    def status(self, name: str) -> TcbStatus:
        text = self.text(name)
        try:
            return TcbStatus(text)
        except ValueError:
            raise Unsupported.of(
                f"{self._what}.status",
                expected="a TCB status among " + ", ".join(TcbStatus),
                found=text,
                remedy="Intel has introduced a status that needs a newer Evident.",
            ) from None

    def objects(self, name: str) -> list[_Members]:
        value = self._get(name)
        if not isinstance(value, list) or len(value) > MAX_LEVELS:
            raise _malformed(self._what, f"an array of at most {MAX_LEVELS} for {name}", type(value).__name__)
        return [_Members(item, self._what) for item in value]

    def object(self, name: str) -> _Members:
        return _Members(self._get(name), self._what)

    def svns(self, name: str) -> tuple[int, ...]:
        """The ``svn`` of each of 16 components."""
        value = self._get(name)
        members = value if isinstance(value, list) and all(isinstance(item, dict) for item in value) else []
        svns = [item.get("svn") for item in members]
        numbers = [svn for svn in svns if isinstance(svn, int) and not isinstance(svn, bool) and 0 <= svn <= 0xFFFF]
        if len(svns) != 16 or len(numbers) != 16:
            raise _malformed(self._what, f"16 components with an svn from 0 to 65535 for {name}", repr(value)[:60])
        return tuple(numbers)

    def advisories(self) -> tuple[str, ...]:
        value = self._members.get("advisoryIDs", [])
        if not isinstance(value, list) or len(value) > MAX_LEVELS or not all(isinstance(item, str) for item in value):
            raise _malformed(self._what, "an array of texts for advisoryIDs", repr(value)[:60])
        return tuple(value)


@dataclass(frozen=True, slots=True)
class IsvLevel:
    """A TCB level of an enclave or of the TDX module: from this ISVSVN on."""

    isv_svn: int
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleIdentity:
    """A generation of the TDX module (``TDX_01``...); `id` is empty for the one in ``tdxModule``, which has no levels."""

    id: str
    mrsigner: bytes
    attributes: bytes
    attributes_mask: bytes
    levels: tuple[IsvLevel, ...] = ()


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """A TCB level of a platform."""

    sgx: tuple[int, ...]
    """16 component SVNs."""
    tdx: tuple[int, ...]
    """16 component SVNs."""
    pce_svn: int
    status: TcbStatus
    date: datetime
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """What Intel says of all platforms with one FMSPC."""

    issue_date: datetime
    next_update: datetime
    fmspc: bytes
    pce_id: bytes
    evaluation_number: int
    module: ModuleIdentity
    module_identities: tuple[ModuleIdentity, ...]
    levels: tuple[TcbLevel, ...]
    """The highest first, in the order of Intel's verification library: by SGX components, PCESVN, TDX components."""


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """What Intel says of its TD quoting enclave."""

    issue_date: datetime
    next_update: datetime
    evaluation_number: int
    miscselect: bytes
    miscselect_mask: bytes
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isv_prod_id: int
    levels: tuple[IsvLevel, ...]


def parse_tcb_info(body: bytes) -> TcbInfo:
    """The signed part of TDX TCB info, version 3. Raises `Malformed` and `Unsupported`."""
    what = "intel.tcb-info"
    members = _Members(codec.loads(body, what, limit=DOCUMENT_LIMIT), what)
    identifier, version = members.text("id"), members.integer("version")
    if identifier != "TDX" or version != 3:
        raise Unsupported.of(
            f"{what}.kind",
            expected="TCB info for TDX, version 3",
            found=f"{identifier}, version {version}",
            remedy="Ask /tdx/certification/v4/tcb; SGX TCB info says nothing of the TDX module.",
        )
    if members.integer("tcbType") != 0:
        raise Unsupported.of(f"{what}.type", expected="tcbType 0", found="another", remedy="This TCB info needs a newer Evident.")
    identities = members.objects("tdxModuleIdentities") if "tdxModuleIdentities" in members else []
    levels = [_tcb_level(item) for item in members.objects("tcbLevels")]
    return TcbInfo(
        issue_date=members.time("issueDate"),
        next_update=members.time("nextUpdate"),
        fmspc=members.hex("fmspc", 6),
        pce_id=members.hex("pceId", 2),
        evaluation_number=members.integer("tcbEvaluationDataNumber", 0xFFFFFFFF),
        module=_module("", members.object("tdxModule")),
        module_identities=tuple(_module(item.text("id"), item, _isv_levels(item)) for item in identities),
        levels=tuple(sorted(levels, key=lambda level: (level.sgx, level.pce_svn, level.tdx), reverse=True)),
    )


def _module(identifier: str, members: _Members, levels: tuple[IsvLevel, ...] = ()) -> ModuleIdentity:
    return ModuleIdentity(identifier, members.hex("mrsigner", 48), members.hex("attributes", 8), members.hex("attributesMask", 8), levels)


def _isv_levels(members: _Members) -> tuple[IsvLevel, ...]:
    return tuple(
        IsvLevel(level.object("tcb").integer("isvsvn"), level.status("tcbStatus"), level.time("tcbDate"), level.advisories())
        for level in members.objects("tcbLevels")
    )


def _tcb_level(members: _Members) -> TcbLevel:
    tcb = members.object("tcb")

    return TcbLevel(
        sgx=tcb.svns("sgxtcbcomponents"),
        tdx=tcb.svns("tdxtcbcomponents"),
        pce_svn=tcb.integer("pcesvn"),
        status=members.status("tcbStatus"),
        date=members.time("tcbDate"),
        advisories=members.advisories(),
    )


def parse_qe_identity(body: bytes) -> QeIdentity:
    """The signed part of the TD quoting enclave's identity, version 2. Raises `Malformed` and `Unsupported`."""
    what = "intel.qe-identity"
    members = _Members(codec.loads(body, what, limit=DOCUMENT_LIMIT), what)
    identifier, version = members.text("id"), members.integer("version")
    if identifier != "TD_QE" or version != 2:
        raise Unsupported.of(
            f"{what}.kind",
            expected="the identity of TD_QE, version 2",
            found=f"{identifier}, version {version}",
            remedy="Ask /tdx/certification/v4/qe/identity; the SGX quoting enclave signs no TDX quotes.",
        )
    return QeIdentity(
        issue_date=members.time("issueDate"),
        next_update=members.time("nextUpdate"),
        evaluation_number=members.integer("tcbEvaluationDataNumber", 0xFFFFFFFF),
        miscselect=members.hex("miscselect", 4),
        miscselect_mask=members.hex("miscselectMask", 4),
        attributes=members.hex("attributes", 16),
        attributes_mask=members.hex("attributesMask", 16),
        mrsigner=members.hex("mrsigner", 32),
        isv_prod_id=members.integer("isvprodid"),
        levels=_isv_levels(members),
    )


@dataclass(frozen=True, slots=True)
class Collateral:
    """What was given or fetched for one quote, unverified; None for what is not at hand."""

    tcb_info: SignedDocument | None = None
    qe_identity: SignedDocument | None = None
    pck_crl: bytes | None = None
    root_crl: bytes | None = None
    certificates: bytes = b""
    """PEM: issuer chains of TCB info and QE identity, in any order and perhaps repeated."""


def parse_collateral(text: bytes) -> Collateral:
    """One JSON object with all collateral, as dcap-qvl and Intel's quote library name its members (CRLs in hex or PEM).

    The issuer chain of the PCK CRL is not read: its issuer is the PCK CA, whose certificate is in the quote.
    """
    what = "intel.collateral"
    members = _Members(codec.loads(text, what, limit=DOCUMENT_LIMIT * 4), what)
    strings = {name: members.document(name) for name in _COLLATERAL_MEMBERS if name in members}

    def document(name: str) -> SignedDocument | None:
        if name not in strings or f"{name}_signature" not in strings:
            return None
        return SignedDocument(strings[name].encode("utf-8"), _hex(strings[f"{name}_signature"], 64, what, f"{name}_signature"))

    return Collateral(
        tcb_info=document("tcb_info"),
        qe_identity=document("qe_identity"),
        pck_crl=strings["pck_crl"].encode("utf-8") if "pck_crl" in strings else None,
        root_crl=strings["root_ca_crl"].encode("utf-8") if "root_ca_crl" in strings else None,
        certificates="\n".join(text for name, text in strings.items() if name.endswith("_chain")).encode("utf-8"),
    )


_COLLATERAL_MEMBERS = (
    "tcb_info",
    "tcb_info_signature",
    "tcb_info_issuer_chain",
    "qe_identity",
    "qe_identity_signature",
    "qe_identity_issuer_chain",
    "pck_crl",
    "root_ca_crl",
)


def tcb_info_url(fmspc: bytes, *, base: str = PCS_BASE) -> str:
    """`base` is Intel's service or a PCCS, which serves the same paths."""
    return f"{base}/tdx/certification/v4/tcb?fmspc={fmspc.hex().upper()}"


def qe_identity_url(*, base: str = PCS_BASE) -> str:
    return f"{base}/tdx/certification/v4/qe/identity"


def pck_crl_url(ca: str, *, base: str = PCS_BASE) -> str:
    """`ca` is a value of `PCK_CA_NAMES`."""
    return f"{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"


def crl_scope(issuer: Certificate) -> str:
    """Under which name the latest thisUpdate of this authority's lists is remembered: Intel numbers all of them 1."""
    return f"{issuer.subject_cn}/{issuer.fingerprint[:16]}/thisUpdate"


def intel_name(certificate: Certificate) -> str:
    """The subject's common name as Intel would write it: a simulator's certificates bear the same names behind ``TEST-``.

    A name proves nothing, in either form; what a certificate is worth is decided by the pinned root of its chain.
    """
    return (certificate.subject_cn or "").removeprefix("TEST-")


def crl_url(issuer: Certificate) -> str:
    """Where Intel publishes the list of its root, or of a PCK CA."""
    ca = PCK_CA_NAMES.get(intel_name(issuer))
    return ROOT_CRL_URL if ca is None else pck_crl_url(ca)


def refuse_implausible(url: str, body: bytes) -> None:
    """Raise `Malformed` or `Unsupported` when `body` cannot be what `url`, one of those above, names.

    Not a verification: it keeps a portal's page out of the cache.
    """
    path = url.partition("?")[0]
    if path.endswith("/tdx/certification/v4/tcb"):
        parse_tcb_info(signed_document(body, "tcbInfo", "intel.tcb-info").body)
    elif path.endswith("/tdx/certification/v4/qe/identity"):
        parse_qe_identity(signed_document(body, "enclaveIdentity", "intel.qe-identity").body)
    elif path.endswith("/sgx/certification/v4/pckcrl") or url == ROOT_CRL_URL:
        crl.load(content.unhex(body))


def check_document(document: SignedDocument, signer: Certificate, what: str) -> None:
    """`NotAuthentic` ``<what>.signature`` unless the key of `signer` signed these bytes."""
    r, s = (int.from_bytes(document.signature[at : at + 32], "big") for at in (0, 32))
    check_signature(signer.public_key, SignatureAlgorithm("ecdsa", "sha256"), encode_dss_signature(r, s), document.body, what)
