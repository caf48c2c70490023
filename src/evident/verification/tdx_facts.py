"""What an authentic TDX quote says: in neutral words for appraisal, and as claims in Intel's own field names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evident.codec import format_time
from evident.endorsements.anchors import Anchor
from evident.endorsements.intel import Pck
from evident.evidence.tdx_quote import TEE_TDX, TdReport, TdxQuote
from evident.verification.facts import Facts, Freshness, Tee
from evident.verification.tdx_tcb import TcbVerdict

CAVEAT_TRAILING = "tdx.trailing-bytes"
CAVEAT_SERVICE_TD = "tdx.service-td"
NO_LEVEL = "NoMatchingLevel"
"""Our word, beside Intel's, for a platform that reaches none of the published levels."""


def facts(
    quote: TdxQuote,
    pck: Pck,
    anchor: Anchor | None,
    freshness: Freshness,
    windows: Mapping[str, tuple[datetime, datetime]],
    verdict: TcbVerdict | None,
    judged: bool,
) -> Facts:
    """The facts of `quote`, made on the platform of `pck`.

    `windows` are those of the collateral by its kind. `verdict` is None without TCB info; `judged` is false where it leaves the
    status undecided for want of the QE identity.
    """
    report = quote.report
    caveats = [CAVEAT_TRAILING] if quote.trailing else []
    if report.mrservicetd and report.mrservicetd.strip(b"\0"):
        caveats.append(CAVEAT_SERVICE_TD)
    verdict_claims = _verdict_claims(verdict, judged) if verdict else {}
    tee = Tee(
        technology="tdx",
        vendor=anchor.vendor if anchor else "unknown",
        product=pck.fmspc.hex(),
        report_key="pck",
        key_holder=None,
        identities=_identities(pck),
        registers=registers(report),
        privilege_level=None,
        debug=report.under_debug,
        migratable=report.attributes["migratable"],
        settings={
            **{f"attributes.{name}": value for name, value in report.attributes.items()},
            **{f"platform.{name}": value for name, value in pck.configuration.items()},
        },
        tcb={
            "platform": {f"sgx_{number:02}": svn for number, svn in enumerate(pck.component_svns, start=1)} | {"pcesvn": pck.pce_svn},
            "module": {f"tdx_{number:02}": svn for number, svn in enumerate(report.tee_tcb_svn, start=1)},
            "quoting_enclave": {"isvsvn": quote.qe_report.isv_svn},
        },
        tcb_status=_status(verdict) if verdict and judged else None,
        advisories=verdict.advisories if verdict else (),
        headroom=verdict.headroom if verdict else {},
    )
    return Facts("tdx", "tdx", freshness, tee=tee, caveats=tuple(caveats), claims=claims(quote, pck, anchor, windows) | verdict_claims)


def registers(report: TdReport) -> dict[str, bytes]:
    """Every signed measurement and identity value by Intel's name; ``launch`` is MRTD."""
    return {
        "launch": report.mrtd,
        "mrtd": report.mrtd,
        **{f"rtmr{number}": value for number, value in enumerate(report.rtmrs)},
        "mrconfigid": report.mrconfigid,
        "mrowner": report.mrowner,
        "mrownerconfig": report.mrownerconfig,
        "mrseam": report.mrseam,
        "mrsignerseam": report.mrsignerseam,
        **({"mrservicetd": report.mrservicetd} if report.mrservicetd is not None else {}),
        "report_data": report.report_data,
    }


def _identities(pck: Pck) -> dict[str, str]:
    identities = {"fmspc": pck.fmspc.hex(), "ppid": pck.ppid.hex(), "pck": pck.certificate.fingerprint}
    if pck.platform_instance_id is not None:
        identities["platform_instance_id"] = pck.platform_instance_id.hex()
    return identities


def claims(quote: TdxQuote, pck: Pck, anchor: Anchor | None, windows: Mapping[str, tuple[datetime, datetime]]) -> dict[str, Any]:
    """The quote's fields, JSON-ready: hex in lower case, bit fields in their wire order as Intel's tools print them."""
    report = quote.report
    values: dict[str, Any] = {
        "version": quote.version,
        "tee": TEE_TDX,
        "bodylen": len(report.raw),
        "tee_tcb_svn": report.tee_tcb_svn.hex(),
        "seamattributes": report.seamattributes.hex(),
        "tdattributes": report.tdattributes.to_bytes(8, "little").hex(),
        "xfam": report.xfam.to_bytes(8, "little").hex(),
        **{name: value.hex() for name, value in registers(report).items() if name != "launch"},
        "td_debug": report.under_debug,
        "qe_isvsvn": quote.qe_report.isv_svn,
        "cert_type": quote.certification_type,
        "bytes_after_signature_data": len(quote.trailing),
        "quote_signature_verifies": True,
        "attestation_key_bound_in_qe_report": True,
        "qe_report_signature_verifies": True,
        "pck_chain_verifies": True,
        "intel_root": anchor is not None and not anchor.simulated,
        "fmspc": pck.fmspc.hex(),
        "pceid": pck.pce_id.hex(),
        "ppid": pck.ppid.hex(),
        "pck_issuer": pck.certificate.issuer_cn,
        "pck_validity": [pck.certificate.not_before.isoformat(), pck.certificate.not_after.isoformat()],
        "pck_cpusvn": list(pck.component_svns),
        "pcesvn": pck.pce_svn,
    }
    if report.tee_tcb_svn2 is not None:
        values |= {"body_type": quote.body_type, "tee_tcb_svn2": report.tee_tcb_svn2.hex()}
    if windows:
        values["collateral_windows"] = {name: [format_time(start), format_time(end)] for name, (start, end) in windows.items()}
    return values


def _status(verdict: TcbVerdict) -> str:
    return verdict.status.value if verdict.status else NO_LEVEL


def _verdict_claims(verdict: TcbVerdict, judged: bool) -> dict[str, Any]:
    values: dict[str, Any] = {
        "advisories": list(verdict.advisories),
        "platform_status": verdict.platform.status.value if verdict.platform else "no matching level",
        "tcbDate": format_time(verdict.platform.date) if verdict.platform else None,
    }
    if verdict.module_id:
        values |= {"module_id": verdict.module_id, "module_status": verdict.module.status.value if verdict.module else "no matching level"}
    if judged:
        values["tcb_status"] = _status(verdict)
        values["qe_status"] = verdict.quoting_enclave.status.value if verdict.quoting_enclave else "no matching level"
    return values
