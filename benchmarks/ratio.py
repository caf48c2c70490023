"""Compare ways of doing the same thing within one run, as ratios: absolute times say more about the machine than about the code."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

# 0.975 quantile of Student's t by degrees of freedom (tables; 1.96 beyond)
T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 14: 2.14, 19: 2.09, 29: 2.05}


def line(name: str, values: Sequence[float], unit: str = "s") -> str:
    """`name` with count, mean, standard deviation and 95 % confidence interval of the mean (Student's t)."""
    count, mean = len(values), statistics.fmean(values)
    deviation = statistics.stdev(values) if count > 1 else 0.0
    freedom = max((known for known in T if known <= count - 1), default=1)
    half = T[freedom] * deviation / count**0.5 if count > 1 else float("nan")
    return f"{name:<44} n={count:<3} mean {mean:8.3f} {unit:<2} sd {deviation:7.3f}  95 % ±{half:7.3f}"


def compare(contenders: Mapping[str, Callable[[], object]], baseline: str, *, rounds: int = 15, warm_up: int = 2) -> dict[str, float]:
    """Run all `contenders` alternately for `rounds` and print each one's ratio to `baseline`: mean, standard deviation, 95 % interval.

    Returns the mean ratios. Each ratio is taken within its round, so that a slow phase of the machine touches both sides. *Quietest* is
    the ratio of the fastest round of each: on a busy machine it is the nearest to the code.
    """
    for _ in range(warm_up):
        for contender in contenders.values():
            contender()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            times[name].append(time.perf_counter() - started)
    result = {}
    print(f"{'':<34}{'median':>12}{'ratio':>9}{'sd':>8}   95 % interval  {'quietest':>10}   (n = {rounds}, baseline: {baseline})")
    for name, samples in times.items():
        ratios = [sample / base for sample, base in zip(samples, times[baseline], strict=True)]
        mean, deviation = statistics.fmean(ratios), statistics.stdev(ratios)
        half = 1.96 * deviation / rounds**0.5
        result[name] = mean
        print(
            f"{name:<34}{statistics.median(samples) * 1e3:>9.3f} ms{mean:>9.3f}{deviation:>8.3f}   {mean - half:.3f} .. {mean + half:.3f}"
            f"{min(samples) / min(times[baseline]):>10.3f}"
        )
    return result
