"""TLS in which both sides show their X.509-SVID: what a key server demands of whoever asks with one.

Version 1.3. Signatures, validity and purpose of the client's chain are checked by OpenSSL in the handshake, against the authorities of the
server's own trust domain; what makes it an SVID, and whose, by `evident.identity.svid`. Nothing of a session is kept, so that every
connection is checked by the authorities of its time. The server's own SVID is asked for at every connection, for it is renewed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from socket import socket

from evident.identity import svid
from evident.identity.spiffe_id import SpiffeId
from evident.identity.workload_api import Svid


class MutualTls:
    """`own` gives the server's SVID with the bundle of now, and may raise `EvidentError`: then nobody is served."""

    def __init__(self, own: Callable[[], Svid]) -> None:
        self._own = own

    def wrap(self, connection: socket) -> ssl.SSLSocket:
        """`connection` before its handshake."""
        return context(self._own()).wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def peer(self, connection: ssl.SSLSocket) -> SpiffeId:
        """Whose SVID was shown in the handshake; raises `NotAuthentic` ``svid....`` and `Malformed`."""
        return svid.check(connection.getpeercert(binary_form=True) or b"", self._own().spiffe_id.trust_domain)


def context(own: Svid) -> ssl.SSLContext:
    """Of one handshake."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    made.num_tickets = 0
    own.into(made)
    return made
