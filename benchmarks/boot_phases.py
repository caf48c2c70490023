"""Phases of a boot, from the console's own clock: how much of it is attestation and the key?

    python benchmarks/boot_phases.py CONSOLE_LOG ...

Each file is ``machine/console.log`` of one boot of the profile ``encrypted``. Printed per phase: n, mean, standard deviation, 95 %
confidence interval of the mean (Student's t), and its share of the whole, from power-on to the last step. The paper's FetchKey takes
5.96 s of 12.9 s (46 %).
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from evident.platforms.qemu import console

OURS = ("key", "challenge", "evidence", "release")
# 0.975 quantile of Student's t by degrees of freedom (tables; 1.96 beyond)
T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 14: 2.14, 19: 2.09, 29: 2.05}


def phases(log: Path) -> dict[str, float]:
    """Seconds of each step of one boot by the guest's clock, of all before the first, and in all by the host's."""
    steps = console.steps_of(console.read(log))
    began = next(step.at for step in steps if step.event == "start")
    measured = {step.name: float(step.rest.split()[0]) for step in steps if step.event == "done"}
    return {"firmware and kernel": began, **measured, "whole": steps[-1].at}


def line(name: str, values: list[float], whole: float) -> str:
    count, mean = len(values), statistics.fmean(values)
    deviation = statistics.stdev(values) if count > 1 else 0.0
    freedom = max((known for known in T if known <= count - 1), default=1)
    half = T[freedom] * deviation / count**0.5 if count > 1 else float("nan")
    return f"{name:<20} n={count:<3} mean {mean:8.3f} s  sd {deviation:7.3f}  95% CI ±{half:7.3f}  share {100 * mean / whole:5.1f} %"


def main() -> None:
    boots = [phases(Path(name)) for name in sys.argv[1:]]
    if not boots:
        raise SystemExit(__doc__)
    whole = statistics.fmean(boot["whole"] for boot in boots)
    for name in boots[0]:
        print(line(name, [boot[name] for boot in boots if name in boot], whole))
    print(line("attestation and key", [sum(boot.get(name, 0.0) for name in OURS) for boot in boots], whole))


if __name__ == "__main__":
    main()
