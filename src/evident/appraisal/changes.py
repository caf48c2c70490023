"""What changed of the platforms between two dates: facts of their profiles, and the levels that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from evident import codec
from evident.appraisal.profile import Profile
from evident.appraisal.prospect import current, profile_levels


@dataclass(frozen=True, slots=True)
class Change:
    """A fact, or a computed level, that differs between two dates."""

    platform: str
    what: str
    before: str
    after: str
    source: str
    note: str


def difference(profiles: Iterable[Profile], before: date, after: date) -> tuple[Change, ...]:
    """Facts and computed levels that changed between two dates, platform by platform."""
    everything = tuple(profiles)
    old = {profile.id: profile for profile in current(everything, before)}
    changes: list[Change] = []
    for profile in current(everything, after):
        earlier = old.get(profile.id)
        if earlier is None:
            changes.append(Change(profile.id, "platform", "no facts", profile.title, "", ""))
            continue
        for what in ("nominal", "trustworthy"):
            was, now = (str(getattr(profile_levels(side), what)) for side in (earlier, profile))
            if was != now:
                changes.append(Change(profile.id, f"{what} level", was, now, "computed from the facts below", ""))
        changes.extend(_changed_facts(profile.id, codec.encode(earlier), codec.encode(profile)))
    return tuple(changes)


def _changed_facts(platform: str, before: Any, after: Any, path: str = "") -> Iterator[Change]:
    if not isinstance(after, dict) or not isinstance(before, dict):
        return
    if "value" in after and "source" in after:
        if before.get("value") != after["value"]:
            yield Change(platform, path, _text(before.get("value")), _text(after["value"]), after["source"], after.get("note", ""))
        return
    for key, value in after.items():
        if key != "published" and key in before:
            yield from _changed_facts(platform, before[key], value, f"{path}.{key}" if path else key)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
