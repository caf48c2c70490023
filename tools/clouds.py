"""Write docs/clouds.md: what each place lets anyone prove, by whom it is vouched, who must be trusted, out of the dated profiles.

Usage: ``python tools/clouds.py`` writes the page, ``--check`` says whether it is current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

from evident.appraisal.changes import difference
from evident.appraisal.degrees import Verifiability
from evident.appraisal.profile import Profile
from evident.appraisal.prospect import Outlook, current, prospect
from evident.appraisal.tables import TABLES, Cell, Table
from evident.platforms.registry import OUTLINES, PROFILES
from evident.reports.view import LAYER_TITLES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "clouds.md"
DATES = sorted({profile.as_of for profile in PROFILES})
"""Of the profile sets."""
HEAD = """# Where to run it: the clouds compared

What a good machine can prove in each place at best, with your own reproducible image where that applies; who vouches for each layer; and
whom you must trust all the same. Made from the platforms' dated and sourced facts by `tools/clouds.py`, through the very rules that
judge real evidence; do not edit. A real machine may prove less: `evident attest` says what it did prove.

*Degrees*: not verifiable; authentic, nothing to compare with; matches a value somebody vouches for; recomputed from the binary; rebuilt
from source. *Levels*: 1 the root of trust, 2 the firmware, 3 the boot chain, 4 the root file system; each needs all below it. *Without
the provider*: the provider alone could not make that layer lie unnoticed.
"""
PUBLISHED = """## The published tables, computed

Each table of the literature, computed from the profiles of both dates. Where the publication printed something else, it stands beside.
"""
SYMBOLS = {"✓": "yes", "✗": "no"}


class Sources:
    """Every source once, by number."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def mark(self, sources: Iterable[str]) -> str:
        numbers = []
        for source in sources:
            if source not in self.known:
                self.known.append(source)
            numbers.append(self.known.index(source) + 1)
        return ", ".join(f"[{number}](#sources)" for number in sorted(numbers))


def row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table(*rows: tuple[str, ...]) -> str:
    head, *body = rows
    return "\n".join((row(*head), row(*("---" for _ in head)), *(row(*each) for each in body))) + "\n"


def launched(profile: Profile) -> bool:
    """Whether Evident launches machines there, rather than citing it from the literature."""
    return profile.id.rpartition("-")[0] in OUTLINES and not profile.simulated


def degree(seen: Outlook, profile: Profile) -> str:
    if seen.verifiability == Verifiability.NONE:
        return seen.verifiability.words
    return f"{seen.verifiability.words}; " + (f"needs {profile.provider}" if seen.needs_provider else "without the provider")


def trusted(seen: Outlook, profile: Profile) -> str:
    named = "You, who run the host." if profile.provider == "you" else f"{profile.provider}."
    return seen.residual_trust.replace("The provider.", named)


def glance(profiles: Iterable[Profile]) -> str:
    rows = [("Place", "Provable", "Without the provider", *(LAYER_TITLES[name][0] for name in list(LAYER_TITLES)[:4]))]
    for profile in profiles:
        found = prospect(profile)
        layers = [seen for seen in found.layers if seen.level]
        levels = (f"level {found.levels.nominal} of 4", f"level {found.levels.trustworthy} of 4")
        rows.append((f"**{profile.title}**", *levels, *(degree(seen, profile) for seen in layers)))
    return table(*rows)


def detail(profile: Profile, sources: Sources) -> Iterator[str]:
    found = prospect(profile)
    yield f"### {profile.title}\n"
    yield f"`{profile.id}`, facts of {profile.as_of.isoformat()}. " + " ".join(found.conclusions) + "\n"
    rows = [("Layer", "At best", "Vouched for by", "Who must be trusted", "Why", "Sources")]
    for seen in found.layers:
        level = f" (level {seen.level})" if seen.level else ", as loaded"
        name = LAYER_TITLES[seen.layer][0] + level
        vouched = seen.endorser if seen.verifiability else "nobody"
        rows.append((name, degree(seen, profile), vouched, trusted(seen, profile), seen.because, sources.mark(seen.sources)))
    yield table(*rows)
    if profile.notes:
        yield "\n".join(f"* {note.value} {sources.mark((note.source,))}" for note in profile.notes) + "\n"


def changes(before: date, after: date, sources: Sources) -> str:
    rows = [("Place", "What", "Then", "Now", "Source")]
    for change in difference([profile for profile in PROFILES if not profile.simulated], before, after):
        named = change.source and change.source != "computed from the facts below"
        rows.append((change.platform, change.what, change.before, change.after, sources.mark((change.source,)) if named else "computed"))
    return table(*rows)


def published(found: Table) -> str:
    rows = [("", *found.columns)]
    rows += [(each.name, *(cell(each.cells[column]) for column in found.columns)) for each in found.rows]
    legend = "".join(f"* {mark}: {words}\n" for mark, words in (found.legend or SYMBOLS).items())
    return table(*rows) + ("\n" + legend if legend else "")


def cell(one: Cell) -> str:
    return one.ours if one.agrees else f"{one.ours} (printed: {one.published})"


def text() -> str:
    """The whole page."""
    first, last = DATES[0], DATES[-1]
    profiles, sources = [profile for profile in current(PROFILES, last) if not profile.simulated], Sources()
    own = [profile for profile in profiles if launched(profile)]
    parts = [HEAD, f"## At a glance, {last.isoformat()}\n", glance(own)]
    designs = [profile for profile in profiles if not launched(profile)]
    parts += ["The same for research designs that run on your own host:\n", glance(designs)]
    parts.append("## Place by place\n")
    for profile in own:
        parts += detail(profile, sources)
    parts.append(f"## What changed between {first.isoformat()} and {last.isoformat()}\n")
    parts.append(changes(first, last, sources))
    parts.append(PUBLISHED)
    for compute in TABLES.values():
        for at in (first, last):
            found = compute(PROFILES, at)
            parts += [f"### {found.title}: {at.isoformat()}\n", published(found)]
    parts.append("## Sources\n")
    parts.append("\n".join(f"{number}. {source}" for number, source in enumerate(sources.known, 1)) + "\n")
    return "\n".join(parts)


def main() -> int:
    if "--check" not in sys.argv:
        PAGE.write_text(text())
        return 0
    if not PAGE.exists() or PAGE.read_text() != text():
        sys.stdout.write("docs/clouds.md is not current" + "\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
