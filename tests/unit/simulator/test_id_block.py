"""ID blocks: the bytes others write, the launches they allow, and the ones they stop."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sevsnpmeasure import id_block as peer

from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported, UsageError
from evident.evidence import snp_report
from evident.simulator.id_block import IdAuth, IdBlock
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import FieldSelect, Guest, KeyRequest, PageType, SecureProcessor

POLICY = 0x30000
ID_KEY = ec.derive_private_key(0x1234567, ec.SECP384R1())
AUTHOR_KEY = ec.derive_private_key(0x7654321, ec.SECP384R1())


def finish(pki: SimulatorPki, make: Any, *, policy: int = POLICY) -> Guest:
    """Launch one page and finish with what `make(launch digest)` returns: block bytes and auth bytes."""
    launching = SecureProcessor(pki).launch_start(policy)
    launching.update(PageType.NORMAL, 0, bytes(4096))
    block, auth = make(launching.digest)
    return launching.finish(id_block=block, id_auth=auth)


def test_a_signed_launch_runs_and_its_report_names_the_keys(simulator_pki: SimulatorPki) -> None:
    auths: list[IdAuth] = []

    def make(digest: bytes) -> tuple[bytes, bytes]:
        block = IdBlock(digest, POLICY, b"F" * 16, b"I" * 16, guest_svn=3)
        auths.append(IdAuth.sign(block, ID_KEY, AUTHOR_KEY))
        return block.serialize(), auths[0].serialize()

    guest = finish(simulator_pki, make)
    report = snp_report.parse(guest.report(bytes(64)))
    assert (report.family_id, report.image_id, report.guest_svn, report.author_key_en) == (b"F" * 16, b"I" * 16, 3, True)
    assert (report.id_key_digest, report.author_key_digest) == (auths[0].id_key_digest, auths[0].author_key_digest)
    keys = {guest.derive_key(KeyRequest(FieldSelect.GUEST_SVN, guest_svn=svn)) for svn in range(4)}
    assert len(keys) == 4
    with pytest.raises(UsageError, match="key-request"):
        guest.derive_key(KeyRequest(guest_svn=4))


def test_without_an_author_key_its_digest_is_zero(simulator_pki: SimulatorPki) -> None:
    def make(digest: bytes) -> tuple[bytes, bytes]:
        block = IdBlock(digest, POLICY)
        return block.serialize(), IdAuth.sign(block, ID_KEY).serialize()

    report = snp_report.parse(finish(simulator_pki, make).report(bytes(64)))
    assert (report.author_key_en, report.author_key_digest) == (False, bytes(48))
    assert report.id_key_digest != bytes(48)


@pytest.mark.parametrize("change", ["digest", "policy"])
def test_another_launch_than_the_signed_one_is_refused(simulator_pki: SimulatorPki, change: str) -> None:
    def make(digest: bytes) -> tuple[bytes, bytes]:
        block = IdBlock(bytes(48) if change == "digest" else digest, POLICY | 1 if change == "policy" else POLICY)
        return block.serialize(), IdAuth.sign(block, ID_KEY).serialize()

    with pytest.raises(UsageError, match=r"simulator\.sp\.id-block"):
        finish(simulator_pki, make)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (0x040, "id-block.signature"),
        (0x244, "id-block.signature"),  # the ID key itself
        (0x680, "id-block.author-signature"),
        (0x884, "id-block.author-signature"),
    ],
)
def test_a_wrong_signature_stops_the_launch(simulator_pki: SimulatorPki, at: int, code: str) -> None:
    def make(digest: bytes) -> tuple[bytes, bytes]:
        block = IdBlock(digest, POLICY)
        return block.serialize(), flipped(IdAuth.sign(block, ID_KEY, AUTHOR_KEY).serialize(), at)

    with pytest.raises(NotAuthentic) as caught:
        finish(simulator_pki, make)
    assert caught.value.code == code


def test_a_block_signed_for_another_launch_is_refused(simulator_pki: SimulatorPki) -> None:
    def make(digest: bytes) -> tuple[bytes, bytes]:
        return IdBlock(digest, POLICY).serialize(), IdAuth.sign(IdBlock(bytes(48), POLICY), ID_KEY).serialize()

    with pytest.raises(NotAuthentic, match=r"id-block\.signature"):
        finish(simulator_pki, make)


def test_block_and_authentication_come_together(simulator_pki: SimulatorPki) -> None:
    with pytest.raises(UsageError, match="launch-finish"):
        finish(simulator_pki, lambda digest: (IdBlock(digest, POLICY).serialize(), None))


def test_round_trips() -> None:
    block = IdBlock(b"D" * 48, POLICY, b"F" * 16, b"I" * 16, 7)
    auth = IdAuth.sign(block, ID_KEY, AUTHOR_KEY)
    assert IdBlock.parse(block.serialize()) == block
    assert IdAuth.parse(auth.serialize()) == auth


@pytest.mark.parametrize("at", [0x008, 0x03F, 0x644, 0x67F, 0xC84, 0xFFF])
def test_reserved_bytes_are_zero(at: int) -> None:
    raw = IdAuth.sign(IdBlock(bytes(48), POLICY), ID_KEY).serialize()
    with pytest.raises(Malformed):
        IdAuth.parse(flipped(raw, at))


def test_lengths_versions_and_algorithms() -> None:
    block = IdBlock(bytes(48), POLICY)
    auth = IdAuth.sign(block, ID_KEY)
    for length in (0, 95, 97):
        with pytest.raises(Malformed):
            IdBlock.parse(bytes(length))
    for length in (0, 4095, 4097):
        with pytest.raises(Malformed):
            IdAuth.parse(bytes(length))
    with pytest.raises(Unsupported):
        IdBlock.parse(flipped(block.serialize(), 80))
    for other in (replace(auth, id_algorithm=2), replace(auth, id_key=flipped(auth.id_key, 0))):
        with pytest.raises(EvidentError) as caught:
            other.check(block)
        assert isinstance(caught.value, Unsupported)


def test_a_peers_block_is_accepted(simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    """sev-snp-measure signs, and the secure processor believes it."""
    for name, key in (("id", ID_KEY), ("author", AUTHOR_KEY)):
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (tmp_path / name).write_bytes(pem)

    def make(digest: bytes) -> tuple[bytes, bytes]:
        printed = peer.snp_calc_id_block(digest, str(tmp_path / "id"), str(tmp_path / "author"))
        found = re.match(r"id-block=([^,]+),id-auth=(\S+)", printed)
        assert found is not None
        return base64.b64decode(found[1]), base64.b64decode(found[2])

    report = snp_report.parse(finish(simulator_pki, make).report(bytes(64)))
    ours = IdAuth.sign(IdBlock(report.measurement, POLICY), ID_KEY, AUTHOR_KEY)
    assert (report.id_key_digest, report.author_key_digest) == (ours.id_key_digest, ours.author_key_digest)
