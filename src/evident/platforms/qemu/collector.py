"""Which evidence a machine of this platform gives, and how: its agent answers on a port of its own, forwarded to 127.0.0.1.

* ``evident.attest=PORT`` on the measured command line says where in the guest
* the question and the answer are `evident.keys.messages`: a nonce, a key of this boot, and a CMW collection that binds both

Nothing rests on the way there: the evidence speaks for itself, or not at all.
"""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from typing import Final

from evident.errors import Indeterminate, Unsupported
from evident.evidence import cmw
from evident.keys.messages import ATTEST, AttestReply, AttestRequest, dumps, loads
from evident.platforms.driver import Collected
from evident.platforms.qemu import qmp
from evident.platforms.qemu.order import read_launch

TIMEOUT: Final = 60.0
"""Seconds for an answer: the guest may be emulated."""
_ANSWER_LIMIT: Final = 4 * 1024 * 1024
_PORT = re.compile(r"(?:^| )evident\.attest=(\d{1,5})(?: |$)")


def agent_port(command_line: str) -> int | None:
    """The guest's port at which its agent answers challenges; None where it does not."""
    found = _PORT.search(command_line)
    return int(found[1]) if found else None


def collect(machine: Path, nonce: bytes) -> Collected:
    """The machine's answer to `nonce`. Raises `Unsupported` ``qemu.no-agent``, `Indeterminate` ``qemu.agent``, `Malformed`."""
    inside = agent_port(read_launch(machine).command_line)
    if inside is None:
        raise Unsupported.of(
            "qemu.no-agent",
            expected="an agent in the guest that answers challenges (evident.attest=PORT on its command line)",
            found="none",
            remedy="Launch an image of `evident image build`, and have it answer on a port.",
        )
    with qmp.monitor(machine) as talk:
        port = talk.forwarded().get(inside)
    if port is None:
        raise _unreachable(f"port {inside} is not forwarded")
    reply = loads(AttestReply, _ask(port, dumps(AttestRequest(1, nonce))))
    kind, pieces = cmw.to_pieces(cmw.decode(reply.evidence))
    return Collected(kind, {**pieces, "key": (reply.key,)})


def _ask(port: int, body: bytes) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", ATTEST, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read(_ANSWER_LIMIT)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if response.status != 200:
        raise _unreachable(f"status {response.status}: {answer[:200].decode('ascii', 'replace')}")
    return answer


def _unreachable(found: str) -> Indeterminate:
    return Indeterminate.of(
        "qemu.agent",
        expected="an answer of the agent in the guest",
        found=found,
        remedy="Wait until it has booted; its console says how far it is (evident status NAME).",
    )
