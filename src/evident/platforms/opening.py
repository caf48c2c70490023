"""What the network of a machine may let through."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal

from evident.errors import UsageError

_PRIVATE = tuple(ipaddress.ip_network(each) for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
"""RFC 1918, RFC 4193."""


@dataclass(frozen=True, slots=True)
class Opening:
    """One thing that the machine's network lets through; there is nothing else that it does."""

    direction: Literal["in", "out"]
    protocol: Literal["tcp", "udp"]
    port: int
    peer: str
    """Network in CIDR form, IPv4 or IPv6, without host bits."""

    def __post_init__(self) -> None:
        try:
            ipaddress.ip_network(self.peer)
        except ValueError as error:
            raise self._wrong("a network such as 203.0.113.0/24", str(error)) from None
        if not 1 <= self.port <= 65535:
            raise self._wrong("a port from 1 to 65535", str(self.port))

    @property
    def private(self) -> bool:
        """Whether its peer is in private networks: no public address is needed to reach that, or to be reached from it."""
        peer: Any = ipaddress.ip_network(self.peer)
        return any(peer.version == each.version and peer.subnet_of(each) for each in _PRIVATE)

    @staticmethod
    def _wrong(expected: str, found: str) -> UsageError:
        return UsageError.of("cloud.opening", expected=expected, found=found, remedy="Correct this opening in the specification.")
