"""Command lines as the kernel reads them."""

from __future__ import annotations

import pytest

from evident.appraisal.cmdline import forbidden, without_root_hash
from evident.appraisal.policy import STRICT


@pytest.mark.parametrize(
    "line",
    [
        "init=/bin/sh",
        'console=ttyS0 "init=/bin/sh"',
        'ini"t=/bin/sh"',
        "quiet\xe0init=/bin/sh",
        "rdinit=/bin/sh",
        "rd.break",
        "rd.break=pre-mount",
        "systemd.debug-shell",
        "systemd.debug_shell=1",
        "rd.shell",
        "ima=off",
        "ima-appraise=off",
        "quiet -- single",
        "emergency",
        "rd.emergency",
        "-b",
        "rescue",
        "root=/dev/vda 1",
        "quiet -- s",
        "break=premount",
        "ima_appraise=fix",
        "rd.systemd.unit=emergency.target",
        "systemd.unit=rescue.target",
        "systemd.verity=0",
    ],
)
def test_what_undoes_the_chain_is_found(line: str) -> None:
    assert len(forbidden(line, STRICT.forbidden_command_line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "quiet",
        "ima=on",
        "singleton",
        "xinit=/bin/sh",
        "rd.breakfast",
        "roothash=" + "ab" * 32,
        "emergency_level=1",
        "break-even=1",
        "11",
    ],
)
def test_what_does_not_is_left_alone(line: str) -> None:
    assert forbidden(line, STRICT.forbidden_command_line) == ()


def test_the_root_hash_is_told_from_the_rest() -> None:
    assert without_root_hash(f"a roothash={'ab' * 32} b") == ("a", "b")
    assert without_root_hash("a roothash=short") == ("a", "roothash=short")
