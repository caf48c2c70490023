"""What the data of a firmware event says: one frozen dataclass per form.

Source: TCG PC Client Platform Firmware Profile 1.06, sections 10.2 and 10.4 (event types and their data), 10.4.5 (no-action events); the
IPL and tagged events of GRUB, shim, systemd-boot, systemd-stub and the Linux EFI stub as their projects document them.

`decode` reads, it does not judge: a log's text is whatever its writer wrote. Whether an event's digest follows from its data is decided
in `verification.log_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from evident.errors import Malformed
from evident.evidence import efi
from evident.evidence.reader import Reader
from evident.evidence.tcg_log import EV_NO_ACTION, LogEvent

WHAT = "tcg.event"

EV_SEPARATOR = 0x04
EV_EVENT_TAG = 0x06
EV_S_CRTM_CONTENTS = 0x07
EV_S_CRTM_VERSION = 0x08
EV_PLATFORM_CONFIG_FLAGS = 0x0A
EV_IPL = 0x0D
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
EV_EFI_HANDOFF_TABLES = 0x80000009
EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
EV_EFI_HANDOFF_TABLES2 = 0x8000000B
EV_EFI_VARIABLE_BOOT2 = 0x8000000C
EV_EFI_HCRTM_EVENT = 0x80000010
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
EV_RUNTIME = 0x08000001
"""dstack's events after the boot, into RTMR 3; the data are name, colon and payload."""

TYPE_NAMES: Mapping[int, str] = MappingProxyType(
    {
        0x00: "EV_PREBOOT_CERT",
        0x01: "EV_POST_CODE",
        0x02: "EV_UNUSED",
        EV_NO_ACTION: "EV_NO_ACTION",
        EV_SEPARATOR: "EV_SEPARATOR",
        0x05: "EV_ACTION",
        EV_EVENT_TAG: "EV_EVENT_TAG",
        EV_S_CRTM_CONTENTS: "EV_S_CRTM_CONTENTS",
        EV_S_CRTM_VERSION: "EV_S_CRTM_VERSION",
        0x09: "EV_CPU_MICROCODE",
        EV_PLATFORM_CONFIG_FLAGS: "EV_PLATFORM_CONFIG_FLAGS",
        0x0B: "EV_TABLE_OF_DEVICES",
        0x0C: "EV_COMPACT_HASH",
        EV_IPL: "EV_IPL",
        0x0E: "EV_IPL_PARTITION_DATA",
        0x0F: "EV_NONHOST_CODE",
        0x10: "EV_NONHOST_CONFIG",
        0x11: "EV_NONHOST_INFO",
        0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
        0x13: "EV_POST_CODE2",
        EV_EFI_VARIABLE_DRIVER_CONFIG: "EV_EFI_VARIABLE_DRIVER_CONFIG",
        EV_EFI_VARIABLE_BOOT: "EV_EFI_VARIABLE_BOOT",
        EV_EFI_BOOT_SERVICES_APPLICATION: "EV_EFI_BOOT_SERVICES_APPLICATION",
        EV_EFI_BOOT_SERVICES_DRIVER: "EV_EFI_BOOT_SERVICES_DRIVER",
        EV_EFI_RUNTIME_SERVICES_DRIVER: "EV_EFI_RUNTIME_SERVICES_DRIVER",
        EV_EFI_GPT_EVENT: "EV_EFI_GPT_EVENT",
        EV_EFI_ACTION: "EV_EFI_ACTION",
        EV_EFI_PLATFORM_FIRMWARE_BLOB: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
        EV_EFI_HANDOFF_TABLES: "EV_EFI_HANDOFF_TABLES",
        EV_EFI_PLATFORM_FIRMWARE_BLOB2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
        EV_EFI_HANDOFF_TABLES2: "EV_EFI_HANDOFF_TABLES2",
        EV_EFI_VARIABLE_BOOT2: "EV_EFI_VARIABLE_BOOT2",
        EV_EFI_HCRTM_EVENT: "EV_EFI_HCRTM_EVENT",
        EV_EFI_VARIABLE_AUTHORITY: "EV_EFI_VARIABLE_AUTHORITY",
        EV_RUNTIME: "RUNTIME_EVENT",
        0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
        0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
        0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
        0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
    }
)

# Tags of EV_EVENT_TAG: the Linux EFI stub's, and systemd's (https://systemd.io/TPM2_PCR_MEASUREMENTS/).
TAG_LOAD_OPTIONS = 0x8F3B22ED
TAG_INITRD = 0x8F3B22EC
TAG_NAMES: Mapping[int, str] = MappingProxyType(
    {
        TAG_INITRD: "linux-initrd",
        TAG_LOAD_OPTIONS: "linux-load-options",
        0xF5BC582A: "systemd-loader-conf",
        0x6C46F751: "systemd-devicetree-addon",
        0x49DFFE0F: "systemd-initrd-addon",
        0xDAC08E1A: "systemd-ucode-addon",
        0x13AED6DB: "systemd-uki-profile",
    }
)
BARE_LOAD_OPTIONS = b"LOADED_IMAGE::LoadOptions\0"
SHIM_NAMES = frozenset({"MokList", "MokListX", "MokSBState", "MokListTrusted", "MokDBState", "MokPolicy", "Shim", "SbatLevel", "MokListRT"})

IplSource = Literal[
    "grub-command", "grub-file", "kernel-cmdline", "module-cmdline", "shim", "stub-section", "loader-text", "text", "binary"
]


@dataclass(frozen=True, slots=True)
class Separator:
    """The boundary between firmware and what it starts; `error` when the firmware says that measuring failed (PFP 2.3.4)."""

    value: bytes

    @property
    def error(self) -> bool:
        return self.value == b"\x01\0\0\0"

    def __str__(self) -> str:
        return "error" if self.error else self.value.hex()


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text: an EFI action, a post code, a CRTM version."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Ipl:
    """EV_IPL: what a boot loader says that it measured."""

    source: IplSource
    text: str
    """Without the loader's own prefix."""

    def __str__(self) -> str:
        return f"{self.source}: {self.text}"


@dataclass(frozen=True, slots=True)
class ImageLoad:
    """UEFI_IMAGE_LOAD_EVENT: a PE image that was started. `trailing` is what old shims log behind it."""

    address: int
    length: int
    link_time_address: int
    path: tuple[efi.PathNode, ...]
    trailing: bytes

    def __str__(self) -> str:
        return efi.path_text(self.path) or "image without a path"


@dataclass(frozen=True, slots=True)
class FirmwareBlob:
    """UEFI_PLATFORM_FIRMWARE_BLOB and BLOB2."""

    description: str
    address: int
    length: int

    def __str__(self) -> str:
        return f"{self.description or 'firmware'} at {self.address:#x}, {self.length:#x} bytes"


@dataclass(frozen=True, slots=True)
class HandoffTables:
    """UEFI_HANDOFF_TABLE_POINTERS and POINTERS2: which tables the firmware handed over, not their contents."""

    description: str
    tables: tuple[tuple[str, int], ...]
    """Vendor GUID and address."""

    def __str__(self) -> str:
        return ", ".join([self.description, *(table for table, _ in self.tables)]).strip(", ")


@dataclass(frozen=True, slots=True)
class Tagged:
    """TCG_PCClientTaggedEvent; `tag` is None where the writer left the frame out."""

    tag: int | None
    data: bytes

    @property
    def name(self) -> str:
        if self.tag is None:
            return "linux-load-options"
        return TAG_NAMES.get(self.tag, f"{self.tag:#010x}")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class StartupLocality:
    """PFP 10.4.5.3: the locality of TPM2_Startup, which is PCR 0's initial value."""

    locality: int

    def __str__(self) -> str:
        return f"startup locality {self.locality}"


@dataclass(frozen=True, slots=True)
class PlatformId:
    """SP 800-155 platform identification (PFP 10.4.5.2), by the versions 1 to 3 of its event."""

    version: int
    manifest: str
    """GUID of the reference manifest."""
    strings: tuple[str, ...]
    """Platform manufacturer, model, version, firmware manufacturer, firmware version; empty in version 1."""
    locator: bytes

    def __str__(self) -> str:
        return " ".join(("reference manifest", self.manifest, *self.strings))


@dataclass(frozen=True, slots=True)
class NonHostInfo:
    """EV_NONHOST_INFO of virtual machines: a name, then the host's own bytes (such as which confidential technology is on)."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.name}: {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class ShimTable:
    """td-shim's TD_HOB and payload parameters: a name in 16 bytes, a length, and the data that are measured (td-shim specification, 4)."""

    name: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.name} ({len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """What an agent inside the guest measured after the boot: its own word, authentic in order."""

    name: str
    payload: bytes

    def __str__(self) -> str:
        return f"{self.name}: {self.payload[:64].hex()}"


@dataclass(frozen=True, slots=True)
class Opaque:
    """Data of no form known here."""

    data: bytes

    def __str__(self) -> str:
        return f"{len(self.data)} bytes" if len(self.data) > 32 else self.data.hex()


Decoded: TypeAlias = (
    Separator
    | Text
    | Ipl
    | ImageLoad
    | FirmwareBlob
    | HandoffTables
    | Tagged
    | StartupLocality
    | PlatformId
    | NonHostInfo
    | ShimTable
    | RuntimeEvent
    | Opaque
    | efi.Variable
    | efi.PartitionTable
)


def type_name(kind: int) -> str:
    """``EV_...`` or the number of an unknown type."""
    return TYPE_NAMES.get(kind, f"{kind:#010x}")


def decode(event: LogEvent) -> Decoded:
    """The data of `event` by its type; raises `Malformed` where they do not have the form of their type."""
    decoder = _DECODERS.get(event.type)
    return decoder(event.data) if decoder else Opaque(event.data)


def _separator(data: bytes) -> Separator:
    if len(data) != 4:
        raise Malformed.of(f"{WHAT}.separator", expected="4 bytes", found=data[:16].hex(), remedy="The log was altered.")
    return Separator(data)


_BLANKS = str.maketrans("\n\t", "  ")


def _printable(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.translate(_BLANKS).isprintable() else None


def _wide(data: bytes) -> str | None:
    """UTF-16 LE text, its NUL whole, halved (old systemd-boot) or absent."""
    even = data + b"\0" if len(data) % 2 else data
    if len(even) < 4 or even[1]:
        return None
    try:
        text = even.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _text(data: bytes) -> Decoded:
    for text in (_wide(data), _printable(data.rstrip(b"\0"))):
        if text:
            return Text(text)
    return Opaque(data)


def _post_code(data: bytes) -> Decoded:
    text = _printable(data)
    if text or len(data) != 16:
        return Text(text) if text else _blob2(data)
    return _blob(data)


def _ipl(data: bytes) -> Ipl:
    wide = _wide(data)
    if wide is not None:
        return Ipl("stub-section" if wide.startswith(".") and " " not in wide else "loader-text", wide)
    text = _printable(data.rstrip(b"\0"))
    if text is None:
        return Ipl("binary", data.hex())
    for prefix, source in IPL_PREFIXES.items():
        if text.startswith(prefix):
            return Ipl(source, text[len(prefix) :])
    if text in SHIM_NAMES:
        return Ipl("shim", text)
    return Ipl("grub-file" if text.startswith(("/", "(")) else "text", text)


# GRUB upstream writes "name: value"; the Red Hat branch writes "name value".
IPL_PREFIXES: Mapping[str, IplSource] = MappingProxyType(
    {
        "grub_cmd: ": "grub-command",
        "grub_cmd ": "grub-command",
        "kernel_cmdline: ": "kernel-cmdline",
        "grub_kernel_cmdline ": "kernel-cmdline",
        "module_cmdline: ": "module-cmdline",
        "grub_linuxefi ": "grub-file",
    }
)


def _image_load(data: bytes) -> ImageLoad:
    reader = Reader(data, WHAT + ".image")
    address, length, link = reader.u64("address"), reader.u64("length"), reader.u64("link-time address")
    raw = reader.take(reader.u64("path length"), "device path")
    return ImageLoad(address, length, link, efi.parse_device_path(raw) if raw else (), reader.take(reader.remaining, "rest"))


def _blob(data: bytes) -> FirmwareBlob:
    reader = Reader(data, WHAT + ".blob")
    blob = FirmwareBlob("", reader.u64("base"), reader.u64("length"))
    reader.end()
    return blob


def _described(reader: Reader) -> str:
    return reader.take(reader.u8("description size"), "description").decode("latin-1").rstrip("\0")


def _blob2(data: bytes) -> FirmwareBlob:
    reader = Reader(data, WHAT + ".blob")
    blob = FirmwareBlob(_described(reader), reader.u64("base"), reader.u64("length"))
    reader.end()
    return blob


def _handoff(data: bytes) -> HandoffTables:
    return _handoff_tables(Reader(data, WHAT + ".handoff"), "")


def _handoff2(data: bytes) -> HandoffTables:
    reader = Reader(data, WHAT + ".handoff")
    return _handoff_tables(reader, _described(reader))


def _handoff_tables(reader: Reader, description: str) -> HandoffTables:
    count = reader.u64("number of tables")
    if count > reader.remaining // 24:
        raise Malformed.of(f"{WHAT}.handoff", expected="the tables declared", found=f"{count} tables", remedy="The log was altered.")
    tables = tuple((efi.guid(reader.take(16, "GUID")), reader.u64("address")) for _ in range(count))
    reader.end()
    return HandoffTables(description, tables)


def _tagged(data: bytes) -> Tagged:
    if data == BARE_LOAD_OPTIONS:
        return Tagged(None, data)
    reader = Reader(data, WHAT + ".tag")
    tag = reader.u32("tag")
    content = reader.take(reader.u32("size"), "data")
    reader.end()
    return Tagged(tag, content)


def _configuration(data: bytes) -> Decoded:
    length = int.from_bytes(data[16:20], "little")
    name = _printable(data[:16].rstrip(b"\0"))
    if name and len(data) >= 20 and b"\0" in data[:16] and length == len(data) - 20:
        return ShimTable(name, data[20:])
    return _text(data)


def _runtime(data: bytes) -> RuntimeEvent:
    name, _, payload = data.partition(b":")
    return RuntimeEvent(name.decode("utf-8", "replace"), payload)


def _non_host(data: bytes) -> Decoded:
    name, nul, rest = data.partition(b"\0")
    text = _printable(name)
    return NonHostInfo(text, rest) if text and nul else Opaque(data)


def _no_action(data: bytes) -> Decoded:
    if data[:16] == b"StartupLocality\0":
        reader = Reader(data, WHAT + ".locality")
        reader.take(16, "signature")
        locality = reader.u8("locality")
        reader.end()
        if locality not in (0, 3, 4):
            raise Malformed.of(f"{WHAT}.locality", expected="locality 0, 3 or 4", found=str(locality), remedy="The log was altered.")
        return StartupLocality(locality)
    for version, signature in enumerate((b"SP800-155 Event\0", b"SP800-155 Event2", b"SP800-155 Event3"), start=1):
        if data[:16] == signature:
            return _platform_id(Reader(data, WHAT + ".platform"), version)
    return Opaque(data)


def _platform_id(reader: Reader, version: int) -> PlatformId:
    reader.take(16, "signature")
    reader.u32("manufacturer")
    manifest = efi.guid(reader.take(16, "reference manifest"))
    strings: list[str] = []
    locator = b""
    if version > 1:
        for field in ("platform manufacturer", "platform model", "platform version", "firmware manufacturer"):
            strings.append(reader.take(reader.u8(field + " size"), field).decode("utf-8", "replace").rstrip("\0"))
        reader.u32("firmware manufacturer number")
        strings.append(reader.take(reader.u8("firmware version size"), "firmware version").decode("utf-8", "replace").rstrip("\0"))
    if version > 2:
        reader.u32("locator type")
        locator = reader.take(reader.u32("locator size"), "reference manifest locator")
        reader.u32("certificate locator type")
        reader.take(reader.u32("certificate locator size"), "platform certificate locator")
    return PlatformId(version, manifest, tuple(strings), locator)


_DECODERS: Mapping[int, Callable[[bytes], Decoded]] = MappingProxyType(
    {
        EV_NO_ACTION: _no_action,
        0x01: _post_code,
        0x13: _post_code,
        EV_SEPARATOR: _separator,
        0x05: _text,
        EV_EVENT_TAG: _tagged,
        EV_S_CRTM_CONTENTS: _text,
        EV_S_CRTM_VERSION: _text,
        EV_PLATFORM_CONFIG_FLAGS: _configuration,
        0x0C: _text,
        EV_IPL: _ipl,
        0x11: _non_host,
        EV_RUNTIME: _runtime,
        EV_EFI_VARIABLE_DRIVER_CONFIG: efi.parse_variable,
        EV_EFI_VARIABLE_BOOT: efi.parse_variable,
        EV_EFI_VARIABLE_BOOT2: efi.parse_variable,
        EV_EFI_VARIABLE_AUTHORITY: efi.parse_variable,
        EV_EFI_BOOT_SERVICES_APPLICATION: _image_load,
        EV_EFI_BOOT_SERVICES_DRIVER: _image_load,
        EV_EFI_RUNTIME_SERVICES_DRIVER: _image_load,
        EV_EFI_GPT_EVENT: efi.parse_gpt,
        EV_EFI_ACTION: _text,
        EV_EFI_PLATFORM_FIRMWARE_BLOB: _blob,
        EV_EFI_PLATFORM_FIRMWARE_BLOB2: _blob2,
        EV_EFI_HANDOFF_TABLES: _handoff,
        EV_EFI_HANDOFF_TABLES2: _handoff2,
    }
)
