"""The files in which an owner keeps what a document's machine is to get. They are read when a machine is made, and copied nowhere but
wrapped, into the key store.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from evident.errors import UsageError
from evident.keys import secrets


def check(files: Mapping[str, str]) -> None:
    """Raise what `read` would, without reading a value."""
    secrets.check_sizes({name: size for name, _, size in _opened(files)})


def read(files: Mapping[str, str]) -> dict[str, bytes]:
    """The secrets, by name, of the files at these paths.

    Raises `UsageError` ``secrets.file``, ``secrets.mode``, and `Malformed` ``secrets.size``.
    """
    found = {name: os.read(descriptor, secrets.BYTES + 1) for name, descriptor, _ in _opened(files)}
    secrets.check(found)
    return found


def _opened(files: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
    """Name, descriptor and size of each, one after the other."""
    for name, path in files.items():
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _not_a_file(name, path, error.strerror or type(error).__name__) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _not_a_file(name, path, "something else")
            if status.st_mode & 0o077:
                raise UsageError.of(
                    "secrets.mode",
                    expected=f"{path} readable by you alone",
                    found=f"mode {stat.S_IMODE(status.st_mode):o}",
                    remedy=f"Others could have copied it: change the secret, then chmod 600 {path}.",
                )
            yield name, descriptor, status.st_size
        finally:
            os.close(descriptor)


def _not_a_file(name: str, path: str, found: str) -> UsageError:
    return UsageError.of(
        "secrets.file",
        expected=f"a file {path}, which holds the secret {name!r}",
        found=found,
        remedy="Correct the path; it is seen from the document.",
    )
