"""apt in a directory of its own: which files of the archive are wanted, by path and SHA-256, with the archive's signature checked.

The host's packages, pins and lists play no part; only how it reaches the network does. Nothing is installed and nothing downloaded here.
Sources: apt-get(8) (--print-uris, satisfy, source), apt.conf(5), sources.list(5).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from evident.errors import CollateralUnavailable, UsageError
from evident.image.stated import Group, LockedPackage

ARCHITECTURE = "amd64"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})$")


def mirrors(sources: Path = Path("/etc/apt")) -> tuple[str, ...]:
    """Base addresses of the Debian archive that this host's apt uses, in its order (one-line and deb822 form)."""
    texts = [
        path.read_text("utf-8", "replace")
        for path in (sources / "sources.list", *sorted(sources.glob("sources.list.d/*")))
        if path.is_file()
    ]
    found: list[str] = []
    for line in "\n".join(texts).splitlines():
        if line.startswith("URIs:") or re.match(r"deb(-src)?\s", line):
            found += [word.rstrip("/") for word in line.split() if "://" in word]
    return tuple(dict.fromkeys(uri for uri in found if urlsplit(uri).path.rsplit("/", 1)[-1] == "debian"))


class PrivateApt:
    """apt with lists, status and sources of its own, below `folder`; with `sources`, of source packages too.

    Raises `UsageError` (``image.mirror``) without an address.
    """

    def __init__(self, folder: Path, suite: str, addresses: Sequence[str], *, sources: bool = False) -> None:
        if not addresses:
            raise UsageError.of(
                "image.mirror",
                expected="an address of the Debian archive in this host's apt sources",
                found="none",
                remedy="Name one with --mirror, for example --mirror http://MIRROR/debian",
            )
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        address = addresses[0]
        places = [f"{address} {name} main" for name in (suite, f"{suite}-updates")]
        places.append(f"{address.removesuffix('/debian')}/debian-security {suite}-security main")
        kinds = ("deb", "deb-src") if sources else ("deb",)
        lines = [f"{kind} [signed-by={_KEYRING}] {place}" for kind in kinds for place in places]
        (folder / "sources.list").write_text("\n".join(lines) + "\n")
        settings = {
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::State::extended_states": folder / "extended",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "sha256",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Read the archive's lists, with its signature checked."""
        self._run("update", "-qq")

    def packages(self, action: str, wanted: Sequence[str], groups: tuple[Group, ...] = ()) -> list[LockedPackage]:
        """The binary packages that `action` (``install``, ``satisfy``) of `wanted` brings in, starting from nothing."""
        found: list[LockedPackage] = []
        for file, path, size, digest in self._files(action, "-y", *wanted) if wanted else ():
            name, version, _ = file.removesuffix(".deb").rsplit("_", 2)
            found.append(LockedPackage(name, version, path, size, digest, groups))
        return found

    def source(self, name: str, version: str) -> list[LockedPackage]:
        """The files of source package `name` in exactly this `version`, each under its file name."""
        files = self._files("source", "--only-source", f"{name}={version}")
        return [LockedPackage(file, version, path, size, digest, ()) for file, path, size, digest in files]

    def _files(self, *words: str) -> list[tuple[str, str, int, bytes]]:
        matches = map(_URI.match, self._run("-qq", "--print-uris", *words).splitlines())
        found = []
        for uri, file, size, digest in (match.groups() for match in matches if match):
            archive, _, pool = urlsplit(uri).path.partition("/pool/")
            found.append((unquote(file), f"{archive.rsplit('/', 1)[-1]}/pool/{pool}", int(size), bytes.fromhex(digest)))
        return found

    def _run(self, *words: str) -> str:
        return run(["apt-get", *self._options, *words])


def run(command: Sequence[str]) -> str:
    """What a program of apt prints. Raises `UsageError` (``image.tool``) and `CollateralUnavailable` (``image.packages``)."""
    try:
        # The environment is reduced so that neither language nor the caller's apt configuration has a say.
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603  # fixed words
    except FileNotFoundError:
        raise UsageError.of(
            "image.tool", expected=f"{command[0]} on this host", found="none", remedy="Build on Debian or Ubuntu, or in a container of it."
        ) from None
    if done.returncode:
        problem = " ".join(line for line in done.stderr.splitlines() if line.startswith("E:")) or done.stderr.strip()[-300:]
        raise CollateralUnavailable.of(
            "image.packages", expected="packages that apt can resolve", found=problem, remedy="Check the names and the network."
        )
    return done.stdout
