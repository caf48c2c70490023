"""Write docs/platforms/README.md: every kind of evidence, the page about it, and the roles it takes, out of the code itself.

Usage: ``python tools/kinds.py`` writes the page, ``--check`` says whether it is current and whether every kind has a page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from evident.verification import kinds

PLATFORMS = Path(__file__).resolve().parents[1] / "docs" / "platforms"
PAGE = PLATFORMS / "README.md"
COUNTS = {"one": "once", "optional": "at most once", "any": "any number"}
HEAD = """# Kinds of evidence, and the roles they take

`evident verify --kind KIND ROLE=PATH ...`. Made by `tools/kinds.py`; do not edit.
[aws.md](aws.md), [azure.md](azure.md) and [gcp.md](gcp.md) are about launching, [simulated.md](simulated.md) about tests.
"""
TABLE = "| role | how often | what |\n| --- | --- | --- |"


def page_of(kind: str) -> str:
    """The page of that name, or else the one that shows how to verify `kind`."""
    if (PLATFORMS / f"{kind}.md").exists():
        return f"{kind}.md"
    pages = (page for page in sorted(PLATFORMS.glob("*.md")) if page != PAGE)
    return next((page.name for page in pages if f"--kind {kind} " in page.read_text()), "")


def text() -> str:
    """The whole page."""
    parts = [HEAD]
    for kind, row in kinds.KINDS.items():
        page = page_of(kind)
        parts.append(f"## `{kind}`\n{row.description}. [{page}]({page})\n\n{TABLE}")
        parts += [f"| `{name}` | {COUNTS[role.count]} | {role.description} |" for name, role in sorted(kinds.roles(kind).items())]
        parts.append("")
    return "\n".join(parts)


def main() -> int:
    without = [kind for kind in kinds.KINDS if not page_of(kind)]
    if without:
        sys.stdout.write(f"no page in docs/platforms shows how to verify: {', '.join(without)}" + "\n")
        return 1
    if "--check" not in sys.argv:
        PAGE.write_text(text())
        return 0
    if not PAGE.exists() or PAGE.read_text() != text():
        sys.stdout.write("docs/platforms/README.md is not current" + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
