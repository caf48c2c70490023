"""Structures of UEFI that event data carries: variables, signature databases, device paths, partition tables.

Source: UEFI Specification 2.10, sections 3.1.3 (load options), 5.3 (GPT), 10.3 (device paths), 32.4.1 (EFI_SIGNATURE_LIST); TCG PFP 1.06,
section 10.2.6 (UEFI_VARIABLE_DATA). All integers little endian.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.errors import Malformed
from evident.evidence.reader import Reader

MAX_NODES = 128
MAX_NAME_CHARACTERS = 4096
MAX_PARTITIONS = 1024
MAX_SIGNATURES = 65536

_BOOT_OPTION = re.compile(r"Boot[0-9A-F]{4}")
GLOBAL_VARIABLE = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
IMAGE_SECURITY_DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SHIM_LOCK = "605dab50-e046-4300-abb6-3dd810dd8b23"
QEMU_KERNEL_LOADER = "1428f772-b64a-441e-b8c3-9ebdd7f893c7"

SIGNATURE_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "x509",
        "c1c41626-504c-4092-aca9-41f936934328": "sha256",
        "826ca512-cf10-4ac9-b187-be01496631bd": "sha1",
        "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "sha384",
        "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "sha512",
        "3c5766e8-269c-4e34-aa14-ed776e85b3b6": "rsa2048",
        "3bd2a492-96c0-4079-b420-fcf98ef103ed": "x509-sha256",
    }
)


@dataclass(frozen=True, slots=True)
class Variable:
    """UEFI_VARIABLE_DATA. `trailing` is what some firmware and old shims log behind the variable's own data."""

    vendor: str
    name: str
    data: bytes
    trailing: bytes

    def __str__(self) -> str:
        if self.vendor == GLOBAL_VARIABLE and _BOOT_OPTION.fullmatch(self.name):
            try:
                return f"{self.name}: {parse_load_option(self.data)}"
            except Malformed:  # a vendor's own form: then it is so many bytes
                pass
        if (self.vendor, self.name) == (GLOBAL_VARIABLE, "BootOrder") and len(self.data) % 2 == 0:
            numbers = (int.from_bytes(self.data[at : at + 2], "little") for at in range(0, len(self.data), 2))
            return f"{self.name}: " + " ".join(f"{number:04X}" for number in numbers)
        return f"{self.name} ({len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry of a signature database: a certificate (DER), or the digest of an image."""

    kind: str
    """``x509``, ``sha256`` ..., or the GUID of an unknown kind."""
    owner: str
    data: bytes


@dataclass(frozen=True, slots=True)
class PathNode:
    """One node of a device path; `text` follows the UEFI text form where the node is known, else hex."""

    type: int
    subtype: int
    data: bytes
    text: str


@dataclass(frozen=True, slots=True)
class LoadOption:
    """A Boot#### variable. The first path is the one that boots; vendors append their own."""

    attributes: int
    description: str
    paths: tuple[tuple[PathNode, ...], ...]
    optional_data: bytes

    def __str__(self) -> str:
        return f"{self.description!r}, {path_text(self.paths[0]) if self.paths else 'without a path'}"


@dataclass(frozen=True, slots=True)
class Partition:
    """One entry of a GUID partition table; sectors inclusive."""

    type: str
    guid: str
    first: int
    last: int
    attributes: int
    name: str


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """UEFI_GPT_DATA: the header's disk GUID and the partitions in use."""

    disk: str
    partitions: tuple[Partition, ...]

    def __str__(self) -> str:
        return f"disk {self.disk}, {len(self.partitions)} partitions"


def guid(raw: bytes) -> str:
    """Text form of 16 bytes in EFI_GUID order."""
    text = raw[3::-1].hex(), raw[5:3:-1].hex(), raw[7:5:-1].hex(), raw[8:10].hex(), raw[10:16].hex()
    return "-".join(text)


def utf16(raw: bytes, what: str) -> str:
    """UTF-16 LE text up to its first NUL."""
    try:
        return raw.decode("utf-16-le").split("\0", 1)[0]
    except UnicodeDecodeError:
        raise Malformed.of(f"{what}.text", expected="UTF-16 text", found=raw[:32].hex(), remedy="The data was altered.") from None


def parse_variable(raw: bytes) -> Variable:
    """UEFI_VARIABLE_DATA: vendor GUID, name length in characters, data length, name, data."""
    what = "efi.variable"
    reader = Reader(raw, what)
    vendor = guid(reader.take(16, "vendor GUID"))
    characters, length = reader.u64("name length"), reader.u64("data length")
    if characters > MAX_NAME_CHARACTERS:
        raise Malformed.of(
            f"{what}.name", expected=f"at most {MAX_NAME_CHARACTERS} characters", found=str(characters), remedy="The data was altered."
        )
    name = utf16(reader.take(2 * characters, "name"), what)
    data = reader.take(length, "data")
    return Variable(vendor, name, data, reader.take(reader.remaining, "rest"))


def parse_signature_lists(raw: bytes) -> tuple[Signature, ...]:
    """Every entry of the EFI_SIGNATURE_LISTs of db, dbx, KEK or PK; empty data is an empty database."""
    what = "efi.signatures"
    reader = Reader(raw, what)
    entries: list[Signature] = []
    while reader.remaining:
        kind = guid(reader.take(16, "signature type"))
        total, header, size = reader.u32("list size"), reader.u32("header size"), reader.u32("signature size")
        body = total - 28 - header
        if body < 0 or size < 16 or body % size or len(entries) + body // size > MAX_SIGNATURES:
            raise Malformed.of(
                f"{what}.sizes",
                expected="a list of whole entries",
                found=f"list {total}, header {header}, entry {size}",
                remedy="Read it again.",
            )
        reader.take(header, "list header")
        for _ in range(body // size):
            owner = guid(reader.take(16, "owner"))
            entries.append(Signature(SIGNATURE_KINDS.get(kind, kind), owner, reader.take(size - 16, "signature")))
    return tuple(entries)


def parse_device_path(raw: bytes) -> tuple[PathNode, ...]:
    """Nodes up to the end-of-entire-path node, which is demanded and not returned; nothing may follow it."""
    reader = Reader(raw, "efi.path")
    nodes = _take_path(reader)
    reader.end()
    return nodes


def _take_path(reader: Reader) -> tuple[PathNode, ...]:
    nodes: list[PathNode] = []
    while len(nodes) <= MAX_NODES:
        kind, subtype, length = reader.u8("type"), reader.u8("subtype"), reader.u16("length")
        data = reader.take(length - 4, "node")
        if kind == 0x7F and subtype == 0xFF:
            return tuple(nodes)
        nodes.append(PathNode(kind, subtype, data, _node_text(kind, subtype, data)))
    raise Malformed.of("efi.path.nodes", expected=f"at most {MAX_NODES} nodes", found="more", remedy="The data was altered.")


def path_text(path: tuple[PathNode, ...]) -> str:
    """The whole path in text form."""
    return "/".join(node.text for node in path)


def file_path(path: tuple[PathNode, ...]) -> str | None:
    """The file that a path names, its parts joined, or None."""
    parts = [utf16_lenient(node.data) for node in path if (node.type, node.subtype) == (4, 4)]
    return "\\".join(part.strip("\\") for part in parts) if parts else None


def utf16_lenient(raw: bytes) -> str:
    """UTF-16 text for display only: what does not decode is replaced."""
    return raw.decode("utf-16-le", "replace").split("\0", 1)[0]


def _node_text(kind: int, subtype: int, data: bytes) -> str:
    """The UEFI text form of the nodes met on real machines; others as Path(type,subtype,hex) (UEFI 10.6)."""
    number = int.from_bytes
    match (kind, subtype, len(data)):
        case (1, 1, 2):
            return f"Pci({data[1]:#x},{data[0]:#x})"
        case (1, 3, 20):
            return f"MemoryMapped({number(data[:4], 'little')},{number(data[4:12], 'little'):#x},{number(data[12:], 'little'):#x})"
        case (1, 4, size) if size >= 16:
            return f"VenHw({guid(data[:16])})"
        case (2, 1, 8):
            hid, unique = number(data[:4], "little"), number(data[4:], "little")
            return f"PciRoot({unique:#x})" if hid == 0x0A0341D0 else f"Acpi({hid:#010x},{unique:#x})"
        case (3, 2, 4):
            return f"Scsi({number(data[:2], 'little'):#x},{number(data[2:], 'little'):#x})"
        case (3, 5, 2):
            return f"USB({data[0]:#x},{data[1]:#x})"
        case (3, 11, 33):
            return f"MAC({data[:6].hex()},{data[32]:#x})"
        case (3, 18, 6):
            return f"Sata({number(data[:2], 'little'):#x},{number(data[2:4], 'little'):#x},{number(data[4:], 'little'):#x})"
        case (3, 23, 12):
            return f"NVMe({number(data[:4], 'little'):#x},{data[4:].hex('-')})"
        case (3, 24, _):
            return f"Uri({data.decode('ascii', 'replace')})"
        case (4, 1, 38):
            return _hard_drive_text(data)
        case (4, 3, size) if size >= 16:
            return f"VenMedia({guid(data[:16])})"
        case (4, 4, _):
            return utf16_lenient(data)
        case (4, 6, 16):
            return f"FvFile({guid(data)})"
        case (4, 7, 16):
            return f"Fv({guid(data)})"
        case (4, 8, 20):
            return f"Offset({number(data[4:12], 'little'):#x},{number(data[12:], 'little'):#x})"
        case _:
            return f"Path({kind},{subtype},{data.hex()})"


def _hard_drive_text(data: bytes) -> str:
    number = int.from_bytes(data[:4], "little")
    start, size = int.from_bytes(data[4:12], "little"), int.from_bytes(data[12:20], "little")
    if data[37] == 2:  # signature type GUID
        return f"HD({number},GPT,{guid(data[20:36])},{start:#x},{size:#x})"
    return f"HD({number},MBR,{int.from_bytes(data[20:24], 'little'):#010x},{start:#x},{size:#x})"


def parse_load_option(raw: bytes) -> LoadOption:
    """EFI_LOAD_OPTION: attributes, length of the paths, description, device paths, optional data."""
    what = "efi.load_option"
    reader = Reader(raw, what)
    attributes, length = reader.u32("attributes"), reader.u16("path length")
    description: list[bytes] = []
    while (unit := reader.take(2, "description")) != b"\0\0":
        description.append(unit)
    listed = Reader(reader.take(length, "device paths"), what)
    paths: list[tuple[PathNode, ...]] = []
    while listed.remaining:
        paths.append(_take_path(listed))
    return LoadOption(attributes, utf16(b"".join(description), what), tuple(paths), reader.take(reader.remaining, "optional data"))


def parse_gpt(raw: bytes) -> PartitionTable:
    """UEFI_GPT_DATA: the 92-byte header, the number of partitions, their entries (PFP 10.2.5)."""
    what = "efi.gpt"
    reader = Reader(raw, what)
    header = Reader(reader.take(92, "header"), what)
    if header.take(8, "signature") != b"EFI PART":
        raise Malformed.of(f"{what}.signature", expected="EFI PART", found=raw[:8].hex(), remedy="The data was altered.")
    header.take(48, "header fields")
    disk = guid(header.take(16, "disk GUID"))
    header.take(12, "entry fields")
    size = header.u32("entry size")
    count = reader.u64("number of partitions")
    if not 128 <= size <= 4096 or count > MAX_PARTITIONS:
        raise Malformed.of(
            f"{what}.entries", expected="partition entries", found=f"{count} of {size} bytes", remedy="The data was altered."
        )
    partitions = tuple(parse_partition(reader.take(size, "entry")) for _ in range(count))
    reader.end()
    return PartitionTable(disk, partitions)


def parse_partition(raw: bytes) -> Partition:
    """One GPT entry of at least 128 bytes."""
    reader = Reader(raw, "efi.gpt")
    kind, unique = guid(reader.take(16, "type")), guid(reader.take(16, "GUID"))
    first, last, attributes = reader.u64("first LBA"), reader.u64("last LBA"), reader.u64("attributes")
    return Partition(kind, unique, first, last, attributes, utf16_lenient(reader.take(72, "name")))


def guid_bytes(text: str) -> bytes:
    """The 16 bytes of a GUID in EFI_GUID order."""
    return uuid.UUID(text).bytes_le


def serialize_variable(vendor: str, name: str, data: bytes) -> bytes:
    """UEFI_VARIABLE_DATA of a variable."""
    sizes = len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little")
    return guid_bytes(vendor) + sizes + name.encode("utf-16-le") + data
