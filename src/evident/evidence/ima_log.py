"""IMA measurement lists: templates ima, ima-ng, ima-sig, ima-buf (and ima-ngv2, ima-sigv2), in binary and in ASCII.

Sources: Linux Documentation/security/IMA-templates.rst, security/integrity/ima (layout of binary_runtime_measurements and of its ASCII
sibling; little endian is the canonical form), security/integrity/integrity.h (signature header). The ASCII list does not carry the template
data; they are rebuilt from its fields, so that both forms yield the same entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.errors import Malformed, Unsupported
from evident.evidence.reader import Reader

WHAT = "ima.log"
MAX_LIST_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 1_000_000
MAX_FIELD_BYTES = 1024 * 1024
LEGACY_NAME_BYTES = 256

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ima": ("d", "n"),
        "ima-ng": ("d-ng", "n-ng"),
        "ima-sig": ("d-ng", "n-ng", "sig"),
        "ima-buf": ("d-ng", "n-ng", "buf"),
        "ima-ngv2": ("d-ngv2", "n-ng"),
        "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    }
)
OTHER_TEMPLATES = frozenset({"ima-modsig", "evm-sig"})
DIGEST_SIZES: Mapping[str, int] = MappingProxyType({"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64})
# enum hash_algo of the kernel, in signature headers
SIGNATURE_HASHES: Mapping[int, str] = MappingProxyType({2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512", 7: "sha224"})


@dataclass(frozen=True, slots=True)
class Signature:
    """The header and body of a security.ima signature, format 2 (over the file's digest)."""

    algorithm: str
    key_id: bytes
    """Last four bytes of the key's subject key identifier."""
    value: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One measurement."""

    number: int
    pcr: int
    template_hash: bytes
    """As listed; zero for a violation."""
    template: str
    algorithm: str
    """Of `digest`."""
    digest: bytes
    name: str
    """Path of the file, or what was measured (``boot_aggregate``)."""
    extra: bytes
    """The signature (ima-sig) or the buffer (ima-buf); empty in other templates and in unsigned entries."""
    template_data: bytes
    """What the template hash is over."""

    @property
    def violation(self) -> bool:
        """A file was written while it was measured, or measured while it was open for writing."""
        return not self.template_hash.strip(b"\0")

    def template_digest(self, bank: str) -> bytes:
        """H(template data) in a bank's algorithm."""
        return hashlib.new(bank, self.template_data).digest()


@dataclass(frozen=True, slots=True)
class ImaLog:
    """A whole list. `raw` is as it was read, binary or ASCII."""

    entries: tuple[Entry, ...]
    binary: bool
    raw: bytes


def _refuse(problem: str, number: int, *, expected: str, found: str) -> Malformed:
    return Malformed.of(
        f"{WHAT}.{problem}", expected=f"{expected} in entry {number}", found=found[:120], remedy="Collect the whole list again."
    )


def parse(raw: bytes) -> ImaLog:
    """A list in either form, told apart by content: an ASCII list begins with the PCR in decimal digits and a blank.

    Raises `Malformed` (``ima.log.*``) and `Unsupported` (``ima.log.template``: a template of the kernel that is not read here).
    """
    if len(raw) > MAX_LIST_BYTES:
        raise Malformed.of(
            f"{WHAT}.oversized", expected=f"at most {MAX_LIST_BYTES} bytes", found=f"{len(raw)} bytes", remedy="Pass it alone."
        )
    head = raw[:3]
    if head[:1] in b"0123456789" and (head[1:2] == b" " or head[2:3] == b" "):
        return ImaLog(_parse_text(raw), binary=False, raw=raw)
    if raw[:1] and raw[:4].isascii() and raw[:4].decode("ascii").isprintable():
        raise _refuse("text", 0, expected="PCR, template hash, template and fields", found=repr(raw[:60]))
    return ImaLog(_parse_binary(raw), binary=True, raw=raw)


def _parse_binary(raw: bytes) -> tuple[Entry, ...]:
    reader = Reader(raw, WHAT)
    entries: list[Entry] = []
    while reader.remaining:
        number = len(entries)
        if number >= MAX_ENTRIES:
            raise _refuse("entries", number, expected=f"at most {MAX_ENTRIES} entries", found="more")
        pcr = reader.u32("PCR")
        if pcr > 31:
            code = "byte-order" if int.from_bytes(pcr.to_bytes(4, "little"), "big") <= 31 else "pcr"
            raise _refuse(code, number, expected="a PCR index in little endian", found=f"{pcr:#x}")
        template_hash = reader.take(20, "template hash")
        name = _ascii(reader.take(_bounded(reader, number, 64), "template name"), number)
        fields = _fields_of(name, number)
        if name == "ima":
            digest = reader.take(20, "digest")
            path = reader.take(_bounded(reader, number, LEGACY_NAME_BYTES), "name").rstrip(b"\0")
            entries.append(_legacy(number, pcr, template_hash, digest, path))
            continue
        data = reader.take(_bounded(reader, number, MAX_FIELD_BYTES), "template data")
        entries.append(_from_data(number, pcr, template_hash, name, fields, data))
    return tuple(entries)


def _bounded(reader: Reader, number: int, limit: int) -> int:
    length = reader.u32("length")
    if length > limit:
        raise _refuse("size", number, expected=f"at most {limit} bytes", found=f"{length} bytes declared")
    return length


def _ascii(raw: bytes, number: int) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise _refuse("template", number, expected="a template name", found=raw.hex()) from None


def _fields_of(name: str, number: int) -> tuple[str, ...]:
    fields = TEMPLATES.get(name)
    if fields is None:
        if name in OTHER_TEMPLATES or "|" in name:
            raise Unsupported.of(
                f"{WHAT}.template",
                expected="a template among " + ", ".join(TEMPLATES),
                found=f"{name!r} in entry {number}",
                remedy="Boot with ima_template=ima-ng or ima_template=ima-sig.",
            )
        raise _refuse("template", number, expected="a template among " + ", ".join(TEMPLATES), found=repr(name))
    return fields


def _from_data(number: int, pcr: int, template_hash: bytes, name: str, fields: tuple[str, ...], data: bytes) -> Entry:
    reader = Reader(data, WHAT)
    values: list[bytes] = []
    for field in fields:
        values.append(reader.take(_bounded(reader, number, MAX_FIELD_BYTES), field))
    reader.end()
    algorithm, digest = _tagged_digest(values[0], fields[0], number)
    if not values[1].endswith(b"\0") or b"\0" in values[1][:-1]:
        raise _refuse("name", number, expected="a name with one NUL at its end", found=repr(values[1]))
    path = values[1][:-1].decode("utf-8", "surrogateescape")
    return Entry(number, pcr, template_hash, name, algorithm, digest, path, values[2] if len(values) > 2 else b"", data)


def _tagged_digest(value: bytes, field: str, number: int) -> tuple[str, bytes]:
    """d-ng is ``ALGORITHM:`` NUL DIGEST; d-ngv2 puts ``ima:`` or ``verity:`` before it."""
    label, nul, digest = value.partition(b"\0")
    parts = label.split(b":")
    if not nul or parts[-1] or len(parts) != (3 if field == "d-ngv2" else 2) or (field == "d-ngv2" and parts[0] not in (b"ima", b"verity")):
        raise _refuse("digest", number, expected="an algorithm, a colon, a NUL and the digest", found=repr(value[:32]))
    algorithm = parts[-2].decode("ascii", "replace")
    if DIGEST_SIZES.get(algorithm) != len(digest):
        raise _refuse("digest", number, expected="a digest of its algorithm's size", found=f"{algorithm}, {len(digest)} bytes")
    return algorithm, digest


def _legacy(number: int, pcr: int, template_hash: bytes, digest: bytes, path: bytes) -> Entry:
    """The template hash of ``ima`` covers the name padded to 256 bytes (what 3.13 kernels still do)."""
    if len(path) >= LEGACY_NAME_BYTES or b"\0" in path:
        raise _refuse("name", number, expected=f"a name of less than {LEGACY_NAME_BYTES} bytes", found=repr(path))
    data = digest + path.ljust(LEGACY_NAME_BYTES, b"\0")
    return Entry(number, pcr, template_hash, "ima", "sha1", digest, path.decode("utf-8", "surrogateescape"), b"", data)


def _parse_text(raw: bytes) -> tuple[Entry, ...]:
    count = raw.count(b"\n")
    if count > MAX_ENTRIES:
        raise _refuse("entries", MAX_ENTRIES, expected=f"at most {MAX_ENTRIES} entries", found=f"{count} lines")
    lines = raw.split(b"\n")
    if lines[-1]:
        raise _refuse("truncated", count, expected="a line end", found=repr(lines[-1][-40:]))
    return tuple(_text_entry(number, line) for number, line in enumerate(lines[:-1]))


def _text_entry(number: int, line: bytes) -> Entry:
    parts = line.lstrip(b" ").split(b" ", 3)
    if len(parts) != 4 or not parts[0].isdigit() or len(parts[0]) > 2 or int(parts[0]) > 31:
        raise _refuse("text", number, expected="PCR, template hash, template and fields", found=repr(line[:60]))
    pcr, template_hash = int(parts[0]), _hex(parts[1], number)
    if len(template_hash) != 20:
        raise _refuse("hash", number, expected="a template hash of 20 bytes", found=f"{len(template_hash)} bytes")
    name = _ascii(parts[2], number)
    fields = _fields_of(name, number)
    values = parts[3].split(b" ", len(fields) - 1) if len(fields) < 3 else _three(parts[3], number)
    if len(values) != len(fields):
        raise _refuse("text", number, expected=f"{len(fields)} fields", found=repr(parts[3][:60]))
    if name == "ima":
        return _legacy(number, pcr, template_hash, _exact_sha1(values[0], number), values[1])
    label, _, digest = values[0].rpartition(b":")
    tagged = label + b":\0" + _hex(digest, number)
    extra = (_hex(values[2], number),) if len(fields) == 3 else ()
    data = b"".join(len(value).to_bytes(4, "little") + value for value in (tagged, values[1] + b"\0", *extra))
    return _from_data(number, pcr, template_hash, name, fields, data)


def _three(text: bytes, number: int) -> list[bytes]:
    """DIGEST NAME LAST, where LAST may be empty behind its blank and NAME may hold blanks."""
    digest, _, rest = text.partition(b" ")
    name, blank, last = rest.rpartition(b" ")
    if not blank:
        raise _refuse("text", number, expected="a third field, which may be empty", found=repr(text[-60:]))
    return [digest, name, last]


def _exact_sha1(text: bytes, number: int) -> bytes:
    digest = _hex(text, number)
    if len(digest) != 20:
        raise _refuse("digest", number, expected="a SHA-1 digest", found=repr(text))
    return digest


def _hex(text: bytes, number: int) -> bytes:
    try:
        if text != text.lower() or text.split() not in ([text], []):
            raise ValueError("blanks or capitals")
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        raise _refuse("hex", number, expected="lower-case hex digits", found=repr(text[:60])) from None


def parse_signature(raw: bytes) -> Signature:
    """A security.ima value: type 3 (digital signature), version 2, hash algorithm, key id, length, signature (integrity.h)."""
    reader = Reader(raw, "ima.signature")
    kind, version, algorithm = reader.u8("type"), reader.u8("version"), reader.u8("hash algorithm")
    if (kind, version) != (3, 2) or algorithm not in SIGNATURE_HASHES:
        raise Unsupported.of(
            "ima.signature.version",
            expected="a signature of type 3, version 2, over SHA-1 or SHA-2",
            found=f"type {kind}, version {version}, hash {algorithm}",
            remedy="Sign files with evmctl ima_sign --hashalgo sha256.",
        )
    key_id = reader.take(4, "key id")
    value = reader.take(reader.u16("signature size", order="big"), "signature")
    reader.end()
    return Signature(SIGNATURE_HASHES[algorithm], key_id, value)


def serialize_text(log: ImaLog) -> bytes:
    """The ASCII form, as the kernel prints it."""
    return b"".join(_entry_text(entry) for entry in log.entries)


def serialize_binary(log: ImaLog) -> bytes:
    """The binary form, little endian."""
    parts: list[bytes] = []
    for entry in log.entries:
        name = entry.template.encode()
        parts.append(entry.pcr.to_bytes(4, "little") + entry.template_hash + len(name).to_bytes(4, "little") + name)
        if entry.template == "ima":
            path = entry.template_data[20:].rstrip(b"\0")
            parts.append(entry.digest + len(path).to_bytes(4, "little") + path)
        else:
            parts.append(len(entry.template_data).to_bytes(4, "little") + entry.template_data)
    return b"".join(parts)


def _entry_text(entry: Entry) -> bytes:
    path = entry.name.encode("utf-8", "surrogateescape")
    head = f"{entry.pcr} {entry.template_hash.hex()} {entry.template} ".encode()
    if entry.template == "ima":
        return head + entry.digest.hex().encode() + b" " + path + b"\n"
    # The label of d-ngv2 has two parts; both are in the template data before the first NUL.
    label = entry.template_data[4:].split(b"\0", 1)[0]
    third = b" " + entry.extra.hex().encode() if len(TEMPLATES[entry.template]) == 3 else b""
    return head + label + entry.digest.hex().encode() + b" " + path + third + b"\n"
