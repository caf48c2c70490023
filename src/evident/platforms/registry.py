"""The one file that imports every platform."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from evident.appraisal.profile import Profile
from evident.appraisal.prospect import current
from evident.errors import UsageError
from evident.platforms.aws import outline as aws_outline
from evident.platforms.aws import profile as aws
from evident.platforms.azure import outline as azure_outline
from evident.platforms.azure import profile as azure
from evident.platforms.gcp import outline as gcp_outline
from evident.platforms.gcp import profile as gcp
from evident.platforms.outline import Outline
from evident.platforms.qemu import outline as qemu_outline
from evident.platforms.qemu import profile as qemu
from evident.platforms.simulated import outline as simulated_outline
from evident.platforms.simulated import profile as simulated

PROFILES: tuple[Profile, ...] = (*aws.PROFILES, *azure.PROFILES, *gcp.PROFILES, *qemu.PROFILES, *simulated.PROFILES)
"""Every profile at every date."""

OUTLINES: Mapping[str, Outline] = MappingProxyType(
    {
        "aws": aws_outline.OUTLINE,
        "azure": azure_outline.OUTLINE,
        "gcp": gcp_outline.OUTLINE,
        "qemu": qemu_outline.OUTLINE,
        "simulated": simulated_outline.OUTLINE,
    }
)
"""What can be launched, by the name that `evident up --platform` takes. The one for ``any`` among equals comes first."""


def profile_id(platform: str, technology: str, where: Mapping[str, str] = MappingProxyType({})) -> str:
    """Id of the profile of machines launched on `platform` with `technology` and the settings `where`."""
    own = OUTLINES[platform].profile(where) or f"{platform}-{technology}"
    return own if own in platform_ids() else platform


def platform_ids() -> tuple[str, ...]:
    return tuple(dict.fromkeys(profile.id for profile in PROFILES))


def profile(platform: str, at: date) -> Profile:
    """The newest profile of `platform` that is not younger than `at`; `UsageError` when there is none."""
    if platform not in platform_ids():
        near = difflib.get_close_matches(platform, platform_ids(), n=1, cutoff=0.4)
        raise UsageError.of(
            "platform.unknown",
            expected="one of " + ", ".join(platform_ids()),
            found=repr(platform),
            remedy=f"Did you mean {near[0]!r}?" if near else "Choose a platform from the list.",
        )
    for candidate in current(PROFILES, at):
        if candidate.id == platform:
            return candidate
    first = min(candidate.as_of for candidate in PROFILES if candidate.id == platform)
    raise UsageError.of(
        "platform.no-facts-yet",
        expected=f"a date on or after {first.isoformat()}",
        found=at.isoformat(),
        remedy=f"Nothing was recorded of {platform} at that date; ask for a later one.",
    )
