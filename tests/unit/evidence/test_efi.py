"""UEFI variables in words, as event lists show them."""

from __future__ import annotations

import pytest

from evident.evidence import efi

_PATH = b"\4\4\x1c\0" + "\\EFI\\x.efi\0\0".encode("utf-16-le") + b"\x7f\xff\4\0"
_OPTION = b"\1\0\0\0" + len(_PATH).to_bytes(2, "little") + "Linux\0".encode("utf-16-le") + _PATH


@pytest.mark.parametrize(
    ("vendor", "name", "data", "text"),
    [
        (efi.GLOBAL_VARIABLE, "Boot0001", _OPTION, "Boot0001: 'Linux', \\EFI\\x.efi"),
        (efi.GLOBAL_VARIABLE, "Boot0001", _OPTION[:9], "Boot0001 (9 bytes)"),
        (efi.SHIM_LOCK, "Boot0001", _OPTION, f"Boot0001 ({len(_OPTION)} bytes)"),
        (efi.GLOBAL_VARIABLE, "BootOrder", b"\1\0\x0a\0", "BootOrder: 0001 000A"),
        (efi.GLOBAL_VARIABLE, "BootOrder", b"\1", "BootOrder (1 bytes)"),
        (efi.IMAGE_SECURITY_DATABASE, "db", bytes(7), "db (7 bytes)"),
    ],
)
def test_what_a_variable_says(vendor: str, name: str, data: bytes, text: str) -> None:
    assert str(efi.parse_variable(efi.serialize_variable(vendor, name, data))) == text
