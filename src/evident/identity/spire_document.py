"""Where the owner's spire-server is, and by which names its side and ours know each other.

    {"version": 1, "trust_domain": "example.org", "key_server": "spiffe://example.org/evident/key-server",
     "server_socket": "/run/spire/server/api.sock", "workload_socket": "/run/spire/agent/agent.sock", "server": "127.0.0.1:8081"}

The document holds no secret. Its sockets are looked for beside it where their paths are relative.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evident import codec
from evident.errors import Malformed
from evident.files import read_private
from evident.identity import spiffe_id

_WHAT = "spire.document"


@dataclass(frozen=True, slots=True)
class SpireDocument:
    version: Literal[1]
    trust_domain: str
    key_server: str
    """SPIFFE ID by which machines know the key server: pinned on their measured command line."""
    server_socket: str
    """Of spire-server's own API, for whoever may register entries there."""
    workload_socket: str
    """Workload API at which the key server gets its own SVID."""
    server: str
    """``ADDRESS:PORT`` where spire-server listens for the agents of machines: seen from this host for a machine on it."""

    def __post_init__(self) -> None:
        spiffe_id.check_trust_domain(self.trust_domain)
        named = spiffe_id.parse(self.key_server)
        if named.trust_domain != self.trust_domain or not named.path:
            raise _malformed("key-server", f"a SPIFFE ID with a path, of the trust domain {self.trust_domain!r}", self.key_server)
        if not self.server_socket or not self.workload_socket or "\0" in self.server_socket + self.workload_socket:
            raise _malformed("socket", "the paths of two sockets", f"{self.server_socket!r} and {self.workload_socket!r}")
        host, _, port = self.server.rpartition(":")
        try:
            listens = str(ipaddress.IPv4Address(host)) == host and port == str(int(port)) and 1 <= int(port) <= 65535
        except ValueError:
            listens = False
        if not listens:
            raise _malformed("server", "an IPv4 address and a port, such as 127.0.0.1:8081", self.server)


def read(path: Path) -> SpireDocument:
    """The document at `path`, its sockets absolute. Raises `Malformed` ``spire.document.*``, ``spiffe.id``, and `UsageError` where there is
    none.
    """
    said = codec.decode(SpireDocument, codec.loads(read_private(path), _WHAT), _WHAT)
    folder = path.resolve().parent
    return replace(said, server_socket=str(folder / said.server_socket), workload_socket=str(folder / said.workload_socket))


def _malformed(problem: str, expected: str, found: str) -> Malformed:
    return Malformed.of(f"{_WHAT}.{problem}", expected=expected, found=repr(found)[:100], remedy="Correct the document of EVIDENT_SPIRE.")
