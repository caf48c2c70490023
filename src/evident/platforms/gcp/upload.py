"""Bring an archive into a bucket, whatever gets lost on the way.

Source: Cloud Storage documentation, "Perform resumable uploads": 308 with a Range says how far the bytes have arrived; after a lost answer
one asks. The object appears with the last byte, whole, and then carries its MD5.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

from evident.errors import EvidentError
from evident.platforms import cloud
from evident.platforms.cloud import Patience
from evident.platforms.gcp import errors, requests
from evident.platforms.gcp.clients import Clients, ask, send

_RANGE: Final = re.compile(r"bytes=0-(\d+)")
_TOLD_EVERY: Final = 64 << 20


def upload(clients: Clients, patience: Patience, bucket: str, pieces: Iterator[bytes]) -> EvidentError | None:
    """Put `pieces` into `bucket` as its one object. Returns why it has failed for good, where it has: then the bucket is of no use."""
    try:
        session = patience.insist("beginning the upload", lambda: _begun(clients, bucket))
        digest = hashlib.md5(usedforsecurity=False)
        start = told = 0
        piece = next(pieces)
        while piece:
            following = next(pieces, b"")
            total = None if following else start + len(piece)
            _insist(patience, session, piece, start, total)
            digest.update(piece)
            start, piece = start + len(piece), following
            if start - told >= _TOLD_EVERY:
                told = start
                patience.progress(f"uploading the image: {start >> 20} MiB, compressed")
        kept = patience.insist("reading the object", lambda: stored(clients, bucket))
    except EvidentError as error:
        if errors.status_of(error) in {404, 410, 412}:  # the session or the bucket is gone, or an object is in the way
            return _broken("the upload was given up by Cloud Storage")
        raise
    if kept.get("md5Hash") != base64.b64encode(digest.digest()).decode():
        return _broken("other bytes arrived than were sent")
    return None


def stored(clients: Clients, bucket: str) -> dict[str, Any]:
    """What Cloud Storage says of the one object of `bucket`."""
    return ask(clients, "reading the object", requests.stored(bucket), "storage#object")


def _begun(clients: Clients, bucket: str) -> _Session:
    location = send(clients, "the upload", requests.begin_upload(bucket)).headers.get("Location")
    if location is None:
        raise errors.strange("the upload")
    return _Session(clients, location)


def _insist(patience: Patience, session: _Session, piece: bytes, start: int, total: int | None) -> None:
    patience.insist("uploading the image", lambda: session.put(piece, start, total))


def _broken(found: str) -> EvidentError:
    return cloud.transient(found, "Repeat the command: the image is uploaded anew.")


class _Session:
    """One resumable upload."""

    def __init__(self, clients: Clients, location: str) -> None:
        self._clients = clients
        self._location = location
        self._received = 0
        self._sure = True
        """Whether `_received` is what Cloud Storage has."""

    def put(self, piece: bytes, start: int, total: int | None) -> None:
        """Have `piece`, whose first byte is the `start`-th, arrive. May be repeated after it raised."""
        if not self._sure:
            self._look(requests.upload_state(self._location, total), start + len(piece))
        if self._received < start:
            raise _broken("bytes that had arrived are gone")
        while self._received < start + len(piece):
            self._sure = False
            rest = piece[self._received - start :]
            self._look(requests.put_chunk(self._location, rest, self._received, total), start + len(piece))

    def _look(self, request: requests.Request, end: int) -> None:
        answer = send(self._clients, "the upload", request)
        match = _RANGE.fullmatch(answer.headers.get("Range", ""))
        arrived = int(match[1]) + 1 if match else 0
        self._received, self._sure = (end if answer.status_code != 308 else arrived), True
