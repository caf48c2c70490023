"""The end of every appraisal that something is given out on: an accepted statement, or the error of its decision."""

from __future__ import annotations

from evident.appraisal.statement import TrustStatement
from evident.errors import Indeterminate, PolicyRefused


def check_accepted(statement: TrustStatement) -> None:
    """Raises `PolicyRefused` or `Indeterminate` with all findings of a statement that does not accept."""
    if statement.decision != "accepted":
        raise (PolicyRefused if statement.decision == "refused" else Indeterminate)(*statement.findings)
