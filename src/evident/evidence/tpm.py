"""TPM quotes: TPMS_ATTEST, TPMT_SIGNATURE, PCR selections and the digest over PCR values. Big endian.

Source: TCG "Trusted Platform Module Library, Part 2: Structures", version 1.83: TPMS_ATTEST, TPMS_CLOCK_INFO,
TPMS_QUOTE_INFO, TPML_PCR_SELECTION, TPMT_SIGNATURE; the digest of a quote: Part 3, TPM2_Quote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from evident.errors import Malformed, Unsupported
from evident.evidence import tpm_algorithms as alg
from evident.evidence.reader import Reader
from evident.evidence.tpm_public import buffer, sized

GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE: a restricted key signs nothing that begins so unless the TPM made it."""
ST_ATTEST_QUOTE = 0x8018
MAX_SELECTIONS = 16
MAX_SELECT_BYTES = 4

PcrValues = Mapping[str, Mapping[int, bytes]]
"""Bank (``sha256``) to PCR index to value."""


@dataclass(frozen=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: which PCRs of one bank, bit `i` of the little-endian bitmap `select` for PCR `i`."""

    algorithm: int
    select: bytes

    @classmethod
    def of(cls, bank: str, indices: tuple[int, ...]) -> PcrSelection:
        """The selection of `indices` (0-23) of `bank`."""
        return cls(alg.HASH_BY_NAME[bank].id, sum(1 << index for index in set(indices)).to_bytes(3, "little"))

    @cached_property
    def indices(self) -> tuple[int, ...]:
        bits = int.from_bytes(self.select, "little")
        return tuple(index for index in range(8 * len(self.select)) if bits >> index & 1)

    @property
    def bank(self) -> str:
        return alg.hash_of(self.algorithm, "the PCR selection").name


@dataclass(frozen=True, slots=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO: what was quoted."""

    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Attest:
    """TPMS_ATTEST. `attested` is the body, whose format `type` tells; `quote_info` reads a quote's."""

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    """Milliseconds of powered time."""
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    attested: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE: RSASSA or RSAPSS with `rsa` bytes, or ECDSA with big-endian `r` and `s`."""

    scheme: int
    hash: int
    rsa: bytes = b""
    r: bytes = b""
    s: bytes = b""
    raw: bytes = b""

    @property
    def name(self) -> str:
        """``rsassa-sha256``, ``ecdsa-sha384``..."""
        return f"{_SCHEMES[self.scheme]}-{alg.hash_of(self.hash, 'the signature').name}"


_SCHEMES = {alg.ALG_RSASSA: "rsassa", alg.ALG_RSAPSS: "rsapss", alg.ALG_ECDSA: "ecdsa"}


def parse_attest(raw: bytes) -> Attest:
    """Parse a TPMS_ATTEST; magic and type are read, not judged (that is verification's step).

    Raises `Malformed` for anything that is not wholly one such structure, and for a quote whose body is not a quote's.
    """
    reader = Reader(raw, "tpm.attest")
    magic, kind = reader.u32("magic", order="big"), reader.u16("type", order="big")
    if magic == int.from_bytes(GENERATED.to_bytes(4, "big"), "little"):
        raise Malformed.of(
            "tpm.attest.endianness",
            expected="magic ff544347, big endian",
            found="474354ff",
            remedy="The file holds a structure in the memory order of a little-endian machine; save it marshalled.",
        )
    qualified_signer, extra_data = buffer(reader, "qualifiedSigner", 66), buffer(reader, "extraData", 66)
    clock = reader.u64("clock", order="big")
    reset_count, restart_count = reader.u32("resetCount", order="big"), reader.u32("restartCount", order="big")
    safe = reader.u8("safe")
    if safe > 1:
        raise Malformed.of("tpm.attest.safe", expected="0 or 1 in clockInfo.safe", found=str(safe), remedy="The quote was altered.")
    firmware_version = reader.u64("firmwareVersion", order="big")
    attested = reader.take(reader.remaining, "attested")
    attest = Attest(
        magic, kind, qualified_signer, extra_data, clock, reset_count, restart_count, bool(safe), firmware_version, attested, raw
    )
    if kind == ST_ATTEST_QUOTE:
        quote_info(attest)
    return attest


def quote_info(attest: Attest) -> QuoteInfo:
    """The body of `attest`, read as a quote's whatever its type says (the caller has judged the type)."""
    reader = Reader(attest.attested, "tpm.attest")
    selections = parse_selections(reader)
    digest = buffer(reader, "pcrDigest", 64)
    reader.end()
    return QuoteInfo(selections, digest)


def parse_selections(reader: Reader) -> tuple[PcrSelection, ...]:
    """TPML_PCR_SELECTION."""
    count = reader.u32("number of PCR selections", order="big")
    if count > MAX_SELECTIONS:
        raise Malformed.of(
            "tpm.selection", expected=f"at most {MAX_SELECTIONS} PCR selections", found=str(count), remedy="The quote was altered."
        )
    selections = []
    for _ in range(count):
        algorithm, size = reader.u16("bank", order="big"), reader.u8("sizeofSelect")
        if size > MAX_SELECT_BYTES:
            raise Malformed.of(
                "tpm.selection", expected=f"at most {MAX_SELECT_BYTES} bytes of bitmap", found=str(size), remedy="The quote was altered."
            )
        selections.append(PcrSelection(algorithm, reader.take(size, "pcrSelect")))
    return tuple(selections)


def serialize_attest(attest: Attest) -> bytes:
    """The wire form of a TPMS_ATTEST, built from its fields (not from `raw`)."""
    return b"".join(
        (
            attest.magic.to_bytes(4, "big"),
            attest.type.to_bytes(2, "big"),
            sized(attest.qualified_signer),
            sized(attest.extra_data),
            attest.clock.to_bytes(8, "big"),
            attest.reset_count.to_bytes(4, "big"),
            attest.restart_count.to_bytes(4, "big"),
            bytes((attest.safe,)),
            attest.firmware_version.to_bytes(8, "big"),
            attest.attested,
        )
    )


def serialize_quote_info(info: QuoteInfo) -> bytes:
    """The wire form of a quote's body."""
    selections = b"".join(item.algorithm.to_bytes(2, "big") + bytes((len(item.select),)) + item.select for item in info.selections)
    return len(info.selections).to_bytes(4, "big") + selections + sized(info.pcr_digest)


def parse_signature(raw: bytes, *, rsa_bytes: int | None = None) -> Signature:
    """Parse a TPMT_SIGNATURE.

    `rsa_bytes`: the length of the signer's modulus; exactly so many bytes that are no TPMT_SIGNATURE are taken for the bare
    RSASSA-SHA256 signature that some tools write.
    """
    if rsa_bytes is not None and len(raw) == rsa_bytes:
        return Signature(alg.ALG_RSASSA, alg.ALG_SHA256, rsa=raw, raw=raw)
    reader = Reader(raw, "tpm.signature")
    scheme = reader.u16("sigAlg", order="big")
    if scheme not in _SCHEMES:
        known = scheme in (alg.ALG_ECDAA, 0x001B, 0x001C, 0x0005)
        error = Unsupported if known else Malformed
        raise error.of(
            "tpm.signature.scheme",
            expected="RSASSA (0x0014), RSAPSS (0x0016) or ECDSA (0x0018)",
            found=f"{scheme:#06x}",
            remedy="Quote with a key of one of these schemes, and pass the TPMT_SIGNATURE.",
        )
    hash_id = reader.u16("hash", order="big")
    alg.hash_of(hash_id, "the signature")
    if scheme == alg.ALG_ECDSA:
        r, s = buffer(reader, "signatureR", 66), buffer(reader, "signatureS", 66)
        reader.end()
        return Signature(scheme, hash_id, r=r, s=s, raw=raw)
    value = buffer(reader, "sig")
    reader.end()
    return Signature(scheme, hash_id, rsa=value, raw=raw)


def serialize_signature(signature: Signature) -> bytes:
    """The wire form of a TPMT_SIGNATURE, built from its fields (not from `raw`)."""
    head = signature.scheme.to_bytes(2, "big") + signature.hash.to_bytes(2, "big")
    if signature.scheme == alg.ALG_ECDSA:
        return head + sized(signature.r) + sized(signature.s)
    return head + sized(signature.rsa)


def pcr_digest(selections: tuple[PcrSelection, ...], values: PcrValues, hash_id: int) -> bytes:
    """The digest a quote carries: the values in the order of the selections, ascending, under the signing scheme's hash.

    That hash is not the bank's (Part 3, TPM2_Quote): a quote of the SHA-384 bank by a SHA-256 scheme carries a SHA-256 digest.
    Raises `Malformed` (``tpm.pcrs.missing``) when a selected value is absent or not of its bank's size.
    """
    parts = []
    for selection in selections:
        bank = alg.hash_of(selection.algorithm, "the PCR selection")
        given = values.get(bank.name, {})
        for index in selection.indices:
            value = given.get(index)
            if value is None or len(value) != bank.size:
                raise Malformed.of(
                    "tpm.pcrs.missing",
                    expected=f"PCR {index} of the {bank.name} bank ({bank.size} bytes), which the quote covers",
                    found="nothing" if value is None else f"{len(value)} bytes",
                    remedy="Collect the values of every quoted PCR together with the quote.",
                )
            parts.append(value)
    return alg.hash_of(hash_id, "the signing scheme").digest(*parts)
