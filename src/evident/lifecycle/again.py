"""`evident up`, done again: where there is a machine, it is carried on with by the words that it was made by, and by no others."""

from __future__ import annotations

from pathlib import Path

from evident.errors import UsageError
from evident.lifecycle import bring_up, refusal, retire, specification, succession
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State


def there(target: Deployment) -> bool:
    """Whether there is a machine to carry on with, once what a crash left undone is done."""
    refusal.finish(target)
    retire.finish(target)
    return target.journal.state not in (None, State.PLANNED, State.DESTROYED)


def carry_on(target: Deployment, cache: Path, *, made_by: str, same: bool) -> None:
    """Give up an update that did not end, and have machine and key server run.

    `same`: whether what it was `made_by`, in words, is what is asked for now; else raises `UsageError` ``deployment.changed``.
    """
    if not same:
        raise UsageError.of(
            "deployment.changed",
            expected=made_by,
            found="something else",
            remedy=f"`evident update` puts the new machine in its place; `evident down {target.name}` removes the old one first.",
        )
    if target.generations.coming is not None:
        succession.abandon(target)
    bring_up.resume(target, cache, bring_up.listening(specification.kept(target), target.platform))
