"""Kind ``nitrotpm``: see `evident.verification.nitro` for the procedure."""

from __future__ import annotations

from evident.evidence.nitro import NitroDocument
from evident.verification import nitro
from evident.verification.context import Context
from evident.verification.pieces import Pieces
from evident.verification.verified import Verified

ROLES = nitro.NITROTPM_ROLES


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[NitroDocument]:
    """Verify a NitroTPM attestation document."""
    return nitro.verify_document("nitrotpm", pieces, context, without=without)
