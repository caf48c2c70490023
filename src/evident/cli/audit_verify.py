"""Make the decision of an audit bundle again, offline, and hold it against what the bundle records.

Fails with 10 when a byte changed, the outcome differs or the signer is not trusted, with 30 when the file is no bundle; else the
exit code is that of the decision. Without --signer, only bundles of this machine's own verifier are trusted.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evident.cli.answers import FORMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evident.audit.keys import VerifyingKey
    from evident.audit.replay import Replay
    from evident.endorsements.anchors import Anchor, AnchorSet


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="file to replay; - is standard input")
    configure_trust(parser)
    parser.add_argument("-o", "--output", choices=FORMS, default="text", help="form of the statement (default: text)")


def configure_trust(parser: argparse.ArgumentParser) -> None:
    """The options that say whom the reader of a bundle trusts; `evident verify` has the same."""
    parser.add_argument(
        "--signer", metavar="KEY.pem", action="append", default=[], help="public key of a verifier whose bundles you trust (repeatable)"
    )
    parser.add_argument(
        "--unsafe-simulated-root", metavar="FILE", help="believe this simulator's TEST root: for trials, proves nothing about hardware"
    )


def run(args: argparse.Namespace) -> int:
    from evident.audit import farewell
    from evident.audit.replay import replay
    from evident.cli.farewell import present as present_farewell
    from evident.cli.inputs import read_bytes

    data, trusted = read_bytes(args.bundle), trusted_signers(args.signer)
    if farewell.looks_like_farewell(data):
        return present_farewell(farewell.open_farewell(data, trusted), args.output)
    return present(replay(data, trusted=trusted, anchors=trusted_anchors(args.unsafe_simulated_root)), args.output)


def trusted_signers(files: Iterable[str]) -> tuple[VerifyingKey, ...]:
    """The named public keys, or this machine's own verifier when none is named."""
    from evident.audit import keys
    from evident.cli.inputs import read_bytes
    from evident.cli.paths import state_dir

    named = tuple(keys.VerifyingKey.from_pem(read_bytes(file)) for file in files)
    own = state_dir() / keys.PUBLIC_NAME
    return named or ((keys.VerifyingKey.from_pem(own.read_bytes()),) if own.is_file() else ())


def trusted_anchors(simulated_root: str | None) -> AnchorSet:
    """The roots that ship with Evident, and the TEST roots of `simulated_root` (PEM) if the reader named such a file."""
    from evident.cli.inputs import read_bytes
    from evident.endorsements import anchors

    production = anchors.production()
    return production.plus(*_test_anchors(read_bytes(simulated_root), simulated_root)) if simulated_root else production


def _test_anchors(data: bytes, origin: str) -> Iterable[Anchor]:
    from evident.endorsements import amd, intel, x509
    from evident.endorsements.anchors import Anchor, amd_root_purpose
    from evident.errors import UsageError
    from evident.evidence.snp_report import PRODUCTS

    purposes = {f"TEST-{amd.ark_name(product)}": amd_root_purpose(product) for product in PRODUCTS}
    purposes[f"TEST-{intel.ROOT_NAME}"] = "tdx"
    for certificate in x509.load_all(data):
        if certificate.name not in purposes:
            raise UsageError.of(
                "anchor.not-simulated",
                expected="TEST roots of a simulator: " + ", ".join(purposes),
                found=certificate.name,
                remedy="Real roots ship with Evident and cannot be added here.",
            )
        yield Anchor(
            name=certificate.name,
            vendor="Evident simulator",
            purpose=purposes[certificate.name],
            der=certificate.der,
            origin=f"named on the command line: {origin}",
            cross_checked="with nothing: a TEST root stands for no hardware",
            simulated=True,
        )


def present(held: Replay, output: str) -> int:
    """Show a replayed bundle; returns the exit code of its decision."""
    from evident.cli import answers

    bundle = held.bundle
    replayed = {"sha256": bundle.sha256, "signer": bundle.keyid, "tool": bundle.tool.version, "same_code": held.same_code}
    code = answers.give(held.outcome, output, case=bundle.case, bundle_sha256=bundle.sha256, bundle=replayed)
    if output == "text":
        print(_how_it_held(held))
    return code


def _how_it_held(held: Replay) -> str:
    bundle = held.bundle
    extent = (
        "byte for byte"
        if held.same_code
        else f"in everything that decides (made by other code, Evident {bundle.tool.version}, whose wording may differ)"
    )
    return (
        f"\nThe bundle holds: the decision was made again offline and equals the record {extent}.\n"
        f"  signer   {bundle.keyid}\n  SHA-256  {bundle.sha256}\n"
        f"  inside   {sum(map(len, bundle.case.pieces.values()))} pieces of evidence, {len(bundle.fetched)} endorsements fetched, "
        f"{len(bundle.case.references)} reference values, policy {bundle.case.policy.name!r}"
    )
