"""PCR values in whatever form they come: JSON, the dump of tpm2-tools, or the bare digests of one quote's selection.

JSON forms: ``{"sha256": {"0": "<hex>"}}`` (also below a key ``pcrs``), and the array of hex strings by index that Trustee and
azure-cvm-tooling write (``{"pcrs": ["<hex>", ...]}``), whose bank is that of the quote.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from evident import codec
from evident.errors import Malformed
from evident.evidence import tpm_algorithms as alg
from evident.evidence.importers import tpm2_tools
from evident.evidence.tpm import PcrSelection, PcrValues

WHAT = "tpm.pcrs"
MAX_BYTES = 256 * 1024
MAX_INDEX = 31
_INDICES = MappingProxyType({str(index): index for index in range(MAX_INDEX + 1)})
_HEX = re.compile(r"[0-9a-fA-F]*", re.ASCII)


def parse(raw: bytes, selections: tuple[PcrSelection, ...]) -> PcrValues:
    """The values; `selections` of the quote say what bare digests and arrays are of. Raises `Malformed`, `Unsupported`."""
    if raw.lstrip()[:1] in (b"{", b"["):
        return _from_json(codec.loads(raw, WHAT, limit=MAX_BYTES), selections)
    if tpm2_tools.looks_like(raw):
        return tpm2_tools.parse(raw)[1]
    return _bare(raw, selections)


def _from_json(value: Any, selections: tuple[PcrSelection, ...]) -> PcrValues:
    if isinstance(value, dict) and "pcrs" in value:
        value = value["pcrs"]
    if isinstance(value, list):
        if len(selections) != 1:
            raise _malformed("banks by name, for a quote of several banks", "an array")
        value = {selections[0].bank: {str(index): item for index, item in enumerate(value)}}
    if not isinstance(value, dict) or not value:
        raise _malformed("an object of banks", "nothing" if value == {} else type(value).__name__)
    return {bank: _bank(bank, registers) for bank, registers in value.items()}


def _bank(bank: str, registers: Any) -> dict[int, bytes]:
    if bank not in alg.HASH_BY_NAME or not isinstance(registers, dict) or not registers:
        raise _malformed("banks such as sha256, each an object of PCRs", f"{bank!r}: {type(registers).__name__}")
    size, values = alg.HASH_BY_NAME[bank].size, {}
    for index, text in registers.items():
        if index not in _INDICES:
            raise _malformed(f"PCR numbers 0 to {MAX_INDEX}", repr(index)[:40])
        if not isinstance(text, str) or len(text) != 2 * size or not _HEX.fullmatch(text):
            raise _malformed(f"{size} bytes in hex for PCR {index} of {bank}", repr(text)[:80])
        values[_INDICES[index]] = bytes.fromhex(text)
    return values


def _bare(raw: bytes, selections: tuple[PcrSelection, ...]) -> PcrValues:
    wanted = [(alg.hash_of(item.algorithm, "the PCR selection"), index) for item in selections for index in item.indices]
    size = sum(hashed.size for hashed, _ in wanted)
    if len(raw) != size:
        raise _malformed(f"JSON, a file of tpm2-tools, or the {size} bytes of the quoted PCRs", f"{len(raw)} bytes")
    values: dict[str, dict[int, bytes]] = {}
    offset = 0
    for hashed, index in wanted:
        values.setdefault(hashed.name, {})[index] = raw[offset : offset + hashed.size]
        offset += hashed.size
    return values


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(WHAT + ".form", expected=expected, found=found, remedy="Pass the PCR values that were read with the quote.")
