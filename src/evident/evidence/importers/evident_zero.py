"""Evidence bundles of the first public Evident (joao-hs/evident): protobuf around an SNP report and one TPM quote.

Source: joao-hs/evident ``instance/crates/common-core/proto/evident_protocol/v1`` (a9a4768a): SignedEvidenceBundle, EvidenceBundle,
Evidence, PublicKey, Certificate. The bundle's own signature is by a key that the bundle brings along: it proves nothing, and is dropped.
The format carries no PCR values and no AK public area; they come as further pieces.
"""

from __future__ import annotations

from evident.errors import Malformed
from evident.evidence import protobuf, snp_report
from evident.evidence import tpm_algorithms as alg
from evident.evidence.protobuf import Message, malformed
from evident.evidence.reader import exact_length
from evident.evidence.tpm import Signature, serialize_signature

WHAT = "evident-zero"
MAX_BYTES = 1024 * 1024
EC2, GCE = 1, 2
_DER_SEQUENCE, _DER_INTEGER = 0x30, 0x02

Pieces = dict[str, tuple[bytes, ...]]


def parse(raw: bytes) -> Pieces:
    """Roles ``report``, ``vcek`` or ``vlek``, ``tpm-quote``, ``signature`` and ``ak-cert``. Raises `Malformed`.

    Takes a SignedEvidenceBundle or the EvidenceBundle inside it.
    """
    if len(raw) > MAX_BYTES:
        raise malformed(WHAT, f"at most {MAX_BYTES} bytes", f"{len(raw)} bytes")
    outer = protobuf.parse(raw, WHAT).only(1, 2, 3)
    inner = outer if _is_number(outer, 1) else protobuf.parse(outer.one_bytes(1), WHAT).only(1, 2, 3)
    target = inner.one_int(1)
    if target not in (EC2, GCE):
        raise malformed(WHAT, "target type 1 (EC2) or 2 (GCE)", str(target))
    pieces: Pieces = {}
    hardware, software = inner.one_bytes(2), inner.one_bytes(3)
    if hardware:
        evidence = protobuf.parse(hardware, WHAT).only(1, 2, 3)
        signed, signature = evidence.one_bytes(1), evidence.one_bytes(2)
        exact_length(signed, snp_report.SIGNED_BYTES, WHAT)
        pieces["report"] = (signed + signature,)
        pieces |= _certificate(evidence, "vlek" if target == EC2 else "vcek")
    if software:
        evidence = protobuf.parse(software, WHAT).only(1, 2, 3)
        pieces |= {"tpm-quote": (evidence.one_bytes(1),), "signature": (_signature(evidence.one_bytes(2)),)}
        pieces |= _certificate(evidence, "ak-cert")
    if not pieces:
        raise malformed(WHAT, "hardware or software evidence", "neither")
    return pieces


def _is_number(message: Message, field: int) -> bool:
    return any(number == field and isinstance(value, int) for number, value in message.fields)


def _certificate(evidence: Message, role: str) -> Pieces:
    key = evidence.one_bytes(3)
    certificate = protobuf.parse(key, WHAT).only(1, 2, 3, 4, 5, 6).one_bytes(6) if key else b""
    data = protobuf.parse(certificate, WHAT).only(1, 2, 3).one_bytes(3) if certificate else b""
    return {role: (data,)} if data else {}


def _signature(raw: bytes) -> bytes:
    """A TPMT_SIGNATURE; the ECDSA signature in DER that the agent sends is put into one (its keys sign with SHA-256)."""
    if raw[:1] != bytes((_DER_SEQUENCE,)):
        return raw
    try:
        length, first = raw[1], raw[3]
        r, second = raw[4 : 4 + first], raw[4 + first : 6 + first]
        s = raw[6 + first : 6 + first + second[1]]
        whole = raw[2] == second[0] == _DER_INTEGER and length == len(raw) - 2 == 4 + len(r) + len(s) and r and s
    except IndexError:
        whole = False
    if not whole:
        raise Malformed.of(
            f"{WHAT}.signature", expected="an ECDSA signature in DER", found=raw[:16].hex(), remedy="Export the bundle again."
        )
    return serialize_signature(Signature(alg.ALG_ECDSA, alg.ALG_SHA256, r=r.lstrip(b"\0"), s=s.lstrip(b"\0")))
