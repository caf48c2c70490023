"""IMA lists: both forms of every template, and each way in which an entry can be broken, by its own code."""

from __future__ import annotations

import hashlib

import pytest
from tests.conftest import Vectors, vector_cases

from evident.errors import Malformed, Unsupported
from evident.evidence import ima_log

DIGEST = "aa" * 32


def an_entry(name: str = "/bin/sh", template: str = "ima-ng", third: str | None = None, algorithm: str = "sha256") -> bytes:
    fields = [f"{algorithm}:".encode() + b"\0" + bytes.fromhex(DIGEST), name.encode() + b"\0"]
    if third is not None:
        fields.append(bytes.fromhex(third))
    data = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
    hashed = hashlib.sha1(data).hexdigest()  # noqa: S324 - the kernel's template hash
    return f"10 {hashed} {template} {algorithm}:{DIGEST} {name}{'' if third is None else ' ' + third}\n".encode()


@pytest.mark.parametrize("case", [case for case in vector_cases("ima/") if not case.endswith("malformed")])
def test_real_lists_are_read_and_written_back_in_both_forms(vectors: Vectors, case: str) -> None:
    name = next(entry["name"] for entry in vectors.cases[case]["files"] if "entries" in entry["name"] or "runtime" in entry["name"])
    raw = vectors.read(case, name)
    log = ima_log.parse(raw)
    facts = vectors.facts(case)
    assert len(log.entries) == facts["entries"]
    assert sum(entry.template_digest("sha1") == entry.template_hash for entry in log.entries) == facts["template_hashes_recomputed"]
    assert ima_log.serialize_text(log) == raw
    binary = ima_log.parse(ima_log.serialize_binary(log))
    assert binary.binary
    assert binary.entries == log.entries
    assert ima_log.serialize_binary(binary) == binary.raw


def test_malformed_lists_of_peers_are_malformed_entry_by_entry(vectors: Vectors) -> None:
    lines = vectors.read("ima/keylime-ima-malformed", "invalid_entries.txt").splitlines(keepends=True)
    assert lines
    for line in lines:
        with pytest.raises(Malformed):
            ima_log.parse(line)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (an_entry()[:-1], "ima.log.truncated"),
        (an_entry(template="ima-what"), "ima.log.template"),
        (an_entry().replace(b"10 ", b"99 ", 1), "ima.log.text"),
        (an_entry().replace(DIGEST.encode(), b"zz" * 32), "ima.log.hex"),
        (an_entry().replace(DIGEST.encode(), DIGEST.upper().encode()), "ima.log.hex"),
        (an_entry(algorithm="sha1"), "ima.log.digest"),
        (an_entry(template="ima-sig"), "ima.log.text"),
        (b"10 aa ima-ng sha256:00 x\n", "ima.log.hash"),
        (b"\n", "ima.log.truncated"),
        (b"hello\n", "ima.log.text"),
        (b"\0\0\0\x0a" + bytes(60), "ima.log.byte-order"),
        (b"\x7f\0\0\x7f" + bytes(60), "ima.log.pcr"),
        (b"\x0a\0\0\0" + bytes(20) + b"\xff\xff\xff\x7f", "ima.log.size"),
        (b"\x0a\0\0\0" + bytes(20) + b"\6\0\0\0ima-ng\xff\xff\xff\x7f", "ima.log.size"),
    ],
)
def test_broken_lists_are_malformed_by_their_own_code(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        ima_log.parse(raw)
    assert caught.value.code == code


def test_templates_of_the_kernel_that_are_not_read_are_unsupported() -> None:
    for template in ("ima-modsig", "d-ng|n-ng|evmsig"):
        with pytest.raises(Unsupported) as caught:
            ima_log.parse(an_entry(template=template))
        assert caught.value.code == "ima.log.template"


def test_a_truncated_binary_list_is_malformed_wherever_it_is_cut() -> None:
    raw = ima_log.serialize_binary(ima_log.parse(an_entry() + an_entry("/bin/ls", "ima-sig", "")))
    whole = {0, len(ima_log.serialize_binary(ima_log.parse(an_entry())))}
    for length in range(1, len(raw)):
        if length not in whole:
            with pytest.raises(Malformed):
                ima_log.parse(raw[:length])


def test_signatures_of_other_formats_are_unsupported_and_short_ones_malformed() -> None:
    good = b"\x03\x02\x04abcd\0\x02xy"
    assert ima_log.parse_signature(good).value == b"xy"
    with pytest.raises(Unsupported):
        ima_log.parse_signature(b"\x03\x03" + good[2:])
    with pytest.raises(Malformed):
        ima_log.parse_signature(good[:-1])
