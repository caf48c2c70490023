"""What the time of `evident plan` is spent on: starting Python, importing libraries, or planning.

python benchmarks/plan_time.py [rounds]

The document is examples/deployment.yaml, planned for every platform; no cloud is asked.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from evident.cli.documents import read_specification
from evident.lifecycle.plan import plan
from ratio import compare

DOCUMENT = Path(__file__).resolve().parent.parent / "examples" / "deployment.yaml"
LIBRARIES = "import argparse, difflib, hashlib, ipaddress, json, mmap, tempfile, urllib.parse, rich.console, rich.table, yaml"
"""What planning imports of others: no SDK of a cloud, and no cryptography."""
OURS = f"{LIBRARIES}, evident.cli.main, evident.cli.plan, evident.cli.documents, evident.lifecycle.plan"


def process(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *words], check=False, capture_output=True)


def main() -> None:
    compare(
        {
            "bare Python": process("-c", "pass"),
            "and other people's libraries": process("-c", LIBRARIES),
            "and Evident's modules": process("-c", OURS),
            "evident plan, all of it": process("-m", "evident", "plan", str(DOCUMENT), "--platform", "any"),
            "planning alone, all else loaded": lambda: plan(read_specification(DOCUMENT), at=date(2026, 11, 22), platform="any"),
        },
        "and other people's libraries",
        rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 15,
    )


if __name__ == "__main__":
    main()
