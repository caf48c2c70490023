"""Kernel command lines, split as the kernel splits them.

Linux, lib/cmdline.c ``next_arg``: parameters end at white space outside double quotes, and lib/ctype.c counts byte A0 among it, also where
that is part of a UTF-8 character. Every double quote is dropped here, where the kernel keeps those in the middle of a word.
"""

from __future__ import annotations

import re

_WORD = re.compile(rb'(?:[^\s\xa0"]|"[^"]*(?:"|$))+')


def parameters(command_line: str) -> tuple[str, ...]:
    """The parameters of a command line, double quotes removed."""
    words = (word.replace(b'"', b"") for word in _WORD.findall(command_line.encode("utf-8", "replace")))
    return tuple(word.decode("utf-8", "replace") for word in words if word)
