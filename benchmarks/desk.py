"""A whole machine, measured: phases of its boot, opening of LUKS by size, the price of dm-verity, LUKS and bounce buffers.

    python benchmarks/desk.py [BOOTS] [--plot FILE]

Builds `examples/shop.yaml` (and the same with ``swiotlb=force``) and ``desk/guest.yaml``, and boots them on the platform ``qemu``, the
first by its UKI as well; which kind comes first changes from round to round. Needs what `evident doctor` names for that platform, some
2 GB of disk, and where there is no KVM about a minute per boot; BOOTS is 10 unless given. Printed per row: n, mean, standard deviation,
95 % confidence interval.

The paper's FetchKey takes 5.96 s of 12.9 s (Pontes et al., section 7.2, on hardware): compare shares, never seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

import plot
from evident.platforms.qemu import console
from ratio import line

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "desk"
OURS = ("key", "challenge", "evidence", "release")
PHASES = ("firmware and kernel", "devices", "network", "attestation and key", "luks", "verity", "root")
BOUNCING = "swiotlb=force"
DISKS = (32, 1024 + 32, 10240 + 32, 64, 64, 64, 96, 96)
"""MiB of what `desk/measure.py` expects: the first three hold 10 MB, 1 GB and 10 GB behind a header, and are sparse."""
END = "evident: unit measure ended"
_RESULT = re.compile(r"bench (\{.*\})")


class Desk:
    """A state directory of its own, and images built once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "EVIDENT_HOME": str(folder / "home")}

    def evident(self, *words: str) -> str:
        done = subprocess.run([sys.executable, "-m", "evident", *words], env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"evident {' '.join(words)}: {done.stderr}")
        return done.stdout

    def image(self, name: str, spec: dict[str, Any], lock: Path) -> Path:
        document = self.folder / f"{name}.yaml"
        document.write_text(json.dumps(spec))
        store = ("--store", str(Path.home() / ".cache" / "evident" / "packages"))
        self.evident("image", "build", str(document), "--lock", str(lock), "--out", str(self.folder / name), *store)
        return self.folder / name

    def console(self, name: str) -> Path:
        return self.folder / "home" / "state" / "deployments" / name / "machine" / "console.log"


def phases(log: Path) -> dict[str, float]:
    """Seconds of each phase of one boot: by the guest's clock, but for the whole, which is the host's."""
    steps = console.steps_of(console.read(log))
    measured = {step.name: float(step.rest.split()[0]) for step in steps if step.event == "done"}
    ours = sum(measured.pop(name, 0.0) for name in OURS)
    whole = next(step.at for step in reversed(steps) if step.name == "root")
    boot = {**measured, "attestation and key": ours, "whole": whole}
    boot["firmware and kernel"] = whole - sum(seconds for name, seconds in boot.items() if name != "whole")
    return boot


def boots(desk: Desk, kinds: dict[str, tuple[str, ...]], count: int) -> dict[str, list[dict[str, float]]]:
    """Each of `kinds`, a name and the options of its `up`, booted `count` times."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(count):
        for kind in sorted(kinds, reverse=bool(number % 2)):
            print(f"boot {number + 1} of {count}: {kind}", file=sys.stderr, flush=True)
            desk.evident("up", "bench", "--platform", "qemu", *kinds[kind])
            found[kind].append(phases(desk.console("bench")))
            desk.evident("down", "bench")
    return found


def measured(desk: Desk, images: dict[str, Path]) -> dict[str, dict[str, list[float]]]:
    """What the guests of `desk/guest.yaml` find, in their own words, by kind; they run side by side, so that both have the same machine."""
    for name, image in images.items():
        words: list[str] = []
        for number, size in enumerate(DISKS):
            disk = desk.folder / f"{name}{number}.raw"
            with disk.open("wb") as stream:
                stream.truncate(size << 20)
            words += ["--disk", str(disk)]
        print(f"disks: {name}", file=sys.stderr, flush=True)
        desk.evident("up", name, "--platform", "qemu", "--image", str(image), *words)
    found = {name: _told(desk, name) for name in images}
    for name in images:
        desk.evident("down", name)
    return found


def _told(desk: Desk, name: str) -> dict[str, list[float]]:
    while END not in (said := desk.console(name).read_text()):
        time.sleep(1)
    if "bench done" not in said:
        raise SystemExit(said[-2000:])
    found: dict[str, list[float]] = {}
    for result in map(json.loads, _RESULT.findall(said)):
        found.setdefault(result["what"], []).append(result["seconds"])
    return found


def report_boots(found: dict[str, list[dict[str, float]]]) -> None:
    base = next(iter(found))
    for kind, runs in found.items():
        print(f"\n{kind}: power-on to workload")
        whole = sum(run["whole"] for run in runs)
        for name in (*PHASES, "whole"):
            seconds = [run[name] for run in runs]
            print(line(name, seconds), f" share {100 * sum(seconds) / whole:5.1f} %")
        if kind != base:
            ratios = [run["whole"] / other["whole"] for run, other in zip(runs, found[base], strict=True)]
            print(line(f"whole, ratio to {base}", ratios, ""))


def report_ratios(title: str, found: dict[str, list[float]], base: dict[str, list[float]], pairs: dict[str, str]) -> None:
    print(f"\n{title}")
    for name, other in pairs.items():
        print(line(f"{name} ÷ {other}", [mine / its for mine, its in zip(found[name], base[other], strict=True)], ""))


def report_disks(plain: dict[str, list[float]], bounced: dict[str, list[float]]) -> None:
    print("\nopening LUKS")
    opened = [name for name in plain if name.startswith("open ")]
    for name in opened:
        print(line(name, plain[name]))
    smallest = {name: f"{name.rpartition(', ')[0]}, 10 MB" for name in opened}
    report_ratios("the same, as ratios", plain, plain, {name: other for name, other in smallest.items() if name != other})
    compared = {name: f"{name.split()[0]} plain" for name in plain if name.split()[0] in ("read", "write") and not name.endswith(" plain")}
    report_ratios("dm-verity and LUKS, time for the same 16 MiB", plain, plain, compared)
    same = {name: name for name in plain if name.split()[0] in ("read", "write")}
    report_ratios(f"with {BOUNCING} ÷ without", bounced, plain, same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boots", nargs="?", type=int, default=10)
    parser.add_argument("--plot", type=Path, help="draw the phases of the boot (SVG)")
    given = parser.parse_args()
    shop, guest = (yaml.safe_load(path.read_text()) for path in (ROOT / "examples" / "shop.yaml", FOLDER / "guest.yaml"))
    guest["files"] = [{"path": "/srv/measure.py", "text": (FOLDER / "measure.py").read_text()}]
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        usual, own = ROOT / "examples" / "shop.lock.json", Path(folder) / "guest.lock.json"
        image = str(desk.image("shop", shop, usual))
        bouncing = str(desk.image("bouncing", {**shop, "command_line": [BOUNCING]}, usual))
        kinds = {"direct boot": ("--image", image), f"direct boot, {BOUNCING}": ("--image", bouncing)}
        found = boots(desk, {**kinds, "UKI on its disk": ("--image", image, "--boot", "uki")}, given.boots)
        guests = {"plain": desk.image("guest", guest, own)}
        guests["bounced"] = desk.image("guest-bouncing", {**guest, "command_line": [BOUNCING]}, own)
        disks = measured(desk, guests)
    report_boots(found)
    report_disks(**disks)
    if given.plot:
        shown = {kind: {name: sum(run[name] for run in runs) / len(runs) for name in PHASES} for kind, runs in found.items()}
        given.plot.write_text(plot.stacked(shown, "Seconds from power-on to the workload, by phase"))


if __name__ == "__main__":
    main()
