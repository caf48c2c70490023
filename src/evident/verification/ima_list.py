"""Kind ``ima``: a measurement list alone, optionally with the firmware log of the same boot, an allow-list and keys.

Nobody has signed it, so it always ends in `Indeterminate` (``ima.unsigned``) with what it says as claims, unless it is malformed,
unsupported, or contradicts itself (`NotAuthentic`: an edited entry, a boot_aggregate that is not of the firmware log given).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from evident.errors import Indeterminate
from evident.evidence import ima_log, tcg_log
from evident.verification import ima, tpm_ima
from evident.verification import log as log_replay
from evident.verification import pieces as piece
from evident.verification.context import Context
from evident.verification.pieces import Pieces, Role

NAME = "ima"
ROLES: Mapping[str, Role] = MappingProxyType(
    {
        "ima": Role("one", ima_log.MAX_LIST_BYTES, "IMA measurement list, binary or ASCII"),
        "log": Role("optional", tcg_log.MAX_LOG_BYTES, "firmware log of the same boot, for boot_aggregate"),
        "allow-list": tpm_ima.ROLES["allow-list"],
        "ima-key": tpm_ima.ROLES["ima-key"],
    }
)
BANKS = ("sha1", "sha256")


def verify(pieces: Pieces, context: Context) -> NoReturn:
    """Replay the list and compare what can be compared; never returns. Raises as the module says."""
    piece.check(pieces, ROLES, NAME)
    listed = ima_log.parse(piece.one(pieces, "ima"))
    ima.check_template_hashes(listed)
    said = ima.claims(listed, {bank: ima.replay(listed.entries, bank) for bank in BANKS})
    firmware = piece.optional(pieces, "log")
    if firmware is not None:
        registers = log_replay.replay(tcg_log.parse(firmware)).registers
        said["boot_aggregate"] = ima.boot_aggregate(listed.entries, registers).rule
    allowed = [ima.parse_allow_list(raw) for raw in piece.several(pieces, "allow-list")]
    keys = tuple(ima.load_key(raw) for raw in piece.several(pieces, "ima-key"))
    whole = ima.Authenticated(listed.entries, BANKS[0], ima.GENERATIONS[0], 0)
    ran = ima.runtime(whole, allowed=ima.merge(allowed), keys=keys)
    said |= {"unlisted": list(ran.unlisted), "gaps": list(ran.gaps)}
    raise Indeterminate.of(
        "ima.unsigned",
        expected="a quote that signs PCR 10",
        found=f"a list alone, of {ran.entries} entries, judged at {context.at.isoformat()}",
        remedy="Verify it with the quote of the same machine, taken before the list was read.",
        layer="userspace",
    ).with_claims(said)
