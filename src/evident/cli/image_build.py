"""Build an image from a specification.

The packages are locked by version and SHA-256 in a file beside the specification (made when there is none); the same specification and
lock give the same bytes on any machine. DIR receives vmlinuz, initrd.img, root.erofs, root.verity, uki.efi, disk.raw, manifest.json (signed
by this machine's verifier key) and reference.json (what a boot will measure, for evident verify --reference).

examples:
  evident image build shop.yaml --out shop.image
  evident image build shop.yaml --out shop.image --update-lock        newest packages
  evident image build shop.yaml --out shop.image --spire-agent spire-agent    the program that the specification names, once
  evident image build shop.yaml --out shop.image --firmware OVMF.amdsev.fd --vcpus 2 --parameter evident.verifier=10.0.2.2:8443
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evident.image.lock import Progress, Store
    from evident.image.manifest import Manifest
    from evident.image.prediction import Launch
    from evident.image.spec import ImageSpec
    from evident.image.stated import Lock

MAX_AGENT_BYTES = 1 << 28


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="image specification, YAML or JSON (docs/schemas/image.json)")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the image")
    parser.add_argument("--lock", metavar="FILE", help="lock file (default: SPEC with the suffix .lock.json)")
    parser.add_argument("--update-lock", action="store_true", help="lock the newest packages of the suite")
    configure_packages(parser)
    parser.add_argument("--spire-agent", metavar="FILE", help="put the SPIRE agent that SPEC names by its SHA-256 into the store")
    parser.add_argument("--firmware", metavar="FILE", help="predict the SNP launch digest with this OVMF (one with a kernel hash table)")
    options.add_vcpus(parser, 2, "vCPU count of that launch")
    parser.add_argument("--vcpu-type", metavar="TYPE", default="EPYC-v4", help="QEMU CPU model of that launch (default EPYC-v4)")
    parser.add_argument(
        "--parameter", metavar="NAME=VALUE", action="append", default=[], help="kernel parameter of that launch, appended; repeatable"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the output")


def configure_packages(parser: argparse.ArgumentParser) -> None:
    """Where packages come from; `reproduce` has the same."""
    parser.add_argument("--mirror", metavar="URL", action="append", help="Debian archive to fetch from (default: this host's apt sources)")
    parser.add_argument("--store", metavar="DIR", help="downloaded packages by SHA-256 (default: in the cache)")


def run(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from evident import codec
    from evident.cli.progress import progress

    spec, addresses, store, launches = _read(args.spec), mirrors(args.mirror), package_store(args.store), _launches(args)
    if args.spire_agent is not None:
        _take_agent(args.spire_agent, spec, store)
    with progress() as say:
        lock = _lock(args, spec, addresses, say)
        store.fetch(lock, addresses, progress=say)
        made = _produce(spec, lock, store, args.out, say, launches)
    print(json.dumps(codec.encode(made), indent=2) if args.output == "json" else _text(made, Path(args.out)))
    return 0


def from_document(spec: Path, out: Path) -> None:
    """Build the image of a deployment document into `out`, from its specification and the lock beside that, as they are."""
    from evident.cli.inputs import read_bytes
    from evident.cli.progress import progress
    from evident.image import lock, names

    locked, addresses, store = lock.load(read_bytes(names.lock_of(spec))), mirrors(None), package_store(None)
    with progress() as say:
        store.fetch(locked, addresses, progress=say)
        _produce(_read(spec), locked, store, str(out), say)


def _read(path: str | Path) -> ImageSpec:
    from evident import codec
    from evident.cli.documents import read_document
    from evident.image.spec import ImageSpec

    return codec.decode(ImageSpec, read_document(path, "image"), "image")


def _produce(spec: ImageSpec, locked: Lock, store: Store, folder: str, say: Progress, launches: Sequence[Launch] = ()) -> Manifest:
    """Build, predict and sign. The manifest is written last: a folder that has one has all of the image."""
    import os
    from datetime import UTC, datetime

    from evident.audit import keys
    from evident.cli.outputs import write_file
    from evident.cli.paths import state_dir
    from evident.image import build, manifest, names, prediction
    from evident.reference_values import documents

    out = make_folder(folder)
    (out / names.MANIFEST).unlink(missing_ok=True)
    built = build.build(spec, locked, store, out, progress=say)
    say("predicting what it will measure")
    key = keys.load_or_create(state_dir(), os.urandom)
    made = prediction.manifest_of(built, at=datetime.now(UTC).replace(microsecond=0), builder=key.public, launches=launches)
    write_file(out / "reference.json", documents.dump(made.reference))
    write_file(out / names.MANIFEST, manifest.sign(made, key))
    return made


def _take_agent(file: str, spec: ImageSpec, store: Store) -> None:
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError

    if spec.spire is None:
        raise UsageError.of("usage.spire-agent", expected="a specification with `spire`", found="one without", remedy="Add it to SPEC.")
    store.put(read_bytes(file, limit=MAX_AGENT_BYTES), spec.spire.agent_sha256)


def mirrors(named: Sequence[str] | None) -> tuple[str, ...]:
    """The archives that the caller names, or those of this host's apt."""
    from evident.image import apt

    return tuple(address.rstrip("/") for address in named) if named else apt.mirrors()


def package_store(folder: str | None) -> Store:
    from pathlib import Path

    from evident.cli.paths import cache_dir
    from evident.image.lock import Store

    return Store(Path(folder) if folder else cache_dir() / "packages")


def make_folder(name: str) -> Path:
    """The folder `name`, made where it is missing. Raises `UsageError` (``output.unwritable``)."""
    from pathlib import Path

    from evident.errors import UsageError

    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError.of(
            "output.unwritable", expected=f"a folder at {name}", found=error.strerror or "an error", remedy="Name another folder."
        ) from None
    return Path(name)


def _lock(args: argparse.Namespace, spec: ImageSpec, addresses: Sequence[str], say: Progress) -> Lock:
    from pathlib import Path

    from evident.cli.inputs import read_bytes
    from evident.cli.outputs import write_file
    from evident.image import lock, names

    path = Path(args.lock) if args.lock else names.lock_of(Path(args.spec))
    if path.is_file() and not args.update_lock:
        return lock.load(read_bytes(path))
    made = lock.resolve(spec, addresses, progress=say)
    write_file(path, lock.dump(made))
    return made


def _launches(args: argparse.Namespace) -> tuple[Launch, ...]:
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.image.prediction import Launch
    from evident.reference_values.vmsa import VCPU_TYPES

    if args.firmware is None:
        return ()
    if args.vcpu_type not in VCPU_TYPES:
        raise UsageError.of("usage.vcpu-type", expected="one of " + ", ".join(VCPU_TYPES), found=args.vcpu_type, remedy="Correct it.")
    pairs = [word.partition("=") for word in args.parameter]
    if any(not separator for _, separator, _ in pairs):
        raise UsageError.of("usage.parameter", expected="NAME=VALUE", found=", ".join(args.parameter), remedy="Correct --parameter.")
    parameters = {name: value for name, _, value in pairs}
    return (Launch(read_bytes(args.firmware), args.vcpus, VCPU_TYPES[args.vcpu_type], parameters),)


def _text(made: Manifest, out: Path) -> str:
    from evident.image.names import DISK, INITRD, KERNEL, MANIFEST, UKI

    inventory = made.inventory
    listening = [item.name for item in inventory.host_inputs if item.here]
    usual = sum(item.usual for item in inventory.host_inputs)
    lines = [f"image      {made.spec.name}, profile {made.spec.profile}, {len(made.lock.packages)} locked packages of {made.lock.suite}"]
    for name in (KERNEL, INITRD, UKI, DISK):
        lines.append(f"{name:<10} {made.file(name).hex()}  {(out / name).stat().st_size:>11,} bytes")
    if made.root_hash:
        lines.append(f"root hash  {made.root_hash.hex()}")
    values = [value for value in made.reference.values if value.algorithm == "sha256" or value.register == "launch"]
    lines += [f"{value.register:<10} {value.value.hex()}" for value in values]
    lines.append(
        f"degree     {made.degree}, the lowest of {len(made.components)} components; {len(made.from_source)} are made from source (4)"
    )
    parts = ", ".join(f"{name} {size:,}" for name, size in inventory.initrd_bytes.items())
    lines.append(f"initrd     {sum(inventory.initrd_bytes.values()):,} bytes unpacked: {parts}")
    lines.append(f"drivers    {len(inventory.kernel_modules)} kernel modules of {inventory.kernel_modules_offered} that the package offers")
    lines.append(f"host input {len(listening)} of the usual {usual} are acted on: {'; '.join(listening)}")
    lines.append(f"manifest   {out / MANIFEST}; anyone can check it: evident image reproduce {out / MANIFEST}")
    return "\n".join(lines)
