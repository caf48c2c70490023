"""What the verbs that manage deployments share: where state is kept, which clock and randomness, who hears of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from evident.platforms.driver import Surroundings


def surroundings() -> Surroundings:
    """This machine's state directory, clock and randomness; progress goes to standard error."""
    import os
    from datetime import UTC, datetime

    from evident.cli.paths import spire, state_dir, vault, wrapping_key
    from evident.cli.terminal import tell
    from evident.platforms.driver import Surroundings

    say: Callable[[str], None] = lambda text: tell(f"evident: {text}")  # noqa: E731  # one line
    return Surroundings(state_dir(), lambda: datetime.now(UTC), os.urandom, say, wrapping_key(), vault(), spire())
