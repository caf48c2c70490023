"""PCR values as tpm2-tools write them: little-endian dumps of the memory structures of a quote.

Source: tpm2-tools, ``tpm2_quote(1)`` option ``--pcrs_format=serialized``; layout of TPML_PCR_SELECTION (16 entries of 8 bytes
behind a 32-bit count), then a 32-bit number of lists, then TPML_DIGESTs (32-bit count, 8 entries of a 16-bit size and 64 bytes).
"""

from __future__ import annotations

from evident.errors import Malformed
from evident.evidence import tpm_algorithms as alg
from evident.evidence.reader import Reader
from evident.evidence.tpm import PcrSelection, PcrValues

WHAT = "tpm.pcrs"
SELECTIONS = 16
DIGESTS = 8
LIST_BYTES = 4 + DIGESTS * 66
HEAD_BYTES = 4 + SELECTIONS * 8 + 4
MAX_LISTS = 64


def looks_like(raw: bytes) -> bool:
    """Is this such a dump? Told by the count of banks and the exact length."""
    lists = len(raw) - HEAD_BYTES
    return len(raw) > HEAD_BYTES and lists % LIST_BYTES == 0 and 0 < int.from_bytes(raw[:4], "little") <= SELECTIONS


def parse(raw: bytes) -> tuple[tuple[PcrSelection, ...], PcrValues]:
    """The selections and the value of every selected PCR. Raises `Malformed`."""
    reader = Reader(raw, WHAT)
    count = _count(reader.u32("number of selections"), SELECTIONS, "selections")
    selections = []
    for index in range(SELECTIONS):
        algorithm, size, select = reader.u16("bank"), reader.u8("sizeofSelect"), reader.take(4, "pcrSelect")
        reader.zeros(1, "padding of a selection")
        if index < count:
            selections.append(PcrSelection(algorithm, select[: _count(size, 4, "bytes of bitmap")]))
        elif algorithm or size or select.strip(b"\0"):
            raise _malformed(f"{count} selections", "a further one behind them")
    lists = _count(reader.u32("number of digest lists"), MAX_LISTS, "digest lists")
    digests = [digest for _ in range(lists) for digest in _digest_list(reader)]
    reader.end()
    return tuple(selections), _assign(tuple(selections), digests)


def _digest_list(reader: Reader) -> list[bytes]:
    count = _count(reader.u32("number of digests"), DIGESTS, "digests in a list")
    digests = []
    for index in range(DIGESTS):
        size = _count(reader.u16("digest size"), 64, "bytes of digest")
        digest = reader.take(size, "digest")
        if index < count:
            reader.take(64 - size, "rest of the digest's buffer")  # memory of the tool: not always cleared
            digests.append(digest)
        else:
            reader.take(64 - size, "an unused digest")
    return digests


def _assign(selections: tuple[PcrSelection, ...], digests: list[bytes]) -> PcrValues:
    wanted = [(selection.algorithm, index) for selection in selections for index in selection.indices]
    if len(wanted) != len(digests):
        raise _malformed(f"{len(wanted)} values, one for each selected PCR", f"{len(digests)}")
    values: dict[str, dict[int, bytes]] = {}
    for (algorithm, index), digest in zip(wanted, digests, strict=True):
        hashed = alg.hash_of(algorithm, "the PCR file")
        bank = values.setdefault(hashed.name, {})
        if len(digest) != hashed.size or index in bank:
            raise _malformed(f"one value of {hashed.size} bytes for PCR {index} of {hashed.name}", f"{len(digest)} bytes or a second value")
        bank[index] = digest
    return values


def _count(value: int, limit: int, what: str) -> int:
    if value > limit:
        raise _malformed(f"at most {limit} {what}", str(value))
    return value


def _malformed(expected: str, found: str) -> Malformed:
    return Malformed.of(
        WHAT + ".file", expected=expected, found=found, remedy="Pass the file that tpm2_quote or tpm2_pcrread wrote with -o / --pcr."
    )
