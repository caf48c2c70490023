"""Expected-PCR files of other tools: final values by PCR, without the measurements that lead to them.

Two forms: ``[{"pcr": 4, "digest": "<hex>"}, ...]`` and ``{"pcr4": "<hex>", ...}`` (joao-hs/evident, ``client/internal/domain``,
575e56d1). Files of measurements (``records``) are systemd-pcrlock's: `evident.reference_values.pcr`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from evident.errors import Malformed
from evident.evidence import tpm_algorithms as alg
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength

WHAT = "expected-pcrs"
_NAME = re.compile(r"pcr(0|[1-9][0-9]?)", re.ASCII)
BANKS = {32: "sha256", 48: "sha384", 64: "sha512"}


def looks_like(value: Any) -> bool:
    """Told by the members of parsed JSON."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and set(item) == {"pcr", "digest"} for item in value)
    return isinstance(value, dict) and bool(value) and all(_NAME.fullmatch(key) for key in value)


def read(value: Any, raw: bytes) -> ReferenceSet:
    """The values, each endorsed by whoever gives the file (``you``). `raw` is the file, named by its digest. Raises `Malformed`."""
    pairs = (
        [(item["pcr"], item["digest"]) for item in value]
        if isinstance(value, list)
        else [(int(key[3:]), text) for key, text in value.items()]
    )
    found = hashlib.sha256(raw).digest()
    values: dict[int, ReferenceValue] = {}
    for index, text in pairs:
        if type(index) is not int or not 0 <= index <= 23 or index in values:
            raise _malformed("every PCR (0 to 23) once", repr(index)[:40])
        digest = _digest(text, index)
        values[index] = ReferenceValue(
            layers=("boot_chain",),
            register=f"pcr{index}",
            value=digest,
            strength=Strength.ENDORSED,
            endorser="you",
            description=f"PCR {index} as your file expects it",
            provenance=Provenance("expected-PCR file", "final value, without the measurements behind it", {"file": found}),
            algorithm=BANKS[len(digest)],
        )
    return ReferenceSet(1, tuple(values[index] for index in sorted(values)), "expected PCR values")


def _digest(text: Any, index: int) -> bytes:
    try:
        digest = bytes.fromhex(text) if isinstance(text, str) and text.isalnum() else b""
    except ValueError:
        digest = b""
    if len(digest) not in BANKS:
        sizes = ", ".join(str(alg.HASH_BY_NAME[bank].size) for bank in BANKS.values())
        raise _malformed(f"a digest of {sizes} bytes in hex for PCR {index}", repr(text)[:60])
    return digest


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(WHAT, expected=expected, found=found, remedy="Correct the file, or make reference values with evident measure pcr.")
