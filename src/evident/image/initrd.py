"""The initrd: Python, the guest's modules and nothing they do not reach, cryptsetup, and the kernel modules in load order.

There is no shell, no module loader and no package manager in it. ``/init`` is one line: the kernel's own ``#!`` handling
(binfmt_script) starts the interpreter, isolated, on the guest's first module. Modules are byte code without source beside it: the
kernel's measurement covers it, and building again shows from which source it came.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from evident.errors import Malformed
from evident.image import elf
from evident.image.spec import ImageSpec
from evident.image.toolbox import Toolbox, merged_usr
from evident.image.tree import Entry, Tree

PYTHON = "usr/lib/python3.13"
GUEST = "evident.guest.init"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
MODULE_LIST = "usr/lib/evident/modules.list"
CONFIGURATION = "etc/evident/guest.json"
OWN_CODE = f"{PYTHON}/evident"
_OWN = "own"
OWN_FILES = ("init", CONFIGURATION, MODULE_LIST)
"""With the code, all that is made here from source; every other file of the initrd is from a package, or compiled from a package's."""
INTERPRETER = "usr/bin/python3.13"
PROGRAMS = (INTERPRETER, "usr/sbin/cryptsetup", "usr/sbin/veritysetup")
# What modules reach by name at run time: the C library's thread cancellation, and OpenSSL's provider that python3-cryptography loads.
LOADED_BY_NAME = (f"{LIBRARIES}/libgcc_s.so.1", f"{LIBRARIES}/ossl-modules/legacy.so")
KERNEL_MODULES = (
    "virtio_blk",
    "virtio_net",
    "virtio-rng",
    "virtio_scsi",  # Google's disks where they are not NVMe, which is built in
    "gve",  # Google's network
    "ena",  # Amazon's network
    "hv_storvsc",  # Azure's disks
    "hv_netvsc",  # Azure's network
    "pci-hyperv",  # Azure's NVMe disks
    "sd_mod",
    "dm-mod",
    "dm-verity",
    "dm-integrity",
    "dm-crypt",
    "xts",
    "authenc",
    "aesni-intel",
    "sha256-ssse3",
    "algif_skcipher",
    "algif_hash",
    "erofs",
    "configfs",
    "tsm",
    "sev-guest",
    "tdx-guest",
)
_PARTS = {"evident": "guest code", "cryptography": "cryptography", "_cffi_backend": "cryptography", "grpc": "gRPC"}
CODECS = tuple(f"encodings.{name}" for name in ("utf_8", "ascii", "latin_1", "idna", "utf_16_le"))
EXCLUDED = (
    "unittest",
    "pydoc",
    "doctest",
    "pdb",
    "test",
    "tkinter",
    "idlelib",
    "ensurepip",
    "sqlite3",
    "curses",
    "readline",
    "bcrypt",
    "multiprocessing",
)


@dataclass(frozen=True, slots=True)
class Initrd:
    tree: Tree
    inventory: dict[str, int]
    """Bytes by part: ``kernel modules``, ``guest code``, ``python library``, ``cryptography``, ``programs and libraries``; where SPIRE
    takes part, ``gRPC``, and ``SPIRE agent`` with its configuration and bundle."""
    modules: tuple[str, ...]
    """Python modules by name."""


def make(
    spec: ImageSpec, packages: Tree, toolbox: Toolbox, staging: Path, *, source: Path, guest: str = GUEST, programs: Sequence[str] = ()
) -> Initrd:
    """Assemble the tree. `packages` holds the unpacked packages of group initrd, `source` the folder ``evident`` of the Python package.

    `programs` are modules of the guest that run as programs of their own, beside `guest`; `staging` is an empty scratch folder.
    """
    tree = merged_usr()
    for name in ("dev", "proc", "sys", "run", "tmp", "sysroot", "etc"):
        tree.add_directory(name)
    tree.add_file("init", f"#!/usr/bin/python3 -ISBm{guest}\n".encode(), 0o755)
    tree.add_link("usr/bin/python3", "python3.13")
    tree.add_file(CONFIGURATION, configuration(spec))
    inventory = {"kernel modules": _kernel_modules(tree, packages)}
    modules = _python(tree, packages, toolbox, staging, source, (guest, *programs), inventory)
    before = sum(len(entry.data) for entry in tree.values())
    for program in PROGRAMS:
        _take(tree, packages, program, 0o755)
    for library in LOADED_BY_NAME:
        _take(tree, packages, library)
    _libraries(tree, packages)
    inventory["programs and libraries"] = sum(len(entry.data) for entry in tree.values()) - before
    return Initrd(tree, inventory, modules)


def configuration(spec: ImageSpec) -> bytes:
    """What the guest reads: the units and what may be written to; users by their numbers."""
    users = spec.users
    said = {
        "units": [
            {
                "name": unit.name,
                "command": list(unit.command),
                "environment": dict(unit.environment),
                "owner": users[unit.owner],
                "on_end": unit.on_end,
                "secrets": list(unit.secrets),
                "tls_names": list(unit.tls_names),
                **({"svid": True} if unit.svid else {}),
            }
            for unit in spec.units
        ],
        "tmpfs": [{"path": place.path, "size": place.size, "owner": users[place.user] if place.user else None} for place in spec.writable],
        "ssh_authorized_keys": list(spec.ssh_authorized_keys),
        "ima": spec.ima,
        **({"spire": True} if spec.spire else {}),
    }
    return json.dumps(said, sort_keys=True, indent=1).encode() + b"\n"


def _kernel_modules(tree: Tree, packages: Tree) -> int:
    """The modules with what they depend on, uncompressed, and the list in load order; returns their size in bytes."""
    known = {
        PurePosixPath(path).name.split(".ko")[0].replace("-", "_"): path
        for path in packages
        if path.split(".ko")[-1] in {"", ".xz"} and ".ko" in path
    }
    order: list[str] = []

    def add(name: str, *, optional: bool) -> None:
        key = name.replace("-", "_")
        if key not in known:
            if optional:
                return
            raise Malformed.of("image.kernel-module", expected=f"kernel module {name}", found="none", remedy="Use another kernel package.")
        target = known[key].removesuffix(".xz")
        if target in order:
            return
        entry = packages.file(known[key])
        raw = lzma.decompress(entry.data) if known[key].endswith(".xz") else entry.data
        info = elf.modinfo(raw)
        for needed in info.get("depends", ("",))[0].split(","):
            if needed:
                add(needed, optional=False)
        for line in info.get("softdep", ()):
            for wish in line.partition("pre:")[2].partition("post:")[0].split():
                add(wish, optional=True)  # a module built into the kernel has no file
        order.append(target)
        tree[target] = replace(entry, mode=0o644, data=raw)

    for name in KERNEL_MODULES:
        add(name, optional=name in {"aesni-intel", "sha256-ssse3", "virtio-rng", "algif_hash"})
    tree.add_file(MODULE_LIST, "".join(f"/{path}\n" for path in order).encode())
    return sum(len(tree[path].data) for path in order)


def _python(
    tree: Tree, packages: Tree, toolbox: Toolbox, staging: Path, source: Path, roots: Sequence[str], inventory: dict[str, int]
) -> tuple[str, ...]:
    """Every Python module that the guest reaches from `roots`, compiled; returns their names."""
    _stage(packages, staging, source)
    script = Path(__file__).with_name("closure.py")
    library = staging / PYTHON
    asked: dict[str, Any] = {
        "roots": [*roots, "_cffi_backend", "os", "runpy", "io", "zipimport", *CODECS],
        "packages": ["cryptography"],
        "path": [str(staging / _OWN), str(library), str(library / "lib-dynload"), str(staging / "usr/lib/python3/dist-packages")],
        "exclude": list(EXCLUDED),
    }
    found = json.loads(toolbox.python(script, given=json.dumps(asked).encode()))["modules"]
    targets = [(module, _target(module)) for module in found]
    code = [(module["file"], f"/{path[:-1]}") for module, path in targets if path.endswith(".pyc")]
    answer = json.loads(toolbox.python(script, given=json.dumps({"compile": code}).encode()))
    compiled = iter(answer["code"])
    for module, path in targets:
        data = bytes.fromhex(next(compiled)) if path.endswith(".pyc") else Path(module["file"]).read_bytes()
        tree[path] = Entry("file", 0o644, data, _origin(packages, staging, module["file"]))
        top = module["name"].split(".")[0]
        part = _PARTS.get(top, "python library")
        inventory[part] = inventory.get(part, 0) + len(data)
    return tuple(module["name"] for module in found)


def _origin(packages: Tree, staging: Path, file: str) -> frozenset[str]:
    """The packages of a staged Python file; none for Evident's own."""
    path = PurePosixPath(file).relative_to(staging).as_posix()
    return frozenset() if path.startswith(f"{_OWN}/") else packages.file(path).packages


def _take(tree: Tree, packages: Tree, path: str, mode: int = 0o644) -> None:
    tree[path] = replace(packages.file(path), mode=mode)


def _target(module: dict[str, Any]) -> str:
    """Where a module goes: everything is flattened below the standard library, so that no search path needs setting up."""
    place = module["name"].replace(".", "/")
    if module["file"].endswith(".so"):
        folder = f"{PYTHON}/lib-dynload" if "lib-dynload" in module["file"] else PYTHON
        parent = PurePosixPath(place).parent.as_posix()
        return f"{folder}/{'' if parent == '.' else parent + '/'}{Path(module['file']).name}"
    return f"{PYTHON}/{place}/__init__.pyc" if module["package"] else f"{PYTHON}/{place}.pyc"


def _stage(packages: Tree, staging: Path, source: Path) -> None:
    """The Python files of the packages as files, and the sources of Evident under their name."""
    for path in packages:
        entry = packages[path]
        if path.startswith("usr/lib/python3") and entry.kind == "file":
            target = staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(entry.data)
    (staging / _OWN).mkdir()
    (staging / _OWN / "evident").symlink_to(source)


def _libraries(tree: Tree, packages: Tree) -> None:
    """Add every shared library that a program or library of `tree` needs."""
    todo: list[str] = [path for path in tree if elf.is_elf(tree[path].data) and ".ko" not in path]
    while todo:
        for name in elf.needed(tree.read(todo.pop())):
            path = f"usr/lib64/{name}" if name.startswith("ld-linux") else f"{LIBRARIES}/{name}"
            if path not in tree:
                _take(tree, packages, path, 0o755)
                todo.append(path)


def take_in(tree: Tree, other: Tree) -> None:
    """Lay the root of a microCVM into the initrd: what is there stays, and modules that are there as byte code need no source."""
    for path in other:
        compiled = path.removesuffix(".py") + ".pyc"
        if path not in tree and not (path.endswith(".py") and compiled in tree):
            tree[path] = other[path]


def compressed(tree: Tree, toolbox: Toolbox) -> bytes:
    """The archive, as one zstd frame made by one thread."""
    return toolbox.run("bin/zstd", "-q", "-c", "-9", "--single-thread", given=tree.cpio())
