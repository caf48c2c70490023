"""What authentic TPM quotes say: in neutral words for appraisal, and as claims."""

from __future__ import annotations

from typing import Any, Literal

from evident.endorsements import tpm_ca
from evident.verification import tpm_activation
from evident.verification.facts import Facts, Vtpm
from evident.verification.tpm_case import Case, Quote

Location = Literal["hypervisor", "host", "paravisor", "svsm", "chip", "unknown"]
Anchor = Literal["tee", "certificate", "operator", "none"]


def facts(case: Case) -> Facts:
    """The facts of a TPM that stands alone: no TEE speaks for it, so it is worth what its certificate's issuer is."""
    found, remarks = anchored(case, "unknown", "unknown")
    return Facts(
        "tpm",
        None,
        case.freshness,
        vtpm=found,
        boot=case.boot,
        runtime=case.ran.runtime if case.ran else None,
        caveats=remarks,
        claims=claims(case) | ({"log": dict(case.log_claims)} if case.log_claims else {}),
    )


def anchored(case: Case, location: Location, operator: str) -> tuple[Vtpm, tuple[str, ...]]:
    """The TPM of `case` and its remarks: as the certificate of its AK says, or of the EK that activated for it; else as who runs it names
    it; else, where nobody vouches for it, at `location`, run by `operator`."""
    path, named = case.ak_path or (case.ek_path if tpm_activation.activated(case) else None), tpm_activation.named_by(case)
    if path is not None and path.anchor is not None:
        where: Location = "hypervisor" if path.location == "hypervisor" else "unknown"
        return vtpm(case, where, "certificate", path.anchor.vendor), caveats(case)
    if named is not None:
        return vtpm(case, named.location, "operator", named.operator), (*caveats(case), tpm_activation.NAMED)
    return vtpm(case, location, "none", operator), caveats(case)


def caveats(case: Case) -> tuple[str, ...]:
    """The remarks of the steps, and that of an activation, which nobody can see again."""
    return (*case.caveats, *((tpm_activation.WITNESSED,) if tpm_activation.activated(case) else ()))


def vtpm(case: Case, location: Location, anchor: Anchor, operator: str) -> Vtpm:
    """The TPM of `case`, with those PCR values that its quotes cover."""
    certificate = case.ak.certificate if case.ak_path is not None and case.ak_path.anchor is not None else None
    return Vtpm(
        location,
        anchor,
        operator,
        {bank: dict(sorted(registers.items())) for bank, registers in case.pcrs.items()},
        key_name=case.ak.public.name if case.ak.public else b"",
        instance=tpm_ca.instance_identity(certificate) if certificate else {},
        ek_name=case.ek.name if case.ek is not None and tpm_activation.activated(case) else b"",
    )


def claims(case: Case) -> dict[str, Any]:
    """The fields of the (first) quote, its PCR values by bank, and each bank's quote where there are several."""
    certificate = case.ak.certificate
    found = quote_claims(case.quotes[0])
    found["pcrs"] = {
        bank: {str(index): value.hex() for index, value in sorted(registers.items())} for bank, registers in sorted(case.pcrs.items())
    }
    if case.ran:
        found["ima"] = dict(case.ran.claims)
    if len(case.quotes) > 1:
        found["quotes"] = [quote_claims(quote) for quote in case.quotes]
    if case.ak.public:
        found["ak_name"] = case.ak.public.name.hex()
    if certificate:
        found["ak_certificate"] = {
            "serial": certificate.serial,
            "subject_cn": certificate.subject_cn,
            "issuer_cn": certificate.issuer_cn,
            "sha256": certificate.fingerprint,
            "instance": tpm_ca.instance_identity(certificate),
        }
    return found


def quote_claims(quote: Quote) -> dict[str, Any]:
    """One TPMS_ATTEST, JSON-ready."""
    attest, info = quote.attest, quote.info
    return {
        "nonce": attest.extra_data.hex(),
        "extra_data": attest.extra_data.hex(),
        "pcr_selection": [[item.bank, list(item.indices)] for item in info.selections],
        "pcr_digest": info.pcr_digest.hex(),
        "firmware_version": f"{attest.firmware_version:016x}",
        "clock": attest.clock,
        "reset_count": attest.reset_count,
        "restart_count": attest.restart_count,
        "clock_safe": int(attest.safe),
        "qualified_signer": attest.qualified_signer.hex(),
        "signature_scheme_verified": quote.signature.name,
    }
