"""What an authentic SNP report says: in neutral words for appraisal, and as claims in AMD's own field names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

from evident.codec import format_time
from evident.endorsements.amd import EndorsementKey
from evident.endorsements.anchors import Anchor
from evident.endorsements.x509 import Certificate
from evident.errors import Finding
from evident.evidence.snp_report import PLATFORM_BITS, POLICY_BITS, SigningKey, SnpReport
from evident.verification.facts import Facts, Freshness, StatedLaunch, Tee

CAVEAT_VLEK = "vlek.cloud-not-chip"
CAVEAT_MASKED = "snp.chip-id.masked"


class LazyClaims(Mapping[str, Any]):
    """Claims that are spelled out when somebody first looks: most verifications only want the decision."""

    def __init__(self, spell: Callable[[], dict[str, Any]]) -> None:
        self._spell = spell

    @cached_property
    def _claims(self) -> dict[str, Any]:
        return self._spell()

    def __getitem__(self, name: str) -> Any:
        return self._claims[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._claims)

    def __len__(self) -> int:
        return len(self._claims)

    def __repr__(self) -> str:
        return repr(self._claims)


def facts(
    report: SnpReport,
    key: EndorsementKey,
    signer: Certificate,
    anchor: Anchor | None,
    freshness: Freshness,
    *,
    waived: tuple[Finding, ...] = (),
    bound_key: bytes | None = None,
    stated_launch: StatedLaunch | None = None,
) -> Facts:
    """The facts of `report`, signed by `key`; `anchor` is the root that vouches for it (its vendor, AMD in production).

    `waived` are the open points that an unsafe option let pass: they go on as caveats.
    """
    caveats = (CAVEAT_VLEK,) if key.kind is SigningKey.VLEK else () if report.chip_id.strip(b"\0") else (CAVEAT_MASKED,)
    tee = Tee(
        technology="snp",
        vendor=anchor.vendor if anchor else "unknown",
        product=key.product.name,
        report_key=key.kind.name.lower(),
        key_holder=key.csp_id,
        identities=_identities(report, key),
        registers={
            "launch": report.measurement,
            "host_data": report.host_data,
            "report_data": report.report_data,
            "id_key_digest": report.id_key_digest,
            "author_key_digest": report.author_key_digest,
            "family_id": report.family_id,
            "image_id": report.image_id,
            "report_id": report.report_id,
            "report_id_ma": report.report_id_ma,
        },
        privilege_level=report.vmpl,
        debug=bool(report.policy >> 19 & 1),
        migratable=bool(report.policy >> 18 & 1),
        settings=_settings(report),
        tcb=_tcbs(report),
        guest_svn=report.guest_svn,
    )
    return Facts(
        "snp",
        "snp",
        freshness,
        tee=tee,
        stated_launch=stated_launch,
        bound_key=bound_key,
        caveats=(*caveats, *(finding.code for finding in waived)) if waived else caveats,
        claims=LazyClaims(partial(claims, report, key, signer)),
    )


_POLICY_SETTINGS = tuple((f"policy.{name}", 1 << bit) for bit, name in POLICY_BITS.items())
_PLATFORM_SETTINGS = tuple((f"platform.{name}", 1 << bit) for bit, name in PLATFORM_BITS.items())


def _settings(report: SnpReport) -> dict[str, bool]:
    policy, platform = report.policy, report.platform_info
    settings = {name: policy & bit != 0 for name, bit in _POLICY_SETTINGS}
    settings.update({name: platform & bit != 0 for name, bit in _PLATFORM_SETTINGS})
    return settings


def _tcbs(report: SnpReport) -> dict[str, dict[str, int]]:
    numbers = report.reported_tcb.components()
    others = {"current": report.current_tcb, "committed": report.committed_tcb, "launch": report.launch_tcb}
    return {"reported": numbers, **{name: numbers if tcb is report.reported_tcb else tcb.components() for name, tcb in others.items()}}


def _identities(report: SnpReport, key: EndorsementKey) -> dict[str, str]:
    """A VLEK names no chip, and neither does a masked chip id; the VCEK's hwID does even then, for only that chip has the key."""
    identities = {"endorsement_key": key.certificate.fingerprint}
    if key.csp_id is not None:
        identities["csp_id"] = key.csp_id
    if key.hwid is not None:
        identities["hwid"] = key.hwid.hex()
        if report.chip_id.strip(b"\0"):
            identities["chip_id"] = report.chip_id.hex()
    return identities


def claims(report: SnpReport, key: EndorsementKey, signer: Certificate) -> dict[str, Any]:
    """The claims of a report whose signature holds, with the certificate that it was verified by."""
    return {
        **report_claims(report),
        "product": key.product.name,
        "signature_verifies": True,
        "endorsement_cert": _certificate_claims(key, signer),
    }


def report_claims(report: SnpReport) -> dict[str, Any]:
    """The report's fields, JSON-ready: hex in lower case, bit fields as ``0x...``, TCBs raw, the reported one by component too."""
    cpuid = report.cpuid
    return {
        "report_version": report.version,
        "guest_svn": report.guest_svn,
        "policy": hex(report.policy),
        "policy_debug": bool(report.policy >> 19 & 1),
        "family_id": report.family_id.hex(),
        "image_id": report.image_id.hex(),
        "vmpl": report.vmpl,
        "signature_algo": report.signature_algo,
        "signing_key": report.signing_key.name,
        "mask_chip_key": int(report.mask_chip_key),
        "author_key_en": int(report.author_key_en),
        "platform_info": hex(report.platform_info),
        "report_data": report.report_data.hex(),
        "measurement": report.measurement.hex(),
        "host_data": report.host_data.hex(),
        "id_key_digest": report.id_key_digest.hex(),
        "author_key_digest": report.author_key_digest.hex(),
        "report_id": report.report_id.hex(),
        "report_id_ma": report.report_id_ma.hex(),
        "chip_id": report.chip_id.hex(),
        "chip_id_masked": not report.chip_id.strip(b"\0"),
        "cpuid_family_model_stepping": bytes((cpuid.family, cpuid.model, cpuid.stepping)).hex() if cpuid else None,
        "reported_tcb": report.reported_tcb.components(),
        "reported_tcb_raw": report.reported_tcb.serialize().hex(),
        "current_tcb_raw": report.current_tcb.serialize().hex(),
        "committed_tcb_raw": report.committed_tcb.serialize().hex(),
        "launch_tcb_raw": report.launch_tcb.serialize().hex(),
        "current_fw": str(report.current_version),
        "committed_fw": str(report.committed_version),
        "launch_mit_vector": None if report.launch_mit_vector is None else hex(report.launch_mit_vector),
        "current_mit_vector": None if report.current_mit_vector is None else hex(report.current_mit_vector),
    }


def _certificate_claims(key: EndorsementKey, signer: Certificate) -> dict[str, Any]:
    certificate, tcb = key.certificate, key.tcb
    extensions: dict[str, Any] = {"structVersion": key.struct_version, "productName": key.product_name}
    numbers = (("fmcSPL", tcb.fmc), ("blSPL", tcb.bootloader), ("teeSPL", tcb.tee), ("snpSPL", tcb.snp), ("ucodeSPL", tcb.microcode))
    extensions.update({name: number for name, number in numbers if number is not None})
    if key.hwid is not None:
        extensions["hwID"] = key.hwid.hex()
    if key.csp_id is not None:
        extensions["cspID"] = key.csp_id
    return {
        "subject_cn": certificate.subject_cn,
        "issuer_verified": signer.subject_cn,
        "not_before": format_time(certificate.not_before),
        "not_after": format_time(certificate.not_after),
        "serial": certificate.serial,
        "amd_extensions": extensions,
    }
