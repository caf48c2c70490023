"""Evidence by a vTPM: alone, beside a TEE's report, or as the way to it (Azure's paravisor, an SVSM).

* a quote by an attestation key of our own, over all PCRs, with their values, the firmware's event log and the kernel's IMA list
* Azure: the HCL report in NV index 0x01400001, and a quote by the paravisor's key at 0x81000003
* Google: a quote by the key that the template in NV index 0x01C10003 makes, its certificate in 0x01C10002, and a report that names the key
* SVSM: the report in NV index 0x01C00002 that names the vTPM's endorsement key, and a quote by our own key

Our own key comes with the TPM's endorsement key, for which the verifier makes a credential that this TPM alone can open (`activate`).

Sources: Microsoft, "Azure confidential VM guest attestation design"; google/go-tpm-tools, ``client/handles.go`` (v0.4.4) for the indices
and ``client/keys.go`` (03344915) for how a template becomes the key; Narayanan et al., "Remote attestation of confidential VMs using
ephemeral vTPMs", section 4; event log: Linux, ``/sys/kernel/security/tpm0/binary_bios_measurements``; IMA list:
``/sys/kernel/security/ima/binary_runtime_measurements``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path

from evident.errors import EvidentError
from evident.evidence import azure_hcl, binding, tpm
from evident.evidence.cmw import Pieces
from evident.evidence.snp_report import REPORT_BYTES
from evident.evidence.tpm_templates import EK_CERTIFICATE
from evident.guest.source import Evidence, Question, Tee, absent, first, kernel_file, with_key
from evident.guest.tpm_device import CharacterDevice, Tpm, Transact

LOG = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
IMA = Path("/sys/kernel/security/ima/binary_runtime_measurements")
AZURE_REPORT, AZURE_AK = 0x01400001, 0x81000003
GOOGLE_CERTIFICATE, GOOGLE_TEMPLATE = 0x01C10002, 0x01C10003
"""Of the key on P-256; one of RSA is two indices before each."""
SVSM_REPORT = 0x01C00002
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

    def __init__(self, opener: Opener = device, *, log: Path = LOG, ima: Path = IMA) -> None:
        self._open = opener
        self._log = log
        self._ima = ima

    @property
    def name(self) -> str:
        return self.label

    def _quoted(self, chip: Tpm, key: int, question: Question, role: str) -> dict[str, tuple[bytes, ...]]:
        """A quote over every PCR of the bank, its signature, the values, the firmware's log, and the kernel's list where it keeps one."""
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
        return {**pieces, **told(self._log, self._ima)}

    def _own_quote(self, chip: Tpm, question: Question, role: str) -> dict[str, tuple[bytes, ...]]:
        """The same by a key of our own, with that key and the TPM's endorsement key."""
        key, public = chip.create_ak()
        try:
            pieces = self._quoted(chip, key, question, role)
        finally:
            chip.flush(key)
        pieces["ak"] = (public.tpm2b,)
        with suppress(EvidentError), chip.endorsement_key() as (_, endorsement):  # without one, the verifier says whether that will do
            pieces["ek"] = (endorsement.tpm2b,)
        return pieces


class OwnQuote(_Vtpm):
    """A quote by a key of our own: what a TPM says of the boot, beside the TEE's report."""

    label = "tpm"

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            pieces = self._own_quote(chip, question, "quote")
            certificate = _ek_certificate(chip)
        return Evidence("tpm", {**pieces, "ek-cert": (certificate,)} if certificate else pieces, self.label)


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


class GoogleNv(_Vtpm):
    """Google's SEV-SNP machine: its hypervisor's TPM, whose key Google certified, and a report of one of `tees` that names that key.

    A TD names no key and needs none: its quote has the boot's registers, and what the TPM would add is not asked for (kind ``gcp-tdx``).
    """

    label = "google-nv"

    def __init__(self, tees: Sequence[Tee], opener: Opener = device, *, log: Path = LOG, ima: Path = IMA) -> None:
        super().__init__(opener, log=log, ima=ima)
        self._tees = tees

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            key, public = chip.create_from(chip.nv_read(GOOGLE_TEMPLATE))
            try:
                named = {"snp": binding.beside(public.raw, question.report_data), "tdx": question.report_data}
                reported = first(partial(tee.report, named) for tee in self._tees)
                if reported.kind == "tdx":
                    return Evidence("gcp-tdx", with_key(reported, question).pieces, self.label)
                quoted = self._quoted(chip, key, question, "tpm-quote")
            finally:
                chip.flush(key)
            certificate = _certificate(chip.nv_read(GOOGLE_CERTIFICATE))
        return Evidence("gcp-snp", {**reported.pieces, **quoted, "ak": (public.tpm2b,), "ak-cert": (certificate,)}, self.label)


class SvsmNv(_Vtpm):
    """An SVSM with a vTPM: its report names the vTPM, whose quote answers the challenge."""

    label = "svsm-nv"

    def collect(self, question: Question) -> Evidence:
        with self._open() as transact:
            chip = Tpm(transact)
            report = chip.nv_read(SVSM_REPORT)
            if len(report) < REPORT_BYTES:
                raise absent(self.label, f"a report of {REPORT_BYTES} bytes", f"{len(report)}")
            return Evidence("svsm", {**self._own_quote(chip, question, "tpm-quote"), "report": (report[:REPORT_BYTES],)}, self.label)


def told(log: Path, ima: Path) -> dict[str, tuple[bytes, ...]]:
    """The firmware's event log, and the kernel's list where it keeps one."""
    read = {"log": kernel_file(log), "ima": kernel_file(ima)}
    return {name: (content,) for name, content in read.items() if content}


def _ek_certificate(chip: Tpm) -> bytes:
    """The certificate of the endorsement key; empty where there is none."""
    try:
        return _certificate(chip.nv_read(EK_CERTIFICATE))
    except EvidentError:
        return b""


def _certificate(stored: bytes) -> bytes:
    """The certificate (DER) that an NV index holds, without what pads it; empty where it holds none."""
    return stored[: 4 + int.from_bytes(stored[2:4], "big")] if stored[:2] == b"\x30\x82" else b""


def beside(question: Question, opener: Opener = device) -> tuple[Evidence, ...]:
    """A quote by this machine's TPM where it has one; nothing where it has none, and the verifier says whether that will do."""
    try:
        return (OwnQuote(opener).collect(question),)
    except EvidentError:
        return ()


def activate(credential_blob: bytes, encrypted_secret: bytes, opener: Opener = device) -> bytes:
    """The secret of a credential for this TPM's endorsement key and our own key; `Unsupported` for any other."""
    with opener() as transact:
        return Tpm(transact).activate_credential(credential_blob, encrypted_secret)
