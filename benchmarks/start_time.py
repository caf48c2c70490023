"""How long `evident --help` takes (aim: at most 150 ms), beside a Python that does nothing.

python benchmarks/start_time.py [rounds]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from ratio import compare


def process(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


def main() -> None:
    compare(
        {
            "bare Python": process("-c", "pass"),
            "Python with argparse": process("-c", "import argparse"),
            "evident --help": process("-m", "evident", "--help"),
            "evident verify --help": process("-m", "evident", "verify", "--help"),
        },
        "bare Python",
        rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 20,
    )


if __name__ == "__main__":
    main()
