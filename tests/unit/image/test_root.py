"""What has to be in a root file system for what its specification says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evident.errors import Malformed
from evident.image import root
from evident.image.lock import Store
from evident.image.spec import FileSpec, ImageSpec, Unit

KEY = "ssh-ed25519 AAAA somebody"
PROGRAM, SERVER, ACCOUNTS = (FileSpec(path, executable=True) for path in ("/usr/bin/serve", "/usr/sbin/sshd", "/etc/passwd"))


def spec(*files: FileSpec, **more: Any) -> ImageSpec:
    return ImageSpec(1, "shop", (Unit("serve", (PROGRAM.path,)),), files=files, **more)


def test_the_program_of_every_unit_is_there(tmp_path: Path) -> None:
    assert "usr/bin/serve" in root.lay_out(spec(PROGRAM), (), Store(tmp_path))
    with pytest.raises(Malformed, match=r"image\.program"):
        root.lay_out(spec(), (), Store(tmp_path))


def test_whoever_may_log_in_has_a_server_and_an_account(tmp_path: Path) -> None:
    keys = (KEY,)
    root.lay_out(spec(PROGRAM, SERVER, ACCOUNTS, ssh_authorized_keys=keys), (), Store(tmp_path))
    for missing, files in (("sshd", (PROGRAM, ACCOUNTS)), ("passwd", (PROGRAM, SERVER))):
        with pytest.raises(Malformed, match=rf"image\.ssh.*{missing}"):
            root.lay_out(spec(*files, ssh_authorized_keys=keys), (), Store(tmp_path))
