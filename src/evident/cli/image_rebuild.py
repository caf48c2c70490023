"""Build the Debian packages of an image from their source, compare each with the lock, and sign what came of it.

FILE is a lock or a manifest. Each package's source is fetched from the archive, built without a network in a root of its own (which takes
root, or subordinate user ids and newuidmap), and the result compared by SHA-256. DIR receives a signed outcome of every package that was
built, the list of packages that were installed for it, each build's log, and the packages that differ. Those, and packages that cannot be
built or hold what no build of their own source makes (the kernel, which Debian signs), are named; the exit code is then 12, and the others
count all the same.

`evident image inspect MANIFEST --endorsement DIR` shows what the outcomes are worth.

examples:
  evident image rebuild shop.lock.json --package zlib1g --package netbase --out rebuilt
  evident image rebuild shop.image/manifest.json --all --out rebuilt
  evident image inspect shop.image/manifest.json --endorsement rebuilt
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli.image_build import configure_packages

if TYPE_CHECKING:
    from pathlib import Path

    from evident.audit.keys import SigningKey
    from evident.errors import Finding
    from evident.image.rebuild import Tried
    from evident.image.stated import Lock


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="lock of an image, or its manifest")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--package", metavar="NAME", action="append", default=[], help="a package of the lock, repeatable")
    which.add_argument("--all", action="store_true", help="every package of the lock: hours")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for outcomes and logs")
    configure_packages(parser)


def run(args: argparse.Namespace) -> int:
    import os

    from evident.audit import keys
    from evident.cli.image_build import make_folder, mirrors, package_store
    from evident.cli.paths import state_dir
    from evident.cli.progress import progress
    from evident.errors import Indeterminate, raise_all
    from evident.image.rebuild import rebuild

    wanted, addresses, store, out = _wanted(args), mirrors(args.mirror), package_store(args.store), make_folder(args.out)
    key = keys.load_or_create(state_dir(), os.urandom)
    problems: list[Finding] = []
    with progress() as say:
        store.fetch(wanted, addresses, progress=say)
        for tried in rebuild(wanted.packages, suite=wanted.suite, store=store, addresses=addresses, logs=out, progress=say):
            print(f"{'equal' if tried.equal else 'DIFFERS' if tried.built else 'NOT BUILT':<9}  {tried.package}", flush=True)
            if not tried.equal:
                problems.append(tried.problem or _differs(tried))
            if tried.built:
                _write(tried, out, key)
    equal = len(wanted.packages) - len(problems)
    print(f"{equal} of {len(wanted.packages)} packages are equal to what was built from source; signed by {key.public.keyid} in {out}")
    raise_all(Indeterminate, problems)
    return 0


def _wanted(args: argparse.Namespace) -> Lock:
    """The lock, cut down to the packages that were asked for."""
    from dataclasses import replace

    from evident.cli.image_reproduce import MAX_MANIFEST_BYTES
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.image import lock, manifest

    raw = read_bytes(args.file, limit=MAX_MANIFEST_BYTES)
    locked = manifest.read(raw)[0].lock if b'"payloadType"' in raw else lock.load(raw)
    unknown = set(args.package) - {package.name for package in locked.packages}
    if unknown:
        raise UsageError.of(
            "image.package-unknown",
            expected=f"packages of {args.file}",
            found=", ".join(sorted(unknown)),
            remedy="Name packages as the lock does.",
        )
    return replace(locked, packages=tuple(package for package in locked.packages if args.all or package.name in args.package))


def _differs(tried: Tried) -> Finding:
    from evident.errors import Finding

    return Finding(
        "image.package-differs",
        "input",
        f"{tried.package} with SHA-256 {tried.package.sha256.hex()} from {tried.origin}",
        f"another, first in {tried.difference}",
        "Debian may have built it with other versions than the suite has now. It stays of degree 3.",
    )


def _write(tried: Tried, out: Path, key: SigningKey) -> None:
    from datetime import UTC, datetime

    from evident.cli.outputs import write_file
    from evident.image import lock
    from evident.image.rebuild import sign

    if tried.environment is None:
        return
    stem = tried.package.path.rsplit("/", 1)[-1].removesuffix(".deb")  # a plain name, which the lock's name and version need not be
    write_file(out / f"{stem}.rebuild.json", sign(tried, at=datetime.now(UTC).replace(microsecond=0), key=key))
    write_file(out / f"{stem}.environment.json", lock.dump(tried.environment))
    if tried.made and not tried.equal:
        write_file(out / f"{stem}.built.deb", tried.made)
