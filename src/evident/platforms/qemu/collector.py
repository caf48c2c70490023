"""Which evidence a machine of this platform gives, and how: its agent answers on a port of its own, forwarded to 127.0.0.1.

``evident.attest=PORT`` on the measured command line says where in the guest; the conversation is `evident.platforms.agent`'s.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from evident.errors import Unsupported
from evident.platforms import agent
from evident.platforms.driver import Collected
from evident.platforms.qemu import qmp
from evident.platforms.qemu.order import read_launch

_PORT: Final = re.compile(r"(?:^| )evident\.attest=(\d{1,5})(?: |$)")


def agent_port(command_line: str) -> int | None:
    """The guest's port at which its agent answers challenges; None where it does not."""
    found = _PORT.search(command_line)
    return int(found[1]) if found else None


def collect(machine: Path, nonce: bytes) -> Collected:
    """The machine's answer to `nonce`. Raises `Unsupported` ``qemu.no-agent``, and what `agent.ask` does."""
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
        raise agent.unreachable(f"port {inside} is not forwarded")
    return agent.ask("127.0.0.1", port, nonce)
