"""The coded remarks of verification (`Facts.caveats`, `BootChain.caveats`) in words, with the layer that each concerns.

A procedure that adds a code adds its row here; a code without one is still shown, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NO_REMEDY = "You cannot change this."


@dataclass(frozen=True, slots=True)
class Remark:
    """What a code means for the reader of a statement."""

    layer: str
    text: str
    remedy: str


REMARKS: Mapping[str, Remark] = MappingProxyType(
    {
        "snp.chip-id.masked": Remark(
            "root_of_trust",
            "The platform hides which chip it is; only its signing key tells it from others.",
            "Ask the operator to unmask the chip id, if you pin machines.",
        ),
        "azure.report-static": Remark(
            "root_of_trust",
            "The hardware's report was made at boot and answers no challenge.",
            "Write your challenge to NV index 0x01400002 and read the report again; old machines cannot.",
        ),
        "tdx.trailing-bytes": Remark("root_of_trust", "Bytes follow the quote that nobody signed; they were ignored.", NO_REMEDY),
        "tdx.service-td": Remark(
            "root_of_trust", "A service TD is bound to this guest and could act on it.", "Launch without a service TD."
        ),
        "nitro.debug-mode": Remark(
            "firmware", "The enclave runs in debug mode: its measurements are zeros.", "Launch it without debug mode."
        ),
        "vtpm.nitrotpm-firmware-constant": Remark(
            "vtpm",
            "PCR0 and PCR1 of this vTPM are constants: it says nothing of the firmware.",
            "Take the firmware from the hardware's report.",
        ),
        "vtpm.bound-by-software": Remark(
            "vtpm",
            "Software inside the guest bound the vTPM's answer to the hardware's report: it shows nearness, and no more.",
            "Nothing better is offered there; believe the vTPM only as far as you believe its operator.",
        ),
        "vtpm.ak-certificate-root-unknown": Remark(
            "vtpm",
            "The root behind the attestation key's certificate is not known here; the hardware's report vouches for the key.",
            NO_REMEDY,
        ),
        "vtpm.ak-attributes-by-paravisor": Remark(
            "vtpm", "That the attestation key cannot sign made-up quotes is the paravisor's word.", NO_REMEDY
        ),
        "tpm.ak-parent-unknown": Remark(
            "vtpm",
            "Who certified the attestation key's parent is unknown.",
            "Pass the vendor's certificate, so that the chain can be checked.",
        ),
        "tpm.ak-certificate.revocation-unchecked": Remark(
            "vtpm", "Nobody checked whether the attestation key's certificate is revoked.", "Renew the certificate often."
        ),
        "tpm.ek-not-activated": Remark(
            "vtpm",
            "That the attestation key lives in the same TPM as the endorsement key was not shown.",
            "Run credential activation when the key is enrolled.",
        ),
        "endorsement.other-measurement": Remark(
            "firmware",
            "The launch endorsement that came along is genuine, and of another firmware or vCPU count.",
            "Pass the endorsement that Google publishes for this very measurement.",
        ),
        "log.command-line-ambiguous": Remark(
            "boot_chain",
            "The log tells more than one kernel command line; none was believed.",
            "Boot through one loader that measures the command line once.",
        ),
        "log.command-line-unproven": Remark(
            "boot_chain",
            "The text of the command line is the log's word: its measured digest does not follow from it.",
            "Use a UKI, or compare the register with a reference value.",
        ),
        "log.sha1-only": Remark(
            "boot_chain", "The log has no bank but SHA-1, for which collisions can be made.", "Turn the SHA-256 bank of the vTPM on."
        ),
    }
)
_FAMILIES: Mapping[str, str] = MappingProxyType({"tpm": "vtpm", "vtpm": "vtpm", "log": "boot_chain", "ima": "userspace"})


def remark(code: str) -> Remark:
    """The words of `code`; for one without a row, its name on the layer of its family."""
    family, _, rest = code.partition(".")
    unknown = Remark(_FAMILIES.get(family, "root_of_trust"), f"Verification remarks ({family}): {rest.replace('-', ' ')}.", NO_REMEDY)
    return REMARKS.get(code, unknown)
