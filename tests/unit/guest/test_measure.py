"""Setting the kernel's policy, and the SSH daemon's: what is written, and that a kernel which does not take it ends the boot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evident.errors import Unsupported
from evident.guest import libc, login
from evident.guest.steps import measure

KEY = "ssh-ed25519 AAAA somebody"


def test_a_policy_that_is_taken_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes the file away; here it never comes to be."""
    monkeypatch.setattr(libc, "mount", lambda *_: None)
    written: list[str] = []
    monkeypatch.setattr(Path, "write_text", lambda _path, text: written.append(text))
    measure.begin(tmp_path / "policy")
    assert written == [measure.POLICY]
    assert {line.split()[1] for line in measure.POLICY.splitlines()} == {
        f"func={name}_CHECK" for name in ("MODULE", "FIRMWARE", "BPRM", "MMAP")
    }


@pytest.mark.parametrize("there", [True, False])
def test_a_kernel_that_does_not_take_it_ends_the_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(libc, "mount", lambda *_: None)
    with pytest.raises(Unsupported, match=r"guest\.ima"):
        measure.begin(tmp_path / "policy" if there else tmp_path / "none" / "policy")


def test_the_daemon_has_the_measured_keys_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[tuple[Any, ...]] = []
    monkeypatch.setattr(libc, "mount", lambda *words: mounted.append(words))
    monkeypatch.setattr(login, "SEPARATED", tmp_path / "sshd")
    monkeypatch.setattr(login, "TERMINALS", str(tmp_path / "pts"))
    unit = login.unit((KEY,), tmp_path / "host key", tmp_path)
    assert (tmp_path / "authorized_keys").read_text() == f"{KEY}\n"
    assert unit.command == (login.SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config"))
    assert (unit.owner, unit.on_end, unit.environment) == (0, "restart", {})
    said = dict(line.split(" ", 1) for line in (tmp_path / "sshd_config").read_text().splitlines())
    assert said["HostKey"] == str(tmp_path / "host key")
    assert {said[name] for name in ("PermitRootLogin", "PasswordAuthentication", "KbdInteractiveAuthentication", "UsePAM")} == {"no"}
    assert said["AuthenticationMethods"] == "publickey"
    assert [words[2] for words in mounted] == ["devpts"]
