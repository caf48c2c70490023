"""Reference values made from a launch: what they settle, where they come from, and their file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from evident.errors import Malformed, UsageError
from evident.reference_values import documents
from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.model import ReferenceSet, ReferenceValue, Strength
from evident.reference_values.snp_launch import LaunchTemplate, SnpLaunch, predict
from evident.reference_values.snp_reference import snp_reference, verity_root_hash

ROOT = "ab" * 32
SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "schemas" / "reference-values.json"


def value_for(vectors: Any, line: str | None) -> ReferenceValue:
    firmware = vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin")
    hashes = None if line is None else KernelHashes.of(b"k", b"i", line)
    return snp_reference(SnpLaunch(firmware, hashes=hashes), command_line=line)


@pytest.mark.parametrize(
    ("line", "layers"),
    [
        (None, ("firmware",)),
        ("quiet", ("firmware", "boot_chain")),
        (f"quiet roothash={ROOT}", ("firmware", "boot_chain", "root_filesystem")),
        ("quiet evident.mode=microcvm", ("firmware", "boot_chain", "root_filesystem")),
        ("quiet evident.mode=microcvm evident.mode=integrity", ("firmware", "boot_chain")),
    ],
)
def test_layers(vectors: Any, line: str | None, layers: tuple[str, ...]) -> None:
    value = value_for(vectors, line)
    assert value.layers == layers
    assert (value.register, value.strength, value.endorser) == ("launch", Strength.RECOMPUTED, "you")
    assert value.value == LaunchTemplate.parse(value.template).digest()
    firmware = vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin")
    assert value.provenance.artifacts["firmware"] == hashlib.sha256(firmware).digest()
    assert (value.components.get("verity_root_hash") == bytes.fromhex(ROOT)) == (ROOT in (line or ""))


def test_command_line_must_be_the_hashed_one(vectors: Any) -> None:
    firmware = vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin")
    for hashes in (None, KernelHashes.of(b"k", b"i", "quiet")):
        with pytest.raises(UsageError):
            snp_reference(SnpLaunch(firmware, hashes=hashes), command_line=f"roothash={ROOT}")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f"roothash={ROOT}", True),
        (f"boot=verity verity_disk=/dev/sda verity_roothash={ROOT}", True),
        (f"dstack.rootfs_hash={ROOT} dstack.rootfs_size=4096", True),
        (
            f'dm-mod.create="root,,,ro,0 204800 verity 1 /dev/sda1 /dev/sda2 4096 4096 25600 1 sha256 {ROOT} {"00" * 32}" root=/dev/dm-0',
            True,
        ),
        (f"roothash={ROOT} roothash={ROOT}", True),
        (f"usrhash={ROOT}", False),
        (f"noroothash={ROOT}", False),
        (f"roothash={ROOT}0", False),
        (f"roothash={ROOT} roothash={'cd' * 32}", False),
        ("root=/dev/sda1", False),
        (f'"roothash={ROOT}" quiet', True),
        (f'note="never mind roothash={ROOT} this" root=/dev/sda', False),
        (f"note='never mind roothash={ROOT} this' root=/dev/sda", False),
        (f"note=a\\ roothash={ROOT}", False),
        (f"note=\x1croothash={ROOT}", False),
        (f'note="0 204800 verity 1 /dev/sda1 /dev/sda2 4096 4096 25600 1 sha256 {ROOT} 00" root=/dev/sda', False),
        (f'dm-mod.create="root,,,ro,0 204800 verity 1 /dev/sda1 /dev/sda2 4096 4096 25600 1 sha256 {ROOT}0 00"', False),
        ("", False),
    ],
)
def test_verity_root_hash(line: str, found: bool) -> None:
    assert verity_root_hash(line) == (bytes.fromhex(ROOT) if found else None)


def test_file_round_trip(vectors: Any) -> None:
    values = ReferenceSet(1, (value_for(vectors, None), value_for(vectors, f"roothash={ROOT}")), name="test")
    data = documents.dump(values)
    assert documents.load(data) == values
    launch = SnpLaunch(vectors.read("launch/sev-snp-measure-ovmf", "ovmf_AmdSev_suffix.bin"))
    assert json.loads(data)["values"][0]["value"] == predict(launch).hex()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"version": 2}', b'{"version": 1, "value": []}', b'{"version": 1, "version": 1}', b"\xff"])
def test_bad_files(data: bytes) -> None:
    with pytest.raises(Malformed):
        documents.load(data)


def test_published_schema_is_the_code(vectors: Any) -> None:
    """Regenerate with: python -m json.tool over `documents.schema()`; the schema accepts what `dump` writes."""
    assert json.loads(SCHEMA.read_text()) == documents.schema()
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(documents.schema()).validate(
        json.loads(documents.dump(ReferenceSet(1, (value_for(vectors, "quiet"),))))
    )
