"""LUKS2 headers: the profile's form alone is opened, and every way of asking for no encryption is named."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import EvidentError, Malformed, NotAuthentic
from evident.guest import luks_header

SIZE = 0x4000
GOOD: dict[str, Any] = {
    "keyslots": {
        "0": {
            "type": "luks2",
            "key_size": 96,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {"type": "raw", "offset": "32768", "size": "385024", "encryption": "aes-xts-plain64", "key_size": 64},
            "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": "cMjWcZMBlY4KhQLldpNRlyJY7omt19fvHpZKXYfgt/Q="},
        }
    },
    "tokens": {},
    "segments": {
        "0": {
            "type": "crypt",
            "offset": "16777216",
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": "aes-xts-plain64",
            "sector_size": 4096,
            "integrity": {"type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"},
        }
    },
    "digests": {
        "0": {
            "type": "pbkdf2",
            "keyslots": ["0"],
            "segments": ["0"],
            "hash": "sha256",
            "iterations": 1000,
            "salt": "MUbtfYEgawcrmH73wsmDN+4XnOIAupvIrJ1SbPFwcEk=",
            "digest": "zmADq6FKSFIxJBnijSpSMCg4KBV1ntJUTfxMUUBLHx4=",
        }
    },
    "config": {"json_size": "12288", "keyslots_size": "16744448"},
}


def one(metadata: Any, number: int, *, sequence: int = 3, algorithm: bytes = b"sha256") -> bytes:
    """One copy, by the specification's table and not by the parser under test."""
    area = (metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()).ljust(SIZE - 4096, b"\0")
    binary = bytearray(4096)
    struct.pack_into(
        ">6sHQQ48s32s64s40s48sQ",
        binary,
        0,
        luks_header.MAGIC[number],
        2,
        SIZE,
        sequence,
        b"",
        algorithm,
        b"s" * 64,
        b"u" * 36,
        b"",
        number * SIZE,
    )
    binary[448:480] = hashlib.sha256(bytes(binary) + area).digest()
    return bytes(binary) + area


def disk(metadata: Any, second: Any = None) -> bytes:
    return one(metadata, 0) + one(metadata if second is None else second, 1)


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    metadata = copy.deepcopy(GOOD)
    change(metadata)
    return metadata


def test_the_profile_is_accepted() -> None:
    checked = luks_header.check(disk(GOOD))
    assert (checked.cipher, checked.sector, checked.data_offset) == ("aes-xts-plain64", 4096, 16 * 1024 * 1024)


def set_at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        place: Any = metadata
        for name in parents:
            place = place[name]
        place[last] = value

    return change


WEAKENED = {
    "null cipher for the data": ("segments/0/encryption", "cipher_null-ecb", "luks.weak"),
    "null cipher for the key slot": ("keyslots/0/area/encryption", "cipher_null-ecb", "luks.weak"),
    "another mode": ("segments/0/encryption", "aes-ecb", "luks.weak"),
    "no encryption at all": ("segments/0/type", "linear", "luks.weak"),
    "no integrity": ("segments/0/integrity", {}, "luks.weak"),
    "integrity without a key": (
        "segments/0/integrity",
        {"type": "crc32", "journal_encryption": "none", "journal_integrity": "none"},
        "luks.weak",
    ),
    "a short key for the slot": ("keyslots/0/area/key_size", 16, "luks.weak"),
    "a short volume key": ("keyslots/0/key_size", 32, "luks.weak"),
    "a slot for re-encryption": ("keyslots/0/type", "reencrypt", "luks.weak"),
    "a second segment": ("segments/1", {"type": "linear", "offset": "0", "size": "dynamic"}, "luks.segments"),
    "another beginning": ("segments/0/offset", "99999999999", "luks.segments"),
    "an end": ("segments/0/size", "4096", "luks.segments"),
    "flags": ("segments/0/flags", ["backup-final"], "luks.unknown"),
    "requirements": ("config/requirements", {"mandatory": ["online-reencrypt"]}, "luks.unknown"),
    "activation flags": ("config/flags", ["allow-discards"], "luks.unknown"),
    "a token": ("tokens/0", {"type": "luks2-keyring", "keyslots": ["0"], "key_description": "x"}, "luks.tokens"),
    "memory without end": (
        "keyslots/0/kdf",
        {"type": "argon2id", "time": 4, "memory": 2**31, "cpus": 1, "salt": "AA=="},
        "luks.kdf",
    ),
    "an unknown derivation": ("keyslots/0/kdf", {"type": "none"}, "luks.kdf"),
    "a slot over the data": ("keyslots/0/area/offset", "16777000", "luks.keyslots"),
    "no slots": ("keyslots", {}, "luks.keyslots"),
    "no digest": ("digests", {}, "luks.digests"),
    "another digest": ("digests/0/type", "none", "luks.digests"),
}


@pytest.mark.parametrize("what", WEAKENED)
@pytest.mark.attack(
    "BW-20", "The LUKS header asks for less than the profile (null cipher, CVE-2025-59054 and its kin).", "luks.*", "refused"
)
def test_a_weakened_header_is_refused(what: str) -> None:
    path, value, code = WEAKENED[what]
    with pytest.raises(NotAuthentic) as caught:
        luks_header.check(disk(changed(set_at(path, value))))
    assert {finding.code for finding in caught.value.findings} >= {code}
    assert {finding.layer for finding in caught.value.findings} == {"storage"}


def test_a_second_copy_that_differs_is_refused() -> None:
    """A tool that takes the other copy would open what nobody checked."""
    weak = changed(set_at("keyslots/0/area/encryption", "cipher_null-ecb"))
    with pytest.raises(NotAuthentic, match=r"luks\.copies"):
        luks_header.check(disk(GOOD, weak))
    with pytest.raises(NotAuthentic, match=r"luks\.copies"):
        luks_header.check(one(GOOD, 0) + one(GOOD, 1, sequence=4))


def torn(copy: bytes) -> bytes:
    return copy[:4096] + bytes(len(copy) - 4096)


OLDER = changed(set_at("keyslots/0/kdf/iterations", 2000))
CUT_SHORT = {
    "the second copy is newer": (one(OLDER, 0) + one(GOOD, 1, sequence=4)),
    "the second copy is half written": (one(GOOD, 0) + torn(one(OLDER, 1, sequence=4))),
    "the first copy is half written": (torn(one(OLDER, 0)) + one(GOOD, 1, sequence=4)),
    "the first copy is newer": (one(GOOD, 0, sequence=5) + one(OLDER, 1, sequence=4)),
}


@pytest.mark.parametrize("what", CUT_SHORT)
def test_a_write_that_was_cut_short_is_mended(what: str) -> None:
    """The newest intact copy, twice; and what lies behind them as it was."""
    raw = CUT_SHORT[what]
    with pytest.raises(EvidentError):
        luks_header.check(raw)
    mended = luks_header.mended(raw + b"slots")
    luks_header.check(mended)
    assert [luks_header.parse(mended[at:], number).metadata for number, at in enumerate((0, SIZE))] == [GOOD, GOOD]
    assert mended[2 * SIZE :] == b"slots"
    assert luks_header.mended(mended) == mended


WEAK = changed(set_at("keyslots/0/area/encryption", "cipher_null-ecb"))
NO_CUT = {
    "two of one age": (disk(GOOD, OLDER), "luks.copies"),
    "a weak one that is newer": (one(GOOD, 0) + one(WEAK, 1, sequence=4), "luks.weak"),
    "a weak one that is alone": (torn(one(GOOD, 0)) + one(WEAK, 1), "luks.weak"),
    "none that is intact": (torn(one(GOOD, 0)) + torn(one(GOOD, 1)), "luks.checksum"),
}


@pytest.mark.parametrize("what", NO_CUT)
@pytest.mark.attack("BW-20", "A header that no interrupted write leaves, where one would be mended.", "luks.*", "refused")
def test_what_no_interrupted_write_leaves_is_refused_all_the_same(what: str) -> None:
    raw, code = NO_CUT[what]
    with pytest.raises((Malformed, NotAuthentic)) as caught:
        luks_header.check(luks_header.mended(raw))
    assert code in {finding.code for finding in caught.value.findings}


def test_two_headers_are_not_mended_into_one() -> None:
    other = bytearray(one(GOOD, 1, sequence=4).replace(b"u" * 36, b"v" * 36))
    other[448:480] = bytes(32)
    other[448:480] = hashlib.sha256(bytes(other)).digest()
    with pytest.raises(NotAuthentic, match=r"luks\.copies"):
        luks_header.check(luks_header.mended(one(GOOD, 0) + bytes(other)))


@pytest.mark.parametrize("at", [0, 8, 100, 4096 + 10, SIZE + 1, SIZE + 4096 + 10])
def test_every_flipped_bit_is_noticed(at: int) -> None:
    raw = bytearray(disk(GOOD))
    raw[at] ^= 1
    with pytest.raises(EvidentError):
        luks_header.check(bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"LUKS\xba\xbe\0\1" + bytes(8192), one(GOOD, 0), one(GOOD, 0)[:5000], bytes(40000)])
def test_what_is_no_header_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        luks_header.check(raw)


def test_another_checksum_is_refused() -> None:
    with pytest.raises(Malformed, match=r"luks\.form"):
        luks_header.check(one(GOOD, 0, algorithm=b"crc32") + one(GOOD, 1))


SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.sampled_from(["0", "aes-xts-plain64", "cipher_null", "16777216", "dynamic", ""])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "1", "type", "x"]), inner, max_size=3)
)
PATHS = st.sampled_from(
    (
        *("keyslots", "segments", "digests", "config", "tokens", "keyslots/0", "keyslots/0/area", "keyslots/0/kdf", "keyslots/0/af"),
        *("segments/0", "segments/0/integrity", "segments/0/offset", "segments/0/encryption", "digests/0"),
        *("keyslots/0/kdf/iterations", "config/json_size"),
    )
)


@given(PATHS, JSON)
def test_any_member_may_be_anything(path: str, value: Any) -> None:
    """Refused in the tree's own words, or equal to what it was."""
    metadata = changed(set_at(path, value))
    try:
        luks_header.check(disk(metadata))
    except (Malformed, NotAuthentic):
        return
    assert metadata["segments"]["0"]["encryption"] in luks_header.CIPHERS
    assert all(slot["area"]["encryption"] == "aes-xts-plain64" for slot in metadata["keyslots"].values())


@given(st.binary(max_size=SIZE), st.integers(0, 1))
def test_any_bytes_and_any_text(raw: bytes, number: int) -> None:
    for candidate in (raw, one(raw[: SIZE - 4096], number)):
        assert luks_header.mended(candidate)[2 * SIZE :] == candidate[2 * SIZE :]
        try:
            luks_header.parse(candidate, number)
        except Malformed:
            continue
