"""Command lines as the kernel splits them."""

from __future__ import annotations

import pytest

from evident.evidence.cmdline import parameters


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('a  "b c"=d e="f g"\th\n', ("a", "b c=d", "e=f g", "h")),
        ('a="b c', ("a=b c",)),
        ('"" a ""', ("a",)),
        ("a\vb\fc\rd", ("a", "b", "c", "d")),
        ("a\xa0b", ("a\ufffd", "b")),  # C2 A0: the kernel ends the word between the two
        ("x\xe0init=/bin/sh", ("x\ufffd", "init=/bin/sh")),  # C3 A0
        ("a\x1cb \x85", ("a\x1cb", "\x85")),  # blanks to Python, and to nobody else
        ("\udc80", ("?",)),
        ("", ()),
    ],
    ids=ascii,
)
def test_words(line: str, found: tuple[str, ...]) -> None:
    assert parameters(line) == found
