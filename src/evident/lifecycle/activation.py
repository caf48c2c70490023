"""The second question of an attestation: does the key that quoted live in the TPM whose endorsement key came along?

Evidence with an attestation key (AK) and an endorsement key (EK) is answered with a credential that only the TPM with both can open
(`evident.verification.credential`). What comes back is judged by verification, from the record: here nothing is decided. Where there is
no EK to ask, or nobody who answers, the record is missing, and the AK stays nobody's.
"""

from __future__ import annotations

from collections.abc import Callable

from evident.errors import EvidentError
from evident.platforms.driver import Activate
from evident.verification import activation, credential
from evident.verification.credential import Activation
from evident.verification.pieces import Pieces


def ask(pieces: Pieces, activate: Activate | None, random: Callable[[int], bytes]) -> Activation | None:
    """Send a fresh credential for the keys in `pieces`, and record it with the answer. Raises what `activate` raises."""
    keys = activation.keys(pieces)
    if activate is None or keys is None:
        return None
    ek, ak = keys
    try:
        made = credential.challenge(ek, ak.name, random)
    except EvidentError:  # no key that a credential can be made for
        return None
    answer = activate(made.credential_blob, made.encrypted_secret)
    return None if answer is None else made.answered(answer)
