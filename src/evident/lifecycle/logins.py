"""Logins by SSH: a machine's host key goes into ``known_hosts`` once an answer to our own challenge that binds it was accepted (SG-02)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from evident.appraisal.statement import TrustStatement
from evident.errors import UsageError
from evident.evidence import binding
from evident.keys import ssh
from evident.lifecycle.attest import Answer
from evident.lifecycle.deployment import Deployment

PORT: Final = 22
"""Where the guest's SSH server listens (`evident.guest.login`)."""


def remember(target: Deployment, answer: Answer, known_hosts: Path) -> None:
    """Write the line for `target`, at the address where this host reaches its SSH server; nothing for an answer that was not accepted.

    Raises `UsageError` ``ssh.unpublished`` where there is no such address, and as `ssh.known_hosts_line` does.
    """
    statement = answer.outcome
    if not isinstance(statement, TrustStatement) or statement.decision != "accepted":
        return
    address = target.driver().addresses(target.machine).get(PORT)
    if address is None:
        raise UsageError.of(
            "ssh.unpublished",
            expected=f"port {PORT} of {target.name} within this host's reach",
            found="it is not published",
            remedy=f"Launch it with --publish {PORT}, or open the port in its document.",
        )
    host, _, port = address.rpartition(":")
    spki = answer.case.pieces.get("key", (b"",))[0]
    ssh.remember(
        known_hosts, ssh.known_hosts_line(f"[{host}]:{port}" if port != str(PORT) else host, spki, statement, bound(statement, spki))
    )


def bound(statement: TrustStatement, spki: bytes) -> bytes | None:
    """The digest of this key where the statement says that the evidence binds it with our challenge."""
    digest = binding.key_digest(spki)
    identity = next(layer for layer in statement.layers if layer.name == "identity")
    said = f"key digest {digest.hex()[:32]}" in identity.evidence and identity.freshness == "for this challenge"
    return digest if said else None
