"""Build an image: specification and lock in, kernel, initrd, root file system, UKI and disk out, the same bytes every time.

Whatever could vary is fixed or derived from content: order (sorted), owner (0), time (`tree.EPOCH`), identifiers (digests), tools (those of
the lock). Folder, clock, locale, umask and user of the machine have no part in it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import evident
from evident.errors import Malformed
from evident.image import disk, initrd, inventory, root, spire, uki
from evident.image.inventory import HARDENING
from evident.image.lock import SPIRE, Store
from evident.image.names import DISK, HASH, INITRD, KERNEL, ROOT, UKI
from evident.image.spec import ImageSpec
from evident.image.stated import Inventory, Lock, LockedPackage
from evident.image.toolbox import Toolbox, merged_usr
from evident.image.tree import Tree, origins

Progress = Callable[[str], None]
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
BOOT_PATH = "EFI/BOOT/BOOTX64.EFI"
LUKS_OVERHEAD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Built:
    """What a build yields; `components` are in the order of the build, so that the first difference is the cause of the later ones."""

    spec: ImageSpec
    lock: Lock
    files: Mapping[str, Path]
    """Name to file: vmlinuz, initrd.img, uki.efi, disk.raw; root.erofs and root.verity unless the profile has no disk."""
    command_line: str
    root_hash: bytes | None
    components: Mapping[str, bytes]
    """Component to SHA-256: packages, kernel, every file of the initrd and root by group, then the whole artifacts."""
    inventory: Inventory
    loadable: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Where the kernel measures what it loads: ``initrd`` and ``root`` to path and SHA-256 of every file that can be (`Tree.loadable`)."""
    from_source: frozenset[str] = frozenset()
    """The components all of whose bytes are made here from source; the others hold binaries of the distribution."""
    made_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Component to the names of every package whose bytes are in it, or whose program wrote them; without those of unknown origin."""


def build(
    spec: ImageSpec,
    lock: Lock,
    store: Store,
    out: Path,
    *,
    source: Path | None = None,
    progress: Progress = lambda _: None,
) -> Built:
    """Build into the folder `out`. The store must hold the packages of `lock` (see `Store.fetch`).

    `source` is the folder of the Python package ``evident`` whose guest goes into the initrd (default: the running one).
    Raises what unpacking and the tools raise: `Malformed`, `Unsupported`, `CollateralUnavailable`, `NotAuthentic`.
    """
    if lock.suite != spec.suite:
        raise Malformed.of("image.lock", expected=f"a lock of {spec.suite}", found=lock.suite, remedy="Lock again with --update-lock.")
    absent = sorted(set(SPIRE if spec.spire else ()) - {package.name for package in lock.group("initrd")})
    if absent:
        raise Malformed.of("image.lock", expected=absent[0], found="a lock without it", remedy="Lock again with --update-lock.")
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="evident-image-") as name:
        return _Build(spec, lock, store, out, Path(name), source or Path(evident.__file__).parent, progress).run()


class _Build:
    def __init__(self, spec: ImageSpec, lock: Lock, store: Store, out: Path, scratch: Path, source: Path, progress: Progress) -> None:
        self._spec, self._lock, self._store, self._out = spec, lock, store, out
        self._scratch, self._source, self._progress = scratch, source, progress
        self._components: dict[str, bytes] = {"spec": spec.digest()}
        self._from_source = {"spec", "command line"}
        self._made_of: dict[str, frozenset[str]] = {}
        self._files: dict[str, Path] = {}
        self._tools = frozenset(package.name for package in lock.group("tools"))
        """What compresses, lays out and hashes writes bytes of its own, and the UKI's stub is of these."""

    def run(self) -> Built:
        for package in self._lock.packages:
            self._components[f"package {package}"] = package.sha256
            self._made_of[f"package {package}"] = frozenset({package.name})
        self._progress("unpacking the tools")
        toolbox, tools = Toolbox.unpack(self._lock, self._store, self._scratch / "tools")
        verity, root_tree = self._root(toolbox)
        kernel, offered, made = self._initrd(toolbox)
        self._progress("taking the inventory")
        taken = inventory.take(
            self._spec, made.tree, root_tree, parts=made.inventory, modules_offered=offered, python_modules=len(made.modules)
        )
        inventory.check(self._spec, made.tree, root_tree)
        self._progress("packing the initrd")
        archive = initrd.compressed(made.tree, toolbox)
        line = command_line(self._spec, verity)
        self._write(KERNEL, kernel)
        self._write(INITRD, archive)
        self._components["command line"] = hashlib.sha256(line.encode()).digest()
        self._progress("writing UKI and disk")
        image = self._uki(tools.read(STUB), kernel, archive, line)
        self._disk(image, verity)
        hashed = verity.root_hash if verity else None
        trees = {"initrd": made.tree, "root": root_tree} if self._spec.ima else {}
        return Built(
            self._spec,
            self._lock,
            self._files,
            line,
            hashed,
            self._components,
            taken,
            loadable={name: tree.loadable() for name, tree in trees.items() if len(tree)},
            from_source=frozenset(self._from_source),
            made_of=self._made_of,
        )

    def _write(self, name: str, data: bytes) -> None:
        self._files[name] = self._out / name
        self._files[name].write_bytes(data)
        self._components[name] = hashlib.sha256(data).digest()

    def _record(self, part: str, tree: Tree, own: set[str]) -> None:
        """One digest per top folder, and one for the guest's code: small enough to sign, fine enough to find a difference.

        `own` are the files of `tree` that are made here from source.
        """
        groups: dict[str, list[str]] = {}
        for path in tree:
            groups.setdefault(initrd.OWN_CODE if _below(path, initrd.OWN_CODE) else "/".join(path.split("/")[:3]), []).append(path)
        for group, paths in sorted(groups.items()):
            entries = [(path, tree[path]) for path in paths]
            lines = (f"{path}\0{entry.kind}\0{entry.mode:o}\0{hashlib.sha256(entry.data).hexdigest()}\n" for path, entry in entries)
            self._components[f"{part} /{group}"] = hashlib.sha256("".join(lines).encode()).digest()
            packages = origins(entries, own)
            self._stem(f"{part} /{group}", packages)
            if packages == frozenset():
                self._from_source.add(f"{part} /{group}")

    def _stem(self, component: str, *parts: frozenset[str] | None) -> None:
        """Record that all of `component` is of the packages `parts`, unless one of them is unknown (None)."""
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            self._made_of[component] = frozenset[str]().union(*known)

    def _root(self, toolbox: Toolbox) -> tuple[root.Root | None, Tree]:
        if self._spec.profile == "microcvm":
            return None, Tree()
        self._progress("laying out the root file system")
        tree = root.lay_out(self._spec, self._lock.group("root"), self._store)
        self._record("root", tree, _stated(self._spec))
        self._progress("making the root image and its hash tree")
        scratch = self._scratch / "root"
        scratch.mkdir()
        made = root.make(tree, toolbox, scratch)
        self._write(ROOT, made.image)
        self._write(HASH, made.hash_tree)
        self._components["verity root hash"] = made.root_hash
        for component in (ROOT, HASH, "verity root hash"):
            self._stem(component, origins(tree.items(), _stated(self._spec)), self._tools)
        return made, tree

    def _initrd(self, toolbox: Toolbox) -> tuple[bytes, int, initrd.Initrd]:
        self._progress("collecting the guest")
        packages = self._unpack((*self._lock.group("initrd"), *self._lock.group("kernel")))
        staging = self._scratch / "staging"
        staging.mkdir()
        wanted = self._spec.spire
        made = initrd.make(self._spec, packages, toolbox, staging, source=self._source, programs=spire.PROGRAMS if wanted else ())
        if wanted:
            made.inventory["SPIRE agent"] = spire.lay(made.tree, wanted, self._store.program(wanted.agent_sha256))
        own = {path for path in made.tree if path in (*initrd.OWN_FILES, *spire.OWN_FILES) or _below(path, initrd.OWN_CODE)}
        if self._spec.profile == "microcvm":
            own |= _stated(self._spec) - made.tree.keys()
            initrd.take_in(made.tree, root.lay_out(self._spec, self._lock.group("root"), self._store))
        self._record("initrd", made.tree, own)
        self._stem(INITRD, origins(made.tree.items(), own), self._tools)
        kernel = packages.file(next((path for path in packages if path.startswith("boot/vmlinuz-")), "boot/vmlinuz"))
        self._stem(KERNEL, origins([(KERNEL, kernel)], ()))
        return kernel.data, sum(".ko" in path for path in packages), made

    def _unpack(self, packages: tuple[LockedPackage, ...]) -> Tree:
        tree = merged_usr()
        for package in packages:
            self._store.lay(package, tree)
        return tree

    def _uki(self, stub: bytes, kernel: bytes, archive: bytes, line: str) -> bytes:
        release = f'ID=evident\nNAME="Evident guest"\nIMAGE_ID={self._spec.name}\n'.encode()
        sections = {".osrel": release, ".cmdline": line.encode(), ".initrd": archive, ".linux": kernel}
        image = uki.write(stub, sections)
        self._write(UKI, image)
        self._stem(UKI, self._tools, *map(self._made_of.get, (KERNEL, INITRD)))
        return image

    def _disk(self, image: bytes, verity: root.Root | None) -> None:
        self._files[DISK] = self._out / DISK
        hashed = verity.root_hash if verity else None
        data = uuid.UUID(bytes=hashlib.sha256(b"LUKS" + (hashed or b"")).digest()[:16])
        write_disk(self._files[DISK], image, partitions(self._spec, hashed, self._out, data))
        with self._files[DISK].open("rb") as stream:
            self._components[DISK] = hashlib.file_digest(stream, "sha256").digest()
        self._stem(DISK, *map(self._made_of.get, (UKI, ROOT) if verity else (UKI,)))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _stated(spec: ImageSpec) -> set[str]:
    """Paths of the files whose content is in the specification."""
    return {item.path[1:] for item in spec.files}


def partitions(spec: ImageSpec, root_hash: bytes | None, files: Path, data: uuid.UUID) -> tuple[disk.Partition, ...]:
    """What is on the disk behind the EFI system partition; the folder `files` holds root file system and hash tree.

    `data` is the PARTUUID of an encrypted partition: every machine has one of its own, so that no two share terms and key.
    """
    if root_hash is None:
        return ()
    if spec.profile == "integrity":
        content, hashes = root.identifiers(root_hash)
        return (
            disk.Partition("root", disk.ROOT, content, files / ROOT),
            disk.Partition("root-verity", disk.ROOT_VERITY, hashes, files / HASH),
        )
    size = (files / ROOT).stat().st_size + (files / HASH).stat().st_size + LUKS_OVERHEAD
    return (disk.Partition("data", disk.LINUX_DATA, data, b"", size),)


def write_disk(target: Path, image: bytes, behind: Sequence[disk.Partition]) -> None:
    """A disk that boots the UKI `image`, with the partitions `behind` it; its identifiers follow from the UKI."""
    volume = disk.system_partition([(BOOT_PATH, image)], int.from_bytes(hashlib.sha256(image).digest()[:4]))
    identifier = hashlib.sha256(b"disk" + image).digest()
    system = disk.Partition("ESP", disk.SYSTEM, uuid.UUID(bytes=identifier[:16]), volume)
    disk.write(target, uuid.UUID(bytes=identifier[16:]), (system, *behind))


def command_line(spec: ImageSpec, verity: root.Root | None, further: Mapping[str, str] | None = None) -> str:
    """The kernel command line of an image; `further` are parameters of the deployment (``evident.verifier``, ``evident.data``), appended in
    their order.
    """
    words = ["console=ttyS0", "panic=-1", "ro", *HARDENING, f"evident.mode={spec.profile}"]
    if verity is not None:
        words.append(f"roothash={verity.root_hash.hex()}")
        if spec.profile == "integrity":
            data, hashes = root.identifiers(verity.root_hash)
            words += [f"evident.root={data}", f"evident.hash={hashes}"]
        else:
            words.append(f"evident.hashoffset={len(verity.image)}")
    return " ".join((*words, *spec.command_line, *(f"{name}={value}" for name, value in (further or {}).items())))
