"""configfs-tsm: the kernel's own interface to a TEE's report, the same for SEV-SNP and TDX.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report: a directory made below ``tsm/report`` takes ``inblob`` and gives
``outblob``, ``auxblob`` and ``provider``; ``generation`` counts the writes, so a reader sees whether somebody wrote in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from evident.guest.source import Evidence, Question, absent, kernel_file, with_key

NAME = "configfs-tsm"
DIRECTORY = Path("/sys/kernel/config/tsm/report")
CCEL = Path("/sys/firmware/acpi/tables/data/CCEL")
"""The event log of a TD's RTMRs, in the memory that the ACPI table CCEL names."""
KINDS = {"sev_guest": ("snp", "report"), "tdx_guest": ("tdx", "quote")}
"""Provider to the kind of evidence and the role of its ``outblob``."""


class ConfigfsTsm:
    def __init__(self, directory: Path = DIRECTORY, *, log: Path = CCEL) -> None:
        self._directory = directory
        self._log = log

    @property
    def name(self) -> str:
        return NAME

    def collect(self, question: Question) -> Evidence:
        return with_key(self.report({kind: question.report_data for kind, _ in KINDS.values()}), question)

    def report(self, report_data: Mapping[str, bytes]) -> Evidence:
        """A report or quote over the 64 bytes of its kind."""
        entry = self._directory / f"evident-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            entry.mkdir()
        except OSError as error:
            raise absent(NAME, f"a report directory below {self._directory}", error.strerror or type(error).__name__) from None
        try:
            provider = (entry / "provider").read_text().strip()
            kind, role = KINDS.get(provider, ("", ""))
            if kind not in report_data:
                raise absent(NAME, "a provider of " + " or ".join(report_data), f"{provider!r}")
            (entry / "inblob").write_bytes(report_data[kind])
            before = (entry / "generation").read_bytes()
            outblob, auxblob = (entry / "outblob").read_bytes(), self._optional(entry / "auxblob")
            if (entry / "generation").read_bytes() != before:
                raise absent(NAME, "a report directory of our own", "another writer in it")
        except OSError as error:
            raise absent(NAME, "a report", error.strerror or type(error).__name__) from None
        finally:
            self._remove(entry)
        if not outblob:
            raise absent(NAME, "a report", f"none by {provider!r}")
        pieces = {role: (outblob,)}
        if auxblob and kind == "snp":
            pieces["auxblob"] = (auxblob,)
        log = kernel_file(self._log) if kind == "tdx" else b""
        if log:
            pieces["log"] = (log,)
        return Evidence(kind, pieces, NAME)

    @staticmethod
    def _optional(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""

    @staticmethod
    def _remove(entry: Path) -> None:
        """A configfs directory goes as a whole; what cannot be removed is the kernel's to clean up at shutdown."""
        try:
            entry.rmdir()
        except OSError:
            return
