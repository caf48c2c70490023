"""Whom a credential is made for: endorsement key (EK) and attestation key (AK) in evidence of whatever kind."""

from __future__ import annotations

from evident.errors import EvidentError
from evident.evidence import content, tpm_public
from evident.evidence.tpm_public import Public
from evident.verification import svsm
from evident.verification.pieces import Pieces


def keys(pieces: Pieces) -> tuple[Public, Public] | None:
    """EK (out of an SVSM's manifest where need be) and AK; None where one is missing or unreadable, which verification says."""
    try:
        ek = _endorsement_key(pieces)
        ak = tpm_public.parse(content.unhex(pieces["ak"][0])) if "ak" in pieces else None
    except EvidentError:
        return None
    return (ek, ak) if ek and ak else None


def _endorsement_key(pieces: Pieces) -> Public | None:
    if "ek" in pieces:
        return tpm_public.parse(content.unhex(pieces["ek"][0]))
    return svsm.endorsement_key(pieces["manifest"][0]) if "manifest" in pieces else None
