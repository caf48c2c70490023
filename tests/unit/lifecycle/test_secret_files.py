"""The files of an owner's secrets: readable by the owner alone, small, and read for nothing but the key store."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evident.errors import EvidentError
from evident.keys import secrets
from evident.lifecycle import secret_files

Look = Callable[[dict[str, str]], object]


@pytest.fixture(params=[secret_files.check, secret_files.read], ids=["looked at", "read"])
def look(request: pytest.FixtureRequest) -> Look:
    function: Look = request.param
    return function


def a_file(folder: Path, content: bytes = b"a value", mode: int = 0o600) -> dict[str, str]:
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return {"db": str(path)}


def test_they_are_read_as_they_are(tmp_path: Path) -> None:
    content = b"two lines\n\0and more\n"
    assert secret_files.read(a_file(tmp_path, content, 0o400)) == {"db": content}
    assert secret_files.read({}) == {}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o640, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, look: Look, mode: int) -> None:
    with pytest.raises(EvidentError) as caught:
        look(a_file(tmp_path, mode=mode))
    assert (caught.value.code, caught.value.findings[0].found) == ("secrets.mode", f"mode {mode:o}")


@pytest.mark.parametrize("size", [0, secrets.BYTES + 1])
def test_an_empty_or_oversized_one_is_refused(tmp_path: Path, look: Look, size: int) -> None:
    with pytest.raises(EvidentError, match=r"secrets\.size") as caught:
        look(a_file(tmp_path, b"x" * size))
    assert "xx" not in str(caught.value)
    assert secret_files.read(a_file(tmp_path, b"x" * secrets.BYTES))


def test_all_of_them_together_are_bounded(tmp_path: Path, look: Look) -> None:
    one = a_file(tmp_path, b"x" * (secrets.BYTES // 2 + 1))
    with pytest.raises(EvidentError, match=r"secrets\.size"):
        look({"one": one["db"], "two": one["db"]})


def test_what_is_no_file_is_refused(tmp_path: Path, look: Look) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "nowhere"):
        with pytest.raises(EvidentError, match=r"secrets\.file"):
            look({"db": str(path)})
