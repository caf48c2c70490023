"""Intel TDX quotes, versions 4 and 5, with TD report bodies 1.0 and 1.5.

Source: Intel "TDX DCAP Quoting Library API" revision 0.9, appendix A.3 (version 4) and A.4 (version 5); Intel "TDX Module ABI
Specification" 1.5, TD ATTRIBUTES. All integers little endian; the signature covers header and body.

    header (48) | version 5: body type u16, body size u32 | body (584 or 648) | size u32 | signature data | trailing bytes

Trailing bytes: QGS and some cloud agents return the buffer they reserved instead of the quote (70 zero bytes are usual; a
production quote has 39 other ones). Where the quote ends is told by its own lengths, which must add up exactly; what follows is at most
`MAX_TRAILING_BYTES`, covered by no signature, and never looked at. It is kept, so that serialising gives back the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader, exact_length

WHAT = "tdx.quote"
MAX_TRAILING_BYTES = 16 * 1024
MAX_CERTIFICATION_BYTES = 64 * 1024

HEADER_BYTES = 48
TD_REPORT_10_BYTES = 584
TD_REPORT_15_BYTES = 648
QE_REPORT_BYTES = 384
TEE_SGX = 0x00000000
TEE_TDX = 0x00000081
KEY_TYPE_ECDSA_P256 = 2
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
BODY_TD_REPORT_10 = 2
BODY_TD_REPORT_15 = 3
CERTIFICATION_PCK_CHAIN = 5
CERTIFICATION_QE_REPORT = 6

ATTRIBUTE_BITS: Mapping[int, str] = MappingProxyType(
    {
        0: "debug",
        4: "hgs_plus_prof",
        5: "perf_prof",
        6: "pmt_prof",
        16: "icssd",
        17: "servtd_ext",
        27: "lass",
        28: "sept_ve_disable",
        29: "migratable",
        30: "pks",
        31: "kl",
        62: "tpa",
        63: "perfmon",
    }
)
UNDER_DEBUG = 0xFF
"""The TUD group: with any of these bits set the host can look into the TD, or another party can profile it."""


@dataclass(frozen=True, slots=True)
class TdReport:
    """What the TDX module reports of the TD and of itself. Byte strings keep their wire order."""

    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: bytes
    tdattributes: int
    xfam: int
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None
    """TCB of the module now running, where it was updated under the TD; in bodies 1.5."""
    mrservicetd: bytes | None
    """Hash over the service TDs bound to this one (migration TD); in bodies 1.5."""
    raw: bytes

    @property
    def attributes(self) -> dict[str, bool]:
        """TD attributes by name."""
        return {name: bool(self.tdattributes >> bit & 1) for bit, name in ATTRIBUTE_BITS.items()}

    @property
    def under_debug(self) -> bool:
        return bool(self.tdattributes & UNDER_DEBUG)


@dataclass(frozen=True, slots=True)
class QeReport:
    """The SGX report of the quoting enclave, signed by the PCK; the fields that its identity is judged by."""

    cpu_svn: bytes
    miscselect: bytes
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class TdxQuote:
    """One quote. `signature` and `qe_report_signature` are R and S, 32 bytes each, big endian; `attestation_key` X and Y."""

    version: int
    body_type: int
    """2 or 3; version 4 quotes carry 2 without saying so."""
    user_data: bytes
    report: TdReport
    signature: bytes
    attestation_key: bytes
    qe_report: QeReport
    qe_report_signature: bytes
    qe_authentication_data: bytes
    certification_type: int
    """Of the data inside the QE report certification data: 5, a PEM chain."""
    pck_chain: bytes
    """PEM: PCK certificate, its CA, the root."""
    signed: bytes
    """The bytes under `signature`: header and body."""
    trailing: bytes
    """What follows the quote, unsigned and without meaning."""
    raw: bytes


def parse(raw: bytes) -> TdxQuote:
    """Parse one quote. Raises `Malformed`, and `Unsupported` for SGX quotes and for versions, keys and data of other kinds."""
    reader = Reader(raw, WHAT)
    version, user_data = _header(reader)
    body_type, size = BODY_TD_REPORT_10, TD_REPORT_10_BYTES
    if version == 5:
        body_type, size = reader.u16("body type"), reader.u32("body size")
        _check_body_type(body_type, size)
    report = _td_report(reader.take(size, "TD report"))
    signed = raw[: reader.offset]
    data = Reader(reader.take(reader.u32("signature data size"), "signature data"), WHAT)
    trailing = reader.take(reader.remaining, "trailing bytes")
    if len(trailing) > MAX_TRAILING_BYTES:
        raise Malformed.of(
            f"{WHAT}.trailing",
            expected=f"at most {MAX_TRAILING_BYTES} bytes after the quote's own {len(raw) - len(trailing)}",
            found=f"{len(trailing)} bytes",
            remedy="Pass the quote alone.",
        )
    signature, attestation_key = data.take(64, "quote signature"), data.take(64, "attestation key")
    _check_certification_type(data.u16("certification data type"), CERTIFICATION_QE_REPORT)
    certification = Reader(data.take(data.u32("certification data size"), "certification data"), WHAT)
    data.end()
    qe_report = parse_qe_report(certification.take(QE_REPORT_BYTES, "QE report"))
    qe_report_signature = certification.take(64, "QE report signature")
    qe_authentication_data = certification.take(certification.u16("QE authentication data size"), "QE authentication data")
    inner = certification.u16("inner certification data type")
    _check_certification_type(inner, CERTIFICATION_PCK_CHAIN)
    pck_chain = certification.take(certification.u32("inner certification data size"), "PCK certificate chain")
    certification.end()
    if len(pck_chain) > MAX_CERTIFICATION_BYTES:
        raise _malformed("certification", f"at most {MAX_CERTIFICATION_BYTES} bytes of certificates", f"{len(pck_chain)}")
    return TdxQuote(
        version=version,
        body_type=body_type,
        user_data=user_data,
        report=report,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_authentication_data=qe_authentication_data,
        certification_type=inner,
        pck_chain=pck_chain,
        signed=signed,
        trailing=trailing,
        raw=raw,
    )


def serialize(quote: TdxQuote) -> bytes:
    """The wire form, built from the fields (of the quoting enclave's report, whose reserved ranges are not read, from its bytes)."""
    header = (
        quote.version.to_bytes(2, "little"),
        KEY_TYPE_ECDSA_P256.to_bytes(2, "little"),
        TEE_TDX.to_bytes(4, "little"),
        bytes(4),
        INTEL_QE_VENDOR,
        quote.user_data,
    )
    body = _serialize_td_report(quote.report)
    described = (quote.body_type.to_bytes(2, "little"), len(body).to_bytes(4, "little")) if quote.version == 5 else ()
    certification = b"".join(
        (
            quote.qe_report.raw,
            quote.qe_report_signature,
            _sized(quote.qe_authentication_data, 2),
            quote.certification_type.to_bytes(2, "little"),
            _sized(quote.pck_chain, 4),
        )
    )
    typed = CERTIFICATION_QE_REPORT.to_bytes(2, "little") + _sized(certification, 4)
    return b"".join((*header, *described, body, _sized(quote.signature + quote.attestation_key + typed, 4), quote.trailing))


def _sized(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "little") + content


def _serialize_td_report(report: TdReport) -> bytes:
    return b"".join(
        (
            report.tee_tcb_svn,
            report.mrseam,
            report.mrsignerseam,
            report.seamattributes,
            report.tdattributes.to_bytes(8, "little"),
            report.xfam.to_bytes(8, "little"),
            report.mrtd,
            report.mrconfigid,
            report.mrowner,
            report.mrownerconfig,
            *report.rtmrs,
            report.report_data,
            report.tee_tcb_svn2 or b"",
            report.mrservicetd or b"",
        )
    )


def _header(reader: Reader) -> tuple[int, bytes]:
    version, key_type, tee = reader.u16("version"), reader.u16("attestation key type"), reader.u32("TEE type")
    if tee == TEE_SGX and version in (3, 4, 5):
        raise Unsupported.of(
            f"{WHAT}.sgx",
            expected="a quote of a TDX guest (TEE type 0x81)",
            found="an SGX quote (TEE type 0): it speaks of an enclave, not of a virtual machine",
            remedy="Ask the guest's TDX quote generation service; SGX enclaves are not what Evident appraises.",
        )
    if version not in (4, 5) or tee != TEE_TDX:
        raise Unsupported.of(
            f"{WHAT}.version",
            expected="version 4 or 5 and TEE type 0x81",
            found=f"version {version}, TEE type {tee:#x}",
            remedy="Check that this is a TDX quote (a TDREPORT is none: it is not signed); newer versions need a newer Evident.",
        )
    if key_type != KEY_TYPE_ECDSA_P256:
        raise Unsupported.of(
            f"{WHAT}.key-type",
            expected="attestation key type 2 (ECDSA P-256)",
            found=str(key_type),
            remedy="This quote needs a newer Evident.",
        )
    reader.zeros(4, "0x08 (reserved)")
    vendor = reader.take(16, "QE vendor id")
    if vendor != INTEL_QE_VENDOR:
        raise Unsupported.of(
            f"{WHAT}.qe-vendor",
            expected=f"Intel's quoting enclave ({INTEL_QE_VENDOR.hex()})",
            found=vendor.hex(),
            remedy="Have the host use Intel's quoting enclave; nobody publishes identities of this one.",
        )
    return version, reader.take(20, "user data")


def _check_body_type(body_type: int, size: int) -> None:
    sizes = {BODY_TD_REPORT_10: TD_REPORT_10_BYTES, BODY_TD_REPORT_15: TD_REPORT_15_BYTES}
    if body_type not in sizes:
        raise Unsupported.of(
            f"{WHAT}.body-type",
            expected="body type 2 (TD report 1.0) or 3 (TD report 1.5)",
            found=str(body_type),
            remedy="SGX bodies (1) are another technology; other types need a newer Evident.",
        )
    if size != sizes[body_type]:
        raise _malformed("body-size", f"{sizes[body_type]} bytes in a body of type {body_type}", str(size))


def _check_certification_type(found: int, expected: int) -> None:
    if found != expected:
        raise Unsupported.of(
            f"{WHAT}.certification-type",
            expected=f"certification data type {expected}",
            found=str(found),
            remedy="Configure the quote generation service to embed the PCK certificate chain (types 6 and 5, the default).",
        )


def _td_report(raw: bytes) -> TdReport:
    reader = Reader(raw, WHAT)
    later = len(raw) == TD_REPORT_15_BYTES
    report = TdReport(
        tee_tcb_svn=reader.take(16, "TEE_TCB_SVN"),
        mrseam=reader.take(48, "MRSEAM"),
        mrsignerseam=reader.take(48, "MRSIGNERSEAM"),
        seamattributes=reader.take(8, "SEAMATTRIBUTES"),
        tdattributes=reader.u64("TDATTRIBUTES"),
        xfam=reader.u64("XFAM"),
        mrtd=reader.take(48, "MRTD"),
        mrconfigid=reader.take(48, "MRCONFIGID"),
        mrowner=reader.take(48, "MROWNER"),
        mrownerconfig=reader.take(48, "MROWNERCONFIG"),
        rtmrs=(reader.take(48, "RTMR0"), reader.take(48, "RTMR1"), reader.take(48, "RTMR2"), reader.take(48, "RTMR3")),
        report_data=reader.take(64, "REPORTDATA"),
        tee_tcb_svn2=reader.take(16, "TEE_TCB_SVN_2") if later else None,
        mrservicetd=reader.take(48, "MRSERVICETD") if later else None,
        raw=raw,
    )
    reader.end()
    unknown = report.tdattributes & ~sum(1 << bit for bit in ATTRIBUTE_BITS)
    if unknown:
        raise Malformed.of(
            f"{WHAT}.reserved",
            expected="no reserved bit set in TDATTRIBUTES",
            found=f"{report.tdattributes:#018x}",
            remedy="The TDX module is newer than this version of Evident, or the quote was altered.",
        )
    return report


def parse_qe_report(raw: bytes) -> QeReport:
    """An SGX REPORT body of exactly 384 bytes (Intel SDM volume 3D, table REPORT)."""
    exact_length(raw, QE_REPORT_BYTES, WHAT + ".qe-report")
    return QeReport(
        cpu_svn=raw[0:16],
        miscselect=raw[16:20],
        attributes=raw[48:64],
        mrenclave=raw[64:96],
        mrsigner=raw[128:160],
        isv_prod_id=int.from_bytes(raw[256:258], "little"),
        isv_svn=int.from_bytes(raw[258:260], "little"),
        report_data=raw[320:384],
        raw=raw,
    )


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{WHAT}.{problem}", expected=expected, found=found, remedy="Collect the quote again; it was cut or altered.")
