"""Writing a bundle: whole or not at all; and reading one without judging it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from evident.audit import bundle
from evident.errors import UsageError


def test_a_bundle_is_written_whole(packed: Any, tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(b"an older one")
    bundle.write(path, packed.data)
    assert path.read_bytes() == packed.data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_half_one(
    packed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(b"an older one")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError) as caught:
        bundle.write(path, packed.data)
    assert caught.value.code == "bundle.unwritable"
    assert "No space left" in caught.value.findings[0].found
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"an older one"


def test_a_really_full_device_is_a_clear_error(packed: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(UsageError):
        bundle.write(Path("/dev/full/bundle.json"), packed.data)


def test_what_it_claims_can_be_read_without_trust(packed: Any) -> None:
    shown = bundle.decode(packed.data)
    assert shown.keyid == packed.key.public.keyid
    assert shown.case.pieces == packed.case.pieces
    assert shown.case.at == packed.case.at
    assert shown.case.references == packed.case.references
    assert shown.result["decision"] == "accepted"
    assert {item.body for item in shown.fetched.values()} == {item.body for item in packed.recorded.recorded.values()}


def test_every_piece_is_a_subject_of_the_statement(packed: Any) -> None:
    import hashlib
    import json

    from evident.audit import dsse

    statement = json.loads(dsse.read(packed.data)[1])
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert digests["report.0"] == hashlib.sha256(packed.case.pieces["report"][0]).hexdigest()
    assert len(digests) == sum(map(len, packed.case.pieces.values()))
