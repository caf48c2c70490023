"""What is kept of an answer: the state that follows from its decision, what its statement reached, and the name of its bundle."""

from __future__ import annotations

from typing import Final

from evident.appraisal.identities import NAMES
from evident.audit.case import Case
from evident.errors import EvidentError
from evident.lifecycle.journal import State
from evident.reports.json_report import Outcome

_STATES: Final = {"accepted": State.ATTESTED, "refused": State.REFUSED, "not_authentic": State.REFUSED, "malformed": State.REFUSED}


def state_after(decision: str) -> State:
    """The deployment's state after an answer that was decided so."""
    return _STATES.get(decision, State.UNDECIDED)


def levels(outcome: Outcome) -> dict[str, str]:
    """What the journal keeps of a statement; nothing of an error."""
    if isinstance(outcome, EvidentError):
        return {}
    return {
        **{name: value for name, value in outcome.identities.items() if NAMES[name].new},
        "nominal": str(outcome.levels.nominal),
        "trustworthy": str(outcome.levels.trustworthy),
        "simulated": "yes" if outcome.simulated else "no",
    }


def bundle_name(case: Case) -> str:
    """Of the file with the bundle of `case`: when, and to which challenge."""
    return f"{case.at:%Y%m%dT%H%M%S}-{(case.nonce or b'')[:4].hex()}.json"
