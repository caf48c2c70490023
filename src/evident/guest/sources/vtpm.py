"""Evidence by a vTPM: alone, beside a TEE's report, or as the way to it (Azure's paravisor, an SVSM).

* a quote by an attestation key of our own, over all PCRs, with their values and the firmware's event log
* Azure: the HCL report in NV index 0x01400001, and a quote by the paravisor's key at 0x81000003
* SVSM: the report in NV index 0x01C00002 that names the vTPM's endorsement key (0x81010001), and a quote by our own key

Sources: Microsoft, "Azure confidential VM guest attestation design"; Narayanan et al., "Remote attestation of confidential VMs using
ephemeral vTPMs", section 4; event log: Linux, ``/sys/kernel/security/tpm0/binary_bios_measurements``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from evident.errors import EvidentError
from evident.evidence import azure_hcl, tpm
from evident.evidence.cmw import Pieces
from evident.evidence.snp_report import REPORT_BYTES
from evident.evidence.tpm_public import sized
from evident.guest.source import Evidence, Question, absent, kernel_file
from evident.guest.tpm_device import CharacterDevice, Tpm, Transact

LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
AZURE_REPORT, AZURE_AK = 0x01400001, 0x81000003
SVSM_REPORT, SVSM_EK = 0x01C00002, 0x81010001
BANK = "sha256"

Opener = Callable[[], AbstractContextManager[Transact]]


def device() -> AbstractContextManager[Transact]:
    """The kernel's TPM device."""
    return CharacterDevice()


def through(transact: Transact) -> Opener:
    """An opener for a TPM that is there already."""
    return lambda: nullcontext(transact)


class _Vtpm:
    """What the sources below share."""

    label = "vtpm"

    def __init__(self, opener: Opener = device, *, log: Path = LOG) -> None:
        self._open = opener
        self._log = log

    @property
    def name(self) -> str:
        return self.label

    def _quoted(self, chip: Tpm, key: int, question: Question, role: str) -> dict[str, tuple[bytes, ...]]:
        """A quote over every PCR of the bank, its signature, the values, and the log."""
        values = chip.pcr_read(BANK)
        if not values:
            raise absent(self.label, f"PCRs of bank {BANK}", "none")
        selections = (tpm.PcrSelection.of(BANK, tuple(values)),)
        quoted, signature = chip.quote(key, question.extra_data, selections)
        listed = {BANK: {str(index): value.hex() for index, value in values.items()}}
        pieces: dict[str, tuple[bytes, ...]] = {
            role: (quoted,),
            "signature": (signature,),
            "pcrs": (json.dumps(listed, sort_keys=True).encode(),),
        }
        log = kernel_file(self._log)
        if log:
            pieces["log"] = (log,)
        return pieces


class OwnQuote(_Vtpm):
    """A quote by a key of our own: what a TPM says of the boot, beside the TEE's report."""

    label = "tpm"

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            key, public = chip.create_ak()
            try:
                pieces = self._quoted(chip, key, question, "quote")
            finally:
                chip.flush(key)
        return Evidence("tpm", {**pieces, "ak": (public.tpm2b,)}, self.label)


class AzureNv(_Vtpm):
    """Azure's paravisor: its report made at boot, its vTPM's quote for the challenge."""

    label = "azure-nv"

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            report = chip.nv_read(AZURE_REPORT)
            kind = "azure-" + azure_hcl.parse(report).technology.lower()
            pieces: Pieces = {**self._quoted(chip, AZURE_AK, question, "tpm-quote"), "hcl": (report,)}
        return Evidence(kind, pieces, self.label)


class SvsmNv(_Vtpm):
    """An SVSM with a vTPM: its report names the vTPM, whose quote answers the challenge."""

    label = "svsm-nv"

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            report = chip.nv_read(SVSM_REPORT)
            if len(report) < REPORT_BYTES:
                raise absent(self.label, f"a report of {REPORT_BYTES} bytes", f"{len(report)}")
            key, public = chip.create_ak()
            try:
                pieces = self._quoted(chip, key, question, "tpm-quote")
            finally:
                chip.flush(key)
            endorsement = sized(chip.read_public(SVSM_EK))
        return Evidence("svsm", {**pieces, "report": (report[:REPORT_BYTES],), "ek": (endorsement,), "ak": (public.tpm2b,)}, self.label)


def beside(question: Question, opener: Opener = device) -> tuple[Evidence, ...]:
    """A quote by this machine's TPM where it has one; nothing where it has none, and the verifier says whether that will do."""
    try:
        return (OwnQuote(opener).collect(question),)
    except EvidentError:
        return ()
