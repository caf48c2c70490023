"""The coded remarks that verification hands on (`Facts.caveats`, `BootChain.caveats`), said in words on the layer they concern."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from evident.appraisal.statement import Caveat
from evident.appraisal.threat import NO_REMEDY

_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "snp.chip-id.masked": (
            "The platform hides which chip it is; only its signing key tells it from others.",
            "Ask the operator to unmask the chip id, if you pin machines.",
        ),
        "tpm.ak-parent-unknown": (
            "Who certified the attestation key's parent is unknown.",
            "Pass the vendor's certificate, so that the chain can be checked.",
        ),
        "tpm.ak-certificate.revocation-unchecked": (
            "Nobody checked whether the attestation key's certificate is revoked.",
            "Renew the certificate often; its issuer publishes no list that could be checked here.",
        ),
        "tpm.ek-not-activated": (
            "That the attestation key lives in the same TPM as the endorsement key was not shown.",
            "Run credential activation when the key is enrolled.",
        ),
        "log.command-line-ambiguous": (
            "The log tells more than one kernel command line; none was believed.",
            "Boot through one loader that measures the command line once.",
        ),
        "log.command-line-unproven": (
            "The text of the command line is the log's word: its measured digest does not follow from it.",
            "Use a UKI, or compare the register with a reference value.",
        ),
        "log.sha1-only": (
            "The log has no bank but SHA-1, for which collisions can be made.",
            "Turn the SHA-256 bank on in the vTPM.",
        ),
    }
)
_LAYERS = MappingProxyType({"tpm": "vtpm", "vtpm": "vtpm", "log": "boot_chain", "ima": "userspace", "endorsement": "firmware"})


def layer_of(code: str) -> str:
    """The layer that a remark concerns, by the family in its code."""
    return _LAYERS.get(code.partition(".")[0], "root_of_trust")


def caveat(code: str) -> Caveat:
    text, remedy = _WORDS.get(code, (f"Verification remarks: {code.replace('.', ': ', 1).replace('-', ' ')}.", NO_REMEDY))
    return Caveat(code, text, remedy)
