"""Named secrets that go to an attested machine beside its disk's key, or without one: what a name may be, and how much all may be.

A name becomes a file's name in the guest (`evident.guest.steps.secrets`). Owner, store and guest check the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from evident.errors import Malformed

MOST: Final = 64
BYTES: Final = 64 * 1024
"""Of all secrets of one machine together."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_names(names: Iterable[str]) -> None:
    """Raise `Malformed` ``secrets.name`` for what is no plain file name, ``secrets.count`` for too many."""
    given = tuple(names)
    for name in given:
        if not _NAME.fullmatch(name):
            raise Malformed.of(
                "secrets.name",
                expected="1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit",
                found=repr(name)[:80],
                remedy="Choose another name: the workload finds the secret in a file called so.",
            )
    if len(given) > MOST:
        raise Malformed.of("secrets.count", expected=f"at most {MOST} secrets", found=str(len(given)), remedy="Put several into one file.")


def check(secrets: Mapping[str, bytes]) -> None:
    """As `check_names` and `check_sizes`. Nothing of a value is in the error."""
    check_names(secrets)
    check_sizes({name: len(value) for name, value in secrets.items()})


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Raise `Malformed` ``secrets.size`` for an empty one, or for more bytes than all may have."""
    total = sum(sizes.values())
    empty = [name for name, size in sizes.items() if not size]
    if empty or total > BYTES:
        raise Malformed.of(
            "secrets.size",
            expected=f"secrets of 1 byte or more, together at most {BYTES} bytes",
            found=f"nothing in {empty[0]!r}" if empty else f"{total} bytes",
            remedy="Correct the file; what is larger belongs on the encrypted disk, or encrypted beside it with its key as the secret.",
        )
