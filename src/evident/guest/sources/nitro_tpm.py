"""AWS: the document in which the Nitro hypervisor signs the registers of this machine's NitroTPM, and a report that names the document.

The request goes into an NV index, the vendor's command ``AWS_NSM_REQUEST`` is run on that index, and the response lies where the request
was. No document of AWS describes it; source: AWS's own tool, github.com/aws/NitroTPM-Tools, ``nitro-tpm-attest/src``, ``raw/tpm/mod.rs``
(14ad4d8f: the code, its two handles, no parameters) and ``tss/message_buffer.rs`` (8192 bytes, authRead and authWrite); the same with the
empty password, and a P-256 key in the document: lockboot/vaportpm, ``crates/vaportpm-attest/src/nsm.rs`` (5ad26472).

Linux's resource manager passes the command on since 6.3; before, it masks the vendor's bit, and this source says that there is no NitroTPM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evident.errors import EvidentError
from evident.evidence import binding, nsm
from evident.evidence.cmw import Pieces
from evident.guest.source import Evidence, Question, Tee, absent, first
from evident.guest.sources.vtpm import IMA, LOG, Opener, device, told
from evident.guest.tpm_device import Tpm

NAME = "nitro-tpm"
AWS_NSM_REQUEST = 0x20000001
INDEX = 0x01A04556
"""Evident's own, in the range that TCG's "Registry of Reserved TPM 2.0 Handles and Localities" leaves to owners: what lies there goes."""
BUFFER_BYTES = 8192
"""A document is of some 5 KiB, and nonce and key come on top."""


class NitroTpm:
    """The document alone where none of `tees` answers (kind ``nitrotpm``); else with a report (kind ``aws-snp``)."""

    def __init__(self, tees: Sequence[Tee], opener: Opener = device, *, log: Path = LOG, ima: Path = IMA) -> None:
        self._tees = tees
        self._open = opener
        self._log = log
        self._ima = ima

    @property
    def name(self) -> str:
        return NAME

    def collect(self, question: Question) -> Evidence:
        document = self._document(question)
        pieces: Pieces = {"document": (document,), "key": (question.spki,), **told(self._log, self._ima)}
        named = {"snp": binding.beside(document, question.nonce)}
        try:
            reported = first(partial(tee.report, named) for tee in self._tees)
        except EvidentError:
            return Evidence("nitrotpm", pieces, NAME)
        return Evidence("aws-snp", {**reported.pieces, **pieces}, NAME)

    def _document(self, question: Question) -> bytes:
        with self._open() as transact:
            chip = Tpm(transact)
            if not chip.implements(AWS_NSM_REQUEST):
                raise absent(NAME, f"a TPM with the command {AWS_NSM_REQUEST:#x} of AWS", "a TPM without it")
            with chip.message_buffer(INDEX, BUFFER_BYTES):
                chip.nv_write(INDEX, nsm.request(nonce=question.nonce, public_key=question.spki))
                chip.vendor(AWS_NSM_REQUEST, INDEX)
                return nsm.read_document(chip.nv_read(INDEX, INDEX))
