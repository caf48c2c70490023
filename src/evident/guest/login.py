"""Logins by SSH, where the measured configuration names the keys that may: one unit of root's before those of the image.

Its host key is the key of this boot, which the machine's evidence binds (SG-02). Nobody logs in as root, by a password, or by a key that
is not measured; the accounts are those of the image. What is written here is in memory that only root can write.

Source: OpenSSH sshd(8), sshd_config(5). Terminals: Linux Documentation/filesystems/devpts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evident.guest import libc
from evident.guest.config import Unit

SSHD = "/usr/sbin/sshd"
PLACE = Path("/run/evident")
SEPARATED = Path("/run/sshd")
"""An empty directory that the daemon locks its unprivileged half into: fixed when it is built."""
TERMINALS = "/dev/pts"


def configuration(host_key: Path, authorized: Path) -> str:
    """For sshd. Its own check of who may write to the folders above is off: /run may be the units' too, with the sticky bit."""
    said = {
        "HostKey": host_key,
        "AuthorizedKeysFile": authorized,
        "StrictModes": "no",
        "AuthenticationMethods": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "no",
        "UsePAM": "no",
        "PidFile": "none",
        "X11Forwarding": "no",
        "Subsystem": "sftp internal-sftp",
    }
    return "".join(f"{name} {value}\n" for name, value in said.items())


def unit(keys: Sequence[str], host_key: Path, place: Path = PLACE) -> Unit:
    """The daemon for whoever has one of `keys`, with all that it needs in its place. Raises `OSError`."""
    authorized, settings = place / "authorized_keys", place / "sshd_config"
    authorized.write_text("".join(f"{key}\n" for key in keys))
    settings.write_text(configuration(host_key, authorized))
    SEPARATED.mkdir(mode=0o755, exist_ok=True)
    Path(TERMINALS).mkdir(exist_ok=True)
    libc.mount("devpts", TERMINALS, "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=0620,ptmxmode=0666")
    return Unit("sshd", (SSHD, "-D", "-e", "-f", str(settings)), 0, on_end="restart")
