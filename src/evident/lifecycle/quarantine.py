"""Whether a deployment is in quarantine: then nothing is released to it. Read from its journal alone, before every release.

A refused answer to the owner's own challenge begins it, and the line that says QUARANTINED makes it official; so a crash between the two
releases nothing. Only an accepted answer to such a challenge ends it, or another machine in its place: a boot that attests to the key
server alone does not.
"""

from __future__ import annotations

from evident import codec
from evident.errors import PolicyRefused
from evident.lifecycle.deployment import AT_BOOT, Deployment
from evident.lifecycle.journal import Event, State

_ANOTHER_MACHINE = frozenset({State.PLANNED, State.LAUNCHED})


def in_force(target: Deployment) -> Event | None:
    """The event that withholds secrets from `target` at present."""
    for event in reversed(target.journal.events()):
        to_the_owner = event.detail.get("at") != AT_BOOT
        if event.state is State.QUARANTINED or (event.state is State.REFUSED and to_the_owner):
            return event
        if event.state in _ANOTHER_MACHINE or (event.state is State.ATTESTED and to_the_owner):
            return None
    return None


def check(target: Deployment) -> None:
    """Raise `PolicyRefused` ``keys.quarantined`` where nothing may be released to `target`."""
    held = in_force(target)
    if held is not None:
        raise PolicyRefused.of(
            "keys.quarantined",
            expected="a machine whose last answer to its owner was accepted",
            found=f"{target.name}, refused at {codec.format_time(held.at)} ({held.detail.get('code', 'no code')})",
            remedy=f"Attest it again (evident attest {target.name}), or put another image in its place (evident update).",
            layer=held.detail.get("layer", "identity"),
        )
