"""A deployment by options of the command line. What they said is kept with its machine, so that the same words carry on with it.

up(target, "qemu", said, lambda: (order, release), cache=cache)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from evident import codec
from evident.appraisal.policy import Policy
from evident.errors import UsageError
from evident.files import read_private
from evident.lifecycle import again, bring_up
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import OPTIONS, Deployment
from evident.platforms.order import Order


def up(
    target: Deployment,
    platform: str | None,
    said: Mapping[str, str],
    prepare: Callable[[], tuple[Order, Release | None]],
    *,
    cache: Path,
    policy: Policy | None = None,
) -> None:
    """Create `target` by what `prepare` gives, or start it again where it has stopped. Done again, it finds all done.

    A platform of None, and nothing `said`, stand for what there is. Raises `UsageError` ``deployment.changed`` where it exists by other
    words, ``usage.up`` where it does not and no platform is named, and as `bring_up.up` and `bring_up.resume`.
    """
    if again.there(target):
        same = platform in (None, target.platform) and (not said or said == kept(target))
        again.carry_on(target, cache, made_by=f"the options that {target.name!r} was made with, or its name alone", same=same)
        return
    if platform is None:
        raise UsageError.of(
            "usage.up",
            expected="a document, or a name and a platform, for a machine that is not there yet",
            found=f"{target.name!r} alone",
            remedy=f"For example: evident up {target.name}.yaml, or evident up {target.name} --platform simulated",
        )
    order, release = prepare()
    bring_up.up(target, platform, order, policy=policy, release=release)


def kept(target: Deployment) -> Mapping[str, str] | None:
    """What options said of the machine in charge; None where none did."""
    path = target.home / OPTIONS
    return codec.decode(dict[str, str], codec.loads(read_private(path), "options"), "options") if path.exists() else None
