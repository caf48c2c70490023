"""Kind ``nitro-enclave``: see `evident.verification.nitro` for the procedure. No confidential VM: its memory is AWS's to protect."""

from __future__ import annotations

from evident.evidence.nitro import NitroDocument
from evident.verification import nitro
from evident.verification.context import Context
from evident.verification.nitro import ROLES as ROLES
from evident.verification.pieces import Pieces
from evident.verification.verified import Verified


def verify(pieces: Pieces, context: Context, *, without: frozenset[str] = frozenset()) -> Verified[NitroDocument]:
    """Verify a Nitro Enclave attestation document."""
    return nitro.verify_document("nitro-enclave", pieces, context, without=without)
