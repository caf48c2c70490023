"""This host's own verifier, and what it makes of a machine that was just made: until that has proved itself, nothing is believed of it."""

from __future__ import annotations

from pathlib import Path

from evident.audit import keys
from evident.endorsements import anchors
from evident.endorsements.cache import Cache
from evident.endorsements.http import real_world, standard_fetcher
from evident.errors import EvidentError, Finding
from evident.lifecycle.attest import Answer, Verifier, attest, examine
from evident.lifecycle.deployment import Deployment
from evident.platforms.driver import Surroundings


def verifier(around: Surroundings, cache: Path) -> Verifier:
    """The chip makers' roots, this host's key, and the vendors' servers behind the `cache` of endorsements."""
    stored = Cache(cache)
    return Verifier(
        anchors.production(), standard_fetcher(stored, real_world()), keys.load_or_create(around.state, around.randomness), stored
    )


def prove(coming: Deployment, cache: Path) -> Answer:
    """The answer of the machine that an update makes: by its own policy and reference values, and by nothing of the machine before it."""
    return examine(coming, verifier(coming.surroundings, cache), references=coming.own_references)


def ready(target: Deployment, cache: Path) -> Answer:
    """The answer of the machine that `target` has in charge, right after its boot; the decision is in it, and answered as any other.

    Raises what `attest` does, with a last finding ``up.unproven``: nobody could be asked, and the machine runs all the same.
    """
    target.surroundings.progress(f"{target.name}: asking the machine who it is")
    try:
        return attest(target, verifier(target.surroundings, cache))
    except EvidentError as error:
        raise error.followed_by(_unproven(target)) from error


def _unproven(target: Deployment) -> Finding:
    return Finding(
        "up.unproven",
        "input",
        "a machine that answers a challenge once it has booted",
        f"{target.name} on {target.platform}: it is launched, and nothing is proved of it",
        f"Once what stands above is mended, `evident attest {target.name}` asks again; `evident down {target.name}` removes it.",
    )
