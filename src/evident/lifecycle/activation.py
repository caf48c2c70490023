"""The second question of an attestation: does the key that quoted live in the TPM whose endorsement key came along?

Evidence with an attestation key (AK) and an endorsement key (EK) is answered with a credential that only the TPM with both can open
(`evident.verification.credential`). What comes back is judged by verification, from the record: here nothing is decided. Where there is
no EK to ask, or nobody who answers, the record is missing, and the AK stays nobody's.
"""

from __future__ import annotations

from collections.abc import Callable

from evident.errors import EvidentError
from evident.evidence import content, tpm_public
from evident.evidence.tpm_public import Public
from evident.platforms.driver import Activate
from evident.verification import credential, svsm
from evident.verification.credential import Activation, Challenge
from evident.verification.pieces import Pieces


def ask(pieces: Pieces, activate: Activate | None, random: Callable[[int], bytes]) -> Activation | None:
    """Send a fresh credential for the keys in `pieces`, and record it with the answer. Raises what `activate` raises."""
    made = _made(pieces, random) if activate else None
    if activate is None or made is None:
        return None
    answer = activate(made.credential_blob, made.encrypted_secret)
    return None if answer is None else made.answered(answer)


def _made(pieces: Pieces, random: Callable[[int], bytes]) -> Challenge | None:
    """The credential; None for want of a key, or for one that cannot be used, which verification says in its own words."""
    try:
        ek = _endorsement_key(pieces)
        ak = tpm_public.parse(content.unhex(pieces["ak"][0])) if "ak" in pieces else None
        return credential.challenge(ek, ak.name, random) if ek and ak else None
    except EvidentError:
        return None


def _endorsement_key(pieces: Pieces) -> Public | None:
    if "ek" in pieces:
        return tpm_public.parse(content.unhex(pieces["ek"][0]))
    return svsm.endorsement_key(pieces["manifest"][0]) if "manifest" in pieces else None
