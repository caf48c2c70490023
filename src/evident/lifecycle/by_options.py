"""A deployment by options of the command line. What they said is kept with its machine, so that the same words carry on with it.

up(target, "qemu", said, lambda: (order, release), cache=cache)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from evident import codec
from evident.appraisal.policy import Policy
from evident.errors import UsageError
from evident.files import read_private
from evident.lifecycle import bring_up, refusal, retire, succession
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import OPTIONS, Deployment
from evident.lifecycle.journal import State
from evident.platforms.driver import Order

NOT_THERE: Final = (None, State.PLANNED, State.DESTROYED)
"""States in which there is no machine to carry on with."""


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
    refusal.finish(target)
    retire.finish(target)
    if target.journal.state in NOT_THERE:
        if platform is None:
            raise UsageError.of(
                "usage.up",
                expected="a document, or a name and a platform, for a machine that is not there yet",
                found=f"{target.name!r} alone",
                remedy=f"For example: evident up {target.name}.yaml, or evident up {target.name} --platform simulated",
            )
        order, release = prepare()
        bring_up.up(target, platform, order, policy=policy, release=release)
        return
    if platform not in (None, target.platform) or (said and said != kept(target)):
        raise UsageError.of(
            "deployment.changed",
            expected=f"the options that {target.name!r} was made with, on {target.platform}, or its name alone",
            found="others",
            remedy=f"`evident update` puts the new machine in its place; `evident down {target.name}` removes the old one first.",
        )
    if target.generations.coming is not None:
        succession.abandon(target)
    bring_up.resume(target, cache, bring_up.listening(target))


def kept(target: Deployment) -> Mapping[str, str] | None:
    """What options said of the machine in charge; None where none did."""
    path = target.home / OPTIONS
    return codec.decode(dict[str, str], codec.loads(read_private(path), "options"), "options") if path.exists() else None
