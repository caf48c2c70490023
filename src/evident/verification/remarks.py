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
        "tdx.log.guest-asserted": Remark(
            "boot_chain",
            "Some events are in a signed register by digest alone; what they were digests of is only the guest's word.",
            "Compare those digests with values predicted from the artifacts; never take them from this or another guest's log.",
        ),
        "tdx.log.acpi-asserted": Remark(
            "boot_chain",
            "The ACPI tables came from the host; the log has their digests, and nothing here recomputes what they hold.",
            "Do not pin RTMR0 to values read from a log; judge the stages in RTMR1 and RTMR2.",
        ),
        "tdx.service-td": Remark(
            "root_of_trust", "A service TD is bound to this guest and could act on it.", "Launch without a service TD."
        ),
        "nitro.enclave": Remark(
            "root_of_trust",
            "This is a Nitro Enclave and no confidential VM: AWS's hypervisor isolates and measures it, and no processor attests it.",
            "Believe it as far as you believe AWS, or use a confidential VM.",
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
            "Run credential activation with the guest: `evident attest` does.",
        ),
        "tpm.activation-witnessed": Remark(
            "vtpm",
            "That the TPM answered the credential for its attestation key is the word of the verifier who asked; to others the record "
            "shows that the question was for this endorsement key and this attestation key, and no more.",
            "Whoever does not believe that verifier has to ask the machine themselves.",
        ),
        "tpm.ek-named-only": Remark(
            "vtpm",
            "Which endorsement key the machine's TPM has was told to the verifier by who runs that TPM, and signed by nobody.",
            "Believe the vTPM only as far as you believe its operator and this verifier.",
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
        "log.bank-not-replayed": Remark(
            "boot_chain", "The log declares a bank that it has no digests for, or of an unknown algorithm.", NO_REMEDY
        ),
        "log.startup-locality": Remark(
            "boot_chain", "PCR 0 starts from the startup locality, as the log says and the quote proves.", NO_REMEDY
        ),
        "log.empty-secure-boot": Remark("boot_chain", "The SecureBoot variable does not exist; Secure Boot counts as off.", NO_REMEDY),
        "log.duplicate-separator": Remark(
            "boot_chain", "A register has more separators than it should; what follows the first is not the firmware's word.", NO_REMEDY
        ),
        "log.error-separator": Remark(
            "boot_chain", "The firmware says that a measurement failed.", "Boot again; if it stays, replace the firmware."
        ),
        "log.loader-text-half-nul": Remark("boot_chain", "An older systemd-boot logged its text one byte short.", "Update systemd-boot."),
        "log.shim-authority-size": Remark("boot_chain", "An older shim logged one byte more than it measured.", "Update shim."),
        "log.image-trailing": Remark("boot_chain", "An older shim logged bytes behind the image's description.", "Update shim."),
        "log.variable-trailing": Remark("boot_chain", "An older shim logged bytes behind a variable's content.", "Update shim."),
        "log.untagged-event": Remark("boot_chain", "The kernel logged its load options without their tag.", "Update the kernel."),
        "log.image-in-pcr2": Remark("boot_chain", "The firmware measures boot applications into PCR 2 rather than PCR 4.", NO_REMEDY),
        "log.undecodable-event": Remark(
            "boot_chain", "An event's data do not have the form of its type: its digest counts, its words do not.", NO_REMEDY
        ),
        "log.unknown-type": Remark("boot_chain", "The log has an event of a type that no specification names.", NO_REMEDY),
        "log.launch-register-event": Remark(
            "boot_chain", "The log has events for the launch measurement, which nothing extends.", NO_REMEDY
        ),
        "log.exit-boot-services-unlogged": Remark(
            "boot_chain", "The two events of leaving the boot services were measured and not logged; they were added.", "Update the kernel."
        ),
        "log.systemd-boot-phases": Remark(
            "boot_chain", "The words of systemd's boot phases were measured and not logged; they were added.", NO_REMEDY
        ),
        "log.register-unsigned": Remark(
            "boot_chain",
            "The log has events for registers that the quote leaves out; they were ignored.",
            "Ask for a quote over PCR 0 to 14.",
        ),
        "log.register-unexplained": Remark(
            "boot_chain", "Something that this log does not record extended a register.", "Compare the register with a reference value."
        ),
        "ima.boot-aggregate-undecided": Remark(
            "userspace", "The quote leaves out PCRs that boot_aggregate covers.", "Ask for a quote over PCR 0 to 10."
        ),
        "ima.later-entries": Remark("userspace", "Files were listed after the quote was made; they are not covered by it.", "Ask again."),
        "log.sha1-only": Remark(
            "boot_chain", "The log has no bank but SHA-1, for which collisions can be made.", "Turn the SHA-256 bank of the vTPM on."
        ),
    }
)
_FAMILIES: Mapping[str, str] = MappingProxyType({"tpm": "vtpm", "vtpm": "vtpm", "log": "boot_chain", "ima": "userspace"})


def remark(code: str) -> Remark:
    """The words of `code`; for one without a row, its name on the layer of its family."""
    known = REMARKS.get(code)
    if known is not None:
        return known
    family, _, rest = code.partition(".")
    return Remark(_FAMILIES.get(family, "root_of_trust"), f"Verification remarks ({family}): {rest.replace('-', ' ')}.", NO_REMEDY)
