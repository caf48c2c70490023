"""Whatever other tools' containers hold: their importers raise known errors only."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed, Unsupported
from evident.evidence import cpio, svsm_manifest
from evident.evidence.importers import azure_cvm, containers, go_attestation, pcr_values
from evident.evidence.tpm import PcrSelection

_TEXT = base64.b64encode(bytes(48)).decode()
_PCRS = ["00" * 32] * 8
_AZURE = {
    "platform": "az-snp-vtpm",
    "evidence": {"hcl_report": _TEXT, "tpm_quote": {"message": "ff54", "signature": [1, 2], "pcrs": _PCRS}, "vcek": "-----BEGIN"},
}
_DUMP = {
    "AK": {"Public": _TEXT},
    "Quote": {"Quote": _TEXT, "Signature": _TEXT, "Alg": 11},
    "Log": {"PCRs": [{"Index": 0, "Digest": _TEXT}], "Raw": _TEXT},
}
_BINCODE = (256).to_bytes(8, "little") + bytes(256) + (2).to_bytes(8, "little") + b"\xff\x54" + (1).to_bytes(8, "little") + bytes(32)
_MANIFEST = svsm_manifest.serialize((svsm_manifest.Service(svsm_manifest.VTPM_GUID, bytes(40)),))
_ENTRY = b"070701" + b"%08x" * 13
_INITRD = (
    _ENTRY % (1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0)
    + b"a\0"
    + _ENTRY % (2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0)
    + b"TRAILER!!!\0"
    + bytes(3)
)
_SELECTIONS = (PcrSelection.of("sha256", (0, 7)),)
TARGETS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "azure json": (azure_cvm.from_json, json.dumps(_AZURE).encode()),
    "azure bincode": (azure_cvm.from_bincode, _BINCODE),
    "go-attestation": (go_attestation.parse, json.dumps(_DUMP).encode()),
    "any container": (containers.read, json.dumps(_DUMP).encode()),
    "any container, binary": (containers.read, _BINCODE),
    "pcr values": (lambda raw: pcr_values.parse(raw, _SELECTIONS), json.dumps({"sha256": {"0": "00" * 32}}).encode()),
    "pcr array": (lambda raw: pcr_values.parse(raw, _SELECTIONS), json.dumps({"pcrs": _PCRS}).encode()),
    "bare pcrs": (lambda raw: pcr_values.parse(raw, _SELECTIONS), bytes(64)),
    "initrd": (cpio.names, _INITRD),
    "services manifest": (svsm_manifest.parse, _MANIFEST),
}
_LEAVES = st.none() | st.booleans() | st.integers(-1, 1 << 70) | st.text(max_size=6) | st.sampled_from([_TEXT, "00" * 32, "sha256", 11])
_NAMES = st.sampled_from(
    [
        "platform",
        "evidence",
        "hcl_report",
        "report",
        "tpm_quote",
        "quote",
        "message",
        "signature",
        "pcrs",
        "vcek",
        "td_quote",
        "AK",
        "Public",
        "Quote",
        "Signature",
        "Alg",
        "Log",
        "PCRs",
        "Index",
        "Digest",
        "Raw",
        "sha256",
        "0",
        "7",
        "31",
        "32",
    ]
)
_DOCUMENTS = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=12)


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    raw = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(raw)


def only_known_errors(name: str, raw: bytes) -> None:
    try:
        TARGETS[name][0](raw)
    except (Malformed, Unsupported):
        return


@pytest.mark.parametrize("name", TARGETS)
def test_the_seed_itself_parses(name: str) -> None:
    parse, seed = TARGETS[name]
    parse(seed)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_mutations(name: str, data: Any) -> None:
    only_known_errors(name, data.draw(mutated(TARGETS[name][1])))


@pytest.mark.parametrize("name", TARGETS)
@given(raw=st.binary(max_size=300))
def test_noise(name: str, raw: bytes) -> None:
    only_known_errors(name, raw)


@pytest.mark.parametrize("name", TARGETS)
@given(document=_DOCUMENTS)
def test_any_json(name: str, document: Any) -> None:
    only_known_errors(name, json.dumps(document).encode())


@given(raw=mutated(_MANIFEST))
def test_what_parses_as_a_manifest_serialises_back(raw: bytes) -> None:
    try:
        manifest = svsm_manifest.parse(raw)
    except Malformed:
        return
    assert svsm_manifest.serialize(manifest.services) == raw
