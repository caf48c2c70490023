"""Published tables, computed from platform profiles: nothing in a cell is typed by hand except what others printed.

* ``scopelliti``: table 1 of Scopelliti, Baumann and Muehlberg (2024): three symbols, nominal and trustworthy level.
* ``pontes``: table 1 of Pontes et al.: six properties of a platform.
* ``poster``: the table of Evident's poster: degrees 0-4 with the endorser, userspace split into at rest and as loaded.

A platform belongs to the tables that its profile has printed values of (`Profile.published`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from evident.appraisal.degrees import LEVEL_LAYERS, Verifiability
from evident.appraisal.folds import SYMBOL_WORDS, needs_provider, symbol
from evident.appraisal.profile import Profile
from evident.appraisal.prospect import VENDORS, basis, current, measured_by, outlook, profile_levels, vtpm_endorser


@dataclass(frozen=True, slots=True)
class Cell:
    """A computed value, why it is that, and what the publication printed."""

    ours: str
    because: str
    sources: tuple[str, ...]
    published: str = ""
    note: str = ""

    @property
    def agrees(self) -> bool:
        return not self.published or _plain(self.published) == _plain(self.ours)


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    cells: Mapping[str, Cell]
    """Column heading to cell."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    title: str
    as_of: date
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    legend: Mapping[str, str]


def _plain(text: str) -> str:
    return text.replace("up to ", "").replace("○ ", "").casefold().strip()


Compute = Callable[[Profile], tuple[str, str, tuple[str, ...]]]


def _table(name: str, title: str, profiles: Iterable[Profile], at: date, rows: Mapping[str, tuple[str, Compute]]) -> Table:
    """`rows`: heading to the key of the printed value and the computation."""
    members = [profile for profile in current(profiles, at) if any(key.startswith(f"{name}.") for key in profile.published)]
    computed = []
    for heading, (key, compute) in rows.items():
        cells = {}
        for profile in members:
            ours, because, sources = compute(profile)
            printed = profile.published.get(f"{name}.{key}")
            note = printed.note if printed else ""
            cells[profile.column] = Cell(ours, because, sources, printed.value if printed else "", note)
        computed.append(Row(heading, cells))
    return Table(name, title, at, tuple(profile.column for profile in members), tuple(computed), MappingProxyType({}))


def scopelliti(profiles: Iterable[Profile], at: date) -> Table:
    """Table 1: TEE, firmware, kernel and root file system by symbol, and the two levels."""
    titles = {"root_of_trust": "TEE", "firmware": "Firmware", "boot_chain": "Kernel", "root_filesystem": "Root FS"}
    rows: dict[str, tuple[str, Compute]] = {titles[layer]: (layer, _symbol_of(layer)) for layer in LEVEL_LAYERS}
    rows["Nominal AL"] = ("nominal", lambda profile: _level(profile, "nominal"))
    rows["Trustworthy AL"] = ("trustworthy", lambda profile: _level(profile, "trustworthy"))
    table = _table("scopelliti", "Trust in cloud offerings (Scopelliti et al., table 1)", profiles, at, rows)
    return Table(table.name, table.title, at, table.columns, table.rows, SYMBOL_WORDS)


def _symbol_of(layer: str) -> Compute:
    def compute(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
        read = basis(profile)
        seen = outlook(profile, layer)
        return symbol(read.degrees[layer], needs_provider(read)[layer]), seen.because, seen.sources

    return compute


def _level(profile: Profile, which: str) -> tuple[str, str, tuple[str, ...]]:
    reached = profile_levels(profile)
    level = reached.nominal if which == "nominal" else reached.trustworthy
    if level == len(LEVEL_LAYERS):
        return str(level), "every layer holds", ()
    stops = outlook(profile, LEVEL_LAYERS[level])
    what = "is not verifiable" if which == "nominal" else "needs the provider"
    return str(level), f"the {stops.layer.replace('_', ' ')} {what}: {stops.because}", stops.sources


_PAPER_WORDS = {"firmware": "VMF", "paravisor": "SVSM", "svsm": "SVSM", "initrd": "initrd", "kernel": "kernel"}


def pontes(profiles: Iterable[Profile], at: date) -> Table:
    """Table 1: what the launch measurement covers, whether it can be reproduced, the vTPM, the report, the disk key."""
    rows: dict[str, tuple[str, Compute]] = {
        "Components in the launch measurement": ("launch_covers", _launch_covers),
        "Measurement reproducible": ("reproducible", lambda p: _mark(p.launch_reproducible.value, p.launch_reproducible)),
        "vTPM": ("vtpm", lambda p: (p.vtpm.kind.value, p.vtpm.kind.note or "as documented", (p.vtpm.kind.source,))),
        "vTPM in the measurement": ("vtpm_measured", lambda p: _mark(p.vtpm.measured.value, p.vtpm.measured)),
        "Report supplied by": ("report", _report_source),
        "Disk key supplied by": (
            "disk_key",
            lambda p: (", ".join(p.disk_key.value), p.disk_key.note or "as documented", (p.disk_key.source,)),
        ),
    }
    return _table("pontes", "Deployment support (Pontes et al., table 1)", profiles, at, rows)


def _mark(value: bool, fact: object) -> tuple[str, str, tuple[str, ...]]:
    note, source = getattr(fact, "note", ""), getattr(fact, "source", "")
    return ("✓" if value else "✗"), note or ("yes" if value else "no"), (source,)


def _launch_covers(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
    fact = profile.launch_covers
    words = dict.fromkeys(_PAPER_WORDS[part] for part in fact.value if part in _PAPER_WORDS)
    return ", ".join(words), fact.note or ", ".join(fact.value), (fact.source,)


def _report_source(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
    fact = profile.report_source
    return {"device": "SNP device", "vtpm": "vTPM", "svsm": "SVSM"}[fact.value], fact.note or "as documented", (fact.source,)


def poster(profiles: Iterable[Profile], at: date) -> Table:
    """Root of trust authenticity and software verifiability; userspace at rest and as loaded are two rows (TB-05)."""
    rows: dict[str, tuple[str, Compute]] = {
        "Root of trust authenticity: AMD-SP": ("root_of_trust", _root),
        "Root of trust authenticity: vTPM": ("vtpm", _vtpm),
        "Firmware": ("firmware", _degree("firmware")),
        "Kernel": ("boot_chain", _degree("boot_chain")),
        "Userspace: root file system at rest": ("userspace", _degree("root_filesystem")),
        "Userspace: as loaded": ("userspace", _degree("userspace")),
    }
    legend = {str(int(degree)): degree.words for degree in Verifiability}
    table = _table("poster", "Verification mechanisms (Evident poster)", profiles, at, rows)
    return Table(table.name, table.title, at, table.columns, table.rows, legend)


def _root(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
    seen = outlook(profile, "root_of_trust")
    return ("✗" if seen.needs_provider else f"✓ {VENDORS[profile.technology]}"), seen.because, seen.sources


def _vtpm(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
    location = profile.vtpm.location
    if location.value == "none":
        return "n/a", "there is no vTPM", (location.source,)
    endorser = vtpm_endorser(profile)
    word = "provider" if endorser == profile.provider else endorser
    bound = "bound by the hardware's report" if profile.vtpm.measured.value else "not bound by the hardware's report"
    return f"✓ {word}", f"in the {location.value}, {bound}; degree {profile.vtpm.verifiability.value} for its code", (location.source,)


def _degree(layer: str) -> Compute:
    def compute(profile: Profile) -> tuple[str, str, tuple[str, ...]]:
        seen = outlook(profile, layer)
        if seen.verifiability == Verifiability.NONE:
            return "0", seen.because, seen.sources
        carrier = measured_by(profile, layer).replace(profile.provider, "provider")
        return f"{int(seen.verifiability)}, {carrier}", seen.because, seen.sources

    return compute


TABLES: Mapping[str, Callable[[Iterable[Profile], date], Table]] = MappingProxyType(
    {"scopelliti": scopelliti, "pontes": pontes, "poster": poster}
)
