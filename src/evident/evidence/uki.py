"""Unified kernel images: the sections of a PE that systemd-stub hands to the kernel and measures into PCR 11.

Sources: UAPI Group Specification "Unified Kernel Image"; systemd-stub(7), systemd-measure(1) (which sections, since which version);
systemd/systemd ``src/fundamental/uki.h`` at ee6c0fae (their order, and that only .pcrsig is left out); the stub names itself in its
section .sdmagic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from evident.errors import Malformed, Unsupported
from evident.evidence import pe

WHAT = "uki"
# In the order in which they are measured. systemd-stub 254 learnt .uname and .sbat, 256 .ucode, 257 .profile, .dtbauto and
# .hwids, 258 .efifw.
MEASURED: tuple[tuple[str, int], ...] = (
    (".linux", 0),
    (".osrel", 0),
    (".cmdline", 0),
    (".initrd", 0),
    (".ucode", 256),
    (".splash", 0),
    (".dtb", 0),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 0),
    (".profile", 257),
    (".dtbauto", 257),
    (".hwids", 257),
    (".efifw", 258),
)
CARRIED = (*(name for name, _ in MEASURED), ".pcrsig")
_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub (\d{3})[^#]{0,80} ####")


@dataclass(frozen=True, slots=True)
class Uki:
    """A UKI: its image, its payload by section name, and the version of its stub."""

    image: pe.PeImage
    sections: Mapping[str, bytes]
    """Those of ``CARRIED`` that it has, with the content that the stub sees."""
    stub_version: int | None
    """Major version of systemd-stub; None for another stub."""

    @property
    def command_line(self) -> str | None:
        """The built-in command line, its trailing white space and NULs off."""
        raw = self.sections.get(".cmdline")
        return None if raw is None else raw.rstrip(b"\0\n ").decode("utf-8", "replace")

    @property
    def os_release(self) -> dict[str, str]:
        """Assignments of os-release(5), quotes off."""
        text = self.sections.get(".osrel", b"").decode("utf-8", "replace")
        pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {name.strip(): value.strip().strip("\"'") for name, value in pairs}

    def measured(self, stub_version: int | None = None) -> tuple[tuple[str, bytes], ...]:
        """Sections that the stub measures, in its order. `stub_version` overrides what the image says."""
        version = stub_version if stub_version is not None else self.stub_version
        if version is None:
            raise Unsupported.of(
                f"{WHAT}.stub",
                expected="an image that says which systemd-stub it has (.sdmagic)",
                found="none",
                remedy="Give the stub's version (--stub-version 255).",
            )
        return tuple((name, self.sections[name]) for name, since in MEASURED if name in self.sections and version >= since)


def parse(raw: bytes) -> Uki:
    """Read a UKI. Raises `Malformed` (``pe.*``, ``uki.kernel``: no .linux) and `Unsupported` (``uki.profiles``: more than one profile)."""
    image = pe.parse(raw)
    if sum(section.name == ".profile" for section in image.sections) > 1:
        raise Unsupported.of(
            f"{WHAT}.profiles",
            expected="one profile",
            found="several",
            remedy="Predict each profile from an image of its own; which profile boots is chosen at run time.",
        )
    sections = {name: image.content(section) for name in CARRIED if (section := image.section(name)) is not None}
    if ".linux" not in sections:
        raise Malformed.of(
            f"{WHAT}.kernel",
            expected="a section .linux",
            found=", ".join(section.name for section in image.sections),
            remedy="This is an EFI application, but no unified kernel image.",
        )
    magic = image.section(".sdmagic")
    found = _MAGIC.search(image.content(magic)) if magic else None
    return Uki(image, sections, int(found.group(1)) if found else None)


def is_uki(image: pe.PeImage) -> bool:
    """Whether an image has a kernel inside."""
    return any(section.name == ".linux" for section in image.sections)
