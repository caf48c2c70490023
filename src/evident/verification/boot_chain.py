"""The boot chain that an authentic log tells: each stage by name and digest, the Secure Boot state, the command line.

Which *digest* was extended is authentic. Which *name* it deserves is read from the log's own words, so a stage whose digest does not follow
from its event's data is marked as asserted (`Stage.recomputable` False): compare it with a reference value before believing its name.
Order is authentic within one register alone; the windows between two image loads, by which loaders are told apart, therefore are the
log's word too.

Sources: TCG PFP 1.06, section 2.3.4; systemd-stub(7), "TPM PCR Notes"; GRUB manual, "Measured Boot"; shim README.tpm; Linux
Documentation/admin-guide/efi-stub and drivers/firmware/efi/libstub (load options and initrd events).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evident.evidence import efi
from evident.evidence import tcg_events as events
from evident.verification.facts import BootChain, Stage
from evident.verification.log import Authenticated, Replay, ReplayedEvent, authenticate

STUB_PAYLOAD = "55c5d1f8-04cd-46b5-8a20-e56cbb3052d0"
"""Device path node under which systemd-stub starts the kernel inside a UKI."""

_APPLICATION_REGISTERS = frozenset({"pcr4", "pcr2", "rtmr1"})  # PCR 2 for images on removable or foreign media
BOOT_REGISTERS = frozenset({"pcr4", "pcr8", "pcr9", "pcr11", "pcr12", "pcr13", "pcr14", "rtmr1", "rtmr2"})
"""What boot loaders, kernels and their parameters are measured into."""
_POLICY_REGISTERS = frozenset({"pcr7", "rtmr0"})
_SECTION_STAGES = {".linux": "kernel", ".initrd": "initrd", ".cmdline": "cmdline"}
_TABLES = {"kernel": "kernel", "initrd": "initrd", "DirectBoot Command Line": "cmdline"}


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """The Secure Boot policy as measured before the separator, by verified events alone."""

    enabled: bool | None
    """None when no verified SecureBoot variable was measured."""
    variables: Mapping[str, efi.Variable]
    """``PK``, ``KEK``, ``db``, ``dbx``, as far as they were measured."""
    authorities: tuple[efi.Variable, ...]
    """What images were actually verified against (EV_EFI_VARIABLE_AUTHORITY), in order."""

    def entries(self, name: str) -> tuple[efi.Signature, ...]:
        """The entries of a database, certificates and digests; raises `Malformed` where its data are none."""
        return efi.parse_signature_lists(self.variables[name].data) if name in self.variables else ()


def boot_chain(
    replayed: Replay,
    registers: Mapping[str, Mapping[int, bytes]],
    *,
    measured_by: Literal["tee", "vtpm"],
    bank: str | None = None,
) -> BootChain:
    """The boot chain of a log against authentic `registers` (bank to PCR, or RTMR 0 to 3, to value).

    Raises what `log.authenticate` raises: `NotAuthentic` naming every register that does not replay, `Indeterminate` without a common
    bank or register. `bank` chooses the bank in which digests are told.
    """
    return tell(authenticate(replayed, registers, bank=bank), measured_by)


def tell(authentic: Authenticated, measured_by: Literal["tee", "vtpm"]) -> BootChain:
    """The boot chain of an authenticated replay; its caveats are the names of the quirks (``log.NAME``) and what is ambiguous."""
    items = authentic.events()
    lines = _command_lines(items)
    stages = [*_stages(items, authentic.bank, lines.texts), *_unexplained(authentic)]
    caveats = [f"log.{quirk.name}" for quirk in authentic.quirks]
    if len(lines.texts) > 1:
        caveats.append("log.command-line-ambiguous")
    elif lines.texts and lines.unproven:
        caveats.append("log.command-line-unproven")
    return BootChain(
        measured_by=measured_by,
        stages=tuple(stages),
        registers=authentic.registers,
        secure_boot=secure_boot(items).enabled,
        command_line=lines.texts[0] if len(lines.texts) == 1 else None,
        caveats=tuple(caveats),
    )


def secure_boot(items: Sequence[ReplayedEvent]) -> SecureBoot:
    """The policy register's variables up to its first separator. What follows it is not the firmware's word and is not read."""
    enabled: bool | None = None
    databases: dict[str, efi.Variable] = {}
    authorities: list[efi.Variable] = []
    configured = True
    for item in items:
        if item.register not in _POLICY_REGISTERS:
            continue
        if isinstance(item.decoded, events.Separator):
            configured = False
        if not isinstance(item.decoded, efi.Variable) or not item.verified:
            continue
        variable = item.decoded
        if item.event.type == events.EV_EFI_VARIABLE_AUTHORITY:
            authorities.append(variable)
        elif configured and item.event.type == events.EV_EFI_VARIABLE_DRIVER_CONFIG:
            if (variable.vendor, variable.name) == (efi.GLOBAL_VARIABLE, "SecureBoot"):
                enabled = variable.data == b"\x01"
            elif variable.vendor in (efi.GLOBAL_VARIABLE, efi.IMAGE_SECURITY_DATABASE) and variable.name in ("PK", "KEK", "db", "dbx"):
                databases[variable.name] = variable
    return SecureBoot(enabled, databases, tuple(authorities))


@dataclass(frozen=True, slots=True)
class _CommandLines:
    """What verified events say of the kernel's command line."""

    texts: tuple[str, ...]
    """Distinct ones, in order; more than one means that nobody can tell which kernel was started."""
    unproven: bool
    """The register also holds events whose text does not follow from their digest: one of them may hide another command."""


_LINUX_COMMANDS = ("linux ", "linuxefi ", "linux16 ")
_QUOTING = str.maketrans("", "", "\"'\\")


def _command_lines(items: Sequence[ReplayedEvent]) -> _CommandLines:
    """GRUB's digests cover a text without its label, so every command that loads a kernel is read as well, whatever it is labelled."""
    told: dict[str, str] = {}
    registers: set[str] = set()
    for item in items:
        text = _command_line(item) if item.verified else None
        if text is None:
            continue
        told.setdefault(text.translate(_QUOTING).strip(), text)
        if isinstance(item.decoded, events.Ipl) and item.decoded.source == "kernel-cmdline":
            told[text.translate(_QUOTING).strip()] = text  # as the kernel got it, its quotes included
        registers.add(item.register)
    hidden = any(item.register in registers and not item.verified for item in items)
    return _CommandLines(tuple(told.values()), hidden)


def _command_line(item: ReplayedEvent) -> str | None:
    match item.decoded:
        case events.Ipl(source="kernel-cmdline" | "loader-text", text=text):
            return text
        case events.Ipl(source="grub-command", text=text) if text.startswith(_LINUX_COMMANDS):
            return text.split(" ", 1)[1]
        case events.ShimTable(name="td_payload_info", data=data):
            return data.split(b"\0", 1)[0].decode("utf-8", "replace")
        case _:
            return None


def _unexplained(authentic: Authenticated) -> list[Stage]:
    """Registers of the boot that were extended by what this log does not tell: a log with those events cut out must not look whole."""
    return [
        Stage("unexplained", value, authentic.bank, f"{name} was extended by what the log does not tell", recomputable=False, register=name)
        for name, value in authentic.registers.items()
        if name in BOOT_REGISTERS and name not in authentic.explained and value.strip(b"\0")
    ]


def _stages(items: Sequence[ReplayedEvent], bank: str, lines: Sequence[str]) -> list[Stage]:
    images = [index for index, item in enumerate(items) if _is_application(item)]
    names = dict(zip(images, _image_names(items, images), strict=True))
    stages: list[Stage] = []
    section = ""  # systemd-stub measures each section's name, then its content under the same event data
    kernel_path = next((line.split(" ", 1)[0] for line in lines), "")
    for index, item in enumerate(items):
        decoded = item.decoded
        if index in names:
            stages.append(_stage(names[index], item, bank, f"image {decoded}"))
        elif isinstance(decoded, events.Ipl) and decoded.source == "stub-section":
            if item.verified:
                section = decoded.text
            elif decoded.text == section:
                stages.append(_stage(_SECTION_STAGES.get(section, f"uki{section}"), item, bank, f"content of the UKI's section {section}"))
                section = ""
        elif (name := _plain_name(item, kernel_path)) is not None:
            stages.append(_stage(name, item, bank, str(decoded)))
    return _distinct(stages)


def _stage(name: str, item: ReplayedEvent, bank: str, description: str) -> Stage:
    first_line = description.splitlines()[0] if description else ""
    return Stage(name, item.event.digests[bank], bank, first_line, recomputable=item.verified, register=item.register)


def _is_application(item: ReplayedEvent) -> bool:
    return item.event.type == events.EV_EFI_BOOT_SERVICES_APPLICATION and item.register in _APPLICATION_REGISTERS


def _plain_name(item: ReplayedEvent, kernel_path: str) -> str | None:
    """The stage that one event is by itself, or None for what is no stage (variables, separators, single GRUB commands)."""
    decoded, kind = item.decoded, item.event.type
    match decoded:
        case events.FirmwareBlob():
            return "firmware" if item.register in ("pcr0", "rtmr0", "pcr2") else "payload"
        case events.ImageLoad():
            return "option-rom"
        case events.ShimTable(name="td_payload_info"):
            return "cmdline"
        case events.Text(text) if kind == events.EV_PLATFORM_CONFIG_FLAGS and item.register in ("rtmr1", "pcr4", "pcr5"):
            return _TABLES.get(text)
        case events.Text() if kind in (events.EV_S_CRTM_VERSION, events.EV_S_CRTM_CONTENTS):
            return "firmware"
        case events.Tagged(tag=events.TAG_INITRD):
            return "initrd"
        case events.Tagged(name="linux-load-options"):
            return "cmdline"
        case events.Tagged(name=name) if name.startswith("systemd-"):
            return name.removeprefix("systemd-")
        case events.Ipl(source="kernel-cmdline" | "loader-text"):
            return "cmdline"
        case events.Ipl(source="grub-file", text=text):
            return _grub_file(text, kernel_path)
        case _:
            return None


def _grub_file(text: str, kernel_path: str) -> str:
    name = text.rsplit("/", 1)[-1]
    if text == "Kernel" or (kernel_path and text.endswith(kernel_path.rsplit(")", 1)[-1])):
        return "kernel"
    if text == "Initrd" or name.startswith(("initrd", "initramfs")):
        return "initrd"
    return "bootloader-file"


def _image_names(items: Sequence[ReplayedEvent], images: Sequence[int]) -> list[str]:
    names: list[str] = []
    for start, end in zip(images, [*images[1:], len(items)], strict=False):
        names.append(_image_name(items[start], items[start + 1 : end], items[end] if end < len(items) else None, names))
    return names


def _image_name(item: ReplayedEvent, window: Sequence[ReplayedEvent], follower: ReplayedEvent | None, before: Sequence[str]) -> str:
    """By device path and file name where they say it, else by what loads what, else by what was measured before the next image."""
    path = item.decoded.path if isinstance(item.decoded, events.ImageLoad) else ()
    text = efi.path_text(path)
    if STUB_PAYLOAD in text or efi.QEMU_KERNEL_LOADER in text:
        return "kernel"
    if "FvFile(" in text:
        return "firmware-application"
    if follower is not None and STUB_PAYLOAD in str(follower.decoded):
        return "uki"
    if (named := _name_by_file(efi.file_path(path) or "")) is not None:
        return named
    if not path and before:  # shim and GRUB load from memory: the first such image after shim is the boot loader, then comes the kernel
        return "kernel" if "bootloader" in before else "bootloader"
    return _name_by_window(window, follower)


def _name_by_file(path: str) -> str | None:
    name = path.replace("/", "\\").rsplit("\\", 1)[-1].lower()
    for prefixes, stage in _FILE_NAMES:
        if name.startswith(prefixes):
            return stage
    return None


_FILE_NAMES = (
    (("shim",), "shim"),
    (("fbx64", "fbaa64"), "fallback"),
    (("grub", "systemd-boot", "bootmgfw"), "bootloader"),
    (("vmlinuz", "bzimage"), "kernel"),
)
_SHIM_START = frozenset({"SbatLevel", "MokListTrusted", "MokListRT"})


def _name_by_window(window: Sequence[ReplayedEvent], follower: ReplayedEvent | None) -> str:
    """The boot path \\EFI\\BOOT\\BOOTX64.EFI may be anything; what it measures tells."""
    decoded = [item.decoded for item in window]
    sources = {form.source for form in decoded if isinstance(form, events.Ipl)}
    started = {form.name for form in decoded if isinstance(form, efi.Variable) and form.vendor == efi.SHIM_LOCK} & _SHIM_START
    pathless = follower is not None and isinstance(follower.decoded, events.ImageLoad) and not follower.decoded.path
    if "shim" in sources or started:
        return "shim"
    if "stub-section" in sources:
        return "uki"
    if sources & {"grub-command", "grub-file", "kernel-cmdline", "module-cmdline"}:
        return "bootloader"
    if pathless:
        return "shim"
    if any(isinstance(form, events.Tagged) and form.name.startswith("linux-") for form in decoded):
        return "kernel"
    return "efi-application" if follower is None else "bootloader"


def _distinct(stages: list[Stage]) -> list[Stage]:
    """One meaning per name: the PE image beside the file that GRUB or the stub measured, and the Linux stub's own record of what it got."""
    contents = {stage.name for stage in stages if not stage.description.startswith(("image ", "linux-"))}
    renamed: list[Stage] = []
    for stage in stages:
        name = stage.name
        if name == "kernel" and name in contents and stage.description.startswith("image "):
            name = "kernel-image"
        elif name in ("initrd", "cmdline") and name in contents and stage.description.startswith("linux-"):
            name = "load-options" if name == "cmdline" else "initrd-as-loaded"
        renamed.append(Stage(name, stage.digest, stage.algorithm, stage.description, stage.recomputable, stage.register))
    return list(dict.fromkeys(renamed))
