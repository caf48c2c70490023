"""PE images: what the Authenticode digest covers and what it leaves out, and every range held against the file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from evident.errors import Malformed
from evident.evidence import pe

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
HEADER = 0x400


def a_pe(sections: dict[str, bytes], *, certificates: bytes = b"", trailing: bytes = b"", padding: int = 0) -> bytes:
    """A PE32+ image with file-aligned sections; `padding` is memory behind each section's bytes."""
    table, bodies, offset = b"", b"", HEADER
    for index, (name, content) in enumerate(sections.items()):
        size = -(-len(content) // 512) * 512
        table += name.encode().ljust(8, b"\0") + (len(content) + padding).to_bytes(4, "little") + ((index + 1) << 24).to_bytes(4, "little")
        table += size.to_bytes(4, "little") + offset.to_bytes(4, "little") + bytes(16)
        bodies += content.ljust(size, b"\0")
        offset += size
    directories = bytearray(16 * 8)
    if certificates:
        directories[32:40] = (offset + len(trailing)).to_bytes(4, "little") + len(certificates).to_bytes(4, "little")
    optional = b"\x0b\x02" + bytes(58) + HEADER.to_bytes(4, "little") + bytes(4 + 4 + 32 + 4) + (16).to_bytes(4, "little") + directories
    coff = b"PE\0\0\x64\x86" + len(sections).to_bytes(2, "little") + bytes(12) + len(optional).to_bytes(2, "little") + b"\x22\0"
    head = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + coff + optional + table
    return head.ljust(HEADER, b"\0") + bodies + trailing + certificates


IMAGE = a_pe({".text": b"code" * 200, ".data": b"data"})


def digest(raw: bytes) -> bytes:
    return pe.authenticode(pe.parse(raw), "sha256")


def test_the_digest_leaves_out_checksum_and_certificates_and_nothing_else() -> None:
    image = pe.parse(IMAGE)
    assert digest(a_pe({".text": b"code" * 200, ".data": b"data"}, certificates=bytes(64))) == digest(IMAGE)
    left_out = {*range(image.checksum_offset, image.checksum_offset + 4)}
    assert image.certificate_offset is not None
    for offset in range(0x40, len(IMAGE), 7):
        changed = bytearray(IMAGE)
        changed[offset] ^= 1
        try:
            other = digest(bytes(changed))
        except Malformed:
            continue
        in_entry = image.certificate_offset <= offset < image.certificate_offset + 8
        assert (other == digest(IMAGE)) == (offset in left_out or in_entry), hex(offset)


def test_bytes_behind_the_sections_are_covered() -> None:
    assert digest(a_pe({".text": b"x"}, trailing=b"more" * 2)) != digest(a_pe({".text": b"x"}))
    assert digest(IMAGE) == hashlib.sha256(_without_holes(IMAGE)).digest()


def _without_holes(raw: bytes) -> bytes:
    image = pe.parse(raw)
    assert image.certificate_offset is not None
    after = image.checksum_offset + 4
    return raw[: image.checksum_offset] + raw[after : image.certificate_offset] + raw[image.certificate_offset + 8 :]


def test_sections_are_hashed_in_the_order_of_the_file() -> None:
    straight = a_pe({".a": b"1" * 512, ".b": b"2" * 512})
    start = straight.index(b".a\0\0")
    swapped = straight[:start] + straight[start + 40 : start + 80] + straight[start : start + 40] + straight[start + 80 :]
    expected = hashlib.sha256(_without_holes(swapped)).digest()
    assert digest(swapped) == expected


def test_section_content_is_what_memory_holds() -> None:
    image = pe.parse(a_pe({".text": b"abc"}, padding=5))
    section = image.section(".text")
    assert section is not None
    assert image.content(section) == b"abc" + bytes(5)


def test_a_section_that_is_mostly_not_in_the_file_has_no_content() -> None:
    image = pe.parse(a_pe({".text": b"abc"}, padding=1 << 28))
    with pytest.raises(Malformed) as caught:
        image.content(image.sections[0])
    assert caught.value.code == "pe.section"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "pe.truncated"),
        (b"ZM" + IMAGE[2:], "pe.signature"),
        (IMAGE[:0x3C] + b"\xff\xff\xff\x7f" + IMAGE[0x40:], "pe.header"),
        (IMAGE[:64] + b"NE" + IMAGE[66:], "pe.signature"),
        (IMAGE[:0x46] + b"\xff\xff" + IMAGE[0x48:], "pe.header"),
        (IMAGE[:0x58] + b"\x07\x01" + IMAGE[0x5A:], "pe.magic"),
        (IMAGE[:-512], "pe.section"),
        (IMAGE.replace(HEADER.to_bytes(4, "little"), (0x10).to_bytes(4, "little"), 1), "pe.headers-size"),
        (a_pe({".text": b"x"}, certificates=bytes(64))[:-1], "pe.certificates"),
    ],
)
def test_broken_images_are_malformed_by_their_own_code(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        pe.parse(raw)
    assert caught.value.code == code


def test_two_sections_of_one_name_are_refused_when_asked_for() -> None:
    image = pe.parse(IMAGE.replace(b".data", b".text"))
    with pytest.raises(Malformed) as caught:
        image.section(".text")
    assert caught.value.code == "pe.duplicate-section"


def test_sections_over_one_range_are_refused_before_anything_is_hashed() -> None:
    raw = bytearray(IMAGE)
    table = raw.index(b".data\0")
    raw[table + 16 : table + 20] = (len(raw) - HEADER).to_bytes(4, "little")
    raw[table + 20 : table + 24] = HEADER.to_bytes(4, "little")
    with pytest.raises(Malformed) as caught:
        pe.parse(bytes(raw))
    assert caught.value.code == "pe.overlap"


def test_an_independent_signer_computes_the_same_digest(tmp_path: Path) -> None:
    if not (shutil.which("sbsign") and shutil.which("openssl") and STUB.exists()):
        pytest.skip("no sbsign or systemd-boot-efi (Debian: sbsigntool systemd-boot-efi)")
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(key, cwd=tmp_path, check=True, capture_output=True)
    sign = ["sbsign", "--key", "key.pem", "--cert", "cert.pem", "--output", "signed.efi", str(STUB)]
    subprocess.run(sign, cwd=tmp_path, check=True, capture_output=True)
    signed = (tmp_path / "signed.efi").read_bytes()
    image = pe.parse(signed)
    offset, size = image.certificates
    assert pe.authenticode(image, "sha256") in signed[offset : offset + size]
