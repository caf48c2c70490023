"""The root file system: packages laid out without running their scripts, slimmed, as an EROFS image with a dm-verity hash tree."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from evident.errors import Malformed
from evident.image.lock import Store
from evident.image.spec import ImageSpec, Unit
from evident.image.stated import LockedPackage
from evident.image.toolbox import Toolbox, merged_usr
from evident.image.tree import EPOCH, Tree

BLOCK = 4096
_UNNEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/bug",
    "var/lib/dpkg",
    "var/cache",
)
_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "etc", "var")
_ROOT_HASH = re.compile(rb"^Root hash:\s*([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Root:
    image: bytes
    hash_tree: bytes
    root_hash: bytes


def identifiers(root_hash: bytes) -> tuple[uuid.UUID, uuid.UUID]:
    """Partition GUIDs of data and hash tree: the two halves of the root hash, as the Discoverable Partitions Specification has it."""
    return uuid.UUID(bytes=root_hash[:16]), uuid.UUID(bytes=root_hash[16:])


def lay_out(spec: ImageSpec, packages: tuple[LockedPackage, ...], store: Store) -> Tree:
    """The tree of the root file system: packages, what nobody reads at run time off, then the files of `spec`."""
    result = merged_usr()
    for package in packages:
        store.lay(package, result)
    for path in _UNNEEDED:
        result.remove(path)
    for name in _FOLDERS:
        if name not in result:
            result.add_directory(name)
    for place in spec.writable:
        result.add_directory(place.path[1:])
    for item in spec.files:
        result.add_file(item.path[1:], item.content(), 0o755 if item.executable else 0o644)
    if spec.ssh_authorized_keys:
        _check_login(result)
    for unit in spec.units:
        program = unit.command[0][1:]
        result.read(program) if result.resolve(program, last=True) in result else _missing(unit)
    return result


def _check_login(tree: Tree) -> None:
    """What the guest starts for whoever may log in, and who that is."""
    absent = [path for path in ("usr/sbin/sshd", "etc/passwd") if tree.resolve(path, last=True) not in tree]
    if absent:
        raise Malformed.of(
            "image.ssh",
            expected="openssh-server and accounts in an image with ssh_authorized_keys",
            found="no /" + ", no /".join(absent),
            remedy="Add the package, and an /etc/passwd with `sshd` and whoever may log in; or leave the keys out.",
        )


def _missing(unit: Unit) -> None:
    raise Malformed.of(
        "image.program",
        expected=f"{unit.command[0]}, the program of unit {unit.name}, in the image",
        found="no such file",
        remedy="Add its package, or the file itself.",
    )


def make(tree: Tree, toolbox: Toolbox, scratch: Path) -> Root:
    """Make the image and its hash tree in `scratch` (an empty folder)."""
    archive, image, hashes = scratch / "root.tar", scratch / "root.erofs", scratch / "root.verity"
    archive.write_bytes(tree.tar())
    name = str(uuid.UUID(bytes=hashlib.sha256(archive.read_bytes()).digest()[:16]))
    toolbox.run("bin/mkfs.erofs", "--quiet", "--tar=f", f"-T{EPOCH}", f"-U{name}", "-b4096", image, archive)
    data = image.read_bytes()
    image.write_bytes(data.ljust((len(data) + BLOCK - 1) // BLOCK * BLOCK, b"\0"))
    salt = hashlib.sha256(b"dm-verity salt" + image.read_bytes()).digest()
    said = toolbox.run(
        "sbin/veritysetup", "format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096", f"--salt={salt.hex()}",
        f"--uuid={uuid.UUID(bytes=salt[:16])}", image, hashes,
    )  # fmt: skip
    match = _ROOT_HASH.search(said)
    if match is None:
        raise Malformed.of("image.verity", expected="a root hash", found=said.decode("utf-8", "replace")[-200:], remedy="Lock again.")
    return Root(image.read_bytes(), hashes.read_bytes(), bytes.fromhex(match.group(1).decode()))
