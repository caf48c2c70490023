"""Unified kernel images: which sections a stub measures, by its version, and what is refused."""

from __future__ import annotations

import pytest
from tests.unit.evidence.test_pe import a_pe

from evident.errors import Malformed, Unsupported
from evident.evidence import uki


def a_uki(version: int | None = 255, **sections: bytes) -> bytes:
    magic = {".sdmagic": f"#### LoaderInfo: systemd-stub {version} ####".encode()} if version else {}
    kernel = {"linux": a_pe({".text": b"kernel"})}
    return a_pe({**magic, **{f".{name}": content for name, content in (kernel | sections).items()}})


def test_sections_are_measured_in_the_stubs_order_whatever_the_files() -> None:
    parsed = uki.parse(a_uki(initrd=b"i", cmdline=b"c", osrel=b"ID=x\n", uname=b"6.1", sbat=b"s", pcrsig=b"{}", pcrpkey=b"k"))
    assert [name for name, _ in parsed.measured()] == [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"]
    assert ".pcrsig" in parsed.sections


def test_the_one_profile_of_an_image_is_measured_behind_the_key() -> None:
    parsed = uki.parse(a_uki(257, hwids=b"h", profile=b"ID=main\n", pcrpkey=b"k", efifw=b"f"))
    assert [name for name, _ in parsed.measured()] == [".linux", ".pcrpkey", ".profile", ".hwids"]
    assert [name for name, _ in parsed.measured(258)] == [".linux", ".pcrpkey", ".profile", ".hwids", ".efifw"]
    assert [name for name, _ in parsed.measured(256)] == [".linux", ".pcrpkey"]


def test_older_stubs_measure_fewer_sections() -> None:
    raw = a_uki(252, uname=b"6.1", sbat=b"s", ucode=b"u", cmdline=b"c")
    parsed = uki.parse(raw)
    assert parsed.stub_version == 252
    assert [name for name, _ in parsed.measured()] == [".linux", ".cmdline"]
    assert [name for name, _ in parsed.measured(256)] == [".linux", ".cmdline", ".ucode", ".uname", ".sbat"]


def test_an_unknown_stub_must_be_named() -> None:
    parsed = uki.parse(a_uki(None))
    with pytest.raises(Unsupported) as caught:
        parsed.measured()
    assert caught.value.code == "uki.stub"
    assert parsed.measured(255)


def test_command_line_and_os_release_are_read() -> None:
    parsed = uki.parse(a_uki(cmdline=b"root=/dev/dm-0 quiet\n\0", osrel=b'ID=test\n# remark\nNAME="A B"\n'))
    assert parsed.command_line == "root=/dev/dm-0 quiet"
    assert parsed.os_release == {"ID": "test", "NAME": "A B"}
    assert uki.parse(a_uki()).command_line is None


def test_applications_without_a_kernel_and_images_of_several_profiles_are_refused() -> None:
    with pytest.raises(Malformed) as caught:
        uki.parse(a_pe({".text": b"x"}))
    assert caught.value.code == "uki.kernel"
    several = a_uki(profile=b"1", aaaaaaa=b"2").replace(b".aaaaaaa", b".profile")
    with pytest.raises(Unsupported) as refused:
        uki.parse(several)
    assert refused.value.code == "uki.profiles"
