"""Whom Evident believes, and how to take endorsements along to a machine that will be offline.

examples:
  evident trust list                                          every trust anchor: origin, fingerprint, how it was cross-checked
  evident trust fetch                                         AMD's revocation lists for every product
  evident trust fetch --report report.bin --crl               the certificate of the chip that made this report, and the lists
  evident trust fetch --chain                                 compare AMD's own chains with what ships with Evident
  evident trust fetch --quote quote.bin                       Intel's collateral for the platform that made this TDX quote
  evident trust fetch --product Genoa --hwid 0123... --tcb bootloader=10,tee=0,snp=23,microcode=84
  evident trust forecast machines/*.evident                   which machines change status, when and why, by the cached endorsements

Everything fetched is checked against the pinned roots before it is kept. The cache is below EVIDENT_HOME (or the XDG cache
directory); copy it whole to the other machine and use --offline there.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import TYPE_CHECKING

from evident.cli import trust_forecast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evident.endorsements.anchors import Anchor
    from evident.endorsements.prefetch import Kept, Prefetch
    from evident.errors import EvidentError
    from evident.evidence.snp_report import Product, SigningKey, Tcb

    Job = tuple[str, Callable[[Prefetch], Kept]]


_NUMBERS = frozenset(map(str, range(256)))


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    lister = actions.add_parser("list", help="print every trust anchor that ships with Evident")
    lister.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the list (default: text)")
    lister.set_defaults(action=_list)
    fetch = actions.add_parser("fetch", help="fill the cache of endorsements")
    fetch.add_argument("--product", action="append", default=[], help="Milan, Genoa or Turin (repeatable; default: all, or the report's)")
    fetch.add_argument("--report", metavar="FILE", action="append", default=[], help="fetch the VCEK of the chip that made this report")
    fetch.add_argument(
        "--quote", metavar="FILE", action="append", default=[], help="fetch Intel's collateral for the platform of this TDX quote"
    )
    fetch.add_argument("--hwid", metavar="HEX", help="fetch the VCEK of this chip; needs --tcb and one --product")
    fetch.add_argument(
        "--tcb", metavar="NAME=N,...", help="REPORTED_TCB of that chip: bootloader=4,tee=0,snp=24,microcode=219 (Turin: fmc=N too)"
    )
    fetch.add_argument("--crl", action="store_true", help="fetch the revocation lists too (the default when nothing else is named)")
    fetch.add_argument("--chain", action="store_true", help="fetch AMD's chains and compare them with what ships with Evident")
    fetch.add_argument("--mirror", metavar="URL", help="ask this server in place of AMD's; its answers are checked all the same")
    fetch.add_argument("--pccs", metavar="URL", help="ask this server (a PCCS) in place of Intel's; likewise")
    fetch.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result (default: text)")
    fetch.set_defaults(action=_fetch)
    forecast = actions.add_parser(
        "forecast", help="say which machines will change status, when, and why", description=trust_forecast.__doc__
    )
    trust_forecast.configure(forecast)
    forecast.set_defaults(action=trust_forecast.run)


def run(args: argparse.Namespace) -> int:
    code: int = args.action(args)
    return code


def _list(args: argparse.Namespace) -> int:
    from evident.endorsements.anchors import production

    anchors = tuple(production())
    if args.output == "json":
        print(json.dumps({"anchors": [_as_json(anchor) for anchor in anchors]}, indent=2))
        return 0
    for anchor in anchors:
        certificate = anchor.certificate
        print(f"{anchor.name}")
        print(f"  {anchor.role} of {anchor.vendor}, for {anchor.purpose}")
        print(f"  SHA-256        {anchor.fingerprint}")
        print(f"  valid          {certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}")
        print(f"  from           {anchor.origin}")
        print(f"  retrieved      {anchor.retrieved}")
        print(f"  cross-checked  {anchor.cross_checked}\n")
    print(f"{len(anchors)} anchors; a simulator's TEST root is never among them.")
    return 0


def _as_json(anchor: Anchor) -> dict[str, object]:
    from evident import codec

    certificate = anchor.certificate
    return {
        "name": anchor.name,
        "role": anchor.role,
        "vendor": anchor.vendor,
        "purpose": anchor.purpose,
        "sha256": anchor.fingerprint,
        "not_before": codec.format_time(certificate.not_before),
        "not_after": codec.format_time(certificate.not_after),
        "origin": anchor.origin,
        "retrieved": codec.encode(anchor.retrieved),
        "cross_checked": anchor.cross_checked,
    }


def _fetch(args: argparse.Namespace) -> int:
    from evident import codec
    from evident.cli.paths import cache_dir
    from evident.endorsements import amd, intel
    from evident.endorsements.anchors import production
    from evident.endorsements.cache import Cache
    from evident.endorsements.fetcher import CachedFetcher, Fetcher, RewritingFetcher
    from evident.endorsements.http import HttpFetcher, real_world, refuse_implausible
    from evident.endorsements.prefetch import Prefetch, asking_ages
    from evident.errors import EvidentError

    jobs = tuple(_jobs(args))
    world, cache = real_world(), Cache(cache_dir())
    network: Fetcher = HttpFetcher(world)
    mirrors = {base: url.rstrip("/") for base, url in ((amd.KDS_BASE, args.mirror), (intel.PCS_BASE, args.pccs)) if url}
    if mirrors:  # below the cache: what a mirror gives is the vendor's or is refused, so it is kept under the vendor's name
        network = RewritingFetcher(network, mirrors)
    fetcher = CachedFetcher(cache, network, world.now, ages=asking_ages, plausible=refuse_implausible)
    prefetch = Prefetch(cache, fetcher, production(), world.now())
    kept: list[Kept] = []
    failures: list[EvidentError] = []
    for number, (name, job) in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {name}", file=sys.stderr, flush=True)
        try:
            kept.append(job(prefetch))
        except EvidentError as error:
            failures.append(error)
    if args.output == "json" and not failures:
        print(json.dumps({"cache": str(cache.root), "kept": [codec.encode(item) for item in kept]}, indent=2))
    elif args.output == "text":
        for item in kept:
            print(f"{'had already' if item.from_cache else 'fetched'}: {item.what}\n  {item.url}\n  SHA-256 {item.sha256}")
    if failures:
        raise _worst(failures)
    print(f"in {cache.root}", file=sys.stderr)
    return 0


def _worst(failures: list[EvidentError]) -> EvidentError:
    """One error over the findings of all: what is not authentic counts before what could not be had."""
    from evident.errors import NotAuthentic

    first = next((error for error in failures if isinstance(error, NotAuthentic)), failures[0])
    others = [finding for error in failures if error is not first for finding in error.findings]
    return type(first)(*first.findings, *others)


def _jobs(args: argparse.Namespace) -> Iterator[Job]:
    from evident.endorsements import amd
    from evident.evidence.snp_report import PRODUCTS, SigningKey

    products = tuple(dict.fromkeys(amd.product_named(name) for name in args.product))
    chips = [_report(file, products) for file in args.report]
    if args.hwid or args.tcb:
        chips.append(_named_chip(args.hwid, args.tcb, products))
    for product, chip_id, tcb in chips:
        yield f"VCEK of {product.name} chip {chip_id[:8].hex()}...", partial(_vcek, product, chip_id, tcb)
    for file in args.quote:
        yield from _intel_jobs(file)
    if args.quote and not (products or chips or args.crl or args.chain):
        return
    for product in products or tuple(dict.fromkeys(product for product, _, _ in chips)) or PRODUCTS:
        for kind in (SigningKey.VCEK, SigningKey.VLEK):
            if args.chain:
                yield f"chain of {product.name} for {kind.name}s", partial(_chain, product, kind)
            if args.crl or not (chips or args.chain):
                yield f"CRL of {product.name} for {kind.name}s", partial(_crl, product, kind)


def _intel_jobs(file: str) -> Iterator[Job]:
    """What verifies the TDX quote in `file` offline: FMSPC and PCK CA are in its certificates."""
    from evident.cli.inputs import read_bytes
    from evident.endorsements import intel, x509
    from evident.endorsements.anchors import production
    from evident.errors import Malformed
    from evident.evidence import content, tdx_quote

    quote = tdx_quote.parse(content.tdx_quote(read_bytes(file)))
    certificates = x509.load_all(quote.pck_chain.removesuffix(b"\0"))
    fmspc = intel.parse_pck(certificates[0]).fmspc
    ca = next((certificate for certificate in certificates[1:] if certificate.subject == certificates[0].issuer), None)
    if ca is None:
        raise Malformed.of(
            "trust.quote",
            expected=f"the certificate of {certificates[0].issuer_cn} in {file}",
            found="none",
            remedy="Configure the quote generation service to embed the whole PCK certificate chain.",
        )
    root = production().for_purpose("tdx")[0].certificate
    yield f"TCB info of FMSPC {fmspc.hex()}", lambda prefetch: prefetch.tcb_info(fmspc)
    yield "identity of the TD quoting enclave", lambda prefetch: prefetch.qe_identity()
    yield f"CRL of {ca.name}", lambda prefetch: prefetch.intel_crl(ca)
    yield f"CRL of {root.name}", lambda prefetch: prefetch.intel_crl(root)


def _vcek(product: Product, chip_id: bytes, tcb: Tcb, prefetch: Prefetch) -> Kept:
    return prefetch.vcek(product, chip_id, tcb)


def _crl(product: Product, kind: SigningKey, prefetch: Prefetch) -> Kept:
    return prefetch.crl(product, kind)


def _chain(product: Product, kind: SigningKey, prefetch: Prefetch) -> Kept:
    return prefetch.chain(product, kind)


def _report(file: str, products: tuple[Product, ...]) -> tuple[Product, bytes, Tcb]:
    from evident.cli.inputs import read_bytes
    from evident.errors import UsageError
    from evident.evidence import content, snp_report

    report = snp_report.parse(content.snp_report(read_bytes(file))[0])
    if report.signing_key is not snp_report.SigningKey.VCEK:
        raise UsageError.of(
            "trust.no-vcek",
            expected="a report signed by a VCEK",
            found=f"one signed by {report.signing_key.name} in {file}",
            remedy="Only the cloud hands out a VLEK; collect it with the report. Fetch the lists with --crl alone.",
        )
    product = report.product or (products[0] if len(products) == 1 else None)
    if product is None:
        raise UsageError.of(
            "trust.product",
            expected="one --product",
            found=f"none, and the version {report.version} report in {file} does not name its own",
            remedy="Add --product Milan or --product Genoa.",
        )
    return product, report.chip_id, report.reported_tcb


def _named_chip(hwid: str | None, tcb: str | None, products: tuple[Product, ...]) -> tuple[Product, bytes, Tcb]:
    from evident.errors import UsageError

    if not (hwid and tcb and len(products) == 1):
        raise UsageError.of(
            "trust.chip",
            expected="--hwid, --tcb and one --product together",
            found=f"{'no' if not hwid else 'a'} hwid, {'no' if not tcb else 'a'} TCB, {len(products)} products",
            remedy="Give all three, or --report FILE, which has them.",
        )
    try:
        return products[0], bytes.fromhex(hwid), _tcb(tcb, products[0])
    except ValueError:
        raise UsageError.of("trust.hwid", expected="hex digits", found=hwid[:40], remedy="Give the chip id as hex.") from None


def _tcb(text: str, product: Product) -> Tcb:
    from evident.errors import UsageError
    from evident.evidence.snp_report import Tcb

    names = ("bootloader", "tee", "snp", "microcode", *(("fmc",) if product.turin_layout else ()))
    pairs = [part.partition("=") for part in text.split(",")]
    numbers = {name.strip(): int(number) for name, _, number in pairs if number in _NUMBERS}
    if len(pairs) != len(names) or set(numbers) != set(names):
        raise UsageError.of(
            "trust.tcb",
            expected=f"a number from 0 to 255 for each of {', '.join(names)}",
            found=text[:80],
            remedy="Give REPORTED_TCB as " + ",".join(f"{name}=N" for name in names) + ".",
        )
    return Tcb(**numbers)
