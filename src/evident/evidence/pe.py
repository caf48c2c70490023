"""PE images: sections, and the Authenticode digest that firmware measures and Secure Boot verifies.

Sources: Microsoft PE Format (COFF header, optional header, section table); "Windows Authenticode Portable Executable Signature Format" 1.0,
"Calculating the PE Image Hash", as UEFI 2.10 section 32.2.3 applies it. All integers little endian.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from evident.errors import Malformed
from evident.evidence.reader import Reader

WHAT = "pe"
MAX_IMAGE_BYTES = 1024 * 1024 * 1024
MAX_SECTIONS = 96
MAX_ZERO_TAIL = 1024 * 1024
PE32, PE32_PLUS = 0x10B, 0x20B
CERTIFICATE_DIRECTORY = 4
ALGORITHMS = ("sha1", "sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class Section:
    """One section: `raw_size` bytes in the file at `raw_offset`, `virtual_size` bytes in memory at `address`."""

    name: str
    virtual_size: int
    address: int
    raw_size: int
    raw_offset: int


@dataclass(frozen=True, slots=True)
class PeImage:
    """A parsed image; the file's bytes are kept in `raw`."""

    machine: int
    magic: int
    sections: tuple[Section, ...]
    headers_size: int
    checksum_offset: int
    certificate_offset: int | None
    """Where the certificate table's directory entry is; None where the header has none."""
    certificates: tuple[int, int]
    """File offset and size of the certificate table; (0, 0) for an unsigned image."""
    raw: bytes

    def section(self, name: str) -> Section | None:
        """The one section of that name; None when there is none. Raises `Malformed` (``pe.duplicate-section``) for two."""
        found = [section for section in self.sections if section.name == name]
        if len(found) > 1:
            raise _refuse("duplicate-section", expected=f"one section {name}", found=f"{len(found)}")
        return found[0] if found else None

    def content(self, section: Section) -> bytes:
        """What the section holds once loaded: `virtual_size` bytes, zero behind what the file has (`Malformed` for a huge zero tail)."""
        held = min(section.raw_size, section.virtual_size)
        if section.virtual_size - held > MAX_ZERO_TAIL:
            raise _refuse("section", expected=f"{section.name!r} in the file", found=f"{section.virtual_size - held} bytes that are not")
        return self.raw[section.raw_offset : section.raw_offset + held].ljust(section.virtual_size, b"\0")


def _refuse(problem: str, *, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=expected, found=found, remedy="Check that this is an EFI application, whole and unpacked."
    )


def looks_like_pe(raw: bytes) -> bool:
    """By its first bytes alone, to tell files apart."""
    return raw[:2] == b"MZ"


def parse(raw: bytes) -> PeImage:
    """Parse headers and section table and hold every range against the file's size.

    Raises `Malformed` (``pe.*``) and nothing else.
    """
    if len(raw) > MAX_IMAGE_BYTES:
        raise _refuse("oversized", expected=f"at most {MAX_IMAGE_BYTES} bytes", found=f"{len(raw)} bytes")
    dos = Reader(raw[:64], WHAT)
    if dos.take(2, "DOS signature") != b"MZ":
        raise _refuse("signature", expected="MZ", found=raw[:2].hex())
    dos.take(58, "DOS header")
    start = dos.u32("offset of the PE header")
    if start % 4 or not 64 <= start <= len(raw) - 24:
        raise _refuse("header", expected="a PE header inside the file", found=f"offset {start:#x}")
    reader = Reader(raw[start : start + 24 + 512 + 40 * MAX_SECTIONS], WHAT)
    if reader.take(4, "PE signature") != b"PE\0\0":
        raise _refuse("signature", expected="PE", found=raw[start : start + 4].hex())
    machine, count = reader.u16("machine"), reader.u16("number of sections")
    reader.take(12, "time stamp and symbols")
    optional_size = reader.u16("size of the optional header")
    reader.u16("characteristics")
    if count > MAX_SECTIONS or optional_size > 512:
        raise _refuse("header", expected=f"at most {MAX_SECTIONS} sections", found=f"{count}, optional header of {optional_size} bytes")
    optional = Reader(reader.take(optional_size, "optional header"), WHAT)
    magic, headers_size, directory, entry = _optional_header(optional)
    sections = tuple(_section(reader, len(raw)) for _ in range(count))
    table_end = start + reader.offset
    if not table_end <= headers_size <= len(raw):
        raise _refuse("headers-size", expected=f"{table_end:#x} to {len(raw):#x}", found=f"{headers_size:#x}")
    offset, size = entry
    if size and not (headers_size <= offset and offset + size <= len(raw)):
        raise _refuse("certificates", expected="a certificate table inside the file", found=f"{offset:#x}, {size:#x} bytes")
    held = headers_size + sum(section.raw_size for section in sections) + size
    if held > len(raw):  # else many sections over one range would ask for many times the file's memory and hashing
        raise _refuse("overlap", expected=f"headers, sections and certificates of at most {len(raw)} bytes together", found=f"{held} bytes")
    base = start + 24
    certificate_offset = None if directory is None else base + directory
    return PeImage(machine, magic, sections, headers_size, base + 64, certificate_offset, (offset, size) if size else (0, 0), raw)


def _optional_header(reader: Reader) -> tuple[int, int, int | None, tuple[int, int]]:
    """Magic, SizeOfHeaders, offset of the certificate directory entry within the optional header, and that entry."""
    magic = reader.u16("magic")
    if magic not in (PE32, PE32_PLUS):
        raise _refuse("magic", expected="PE32 or PE32+", found=f"{magic:#x}")
    reader.take(58, "standard fields")
    headers_size = reader.u32("size of headers")
    reader.u32("checksum")
    reader.take(4 + (32 if magic == PE32_PLUS else 16), "subsystem, stack and heap")
    reader.u32("loader flags")
    directories = reader.u32("number of directories")
    if directories > 16 or directories * 8 > reader.remaining:
        raise _refuse("directories", expected="at most 16, inside the optional header", found=str(directories))
    if directories <= CERTIFICATE_DIRECTORY:
        return magic, headers_size, None, (0, 0)
    reader.take(8 * CERTIFICATE_DIRECTORY, "directories")
    position = reader.offset
    return magic, headers_size, position, (reader.u32("certificate table"), reader.u32("its size"))


def _section(reader: Reader, file_size: int) -> Section:
    name = reader.take(8, "section name").rstrip(b"\0").decode("latin-1")
    virtual_size, address = reader.u32("virtual size"), reader.u32("address")
    raw_size, raw_offset = reader.u32("raw size"), reader.u32("raw offset")
    reader.take(16, "relocations and flags")
    if raw_size and raw_offset + raw_size > file_size:
        raise _refuse("section", expected=f"section {name!r} inside {file_size} bytes", found=f"{raw_offset:#x}, {raw_size:#x} bytes")
    if virtual_size > MAX_IMAGE_BYTES:
        raise _refuse("section", expected=f"at most {MAX_IMAGE_BYTES} bytes in memory", found=f"{virtual_size} bytes for {name!r}")
    return Section(name, virtual_size, address, raw_size, raw_offset)


def authenticode(image: PeImage, algorithm: str) -> bytes:
    """The Authenticode digest as UEFI firmware computes it: everything but checksum, certificate directory entry and certificates.

    Headers, then the sections in the order of their file offsets, then what follows them in the file. `algorithm` is one of
    ``ALGORITHMS``.
    """
    digest = hashlib.new(algorithm)
    raw = memoryview(image.raw)
    digest.update(raw[: image.checksum_offset])
    after_checksum = image.checksum_offset + 4
    if image.certificate_offset is None:
        digest.update(raw[after_checksum : image.headers_size])
    else:
        digest.update(raw[after_checksum : image.certificate_offset])
        digest.update(raw[image.certificate_offset + 8 : image.headers_size])
    hashed = image.headers_size
    for section in sorted((section for section in image.sections if section.raw_size), key=lambda section: section.raw_offset):
        digest.update(raw[section.raw_offset : section.raw_offset + section.raw_size])
        hashed += section.raw_size
    digest.update(raw[hashed : len(image.raw) - image.certificates[1]])
    return digest.digest()
