"""A workload's own X.509-SVID, from the SPIRE agent on its machine: one answer of the SPIFFE Workload API.

Source: SPIFFE, "SPIFFE Workload API", sections 4 and 5.1: gRPC method ``/SpiffeWorkloadAPI/FetchX509SVID`` over a Unix socket, without
authentication of the caller, who has to send the metadata ``workload.spiffe.io: true``. The request is empty; of the answer

    X509SVIDResponse  1 svids (repeated X509SVID)
    X509SVID          1 spiffe_id, 2 x509_svid (certificates in DER one behind the other, leaf first), 3 x509_svid_key (PKCS#8 in DER),
                      4 bundle (certificates of the trust domain's authorities, likewise)

the first SVID is the workload's default identity. The stream would go on with every renewal; it is left after the first answer. Parsed
by `evident.evidence.protobuf`, so that nothing generated has to be measured with a guest.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evident.errors import Indeterminate, Malformed, PolicyRefused
from evident.evidence import protobuf
from evident.evidence.reader import Reader
from evident.identity import spiffe_id
from evident.identity.spiffe_id import SpiffeId

METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"
METADATA = (("workload.spiffe.io", "true"),)
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)  # or a socket that was not there yet is waited for by every later call, too
_WHAT = "svid"
_SEQUENCE = 0x30


@dataclass(frozen=True, slots=True)
class Svid:
    """An X.509-SVID as the agent gives it: what it certifies is checked by whoever is shown it (`evident.identity.svid`)."""

    spiffe_id: SpiffeId
    certificates: tuple[bytes, ...]
    """DER, leaf first."""
    key: bytes = field(repr=False)
    """PKCS#8, DER."""
    bundle: tuple[bytes, ...]
    """The authorities of the trust domain, DER."""

    def into(self, context: ssl.SSLContext) -> None:
        """Show this SVID in handshakes of `context`, and believe its trust domain's authorities alone. Raises as `shown_in`."""
        try:
            context.load_verify_locations(cadata=b"".join(self.bundle))
        except ssl.SSLError as error:
            raise _form("authorities' certificates", str(error.reason)) from None
        self.shown_in(context)

    def shown_in(self, context: ssl.SSLContext) -> None:
        """Show this SVID in handshakes of `context`, whomever it trusts.

        The key passes through anonymous memory, for OpenSSL reads it from a file only. Raises `Malformed` ``svid.form`` where certificates
        and key do not belong together, or are none.
        """
        chain = "".join(ssl.DER_cert_to_PEM_cert(each) for each in self.certificates)
        key = base64.encodebytes(self.key).decode()
        try:
            with os.fdopen(os.memfd_create("svid"), "w") as memory:
                memory.write(f"{chain}-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n")
                memory.flush()
                context.load_cert_chain(f"/proc/self/fd/{memory.fileno()}")
        except ssl.SSLError as error:
            raise _form("certificates with their key", str(error.reason)) from None


def fetch(socket: Path, *, timeout: float) -> Svid:
    """The default identity of this process, asked of the agent that listens on `socket`; `timeout`: seconds for all of it.

    Raises `PolicyRefused` ``svid.none`` where no entry matches this process on this machine, `Indeterminate` ``svid.unreachable``, and
    `Malformed` ``svid.form`` for an answer of another form (``svid.protobuf``, ``spiffe.id`` for its parts).
    """
    import grpc  # where an SVID is asked for, and nowhere that one is only spoken of

    with grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        call = channel.unary_stream(METHOD)(b"", timeout=timeout, metadata=METADATA)
        try:
            answer: bytes = next(call)
        except StopIteration:
            raise _form("an SVID", "an answer that ended without one") from None
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise _none(error.details()) from None
            raise _unreachable(socket, error) from None
        finally:
            call.cancel()
    return parse(answer)


def parse(answer: bytes) -> Svid:
    """The first SVID of an X509SVIDResponse; raises `Malformed` as `fetch` does."""
    svids = protobuf.parse(answer, _WHAT).all_bytes(1)
    if not svids:
        raise _form("an SVID", "none")
    first = protobuf.parse(svids[0], _WHAT)
    try:
        name = first.one_bytes(1).decode()
    except UnicodeDecodeError:
        raise _form("a SPIFFE ID in UTF-8", "other bytes") from None
    svid = Svid(spiffe_id.parse(name), tuple(_each(first.one_bytes(2))), first.one_bytes(3), tuple(_each(first.one_bytes(4))))
    if not (svid.certificates and svid.key and svid.bundle):
        raise _form("certificates, key and bundle", "an SVID without one of them")
    return svid


def _each(data: bytes) -> Iterator[bytes]:
    """The DER SEQUENCEs that stand one behind the other in `data`."""
    reader = Reader(data, "svid.form")
    while reader.remaining:
        start = reader.offset
        if reader.u8("tag") != _SEQUENCE:
            raise _form("certificates in DER", f"something else at byte {start}")
        length = reader.u8("length")
        if length >= 0x80:
            length = reader.unsigned(min(length & 0x7F, 4), "length", order="big")
        reader.take(length, "certificate")
        yield data[start : reader.offset]


def _none(details: str) -> PolicyRefused:
    return PolicyRefused.of(
        "svid.none",
        expected="a registration entry that this process on this machine matches",
        found=f"none: {details}",
        remedy="Compare the entry's selectors with what the agent found of the process, and its parent ID with the machine's.",
        layer="identity",
    )


def _unreachable(socket: Path, error: Any) -> Indeterminate:
    return Indeterminate.of(
        "svid.unreachable",
        expected=f"an SVID from the SPIRE agent on {socket}",
        found=f"{error.code().name}: {error.details()}",
        remedy="Start the agent, and let it reach its server; its log says what it waits for.",
        layer="identity",
    )


def _form(expected: str, found: str) -> Malformed:
    return Malformed.of(
        "svid.form",
        expected=f"{expected} from the Workload API",
        found=found,
        remedy="Ask a SPIFFE Workload API: another program listens there.",
        layer="identity",
    )
