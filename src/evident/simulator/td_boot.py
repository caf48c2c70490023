"""A TD that boots a UKI from its disk as on Google's machines, played event by event: the event log, and the registers that it extends.

What firmware measures, and in which order, is as in a log of such a machine (Google Compute Engine, a UKI, systemd-stub); sections in RTMR2
follow the source of systemd-stub 256 and later. There is a TPM beside, so Linux measures into that alone. The digests of ACPI tables are
made up: what a host puts there nobody recomputes.

Sources: UEFI 2.10, sections 10.3 (device paths) and 38.4.1 (registers); TCG PFP 1.06, section 10.4 (events); systemd/systemd
``src/boot/measure.c`` and ``stub.c``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evident.evidence import disk, efi, pe, tcg_log, uki
from evident.evidence import tcg_events as events
from evident.evidence.tcg_log import Header, LogEvent, TcgLog
from evident.simulator.tdx import TrustDomain
from evident.verification.boot_chain import STUB_PAYLOAD

BOOT_PATH: Final = "EFI/BOOT/BOOTX64.EFI"
FIRST_STUB_THAT_MEASURES: Final = 256
LAST_STUB_THAT_LOADS_BY_FIRMWARE: Final = 257
LOG_AREA_BYTES: Final = 0x40000
_SHA384 = 0x000C
_END_OF_PATH = b"\x7f\xff\x04\0"


@dataclass(frozen=True, slots=True)
class Booted:
    guest: TrustDomain
    log: bytes
    """The CCEL data area."""


@dataclass(frozen=True, slots=True)
class _Measured:
    """One measurement, before the firmware maps its PCR to a register."""

    pcr: int
    type: int
    data: bytes
    digest: bytes


def boot(image: bytes, guest: TrustDomain | None = None, *, load_options: str = "") -> Booted:
    """Boot the disk `image`; `load_options` is what the first boot option hands to the UKI: a host may set it, and the stub obeys.

    Raises what reading the disk and its UKI raises.
    """
    after = guest or TrustDomain()
    logged = []
    for number, item in enumerate(_boot(image, load_options)):
        register = _mapped(item.pcr)
        after = after.extend(register, item.digest)
        logged.append(LogEvent(number, register + 1, item.type, {"sha384": item.digest}, item.data))
    header = Header(1, 0, (2, 0, 0), 2, b"")
    log = tcg_log.serialize(TcgLog("crypto-agile", "rtmr", header, ((_SHA384, 48),), tuple(logged), b"", b""))
    return Booted(after, log.ljust(LOG_AREA_BYTES, b"\xff"))


def _mapped(pcr: int) -> int:
    """The RTMR of a PCR (UEFI 2.10, table 38.4.1)."""
    return 0 if pcr in (1, 7) else 1 if pcr <= 6 else 2


def _boot(image: bytes, load_options: str) -> Iterator[_Measured]:
    raw = disk.open_system_partition(image).read(BOOT_PATH)
    parsed = uki.parse(raw)
    version = parsed.stub_version or 0
    yield from _before_the_boot(load_options)
    yield _of(4, events.EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
    yield _of(4, events.EV_SEPARATOR, bytes(4))
    yield _of(5, events.EV_EFI_GPT_EVENT, disk.gpt_event(image))
    yield _loaded(raw, _disk_path(image))
    if version >= FIRST_STUB_THAT_MEASURES:
        for name, content in parsed.measured():
            yield _by_stub(11, name, name.encode() + b"\0")
            yield _by_stub(11, name, content)
        if load_options:
            yield _by_stub(12, load_options, _wide(load_options))
    if version <= LAST_STUB_THAT_LOADS_BY_FIRMWARE:
        yield _loaded(parsed.sections[".linux"], _node(4, 3, efi.guid_bytes(STUB_PAYLOAD)))
    yield _of(5, events.EV_EFI_ACTION, b"Exit Boot Services Invocation")
    yield _of(5, events.EV_EFI_ACTION, b"Exit Boot Services Returned with Success")


def _before_the_boot(load_options: str) -> Iterator[_Measured]:
    """What goes into RTMR0: Secure Boot (off), tables of the host, the boot options."""
    for vendor, name, value in (
        (efi.GLOBAL_VARIABLE, "SecureBoot", b"\0"),
        (efi.GLOBAL_VARIABLE, "PK", b""),
        (efi.GLOBAL_VARIABLE, "KEK", b""),
        (efi.IMAGE_SECURITY_DATABASE, "db", b""),
        (efi.IMAGE_SECURITY_DATABASE, "dbx", b""),
    ):
        yield _of(7, events.EV_EFI_VARIABLE_DRIVER_CONFIG, efi.serialize_variable(vendor, name, value))
    yield _of(7, events.EV_SEPARATOR, bytes(4))
    for table in (b"TEST loader script", b"TEST RSDP", b"TEST tables"):
        yield _Measured(1, events.EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA", _digest(table))
    path = _node(3, 23, struct.pack("<I8x", 1)) + _END_OF_PATH
    option = struct.pack("<IH", 1, len(path)) + _wide("UEFI nvme_card-pd") + path + (_wide(load_options) if load_options else b"")
    for name, value in (("BootOrder", struct.pack("<H", 1)), ("Boot0001", option)):
        data = efi.serialize_variable(efi.GLOBAL_VARIABLE, name, value)
        yield _Measured(1, events.EV_EFI_VARIABLE_BOOT, data, _digest(value))


def _of(pcr: int, kind: int, data: bytes) -> _Measured:
    return _Measured(pcr, kind, data, _digest(data))


def _by_stub(pcr: int, text: str, content: bytes) -> _Measured:
    return _Measured(pcr, events.EV_IPL, _wide(text), _digest(content))


def _loaded(image: bytes, path: bytes) -> _Measured:
    """UEFI_IMAGE_LOAD_EVENT (PFP 10.2.3), its digest that of Authenticode."""
    whole = path + _END_OF_PATH
    data = struct.pack("<QQQQ", 0x70000000, len(image), 0, len(whole)) + whole
    return _Measured(4, events.EV_EFI_BOOT_SERVICES_APPLICATION, data, pe.authenticode(pe.parse(image), "sha384"))


def _disk_path(image: bytes) -> bytes:
    """The boot path on the first partition of the disk: hard drive and file nodes (UEFI 10.3.5)."""
    first = disk.read_partition_table(image)[0].partitions[0]
    place = struct.pack("<IQQ", 1, first.first, first.last - first.first + 1) + efi.guid_bytes(first.guid) + b"\x02\x02"
    return _node(4, 1, place) + _node(4, 4, _wide("\\" + BOOT_PATH.replace("/", "\\")))


def _node(kind: int, subtype: int, data: bytes) -> bytes:
    return struct.pack("<BBH", kind, subtype, 4 + len(data)) + data


def _wide(text: str) -> bytes:
    return text.encode("utf-16-le") + b"\0\0"


def _digest(content: bytes) -> bytes:
    return hashlib.sha384(content).digest()
