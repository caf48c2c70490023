"""Run every benchmark, one after the other: python -m benchmarks [NAME ...]"""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in {"ratio", "plot", "__main__"})


def _machine() -> str:
    cpu = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.is_file() else []
    )
    return f"{models[0] if models else platform.machine()}, {len(models) or '?'} CPUs, Python {platform.python_version()}"


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    print(f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}", flush=True)
    failed = []
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, str(FOLDER / f"{name}.py")], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
