"""What a machine asks its key server, one message at a time, and what of the answers it does not take."""

from __future__ import annotations

from evident.errors import EvidentError, Malformed, NotAuthentic, PolicyRefused
from evident.guest.http import Server
from evident.keys.messages import Refusal, T, Volume, dumps, loads


def ask(server: Server, path: str, message: object, kind: type[T]) -> T:
    """The answer of this kind; raises `PolicyRefused` ``guest.denied`` with the server's codes, and as `Server.post`."""
    status, body = server.post(path, dumps(message))
    if status == 200:
        return loads(kind, body)
    raise _denied(status, body)


def check_disk(volume: Volume, disk: str) -> None:
    """`volume` is what was asked for; `NotAuthentic` ``guest.other-disk`` otherwise."""
    if volume.disk != disk:
        raise NotAuthentic.of(
            "guest.other-disk",
            expected=f"what was registered for {disk}",
            found=f"that of {volume.disk}",
            remedy="Register the right key or secrets under this name.",
            layer="storage",
        )


def _denied(status: int, body: bytes) -> EvidentError:
    try:
        refusal = loads(Refusal, body)
        found = f"{refusal.decision}: {', '.join(refusal.codes)}"
    except Malformed:
        found = f"HTTP status {status}"
    return PolicyRefused.of(
        "guest.denied",
        expected="leave to start, with the disk's key and secrets",
        found=found,
        remedy="The release log of the key server says why: `evident explain CODE`.",
        layer="storage",
    )
