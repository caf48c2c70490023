"""FetchKey: the program that gets the disk's key with its own X.509-SVID, as a user of its own (steps 5 and 6, BW-12 to BW-14).

    /usr/bin/python3 -ISBm evident.guest.fetch_key

It takes no arguments: what it asks, and whom it believes, is on the measured command line. The key server's certificate has to be of the
trust domain that its SVID came with, and to have exactly the SPIFFE ID ``evident.keyserver``. On its standard output, which has to be a
pipe, it tells with one line of JSON who it is, with another what was released, or instead what went wrong.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evident import codec
from evident.errors import EvidentError, NotAuthentic, PolicyRefused
from evident.guest import apart
from evident.guest.asking import ask, check_disk
from evident.guest.config import CommandLine, parse_command_line
from evident.guest.http import Server
from evident.guest.steps.spire import SOCKET
from evident.identity.spiffe_id import SpiffeId
from evident.identity.workload_api import Svid, fetch
from evident.keys.messages import KEY, KeyRequest, Volume

COMMAND_LINE = Path("/proc/cmdline")
_ANSWER_SECONDS = 120.0
_PATIENCE, _PAUSE = 30.0, 1.0
"""Seconds for the entries of a machine that was attested just now: the server's cache and the agent's poll look for them every five."""


def identity() -> Svid:
    """The SVID of this process. Raises as `fetch`; `PolicyRefused` ``svid.none`` only where there has been none for a while."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fetch(SOCKET, timeout=_ANSWER_SECONDS)
        except PolicyRefused:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def released(line: CommandLine, svid: Svid) -> Volume:
    """What the key server releases to `svid`. Raises `NotAuthentic` ``guest.key-server`` where another one answers, and as `ask`."""
    trusted = context(svid)

    def secured(stream: socket.socket) -> socket.socket:
        return handshake(trusted, stream, line.key_server)

    volume = ask(Server(*line.verifier, secured=secured), KEY, KeyRequest(1, line.asks), Volume)
    check_disk(volume, line.asks)
    return volume


def context(svid: Svid) -> ssl.SSLContext:
    """TLS 1.3 as `svid`, with peers of its trust domain."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False  # who it is says a SPIFFE ID, which `handshake` compares
    svid.into(made)
    return made


def handshake(trusted: ssl.SSLContext, stream: socket.socket, pinned: SpiffeId | None) -> socket.socket:
    """`stream` under TLS, with the key server `pinned` at its other end and nobody else."""
    try:
        secured = trusted.wrap_socket(stream)
    except ssl.SSLCertVerificationError as error:
        raise _other(pinned, f"a certificate that does not verify: {error.verify_message}") from None
    certificate: Mapping[str, Any] = secured.getpeercert() or {}
    found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if found != [str(pinned)]:
        secured.close()
        raise _other(pinned, ", ".join(found) or "a certificate without a SPIFFE ID")
    return secured


def _other(pinned: SpiffeId | None, found: str) -> NotAuthentic:
    return NotAuthentic.of(
        "guest.key-server",
        expected=f"the key server {pinned} (evident.keyserver)",
        found=found[:200],
        remedy="Somebody answers in its place, or its SPIFFE ID was changed: launch with the one that it has.",
        layer="storage",
    )


def _tell(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fetch, and tell."""
    try:
        svid = identity()
        _tell({"error": None, "svid": str(svid.spiffe_id)})
        volume = released(parse_command_line(COMMAND_LINE.read_text()), svid)
        _tell({"error": None, "volume": codec.encode(volume)})
    except (EvidentError, OSError) as error:
        _tell(apart.tell(error))


if __name__ == "__main__":
    main()
