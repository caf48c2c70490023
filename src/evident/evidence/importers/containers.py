"""Other tools' containers to pieces by role. Which tool wrote one is told by its content.

Nothing that comes out is believed for having been in a container: it goes through the same procedure as single files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from evident.errors import Malformed, UsageError
from evident.evidence.importers import azure_cvm, evident_zero, go_attestation, go_tpm_tools

Pieces = Mapping[str, tuple[bytes, ...]]
ROLE = "evidence"
LIMIT = 16 * 1024 * 1024


def read(raw: bytes) -> dict[str, tuple[bytes, ...]]:
    """The pieces in a container: Azure evidence in JSON or bincode, go-attestation's dump, protobuf of go-tpm-tools, go-sev-guest or
    the first Evident.

    Roles are those of the composite kinds (``tpm-quote``). Raises `Malformed`, `Unsupported`.
    """
    if raw.lstrip()[:1] == b"{":
        if b'"Quote"' in raw and b'"AK"' in raw:
            return go_attestation.parse(raw)
        return azure_cvm.from_json(raw)
    if azure_cvm.looks_like_bincode(raw):
        return azure_cvm.from_bincode(raw)
    refusals: list[Malformed] = []
    for reader in _PROTOBUF_READERS:
        try:
            return reader(raw)
        except Malformed as refused:
            refusals.append(refused)
    raise Malformed.of(
        "container",
        expected="evidence as go-tpm-tools, go-sev-guest, go-attestation, Trustee or the first Evident write it",
        found="; ".join(refused.findings[0].found for refused in refusals)[:200],
        remedy="Pass the single pieces by role instead.",
    )


def looks_like_protobuf(raw: bytes) -> bool:
    """Does `raw` begin with the first field of a protobuf message, and is it no text that happens to begin with a new line?"""
    return raw[:1] == b"\x0a" and raw.lstrip()[:1] not in (b"{", b"[") and not raw.isascii()


def expand(pieces: Pieces, *, rename: Mapping[str, str] | None = None, keep: frozenset[str] | None = None) -> dict[str, tuple[bytes, ...]]:
    """`pieces` with their container opened. `rename`: role in the container to role of the kind; `keep`: the kind's roles.

    `UsageError` when another piece of the same role is given beside a container that has one.
    """
    opened = {role: contents for role, contents in pieces.items() if role != ROLE}
    for raw in pieces.get(ROLE, ()):
        for role, contents in read(raw).items():
            name = (rename or {}).get(role, role)
            if keep is not None and name not in keep:
                continue
            if name == "chain":
                opened[name] = (*opened.get(name, ()), *contents)
            elif opened.get(name, contents) != contents:
                raise UsageError.of(
                    "pieces.container",
                    expected=f"one {name!r}",
                    found="one in the container, and another beside it",
                    remedy=f"Leave {name}=PATH out, or pass the pieces without the container.",
                )
            else:
                opened[name] = contents
    return opened


def _from_attestation(attestation: go_tpm_tools.Attestation) -> dict[str, tuple[bytes, ...]]:
    banks: dict[str, dict[str, str]] = {}
    for quote in attestation.quotes:
        banks.setdefault(quote.bank, {}).update({str(index): value.hex() for index, value in quote.values.items()})
    pieces: dict[str, tuple[bytes, ...]] = {
        "ak": (attestation.ak,),
        "tpm-quote": tuple(quote.quote for quote in attestation.quotes),
        "signature": tuple(quote.signature for quote in attestation.quotes),
        "pcrs": (json.dumps(banks).encode(),),
        "chain": attestation.intermediates,
    }
    if attestation.ak_certificate:
        pieces["ak-cert"] = (attestation.ak_certificate,)
    if attestation.event_log:
        pieces["log"] = (attestation.event_log,)
    if attestation.snp:
        snp = _from_snp(attestation.snp)
        pieces |= snp | {"chain": (*pieces["chain"], *snp.get("chain", ()))}
    return pieces


def _from_snp(snp: go_tpm_tools.SnpAttestation) -> dict[str, tuple[bytes, ...]]:
    pieces: dict[str, tuple[bytes, ...]] = {"report": (snp.report,), "chain": snp.chain}
    pieces |= {role: (certificate,) for role, certificate in (("vcek", snp.vcek), ("vlek", snp.vlek)) if certificate}
    return pieces


def _read_go_tpm_tools(raw: bytes) -> dict[str, tuple[bytes, ...]]:
    return _from_attestation(go_tpm_tools.parse(raw))


def _read_go_sev_guest(raw: bytes) -> dict[str, tuple[bytes, ...]]:
    return _from_snp(go_tpm_tools.parse_snp(raw))


_PROTOBUF_READERS = (_read_go_tpm_tools, _read_go_sev_guest, evident_zero.parse)
