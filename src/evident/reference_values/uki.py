"""Predict what a boot measures: a unified kernel image, a disk that starts one, or kernel, initrd and command line.

Rules, each seen in logs of real boots:

* PCR 4: boot attempt and separator (firmware), then the Authenticode digest of every image that is started: the UKI, then the kernel inside
  it, which systemd-stub before 258 has the firmware load. Under Secure Boot those stubs answer for the firmware's image check while it
  loads the kernel, and with the check its measurement is left out (read in the source, not seen in a boot; firmware without
  EFI_SECURITY2_ARCH_PROTOCOL is reported to measure all the same).
* PCR 9: the Linux EFI stub (6.1 and later) measures its load options (UTF-16, NUL included), then the initrd as it got it.
* PCR 11: for each section, its name with a NUL, then its content as in memory (systemd-stub); then one word per boot phase
  (systemd-pcrphase).
* PCR 12 and 13 stay zero without overrides, credentials, add-ons and system extensions. Behind a boot loader they are not predicted:
  systemd-boot may pass the image's own command line on, and then loader and stub both measure it into PCR 12 (seen with 252).

Sources: systemd-stub(7), systemd-measure(1), systemd-pcrphase.service(8), https://systemd.io/TPM2_PCR_MEASUREMENTS/;
systemd/systemd issue 36076 (257 loads by firmware), pull request 37372 (258 does not, and what Secure Boot changed before).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from evident.errors import Unsupported
from evident.evidence import disk, pe, uki
from evident.evidence.disk import Buffer
from evident.reference_values.pcr import Measurement, Prediction, boot_attempt

PHASES = ("enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final")
LAST_STUB_THAT_LOADS_BY_FIRMWARE = 257
STUB_THAT_LOADS_MICROCODE = 256
PASSED_ON = (
    (".pcrsig", "tpm2-pcr-signature.json", 252),
    (".pcrpkey", "tpm2-pcr-public-key.pem", 252),
    (".osrel", "os-release", 257),
    (".profile", "profile", 257),
)
"""Sections that the stub gives to user space as files, with the version that began to."""
REMOVABLE_PATH = "EFI/BOOT/BOOTX64.EFI"
TYPE_2_DIRECTORY = "EFI/Linux"
FIRST_OPTION = "the first boot option starts"
NO_OVERRIDES = "no command-line override, credential, add-on or system extension is given"


def predict_uki(
    raw: bytes,
    *,
    banks: Sequence[str] = ("sha256",),
    phases: Sequence[str] = (),
    stub_version: int | None = None,
    before: Sequence[tuple[str, bytes]] = (),
    name: str = "uki",
    secure_boot: bool = False,
) -> Prediction:
    """A UKI started by firmware, or by the images in `before` (stage name and PE bytes, such as systemd-boot).

    `phases` are the words that systemd-pcrphase has measured by the time of the quote. `stub_version` overrides what the image says.
    `secure_boot`: whether the machine enforces it.

    Raises `Malformed` (``pe.*``, ``uki.*``) and `Unsupported` (``uki.stub``, ``uki.profiles``).
    """
    parsed = uki.parse(raw)
    version = stub_version if stub_version is not None else parsed.stub_version
    sections = parsed.measured(stub_version)
    measurements = [*boot_attempt(banks)]
    measurements += [_image(image, banks, stage, stage) for stage, image in before]
    measurements.append(_image(raw, banks, "unified kernel image", "uki"))
    if version is not None and version <= LAST_STUB_THAT_LOADS_BY_FIRMWARE and not secure_boot:
        measurements.append(_image(parsed.sections[".linux"], banks, "kernel inside the image", "kernel-image"))
    command_line = parsed.command_line
    if command_line is not None:
        measurements.append(load_options(_as_passed(parsed.sections[".cmdline"], version), banks))
    if ".initrd" in parsed.sections:
        measurements.append(Measurement.of(9, _initrd(parsed, version), banks, "initrd", "initrd-as-loaded"))
    measurements += section_measurements(sections, banks)
    measurements += phase_measurements(phases, banks)
    return Prediction(
        measurements=tuple(measurements),
        unextended=() if before else (12, 13),
        artifacts={name: hashlib.sha256(raw).digest(), **{stage: hashlib.sha256(image).digest() for stage, image in before}},
        assumptions=(
            FIRST_OPTION,
            NO_OVERRIDES,
            f"systemd-stub {version}",
            f"Secure Boot {'on' if secure_boot else 'off'}",
            f"boot phases: {', '.join(phases) or 'none yet'}",
        ),
        command_line=command_line,
    )


def section_measurements(sections: Sequence[tuple[str, bytes]], banks: Sequence[str]) -> list[Measurement]:
    """PCR 11 by systemd-stub: name and content of each section."""
    stages = {".linux": "kernel", ".initrd": "initrd", ".cmdline": "cmdline"}
    result: list[Measurement] = []
    for name, content in sections:
        result.append(Measurement.of(11, name.encode() + b"\0", banks, f"name of {name}"))
        result.append(Measurement.of(11, content, banks, f"content of {name}", stages.get(name, f"uki{name}")))
    return result


def phase_measurements(phases: Sequence[str], banks: Sequence[str]) -> list[Measurement]:
    """PCR 11 by systemd-pcrphase: each phase's word."""
    return [Measurement.of(11, phase.encode(), banks, f"phase {phase}") for phase in phases]


def load_options(text: str, banks: Sequence[str]) -> Measurement:
    """PCR 9 by the Linux EFI stub: the load options that it was given."""
    return Measurement.of(9, text.encode("utf-16-le") + b"\0\0", banks, "load options", "load-options")


def predict_direct(
    kernel: bytes, initrd: bytes | None, command_line: str, *, banks: Sequence[str] = ("sha256",), kernel_as_is: bool = False
) -> Prediction:
    """Kernel, initrd and command line handed to OVMF by the VMM (QEMU -kernel), with measured boot.

    QEMU writes load addresses into the kernel's header, except for SEV guests; they depend on the memory size, so PCR 4 is predicted only
    when `kernel_as_is` says that the firmware gets the file as it is. OVMF loads the kernel before it measures a boot attempt, and appends
    ``initrd=initrd`` to the command line when there is one. Raises `Malformed` (``pe.*``) for a kernel without an EFI stub.
    """
    loaded = [_image(kernel, banks, "kernel", "kernel"), *boot_attempt(banks)]
    measurements = [*(loaded if kernel_as_is else ()), load_options(command_line + (" initrd=initrd" if initrd is not None else ""), banks)]
    artifacts = {"kernel": hashlib.sha256(kernel).digest()}
    if initrd is not None:
        measurements.append(Measurement.of(9, initrd, banks, "initrd", "initrd"))
        artifacts["initrd"] = hashlib.sha256(initrd).digest()
    kernel_note = (
        "the VMM hands the kernel over as it is" if kernel_as_is else "the VMM may write into the kernel's header: PCR 4 is left out"
    )
    return Prediction(
        measurements=tuple(measurements),
        unextended=(8, 11, 12, 13, 14),
        artifacts=artifacts,
        assumptions=("OVMF starts the kernel that the VMM hands over", kernel_note, "Linux 6.1 or later"),
        command_line=command_line,
    )


def predict_disk(
    image: Buffer,
    *,
    banks: Sequence[str] = ("sha256",),
    phases: Sequence[str] = (),
    stub_version: int | None = None,
    secure_boot: bool = False,
) -> Prediction:
    """A disk image: what \\EFI\\BOOT\\BOOTX64.EFI on its EFI system partition is, and the one UKI that it starts.

    Raises `Malformed` (``disk.*``, ``fat.*``, ``pe.*``) and `Unsupported` (``disk.boot``: another boot loader, or not exactly one UKI).
    """
    system = disk.open_system_partition(image)
    first = system.read(REMOVABLE_PATH)
    if uki.is_uki(pe.parse(first)):
        return predict_uki(first, banks=banks, phases=phases, stub_version=stub_version, name=REMOVABLE_PATH, secure_boot=secure_boot)
    candidates = [path for path in system.list(TYPE_2_DIRECTORY) if path.lower().endswith(".efi")]
    if b"#### LoaderInfo: systemd-boot " not in first or len(candidates) != 1:
        raise Unsupported.of(
            "disk.boot",
            expected="a UKI, or systemd-boot with exactly one UKI in \\EFI\\Linux",
            found=f"another loader, with {len(candidates)} images in \\EFI\\Linux" if candidates else "another boot loader",
            remedy="Predict from the UKI itself (--uki), or record a reference boot.",
        )
    chosen = system.read(candidates[0])
    return predict_uki(
        chosen,
        banks=banks,
        phases=phases,
        stub_version=stub_version,
        before=(("bootloader", first),),
        name=candidates[0],
        secure_boot=secure_boot,
    )


def _image(raw: bytes, banks: Sequence[str], what: str, stage: str) -> Measurement:
    image = pe.parse(raw)
    return Measurement(4, {bank: pe.authenticode(image, bank) for bank in banks}, what, stage)


def _as_passed(section: bytes, version: int | None) -> str:
    """systemd-stub passes the text up to a NUL; since 254 without white space and control characters at its ends."""
    text = section.split(b"\0", 1)[0].decode("utf-8", "replace")
    return text.strip("".join(map(chr, range(33)))) if version is not None and version >= 254 else text


def _initrd(parsed: uki.Uki, version: int | None) -> bytes:
    """What the stub hands to the kernel: microcode (256 and later), the initrd, and sections as archives of their own, in this order.

    Several parts are each padded to four bytes. That os-release follows was seen in a boot with 257; the others, order and padding
    were read in systemd/systemd ``src/boot/stub.c`` (017b5c04) and ``initrd.c``.
    """
    known = version or 0
    parts = [parsed.sections[".ucode"]] if ".ucode" in parsed.sections and known >= STUB_THAT_LOADS_MICROCODE else []
    parts.append(parsed.sections[".initrd"])
    parts += [_archive(file, parsed.sections[name]) for name, file, since in PASSED_ON if name in parsed.sections and known >= since]
    return parts[0] if len(parts) == 1 else b"".join(part + bytes(-len(part) % 4) for part in parts)


def _archive(file: str, content: bytes) -> bytes:
    """One file below /.extra. The archive's end is a constant in the stub, with its one hexadecimal letter in upper case."""
    end = _member(0, 0, "TRAILER!!!").replace(b"0000000b", b"0000000B")
    return _member(1, 0o40555, ".extra") + _member(2, 0o100444, f".extra/{file}", content) + end


def _member(number: int, mode: int, name: str, content: bytes = b"") -> bytes:
    """One entry of a "newc" archive as systemd-stub writes it: everything padded to four bytes."""
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
