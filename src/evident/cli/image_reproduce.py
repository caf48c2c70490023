"""Build from a manifest, compare bit for bit, and sign the outcome.

The manifest holds specification and lock, so nothing else is needed. On a difference the first differing component is named (the later ones
follow from it), the outcome is signed all the same, and the exit code is 10. With --count nothing is built: the signatures that are given
are counted against the policy's minimum_rebuilders, and the reference values are written at the strength they earn.

examples:
  evident image reproduce manifest.json --endorsement-out mine.rebuild.json
  evident image reproduce manifest.json --count --endorsement a.json --endorsement b.json --signer a.pem --signer b.pem \\
      --policy policy.yaml --reference-out reference.json
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli.image_build import configure_packages

if TYPE_CHECKING:
    from evident.image.provenance import Word

MAX_MANIFEST_BYTES = 64 * 1024 * 1024


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", metavar="MANIFEST", help="signed manifest of an image")
    parser.add_argument("--out", metavar="DIR", help="keep what is built here (default: compared and removed)")
    parser.add_argument("--endorsement-out", metavar="FILE", help="write the signed outcome (default: MANIFEST with .rebuild.json)")
    configure_packages(parser)
    parser.add_argument("--count", action="store_true", help="build nothing: count the signatures of others")
    configure_trust(parser)
    parser.add_argument("--reference-out", metavar="FILE", help="with --count, write the accepted reference values")


def configure_trust(parser: argparse.ArgumentParser) -> None:
    """Whose word is counted; `inspect` has the same."""
    parser.add_argument(
        "--endorsement",
        metavar="FILE",
        action="append",
        default=[],
        help="signed outcome of a rebuild, of the image or of a package, or a folder of them (*.rebuild.json); repeatable",
    )
    parser.add_argument("--signer", metavar="KEY.pem", action="append", default=[], help="public key of a rebuilder you trust, repeatable")
    parser.add_argument("--policy", metavar="FILE", help="policy whose minimum_rebuilders applies")


def run(args: argparse.Namespace) -> int:
    from evident.cli.inputs import read_bytes

    envelope = read_bytes(args.manifest, limit=MAX_MANIFEST_BYTES)
    return _count(args, envelope) if args.count else _rebuild(args, envelope)


def _rebuild(args: argparse.Namespace, envelope: bytes) -> int:
    import os
    from datetime import UTC, datetime
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from evident.audit import keys
    from evident.cli.image_build import make_folder, mirrors, package_store
    from evident.cli.outputs import write_file
    from evident.cli.paths import state_dir
    from evident.cli.progress import progress
    from evident.errors import NotAuthentic
    from evident.image import build, manifest

    expected, digest = manifest.read(envelope)
    addresses, store = mirrors(args.mirror), package_store(args.store)
    with TemporaryDirectory(prefix="evident-rebuild-") as scratch, progress() as say:
        store.fetch(expected.lock, addresses, progress=say)
        folder = make_folder(args.out) if args.out else Path(scratch)
        found = manifest.components(build.build(expected.spec, expected.lock, store, folder, progress=say))
    key = keys.load_or_create(state_dir(), os.urandom)
    outcome, signed = manifest.endorse(digest, expected, found, at=datetime.now(UTC).replace(microsecond=0), key=key)
    target = args.endorsement_out or str(Path(args.manifest).with_suffix(".rebuild.json"))
    write_file(target, signed)
    difference = manifest.compare(expected.components, found)
    if difference is None:
        print(f"identical: all {outcome.components} components of {expected.spec.name}\nsigned by {key.public.keyid} in {target}")
        return 0
    raise NotAuthentic.of(
        "image.not-reproduced",
        expected=str(difference.expected or f"no component {difference.component}"),
        found=str(difference.found or "no such component"),
        remedy=f"It is the first that differs. Built by Evident {expected.evident}; use that version or ask. Outcome: {target}",
    )


def _count(args: argparse.Namespace, envelope: bytes) -> int:
    from evident.cli.outputs import write_file
    from evident.image import manifest
    from evident.reference_values import documents
    from evident.reference_values.model import ReferenceSet

    word = word_of(args)
    accepted = manifest.accepted_values(envelope, word)
    stated, _ = manifest.read(envelope)
    if args.reference_out:
        write_file(args.reference_out, documents.dump(ReferenceSet(1, accepted.values, name=stated.reference.name)))
    print(f"{len(accepted.signers)} of at least {word.minimum} trusted signers built this image:")
    print("\n".join(f"  {keyid}" for keyid in sorted(accepted.signers)))
    if accepted.sources:
        raised = sum(bool(degree.by) for degree in manifest.degrees(stated, accepted.sources))
        print(
            f"{len(accepted.sources)} of {len(stated.lock.packages)} packages built from source; {raised} components more are of degree 4"
        )
    return 0


def word_of(args: argparse.Namespace) -> Word:
    """Endorsements, whom to believe, and how many of them it takes, as the options of `configure_trust` say."""
    from evident.audit import keys
    from evident.cli.audit_verify import trusted_signers
    from evident.cli.documents import read_policy
    from evident.cli.inputs import read_bytes
    from evident.cli.paths import state_dir
    from evident.image.provenance import Word

    own = state_dir() / keys.PUBLIC_NAME
    return Word(
        tuple(read_bytes(file) for path in args.endorsement for file in _files(path)),
        trusted_signers(args.signer),
        keys.VerifyingKey.from_pem(own.read_bytes()) if own.is_file() else None,
        read_policy(args.policy).minimum_rebuilders,
    )


def _files(path: str) -> list[str]:
    from pathlib import Path

    return [str(file) for file in sorted(Path(path).glob("*.rebuild.json"))] if Path(path).is_dir() else [path]
