"""Documents that people write: what is read, and everything that is refused without harm."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.appraisal.policy import STRICT
from evident.cli.documents import parse_document, read_document, read_policy
from evident.errors import Malformed, UsageError


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    text = """
version: 1
name: two
levels: {nominal: 3, verifiability: {firmware: 3}}   # a comment
accepted_trust: [Somebody, "Somebody else"]
allow_debug: false
technologies:
  snp:
    minimum_tcb: {any: {snp: 20}}
    registers:
      host_data: ["0011"]
"""
    (tmp_path / "policy.yaml").write_text(text)
    policy = read_policy(tmp_path / "policy.yaml")
    assert policy.levels.nominal == 3
    assert policy.technologies["snp"].registers == {"host_data": ("0011",)}
    value = parse_document(text.encode(), "policy")
    (tmp_path / "policy.json").write_text(json.dumps(value))
    assert read_policy(tmp_path / "policy.json") == policy
    assert read_policy(None) == STRICT


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: &x [1]\nb: *x\n", "policy.yaml-alias"),
        ("a: &x 1\n", "policy.yaml-alias"),
        ("a: !!python/object/apply:os.system [id]\n", "policy.yaml-tag"),
        ("a: !!str 1\n", "policy.yaml-tag"),
        ("a: 1\na: 2\n", "policy.duplicate-key"),
        ("a: 1\n---\nb: 2\n", "policy.yaml-documents"),
        ("? [a, b]\n: 1\n", "policy.yaml-key"),
        ("- " * 100 + "x\n", "policy.yaml-size"),
        ("a: [\n", "policy.yaml"),
        ("# nothing\n", "policy.empty"),
        ('{"a": 1, "a": 2}', "policy.duplicate-key"),
        ("{a: 1}", "policy.json"),
    ],
)
def test_tricks_are_refused_by_name(text: str, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_document(text.encode(), "policy")
    assert caught.value.code == code


def test_a_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20))
    with pytest.raises(Malformed, match="yaml-alias"):
        parse_document(bomb.encode(), "policy")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("2026-11-22", "2026-11-22"),
        ("0011", "0011"),
        ("1e3", "1e3"),
        ("7", 7),
        ("-7", -7),
        ('"7"', "7"),
        ("~", None),
    ],
)
def test_scalars_are_those_of_the_core(text: str, value: object) -> None:
    assert parse_document(f"a: {text}".encode(), "policy") == {"a": value}


def test_files_that_are_no_documents(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a directory"):
        read_document(tmp_path, "policy")
    with pytest.raises(UsageError, match="unreadable"):
        read_document(tmp_path / "absent", "policy")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(Malformed, match=r"input\.empty"):
        read_document(tmp_path / "empty", "policy")
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    with pytest.raises(Malformed, match="not-text"):
        read_document(tmp_path / "binary", "policy")
    (tmp_path / "large").write_bytes(b"a: 1\n" * 1_000_000)
    with pytest.raises(Malformed, match="oversized"):
        read_document(tmp_path / "large", "policy")
    if os.geteuid():
        (tmp_path / "secret").write_text("a: 1")
        (tmp_path / "secret").chmod(0)
        with pytest.raises(UsageError, match="unreadable"):
            read_document(tmp_path / "secret", "policy")


@given(st.one_of(st.binary(max_size=300), st.text(alphabet="{}[]:,&*!-?#|>'\"% \nab1", max_size=120).map(str.encode)))
def test_any_bytes_are_a_document_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        parse_document(data, "policy")
