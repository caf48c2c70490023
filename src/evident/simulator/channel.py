"""The host's end of the channel on which a guest reaches its simulated secure processor (`evident.evidence.sp_channel`).

`answer` is the whole protocol for one request; `serve` drives it over a connected stream socket. A guest's questions change
nothing at the host, so a machine that is started again finds the channel as it left it.
"""

from __future__ import annotations

import json
import socket

from evident import codec
from evident.errors import EvidentError, Malformed
from evident.evidence import sp_channel
from evident.evidence.sp_channel import Reply, Request
from evident.simulator.guest import stated_launch
from evident.simulator.secure_processor import FieldSelect, Guest, KeyRequest
from evident.simulator.vmm import LaunchDescription


class SecureProcessorChannel:
    """Answers for one launched guest. `certificates` is the host's certificate table, `launched` what it really started."""

    def __init__(self, guest: Guest, certificates: bytes, launched: LaunchDescription | None = None) -> None:
        self._guest = guest
        self._certificates = certificates
        self._launch = b"" if launched is None else json.dumps(codec.encode(stated_launch(launched)), sort_keys=True).encode()

    def answer(self, payload: bytes) -> bytes:
        """The frame that answers one request's payload; a refusal of the secure processor is answered with its code."""
        try:
            request = sp_channel.parse_request(payload)
        except Malformed as error:
            return sp_channel.serialize(Reply(0, error=error.code))
        try:
            return sp_channel.serialize(self._reply(request))
        except EvidentError as error:
            return sp_channel.serialize(Reply(request.id, error=error.code))

    def serve(self, stream: socket.socket) -> None:
        """Answer until the other side closes `stream`. Raises `Malformed` for frames that are none, `OSError` of the socket."""

        def read(count: int) -> bytes:
            received = bytearray()
            while len(received) < count:
                chunk = stream.recv(count - len(received))
                if not chunk:
                    raise _Closed
                received += chunk
            return bytes(received)

        while True:
            try:
                payload = sp_channel.read_frame(read)
            except _Closed:
                return
            stream.sendall(self.answer(payload))

    def _reply(self, request: Request) -> Reply:
        if request.op == "report":
            report = self._guest.report(request.report_data, vmpl=request.vmpl)
            return Reply(request.id, report=report, auxblob=self._certificates, launch=self._launch)
        wanted = KeyRequest(FieldSelect(request.fields), vmpl=request.vmpl, guest_svn=request.guest_svn)
        return Reply(request.id, key=self._guest.derive_key(wanted))


class _Closed(Exception):
    """The guest's end is gone."""
