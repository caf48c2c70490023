"""Have the machine that an update makes prove itself: by its own policy and reference values, and by nothing of the machine before it."""

from __future__ import annotations

from pathlib import Path

from evident.audit import keys
from evident.endorsements import anchors
from evident.endorsements.cache import Cache
from evident.endorsements.http import real_world, standard_fetcher
from evident.lifecycle.attest import Answer, examine
from evident.lifecycle.deployment import Deployment
from evident.platforms import registry


def prove(coming: Deployment, cache: Path) -> Answer:
    """The answer of the machine that `coming` is seen through; `cache` of endorsements."""
    around, stored = coming.surroundings, Cache(cache)
    return examine(
        coming,
        anchors=anchors.production(),
        fetcher=standard_fetcher(stored, real_world()),
        key=keys.load_or_create(around.state, around.randomness),
        profile=registry.profile(coming.driver().profile(coming.machine), around.clock().date()),
        crl_floor=stored.crl_floors(),
        references=coming.own_references,
    )
