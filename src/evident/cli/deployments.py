"""What the verbs that manage deployments share: where state is kept, which clock and randomness, who hears of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.platforms.driver import Surroundings


def surroundings() -> Surroundings:
    """This machine's state directory, clock and randomness; progress goes to standard error."""
    import os
    from datetime import UTC, datetime

    from evident.cli.paths import state_dir, wrapping_key
    from evident.cli.terminal import tell
    from evident.platforms.driver import Surroundings

    return Surroundings(state_dir(), lambda: datetime.now(UTC), os.urandom, lambda text: tell(f"evident: {text}"), wrapping_key())
