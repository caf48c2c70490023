"""Write docs/attacks.md from the marks of the tests that show attacks; with --check, say whether it is current.

python tools/attacks.py [--check]

A test names what it shows with ``@pytest.mark.attack(id, what, code, shows)``, where `shows` is ``succeeds`` (with its check off),
``refused`` (with it on) or, left out, both. Every attack of the catalogue (AT-...) must be shown both ways; other requirements may be
listed too.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "attacks.md"
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "AT-01": "Another operating system under genuine firmware",
        "AT-02": "A key of somebody in between",
        "AT-03": "A proxy between a machine and its key server",
        "AT-04": "Replay of evidence made at boot",
        "AT-05": "Replay of an old answer",
        "AT-06": "Other firmware, or changed evidence of it",
        "AT-07": "Another kernel",
        "AT-08": "Another initial RAM disk",
        "AT-09": "Another command line",
        "AT-10": "A launch that does not measure kernel, initial RAM disk and command line",
        "AT-11": "A root file system changed at rest",
        "AT-12": "Root file system and hash tree replaced together",
        "AT-13": "An encrypted disk changed",
        "AT-14": "An old disk put back",
        "AT-15": "A disk read by its host",
        "AT-16": "Data changed on their way to the guest",
        "AT-17": "A disk key that the provider holds",
        "AT-18": "A vTPM whose host lies",
        "AT-19": "A report overwritten by another one",
        "AT-20": "A report asked for by somebody less privileged",
        "AT-21": "Another service module, or none",
        "AT-22": "An attestation key of somebody else's making",
        "AT-23": "A vTPM of another machine",
        "AT-24": "Configuration that the host hands in",
        "AT-25": "A forged metadata service",
        "AT-26": "A provisioning agent that takes orders",
        "AT-27": "Revoked keys",
        "AT-28": "A revocation list that is forged, replayed, out of date or withheld",
        "AT-29": "Debugging by the host",
        "AT-30": "Export by a migration agent",
        "AT-31": "Settings of launch and host",
        "AT-32": "Old platform firmware",
        "AT-33": "What the measurement list does not see",
        "AT-34": "A file changed while it is measured",
        "AT-35": "A measurement list that was edited",
        "AT-36": "A hypervisor that edits the disk",
        "AT-39": "An emulation",
        "AT-40": "The wrong product or kind of key",
        "AT-41": "A modified agent",
        "AT-42": "A modified collector of evidence",
        "AT-43": "A modified configuration of the agent",
        "AT-46": "Tables of the host that the kernel runs",
        "AT-44": "A workload that attacks the agent",
        "AT-47": "Keys that somebody else enrolled",
        "AT-48": "Secrets in an image or on its console",
        "AT-49": "The provider of the service itself",
        "AT-53": "A key asked for by another genuine machine",
        "AT-50": "A TLS certificate of another server",
        "AT-52": "A copied or rolled back vTPM",
        "AT-54": "Pieces of different machines",
        "AT-55": "Evidence of SEV or SEV-ES",
        "AT-57": "Somebody who gets in after the boot",
        "AT-58": "Machines and versions whose keys have leaked",
        "AT-60": "Poisoned reference values, and honest mismatches",
        "AT-61": "A cloud's key taken for a chip's",
        "AT-62": "Denial of service",
        "AT-63": "Structures of a TPM taken for others",
        "AT-64": "Bytes that a careless parser misreads",
        "AT-67": "A partial result read as a whole one",
        "AT-68": "A check that is missing",
        "AT-69": "The certificate of another TCB",
        "AT-70": "A hijacked exchange of a disk key",
    }
)
MARKS = ("mark.attack(", "@attack(", "both_ways(")
"""The mark, and the functions of tests that set it."""
HEAD = """# Attacks

Every attack here is a test that runs: once with just the check that stops it switched off, where it gets through, and once with it on,
where it is refused. Made from the tests by `python tools/attacks.py`; do not edit.

The ids are those of the project's requirements. *Stopped by* is the code of the finding (see [codes](codes.md)), or what stands in the way.
"""


@dataclass
class Shown:
    """One way of doing an attack, and the tests that show it."""

    code: str
    tests: dict[str, set[str]] = field(default_factory=lambda: {"succeeds": set(), "refused": set()})


class Collector:
    """Reads the marks of all collected tests."""

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, Shown]] = defaultdict(dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("attack"):
                identifier, what, code, *shows = mark.args
                entry = self.shown[identifier].setdefault(what, Shown(code))
                test = item.nodeid.partition("[")[0]
                for way in shows or ("succeeds", "refused"):
                    entry.tests[way].add(test)


def marked_files() -> list[str]:
    """Test files in which the mark occurs; collecting the others would take longer and find nothing."""
    files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [str(path.relative_to(REPOSITORY)) for path in files if any(mark in path.read_text() for mark in MARKS)]


def collect() -> dict[str, dict[str, Shown]]:
    collector = Collector()
    os.chdir(REPOSITORY)
    arguments = ["--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--no-summary", *marked_files()]
    with contextlib.redirect_stdout(io.StringIO()):  # pytest lists what it collects
        status = pytest.main(arguments, plugins=[collector])
    if status:
        raise SystemExit(f"collecting the tests failed: {status}")
    return collector.shown


def page(shown: dict[str, dict[str, Shown]]) -> str:
    parts = [HEAD]
    for identifier in sorted(shown):
        parts.append(
            f"\n## {f'{identifier} {TITLES.get(identifier, str())}'.strip()}\n\n| attack | stopped by | shown by |\n|---|---|---|\n"
        )
        for what, entry in sorted(shown[identifier].items()):
            tests = sorted(entry.tests["succeeds"] | entry.tests["refused"])
            names = ", ".join(f"`{test.rpartition('/')[2]}`" for test in tests)
            parts.append(f"| {what} | `{entry.code}` | {names} |\n")
    return "".join(parts)


def missing(shown: dict[str, dict[str, Shown]]) -> list[str]:
    """What keeps the catalogue from being complete."""
    problems = [f"{identifier} has no test" for identifier in TITLES if identifier not in shown]
    numbered = {identifier: entries for identifier, entries in shown.items() if identifier.startswith("AT-")}
    problems += [f"{identifier} has no title in tools/attacks.py" for identifier in numbered if identifier not in TITLES]
    for identifier, entries in numbered.items():
        problems += [
            f"{identifier} is never shown: {way}"
            for way in ("succeeds", "refused")
            if not any(entry.tests[way] for entry in entries.values())
        ]
    return sorted(problems)


def main(arguments: list[str]) -> int:
    shown = collect()
    problems = missing(shown)
    text = page(shown)
    if "--check" in arguments:
        if not PAGE.is_file() or PAGE.read_text() != text:
            problems.append("docs/attacks.md is stale: run tools/attacks.py")
    else:
        PAGE.write_text(text)
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
