"""The formats that `evident show` decodes, one row each: how its bytes look, and what they say."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evident import codec
from evident.audit import bundle, farewell
from evident.cli import show_pieces
from evident.endorsements import amd, pem, x509
from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import (
    azure_hcl,
    cert_table,
    cmw,
    content,
    gce_endorsement,
    ima_log,
    nitro,
    snp_report,
    svsm_manifest,
    tcg_log,
    tdx_quote,
    tpm,
    tsm_report,
)
from evident.evidence.snp_report import REPORT_BYTES
from evident.verification import log
from evident.verification import nitro as nitro_kind
from evident.verification import tcg_log as tcg_log_kind

TDX_HEADS = tuple(version.to_bytes(2, "little") + b"\2\0\x81\0\0\0" for version in (4, 5))
"""Version, attestation key type 2 (ECDSA P-256) and TEE type 0x81: the first eight bytes of a TDX quote."""


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    looks_like: Callable[[bytes], bool]
    """Tells the format by content; a guess, which `decode` then proves or refuses."""
    decode: Callable[[bytes], Any]
    """JSON-ready content; raises `Malformed` or `Unsupported`."""


def describe(data: bytes) -> tuple[str, Any]:
    """Name and content of the first format that `data` looks like."""
    for form in FORMATS:
        if form.looks_like(data):
            return form.name, form.decode(data)
    raise Unsupported.of(
        "show.unknown-format",
        expected="one of: " + ", ".join(form.name for form in FORMATS),
        found=f"{len(data)} bytes beginning with {data[:8].hex()}",
        remedy="Check that this is the right file.",
    )


def _snp(data: bytes) -> Any:
    raw, table = content.snp_report(data)
    report = snp_report.parse(raw)
    shown = {
        "sha256": hashlib.sha256(raw).hexdigest(),
        **_plain(report),
        "policy_flags": dict(report.policy_flags),
        "platform_flags": dict(report.platform_flags),
    }
    return {**shown, "certificates": _table(table)} if table else shown


def _parsed(form: Any) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(form.raw).hexdigest(), **_plain(form)}


def _table(data: bytes) -> Any:
    return [
        {
            "guid": str(entry.guid),
            "role": cert_table.ROLES.get(entry.guid, "unknown"),
            "size": len(entry.content),
            **_maybe_certificate(entry.content),
        }
        for entry in cert_table.parse(data).entries
    ]


def _maybe_certificate(data: bytes) -> dict[str, Any]:
    try:
        return {"certificates": _certificates(data)}
    except EvidentError:
        return {"sha256": hashlib.sha256(data).hexdigest()}


def _certificates(data: bytes) -> Any:
    return [_certificate(certificate) for certificate in x509.load_all(data)]


def _certificate(certificate: x509.Certificate) -> dict[str, Any]:
    shown = {
        "subject": certificate.name,
        "issuer": certificate.issuer_cn or "",
        "serial": str(certificate.serial),
        "not_before": codec.format_time(certificate.not_before),
        "not_after": codec.format_time(certificate.not_after),
        "sha256": certificate.fingerprint,
    }
    try:
        key = amd.parse_endorsement_key(certificate)
    except EvidentError:
        return shown
    names = ("kind", "product_name", "tcb", "hwid", "csp_id")
    return {**shown, "endorsement_key": {name: _plain(getattr(key, name)) for name in names if getattr(key, name) is not None}}


def _plain(value: Any) -> Any:
    """A parsed form as JSON: dataclasses by their fields (without the raw copy), enums by name, bytes in hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.name != "raw"}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return value


def _bundle(data: bytes) -> Any:
    shown = bundle.decode(data)
    case = shown.case
    return {
        "claimed_signer": shown.keyid,
        "sha256": shown.sha256,
        "tool": f"{shown.tool.name} {shown.tool.version}",
        "kind": case.kind,
        "at": codec.format_time(case.at),
        "nonce": case.nonce.hex() if case.nonce else None,
        "unsafe": sorted(case.unsafe),
        "evidence": {f"{role}.{index}": _piece(item) for role, items in case.pieces.items() for index, item in enumerate(items)},
        "endorsements": {url: _piece(item.body) for url, item in shown.fetched.items()},
        "fetches_that_failed": sorted(shown.failed),
        "policy": codec.encode(case.policy),
        "reference_values": codec.encode(case.references),
        "profile": f"{case.profile.id} as of {case.profile.as_of}" if case.profile else None,
        "claimed_result": {name: shown.result.get(name) for name in ("decision", "code", "levels", "simulated")},
    }


def _farewell(data: bytes) -> Any:
    shown = farewell.decode(data)
    return {"claimed_signer": shown.keyid, "sha256": shown.sha256, **codec.encode(shown.farewell)}


def _collection(data: bytes) -> Any:
    return _message(cmw.parse(data))


def _message(message: cmw.Record | cmw.Collection) -> Any:
    if isinstance(message, cmw.Collection):
        return {"type": message.type, "members": {label: _message(member) for label, member in message.members.items()}}
    says = [flag.name.lower() for flag in message.indicator if flag.name] if message.indicator else []
    return {"media_type": message.media_type, "says": says, **_piece(message.value)}


def _piece(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _is_certificate(data: bytes) -> bool:
    if pem.is_pem(data):
        return b"\0" not in data  # certificates inside something binary do not make it a certificate
    try:
        return data.startswith(b"\x30\x82") and bool(x509.load_all(data))
    except (Malformed, Unsupported):
        return False


def _is_snp_report(data: bytes) -> bool:
    if tsm_report.looks_like(data) or (data.lstrip()[:1] == b"{" and b"measurement" in data):
        return True
    # With the 32-byte head of the firmware's response before it, a report is refused with the advice to cut that off.
    return len(content.unhex(data)) in (REPORT_BYTES, REPORT_BYTES + 32)


def _is_table(data: bytes) -> bool:
    try:
        return bool(cert_table.parse(data).entries)
    except (Malformed, Unsupported):
        return False


def _is_event_log(data: bytes) -> bool:
    size = int.from_bytes(data[28:32], "little")
    opens_a_sha1_log = data[:4] == bytes(4) and data[4:8] in (b"\7\0\0\0", b"\x08\0\0\0") and size < len(data) - 32
    return data[32:45] == b"Spec ID Event" or opens_a_sha1_log


def _event_log(data: bytes) -> Any:
    replayed = log.replay(tcg_log.parse(data))
    return {**tcg_log_kind.claims(replayed), "event_list": tcg_log_kind.event_claims(replayed)}


def _is_ima_list(data: bytes) -> bool:
    return re.match(rb"10 [0-9a-f]{40} ima|\x0a\0{3}.{20}[\x03-\x10]\0{3}ima", data, re.DOTALL) is not None


def _ima_list(data: bytes) -> Any:
    entries = ima_log.parse(data).entries
    return {"entries": [{**_plain(entry), "violation": entry.violation, "template_data": len(entry.template_data)} for entry in entries]}


def _is_endorsement(data: bytes) -> bool:
    try:
        return bool(gce_endorsement.parse(data).signature)
    except Malformed:
        return False


def _quote(data: bytes) -> Any:
    attest = tpm.parse_attest(content.unhex(data))
    told = {"sha256": hashlib.sha256(attest.raw).hexdigest(), "type": f"{attest.type:#06x}"}
    if attest.type != tpm.ST_ATTEST_QUOTE:
        return {**told, "attested": attest.attested.hex()}
    info = tpm.quote_info(attest)
    return {
        **told,
        **{
            name: _plain(getattr(attest, name))
            for name in ("qualified_signer", "extra_data", "clock", "reset_count", "restart_count", "safe")
        },
        "pcr_selection": [[item.bank, list(item.indices)] for item in info.selections],
        "pcr_digest": info.pcr_digest.hex(),
    }


def _nitro(data: bytes) -> Any:
    document = nitro.parse(data)
    certificates = [_certificate(x509.parse(der)) for der in (document.certificate, *reversed(document.cabundle))]
    return {"sha256": hashlib.sha256(data).hexdigest(), **nitro_kind.claims(document), "certificates": certificates}


FORMATS = (
    Format("final record", farewell.looks_like_farewell, _farewell),
    Format("audit bundle", bundle.looks_like_bundle, _bundle),
    Format("wrapped collection (CMW)", lambda data: data[:1] in b"{[" and cmw.TYPE_KEY.encode() in data, _collection),
    Format("TDX quote", lambda data: content.unhex(data)[:8] in TDX_HEADS, lambda data: _parsed(tdx_quote.parse(content.unhex(data)))),
    Format("Azure HCL report", lambda data: data.startswith(azure_hcl.MAGIC), lambda data: _parsed(azure_hcl.parse(data))),
    Format("SEV-SNP attestation report", _is_snp_report, _snp),
    Format("SNP certificate table", _is_table, _table),
    Format("firmware event log", _is_event_log, _event_log),
    Format("IMA measurement list", _is_ima_list, _ima_list),
    Format("another tool's container", show_pieces.is_container, lambda data: show_pieces.container(data, describe)),
    Format("public key", show_pieces.is_public_key, show_pieces.public_key),
    Format("PCR values", show_pieces.is_pcr_values, show_pieces.pcrs),
    Format("X.509 certificates", _is_certificate, _certificates),
    Format("TPM quote", lambda data: content.unhex(data)[:4] == tpm.GENERATED.to_bytes(4, "big"), _quote),
    Format("Nitro attestation document", lambda data: data[:4] in (b"\x84\x44\xa1\x01", b"\xd2\x84\x44\xa1"), _nitro),
    Format("services manifest of an SVSM", svsm_manifest.looks_like, lambda data: _parsed(svsm_manifest.parse(data))),
    Format("Google launch endorsement", _is_endorsement, lambda data: _parsed(gce_endorsement.parse(data))),
    Format("TPM signature", show_pieces.is_signature, show_pieces.signature),
)
"""Told apart in this order."""
