"""A root of its own in which a Debian package is built: installed from nothing, in namespaces of its own, without a network.

Needs util-linux on the host and nothing else of Debian's tools: what installs and builds is the root's own dpkg. As root the root's files
belong to whom the packages say; anybody else needs a range of subordinate ids (subuid(5)) and newuidmap(1). The host's packages, network
and file systems stay as they are: mounts end with the namespace.
Sources: unshare(1), dpkg(1), dpkg-buildpackage(1); the path of the build is that of Debian's build machines since trixie.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from evident.errors import Unsupported
from evident.image import deb
from evident.image.lock import Store
from evident.image.stated import LockedPackage
from evident.image.toolbox import merged_usr

BUILD_PATH = "build/reproducible-path"
_PACKAGES = "packages"
_SOURCES = "sources"
_CHANGE = "binary-only-change"
_USER = 1000

_ENTER = """
cd "$1"
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom; do : > dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
for number in 0 1 2; do ln -s /proc/self/fd/$number dev/$(echo stdin stdout stderr | cut -d ' ' -f $((number + 1))); done
ln -s /proc/self/fd dev/fd
exec chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent LANG=C.UTF-8 LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DEB_BUILD_OPTIONS="$3" /bin/sh -euc "$2"
"""
"""Run with a root, a script for its shell and the options of the build."""
_INSTALL = f"""
dpkg --force-unsafe-io --force-depends --unpack /{_PACKAGES}/*.deb
dpkg --force-unsafe-io --configure -a
rm -r /{_PACKAGES}
"""
_ACCOUNT = f"""
echo builder:x:{_USER}:{_USER}::/nonexistent:/bin/sh >> /etc/passwd
echo builder:x:{_USER}: >> /etc/group
"""
_BUILD = f"""
mkdir -p /{BUILD_PATH}
chown {_USER}:{_USER} /{BUILD_PATH}
cd /{BUILD_PATH}
exec setpriv --reuid {_USER} --regid {_USER} --clear-groups --inh-caps=-all /bin/sh -euc '
dpkg-source --no-check -x /{_SOURCES}/*.dsc
cd */
if [ -e /{_SOURCES}/{_CHANGE} ]; then
    cat /{_SOURCES}/{_CHANGE} debian/changelog > ../changelog
    mv ../changelog debian/changelog
fi
exec dpkg-buildpackage --sanitize-env --build=$KIND -us -uc'
"""


class Chroot:
    """The root in `folder`; what runs in it prints into the file `log`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log

    def bootstrap(self, store: Store, essential: Iterable[LockedPackage], packages: Iterable[LockedPackage]) -> None:
        """Make the folder, with `packages` in it, of which `essential` are what dpkg itself needs."""
        tree = merged_usr()
        for package in essential:
            deb.lay(deb.entries(store.read(package), str(package)), str(package), tree)
        for name in ("proc", "dev", "var/lib/dpkg", "build"):
            tree.add_directory(name)
        tree.add_file("var/lib/dpkg/status", b"")
        tree.write(self._folder)
        self.install(store, packages)
        self._run(_ACCOUNT, "the account of the build")

    def copy(self, folder: Path, log: Path) -> Chroot:
        """The same root once more, in the new folder `folder`."""
        self._host("cp", "-a", "--reflink=auto", str(self._folder), str(folder))
        return Chroot(folder, log)

    def install(self, store: Store, packages: Iterable[LockedPackage]) -> None:
        """Install `packages`, all at once, so that their order plays no part."""
        folder = self._folder / _PACKAGES
        folder.mkdir()
        for package in packages:
            (folder / f"{package.name}.deb").write_bytes(store.read(package))
        if any(folder.iterdir()):
            self._run(_INSTALL, "the build's packages to be installed")

    def build(self, store: Store, sources: Iterable[LockedPackage], kind: str, change: bytes, processors: int) -> dict[str, bytes]:
        """Build the source package of the files `sources`; the packages that come out, by file name.

        `kind` is ``any`` (of this architecture) or ``all`` (of none); `change` goes before the changelog, where a package was rebuilt
        without a change of its source. Raises `Unsupported` (``image.package-build``).
        """
        folder = self._folder / _SOURCES
        folder.mkdir()
        for file in sources:
            (folder / file.name).write_bytes(store.read(file))
        if change:
            (folder / _CHANGE).write_bytes(change)
        self._run(f"KIND={kind}; export KIND\n{_BUILD}", "the build to succeed", f"nocheck parallel={processors}")
        made = self._folder / BUILD_PATH
        return {path.name: path.read_bytes() for path in sorted(made.glob("*.deb"))}

    def remove(self) -> None:
        """Take the folder away; some of its files may belong to others."""
        if os.geteuid():
            self._host("rm", "-rf", str(self._folder))
        else:
            shutil.rmtree(self._folder)

    def _run(self, script: str, wanted: str, options: str = "") -> None:
        self._host("/bin/sh", "-euc", _ENTER, "sh", str(self._folder), script, options, wanted=wanted)

    def _host(self, *command: str, wanted: str = "room for another root") -> None:
        mine = () if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")
        words = ["unshare", *mine, "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--", *command]
        with self._log.open("ab") as log:
            try:
                done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)  # noqa: S603  # fixed words
                problem = f"status {done.returncode}" if done.returncode else ""
            except OSError as error:
                problem = f"unshare: {os.strerror(error.errno or 0)}"
        if problem:
            raise Unsupported.of(
                "image.package-build", expected=wanted, found=problem, remedy=f"Read {self._log}; the last lines say what went wrong."
            )
