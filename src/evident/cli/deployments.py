"""What the verbs that manage deployments share: where state is kept, which clock and randomness, who hears of progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evident.appraisal.policy import Policy
    from evident.platforms.driver import Surroundings


def surroundings() -> Surroundings:
    """This machine's state directory, clock and randomness; progress goes to standard error."""
    import os
    from datetime import UTC, datetime

    from evident.cli.paths import state_dir
    from evident.platforms.driver import Surroundings

    return Surroundings(state_dir(), lambda: datetime.now(UTC), os.urandom, lambda text: print(f"evident: {text}", file=sys.stderr))


def policy_file(path: str | None) -> Policy | None:
    """The policy in `path`; None for no path."""
    if path is None:
        return None
    from evident import codec
    from evident.appraisal.policy import Policy
    from evident.cli.inputs import read_bytes

    return codec.decode(Policy, codec.loads(read_bytes(path), "policy"), "policy")
