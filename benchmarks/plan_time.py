"""What `evident plan` spends the processor's time on: starting Python, other people's libraries, Evident's modules, planning, printing.

python benchmarks/plan_time.py [rounds]

The document is examples/deployment.yaml, planned for every platform; no cloud is asked. Counted is the time of the processor, not of
the clock, so that other work on the machine matters little; everything is byte-compiled before, as pip leaves it. Evident's own are its
modules, reading the document with them, and planning. What is printed, rich lays out.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "examples" / "deployment.yaml"
LIBRARIES = "argparse, difflib, hashlib, ipaddress, json, mmap, tempfile, urllib.parse, rich.console, rich.table, yaml"
"""What planning imports of others: no SDK of a cloud, and no cryptography."""
CHILD = f"""
import gc, sys, time
gc.set_threshold(50_000)  # as evident.cli.main
at = [time.process_time()]
import {LIBRARIES}
at.append(time.process_time())
import evident.cli.main, evident.cli.plan, evident.cli.documents, evident.lifecycle.plan
at.append(time.process_time())
spent = {{}}
def timed(module, name):
    call = getattr(module, name)
    def timing(*words, **named):
        began = time.process_time()
        try:
            return call(*words, **named)
        finally:
            spent[name] = time.process_time() - began
    setattr(module, name, timing)
timed(evident.cli.documents, "read_specification")
timed(evident.lifecycle.plan, "plan")
timed(evident.cli.plan, "_print")
evident.cli.main.main(["plan", sys.argv[1], "--platform", "any"])
steps = [at[0], at[1] - at[0], at[2] - at[1], spent["read_specification"], spent["plan"], spent["_print"], time.process_time()]
print(json.dumps(steps), file=sys.stderr)
"""
NAMES = ("starting Python", "other people's libraries", "Evident's modules", "reading the document", "planning", "printing, by rich")
OWN = (2, 3, 4)
_IMPORTED = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(evident\S*)")


def run(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """What it says on standard error."""
    return subprocess.run([sys.executable, *words], env=environment, check=False, capture_output=True, text=True).stderr


def show(name: str, seconds: Sequence[float], whole: Sequence[float]) -> None:
    shares = [100 * part / total for part, total in zip(seconds, whole, strict=True)]
    half = 1.96 * statistics.stdev(shares) / len(shares) ** 0.5
    mean = statistics.fmean(shares)
    print(f"{name:<44}{1e3 * statistics.median(seconds):>9.1f} ms{mean:>8.1f} % ± {statistics.stdev(shares):.1f}", end="")
    print(f"   {mean - half:.1f} .. {mean + half:.1f}")


def largest(environment: Mapping[str, str], rounds: int) -> tuple[str, float]:
    """The module of Evident's that takes longest to import, without what it imports, and its seconds, the shortest of `rounds`."""
    found: dict[str, list[int]] = defaultdict(list)
    for _ in range(rounds):
        for microseconds, module in _IMPORTED.findall(run(("-X", "importtime", "-m", "evident", "plan", str(DOCUMENT)), environment)):
            found[module].append(int(microseconds))
    name = max(found, key=lambda module: min(found[module]))
    return name, min(found[name]) / 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as compiled:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        run(("-c", CHILD, str(DOCUMENT)), environment)
        samples = [json.loads(run(("-c", CHILD, str(DOCUMENT)), environment).splitlines()[-1]) for _ in range(rounds)]
        module, seconds = largest(environment, rounds)
    *parts, whole = zip(*samples, strict=True)
    print(f"{'':<44}{'median':>12}{'share, sd':>17}   95 % interval   (n = {rounds}, processor time)")
    for name, times in zip(NAMES, parts, strict=True):
        show(name, times, whole)
    show("Evident's own, together", [sum(sample[index] for index in OWN) for sample in samples], whole)
    share = f"{100 * seconds / min(whole):.1f} % of the quickest whole ({1e3 * min(whole):.0f} ms)"
    print(f"largest module: {module}, {1e3 * seconds:.1f} ms, {share}")


if __name__ == "__main__":
    main()
