"""See everything once, without hardware and without an account.

Brings up a deployment on the `simulated` platform, attests it, prints its TrustStatement, writes the statement as a page and the
signed audit bundle, verifies that bundle again in another process that has no network, then lets the host swap the kernel and
shows the refusal. Last it verifies a report of real AMD hardware, if vectors of real evidence are present.

examples:
  evident demo
  evident demo --out /tmp/evident --vectors ../shared/vectors

Nothing of the simulated part is hardware, and every output says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evident.lifecycle.attest import Answer
    from evident.platforms.driver import Surroundings

PARTS = 6
REAL_CASE = "snp/microsoft-milan"
REAL_FILES = {"report": "report.bin", "vcek": "vcek.pem"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", default="out/demo", help="where the page and the bundle go (default: out/demo)")
    parser.add_argument("--vectors", metavar="DIR", help="real evidence (default: $EVIDENT_VECTORS, or ../shared/vectors)")


def run(args: argparse.Namespace) -> int:
    """0 when every part went as it should, 1 otherwise."""
    out = _make(Path(args.out))
    surroundings = _surroundings()
    started = time.monotonic()

    _part(1, "Bring up a deployment on the simulated platform")
    _up(surroundings, "shop", attack=None)
    print("A simulated machine 'shop' is running: TEST firmware, TEST kernel, a software secure processor with TEST roots.")

    _part(2, "Challenge it and appraise what it answers")
    answer = _attest(surroundings, "shop")
    _show(answer)

    _part(3, "Keep the statement as a page and the whole decision as one signed file")
    files = _write(out, answer, surroundings)
    for text, path in files.items():
        print(f"  {text:<26} {path}")

    _part(4, "Verify that bundle again: another process, no network, only the public keys")
    replayed = _replay_elsewhere(files)

    _part(5, "Attack: the host swaps the kernel")
    _up(surroundings, "shop-attacked", attack="swap-kernel")
    attacked = _attest(surroundings, "shop-attacked")
    refused = _refused_by_name(attacked)

    _part(6, "A report of real AMD hardware")
    real = _real(args.vectors)

    good = answer.outcome.decision == "accepted" and replayed and refused and real
    print(f"\n{'Everything went as it should' if good else 'SOMETHING DID NOT GO AS IT SHOULD'}, in {time.monotonic() - started:.1f} s.")
    print(f"Open {files['statement (HTML)']} in a browser. Next: evident explain, evident verify --help, evident doctor.")
    return 0 if good else 1


def _part(number: int, text: str) -> None:
    from rich.console import Console

    Console(highlight=False).print(f"\n[bold reverse] {number}/{PARTS} [/] [bold]{text}[/]")


def _make(directory: Path) -> Path:
    from evident.errors import UsageError

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError.of(
            "output.unwritable",
            expected=f"a folder at {directory}",
            found=error.strerror or type(error).__name__,
            remedy="Name another folder with --out.",
        ) from None
    return directory


def _surroundings() -> Surroundings:
    """State of the demo's own: its earlier deployments go, the simulator's TEST keys stay because making them takes seconds."""
    from dataclasses import replace

    from evident.cli.deployments import surroundings

    usual = surroundings()
    state = usual.state / "demo"
    shutil.rmtree(state / "deployments", ignore_errors=True)
    return replace(usual, state=state)


def _up(surroundings: Surroundings, name: str, *, attack: str | None) -> None:
    from evident.lifecycle.deployment import deployment, up
    from evident.platforms.order import Order

    up(deployment(name, surroundings), "simulated", Order(attack=attack))


def _attest(surroundings: Surroundings, name: str) -> Answer:
    from evident.audit import keys
    from evident.cli.paths import cache_dir
    from evident.endorsements import anchors
    from evident.endorsements.cache import Cache
    from evident.endorsements.fetcher import OfflineFetcher
    from evident.lifecycle.attest import Verifier, attest
    from evident.lifecycle.deployment import deployment

    key = keys.load_or_create(surroundings.state, os.urandom)
    return attest(deployment(name, surroundings), Verifier(anchors.production(), OfflineFetcher(Cache(cache_dir())), key))


def _show(answer: Answer) -> None:
    from evident.cli.terminal import show_outcome

    show_outcome(answer.outcome)


def _write(out: Path, answer: Answer, surroundings: Surroundings) -> dict[str, Path]:
    import hashlib

    from evident.audit import keys
    from evident.cli.outputs import write_file
    from evident.endorsements import pem
    from evident.lifecycle.deployment import deployment
    from evident.reports import html

    believed = deployment("shop", surroundings).driver().believed(deployment("shop", surroundings).machine)
    page = html.render(answer.outcome, pieces=html.artifacts(answer.case.pieces), bundle_sha256=hashlib.sha256(answer.bundle).hexdigest())
    contents = {
        "statement (HTML)": ("statement.html", page.encode()),
        "audit bundle": ("bundle.json", answer.bundle),
        "verifier's public key": ("verifier-key.pub.pem", keys.load_or_create(surroundings.state, os.urandom).public.pem),
        "simulator's TEST roots": ("test-roots.pem", b"".join(pem.encode(anchor.der, "CERTIFICATE") for anchor in believed.anchors)),
    }
    for name, data in contents.values():
        write_file(out / name, data)
    return {text: out / name for text, (name, _) in contents.items()}


def _replay_elsewhere(files: dict[str, Path]) -> bool:
    """`evident audit verify` in a fresh process; in a network namespace of its own where this system lets us make one."""
    command = [sys.executable, "-m", "evident", "audit", "verify", str(files["audit bundle"]), "-o", "json"]
    command += ["--signer", str(files["verifier's public key"]), "--unsafe-simulated-root", str(files["simulator's TEST roots"])]
    isolated = ["unshare", "--map-root-user", "--net"]
    can_isolate = shutil.which(isolated[0]) is not None and _run([*isolated, "true"]).returncode == 0
    result = _run([*isolated, *command] if can_isolate else command)
    if result.returncode != 0:
        print(result.stderr, end="")
        return False
    document: dict[str, Any] = json.loads(result.stdout)
    where = "in a network namespace without any network" if can_isolate else "offline by construction (no network namespace to be had here)"
    print(f"The decision was made again {where}: {document['decision']}, levels {document['levels']}, simulated: {document['simulated']}.")
    return bool(document["decision"] == "accepted")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # fixed words and our own program


def _refused_by_name(attacked: Answer) -> bool:
    outcome = attacked.outcome
    for finding in outcome.findings:
        print(f"  {finding.code}\n    expected  {finding.expected}\n    found     {finding.found}\n    next      {finding.remedy}")
    named = outcome.decision == "refused" and any(finding.code == "launch.kernel" for finding in outcome.findings)
    print("Refused, and the kernel is named." if named else "THE SWAPPED KERNEL WAS NOT NAMED.")
    return named


def _real(directory: str | None) -> bool:
    """Verify a real report with what ships with Evident; without a CRL the honest answer is: authentic, revocation unknown."""
    from evident.audit.case import Case, decide
    from evident.cli.inputs import parse_time, read_bytes
    from evident.cli.paths import cache_dir
    from evident.endorsements import anchors
    from evident.endorsements.cache import Cache
    from evident.endorsements.fetcher import OfflineFetcher
    from evident.reports.json_report import document

    vectors = Path(directory or os.environ.get("EVIDENT_VECTORS") or Path("..") / "shared" / "vectors")
    if not (vectors / "manifest.json").is_file():
        print(f"Skipped: no vectors of real evidence at {vectors}. Name them with --vectors or EVIDENT_VECTORS.")
        return True
    entries = json.loads((vectors / "manifest.json").read_text())["entries"]
    facts = next(entry["facts"] for entry in entries if entry["path"] == REAL_CASE)
    case = Case(
        kind="snp",
        pieces={role: (read_bytes(vectors / REAL_CASE / name),) for role, name in REAL_FILES.items()},
        at=parse_time(facts["evaluate_at"]),
        report_data=bytes.fromhex(facts["report_data"]),
    )
    outcome = decide(case, anchors=anchors.production(), fetcher=OfflineFetcher(Cache(cache_dir())))
    result = document(outcome)
    print(f"{REAL_CASE}: a report by a real {result['claims'].get('product', 'AMD')} processor, at {facts['evaluate_at']}, offline.")
    print(f"  authentic  {result['authentic']}\n  decision   {result['decision']}\n  simulated  {result['simulated']}")
    for finding in outcome.findings:
        print(f"  open       {finding.code}: expected {finding.expected}")
    return bool(result["authentic"] is True and result["claims"].get("measurement") == facts["measurement"])
