"""Where the owner's spire-server is: one form, and a reason for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evident.errors import EvidentError, UsageError
from evident.identity import spire_document

SAID: dict[str, Any] = {
    "version": 1,
    "trust_domain": "example.org",
    "key_server": "spiffe://example.org/evident/key-server",
    "server_socket": "/run/spire/server/api.sock",
    "workload_socket": "agent.sock",
    "server": "192.0.2.1:8081",
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "spire.json"
    path.write_text(json.dumps({**SAID, **changes}))
    return path


def test_sockets_are_seen_from_the_document(tmp_path: Path) -> None:
    read = spire_document.read(written(tmp_path))
    assert (read.server_socket, read.workload_socket) == (SAID["server_socket"], str(tmp_path / "agent.sock"))
    assert (read.trust_domain, read.key_server, read.server) == (SAID["trust_domain"], SAID["key_server"], SAID["server"])


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("spiffe.id", {"trust_domain": "Example.org"}),
        ("spiffe.id", {"key_server": "https://example.org/x"}),
        ("spire.document.key-server", {"key_server": "spiffe://example.net/evident/key-server"}),
        ("spire.document.key-server", {"key_server": "spiffe://example.org"}),
        ("spire.document.socket", {"server_socket": ""}),
        ("spire.document.socket", {"workload_socket": "a\0b"}),
        ("spire.document.server", {"server": "localhost:8081"}),
        ("spire.document.server", {"server": "127.0.0.1"}),
        ("spire.document.server", {"server": "127.0.0.1:0"}),
        ("spire.document.server", {"server": "127.0.0.1:08081"}),
        ("spire.document.server", {"server": "127.0.0.1:70000"}),
        ("spire.document.unknown-key", {"token": "x"}),
    ],
)
def test_what_it_may_not_say(tmp_path: Path, code: str, change: dict[str, Any]) -> None:
    with pytest.raises(EvidentError) as refused:
        spire_document.read(written(tmp_path, **change))
    assert refused.value.code == code


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        spire_document.read(tmp_path / "absent.json")
