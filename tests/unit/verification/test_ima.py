"""IMA: genuine lists are accepted, edited ones refused (AT-35), violations count, gaps are always printed (AT-33, AT-34)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from tests.conftest import Vectors
from tests.unit.evidence.test_ima_log import DIGEST, an_entry

from evident.endorsements.anchors import AnchorSet
from evident.errors import Indeterminate, Malformed, NotAuthentic
from evident.evidence import ima_log, tcg_log
from evident.verification import ima, kinds
from evident.verification.context import Context
from evident.verification.ima import AllowList
from evident.verification.log import replay

LIST = b"".join(an_entry(name) for name in ("boot_aggregate", "/init", "/bin/sh", "/usr/bin/ls"))


def quoted(raw: bytes, bank: str = "sha256", generation: str = "per-bank") -> dict[str, dict[int, bytes]]:
    return {bank: {10: ima.replay(ima_log.parse(raw).entries, bank, generation)}}


@pytest.mark.parametrize("case", ["keylime-ima-sig", "ima-evm-utils-test-boot"])
def test_real_lists_replay_to_their_stated_value(vectors: Vectors, case: str) -> None:
    log = ima_log.parse(vectors.read(f"ima/{case}", "ascii_runtime_measurements"))
    assert ima.replay(log.entries, "sha1").hex() == vectors.facts(f"ima/{case}")["pcr10_sha1_after_replay"]
    authentic = ima.authenticate(log, {"sha1": {10: ima.replay(log.entries, "sha1")}})
    assert len(authentic.entries) == len(log.entries)


def test_boot_aggregate_ties_a_real_list_to_the_log_of_its_boot(vectors: Vectors) -> None:
    case = "ima/ima-evm-utils-test-boot"
    log = ima_log.parse(vectors.read(case, "ascii_runtime_measurements"))
    registers = replay(tcg_log.parse(vectors.read(case, "binary_bios_measurements"))).registers
    assert ima.boot_aggregate(log.entries, registers).rule in vectors.facts(case)["boot_aggregate_rule_found"][0].replace("PCR0", "PCR 0")
    other = {"sha256": {**registers["sha256"], 4: bytes(32)}}
    with pytest.raises(NotAuthentic) as caught:
        ima.boot_aggregate(log.entries, other)
    assert caught.value.code == "ima.boot-aggregate"


@pytest.mark.parametrize(("algorithm", "last"), [("sha256", 9), ("sha256", 7), ("sha1", 7)])
def test_both_kernel_generations_of_boot_aggregate(algorithm: str, last: int) -> None:
    size = hashlib.new(algorithm).digest_size
    bank = {index: bytes([index]) * size for index in range(10)}
    digest = hashlib.new(algorithm, b"".join(bank[index] for index in range(last + 1))).hexdigest()
    line = an_entry("boot_aggregate").replace(f"sha256:{DIGEST}".encode(), f"{algorithm}:{digest}".encode())
    entries = ima_log.parse(line).entries
    assert ima.boot_aggregate(entries, {algorithm: bank}).rule == f"{algorithm} over {algorithm} PCR 0-{last}"
    with pytest.raises(Indeterminate):
        ima.boot_aggregate(entries, {algorithm: {0: bank[0]}})


def test_a_violation_in_the_place_of_boot_aggregate_ties_nothing() -> None:
    """PCR 10 takes ff for a violation, whatever the line says: its digest is anybody's."""
    bank = {index: bytes([index]) * 32 for index in range(10)}
    digest = hashlib.sha256(b"".join(bank.values())).hexdigest()
    genuine = an_entry("boot_aggregate").replace(DIGEST.encode(), digest.encode())
    forged = b"10 " + b"0" * 40 + genuine[genuine.index(b" ima-ng") :]
    assert ima.boot_aggregate(ima_log.parse(genuine).entries, {"sha256": bank})
    with pytest.raises(NotAuthentic) as refused:
        ima.boot_aggregate(ima_log.parse(forged).entries, {"sha256": bank})
    assert refused.value.code == "ima.boot-aggregate"
    assert refused.value.findings[0].found == "a violation"


def test_a_list_without_boot_aggregate_is_refused() -> None:
    for entries in ((), ima_log.parse(an_entry("/init")).entries):
        with pytest.raises(NotAuthentic):
            ima.boot_aggregate(entries, {})


def test_removed_edited_reordered_and_truncated_lists_are_refused() -> None:
    lines = LIST.splitlines(keepends=True)
    registers = quoted(LIST)
    ima.authenticate(ima_log.parse(LIST), registers)
    removed, truncated = b"".join(lines[:2] + lines[3:]), b"".join(lines[:-1])
    reordered = b"".join([lines[0], lines[2], lines[1], lines[3]])
    renamed = LIST.replace(lines[2], an_entry("/bin/zz"))
    for edited in (removed, reordered, truncated, renamed):
        with pytest.raises(NotAuthentic) as caught:
            ima.authenticate(ima_log.parse(edited), registers)
        assert caught.value.code == "ima.replay"


def test_an_entry_whose_fields_do_not_give_its_hash_is_refused() -> None:
    edited = LIST.replace(b"/bin/sh", b"/bin/zz")
    assert ima.replay(ima_log.parse(edited).entries, "sha1") != ima.replay(ima_log.parse(LIST).entries, "sha1")
    # Kernels that extend the listed hash would let the edited name through, were the hash not recomputed.
    assert ima.replay(ima_log.parse(edited).entries, "sha256", "padded-sha1") == quoted(LIST, generation="padded-sha1")["sha256"][10]
    with pytest.raises(NotAuthentic) as caught:
        ima.authenticate(ima_log.parse(edited), quoted(LIST, generation="padded-sha1"))
    assert caught.value.code == "ima.template-hash"


def test_both_ways_of_extending_other_banks_are_known_by_name() -> None:
    for generation in ima.GENERATIONS:
        assert ima.authenticate(ima_log.parse(LIST), quoted(LIST, generation=generation)).generation == generation


def test_entries_behind_the_quote_are_dropped_and_said() -> None:
    authentic = ima.authenticate(ima_log.parse(LIST + an_entry("/opt/later")), quoted(LIST))
    assert [entry.name for entry in authentic.entries][-1] == "/usr/bin/ls"
    assert authentic.later == 1
    assert "1 entries were listed after the quote" in ima.runtime(authentic).gaps[-1]


def test_without_a_signed_pcr_10_nothing_is_decided() -> None:
    with pytest.raises(Indeterminate) as caught:
        ima.authenticate(ima_log.parse(LIST), {"sha256": {7: bytes(32)}})
    assert caught.value.code == "ima.uncovered"
    with pytest.raises(Indeterminate):
        ima.authenticate(ima_log.parse(LIST.replace(b"10 ", b"11 ", 1)), quoted(LIST))


def test_violations_extend_ff_and_are_counted() -> None:
    violation = b"10 " + b"0" * 40 + b" ima-ng sha1:" + b"0" * 40 + b" /opt/changed\n"
    raw = LIST + violation
    value = quoted(LIST)["sha256"][10]
    expected = hashlib.sha256(value + b"\xff" * 32).digest()
    assert quoted(raw)["sha256"][10] == expected
    assert ima.runtime(ima.authenticate(ima_log.parse(raw), quoted(raw))).violations == 1


def test_gaps_are_always_said_and_nothing_unknown_is_a_pass() -> None:
    authentic = ima.authenticate(ima_log.parse(LIST), quoted(LIST))
    bare = ima.runtime(authentic)
    assert bare.unlisted == ("/init", "/bin/sh", "/usr/bin/ls")
    assert bare.gaps[0] == ima.NOTHING_COMPARED
    allowed = ima.parse_allow_list(f"{DIGEST}  /init\n# remark\nsha256:{DIGEST} /bin/sh\n".encode())
    assert ima.runtime(authentic, allowed=allowed).unlisted == ("/usr/bin/ls",)
    assert ima.runtime(authentic, allowed=ima.parse_allow_list(f"{DIGEST} *\n".encode())).unlisted == ()
    assert set(ima.GAPS) <= set(ima.runtime(authentic, allowed=allowed).gaps)
    assert "interpreter" in ima.GAPS[0]


def test_an_allowed_digest_under_another_path_is_unlisted() -> None:
    authentic = ima.authenticate(ima_log.parse(LIST), quoted(LIST))
    allowed = AllowList({"/elsewhere": frozenset({f"sha256:{DIGEST}"})})
    assert "/bin/sh" in ima.runtime(authentic, allowed=allowed).unlisted


@pytest.mark.parametrize("line", [b"nonsense", b"aa  /x", DIGEST.upper().encode() + b"  /x", b"sha1:" + DIGEST.encode() + b" /x"])
def test_a_broken_allow_list_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        ima.parse_allow_list(line + b"\n")
    assert caught.value.code == "ima.allow-list"


def signed_entry(key: ec.EllipticCurvePrivateKey, digest: str = DIGEST) -> bytes:
    value = key.sign(bytes.fromhex(digest), ec.ECDSA(Prehashed(hashes.SHA256())))
    header = b"\x03\x02\x04" + ima.key_id(key.public_key()) + len(value).to_bytes(2, "big")
    return an_entry("/bin/sh", "ima-sig", (header + value).hex())


def test_a_signature_by_a_given_key_lists_a_file_and_no_other_does() -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    for raw, keys, unlisted in (
        (signed_entry(key), (key.public_key(),), ()),
        (signed_entry(key), (other.public_key(),), ("/bin/sh",)),
        (signed_entry(key, "bb" * 32), (key.public_key(),), ("/bin/sh",)),
        (an_entry("/bin/sh", "ima-sig", ""), (key.public_key(),), ("/bin/sh",)),
        (an_entry("/bin/sh", "ima-sig", "0102"), (key.public_key(),), ("/bin/sh",)),
    ):
        assert ima.runtime(ima.authenticate(ima_log.parse(raw), quoted(raw)), keys=keys).unlisted == unlisted


def test_a_real_rsa_signature_verifies(vectors: Vectors) -> None:
    case = "ima/keylime-ima-sig"
    key = ima.load_key(vectors.read(case, "rsa2048pub.pem"))
    log = ima_log.parse(vectors.read(case, "ascii_runtime_measurements"))
    assert [entry.name for entry in log.entries if ima.signer(entry, (key,))] == ["/usr/bin/dd"]


def test_keys_that_are_none_are_malformed() -> None:
    with pytest.raises(Malformed):
        ima.load_key(b"-----BEGIN PUBLIC KEY-----\nnonsense")


def context() -> Context:
    class NoFetcher:
        def fetch(self, url: str) -> bytes:
            raise AssertionError(f"a bare log asked the network for {url}")

    return Context(datetime(2026, 11, 22, tzinfo=UTC), AnchorSet(()), NoFetcher())  # type: ignore[arg-type]  # never used


@pytest.mark.parametrize("kind", ["ima", "tcg-log"])
def test_a_bare_log_is_told_and_never_authentic(vectors: Vectors, kind: str) -> None:
    case = "ima/ima-evm-utils-test-boot"
    firmware, listed = vectors.read(case, "binary_bios_measurements"), vectors.read(case, "ascii_runtime_measurements")
    pieces = {"ima": {"ima": (listed,), "log": (firmware,)}, "tcg-log": {"log": (firmware,)}}[kind]
    with pytest.raises(Indeterminate) as caught:
        kinds.verify(kind, pieces, context())
    assert caught.value.code in ("ima.unsigned", "log.unsigned")
    if kind == "ima":
        assert caught.value.claims["boot_aggregate"] == "sha256 over sha256 PCR 0-7"
        assert caught.value.claims["pcrs"]["sha1"]["10"] == vectors.facts(case)["pcr10_sha1_after_replay"]
    else:
        assert caught.value.claims["pcrs"] == vectors.facts(case)["computed_pcrs"]
        assert len(caught.value.claims["event_list"]) == caught.value.claims["events"]


def test_a_bare_ima_list_compares_with_allow_list_and_keys() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    pieces = {"ima": (signed_entry(key) + an_entry("/init"),), "ima-key": (pem,), "allow-list": (f"{DIGEST}  /other\n".encode(),)}
    with pytest.raises(Indeterminate) as caught:
        kinds.verify("ima", pieces, context())
    assert caught.value.claims["unlisted"] == ["/init"]
