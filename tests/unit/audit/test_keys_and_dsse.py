"""The verifier's key on disk, and envelopes that others can check."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from evident.audit import canonical, dsse, keys
from evident.errors import Malformed, UsageError


def test_the_key_is_made_once_and_is_the_owner_s_alone(tmp_path: Path) -> None:
    first = keys.load_or_create(tmp_path / "state", os.urandom)
    path = tmp_path / "state" / keys.FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert keys.load_or_create(tmp_path / "state", os.urandom).pem == first.pem
    assert keys.VerifyingKey.from_pem((path.parent / keys.PUBLIC_NAME).read_bytes()) == first.public
    assert {item.name for item in path.parent.iterdir()} == {keys.FILE_NAME, keys.PUBLIC_NAME, "verifier-key.lock"}


def test_randomness_is_the_caller_s(tmp_path: Path) -> None:
    chosen = iter([b"\xff" * 48, bytes(48), b"\x07" * 48])  # beyond the order, zero, good
    key = keys.generate(lambda _: next(chosen))
    assert key.private.private_numbers().private_value == int.from_bytes(b"\x07" * 48)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.load_or_create(tmp_path, os.urandom)
    (tmp_path / keys.FILE_NAME).chmod(mode)
    with pytest.raises(UsageError) as caught:
        keys.load_or_create(tmp_path, os.urandom)
    assert caught.value.code == "signer.unusable"


def test_a_file_that_is_no_p384_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / keys.FILE_NAME
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"rubbish", other):
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_bytes(content)
        with pytest.raises(UsageError):
            keys.load_or_create(tmp_path, os.urandom)


def test_a_state_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        keys.load_or_create(tmp_path / "file" / "state", os.urandom)


def test_only_p384_public_keys_are_signers() -> None:
    p256 = ec.derive_private_key(5, ec.SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for content in (b"", b"rubbish", p256):
        with pytest.raises(Malformed):
            keys.VerifyingKey.from_pem(content)


def test_the_encoding_is_the_specification_s() -> None:
    """Test vector of protocol.md in secure-systems-lab/dsse."""
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_another_implementation_verifies_the_envelope() -> None:
    peer = pytest.importorskip("securesystemslib.dsse", reason="the peer implementation securesystemslib is not installed")
    signer = pytest.importorskip("securesystemslib.signer")
    key = keys.generate(lambda size: b"\x05" * size)
    envelope = peer.Envelope.from_dict(json.loads(dsse.seal("application/example", b"payload", key)))
    public = signer.SSlibKey(key.public.keyid, "ecdsa", "ecdsa-sha2-nistp384", {"public": key.public.pem.decode()})
    assert envelope.payload == b"payload"
    assert envelope.verify([public], 1)


def test_an_envelope_with_two_signatures_or_none_is_malformed() -> None:
    key = keys.generate(lambda size: b"\x05" * size)
    form = json.loads(dsse.seal("application/example", b"payload", key))
    for signatures in ([], form["signatures"] * 2):
        with pytest.raises(Malformed) as caught:
            dsse.unseal(canonical.dumps({**form, "signatures": signatures}), [key.public])
        assert caught.value.code == "bundle.signatures"


def test_integers_that_not_every_reader_keeps_become_strings() -> None:
    assert canonical.dumps({"small": 2**53 - 1, "big": 2**53, "neg": [-(2**60)]}) == (
        b'{"big":"9007199254740992","neg":["-1152921504606846976"],"small":9007199254740991}'
    )
