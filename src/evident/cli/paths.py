"""Where Evident keeps what outlives a command: the endorsement cache and the verifier's own state.

``EVIDENT_HOME`` puts both below one directory; without it the XDG base directories are followed.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Endorsements by content; may be deleted at any time."""
    return _below("cache", "XDG_CACHE_HOME", ".cache")


def state_dir() -> Path:
    """Deployments, the journal, the verifier's signing key and the simulator's TEST keys; must not be deleted."""
    return _below("state", "XDG_STATE_HOME", ".local/state")


def wrapping_key() -> Path | None:
    """``EVIDENT_WRAPPING_KEY``: where the owner keeps what wraps disk keys, apart from them; a systemd credential, for one."""
    return _named("EVIDENT_WRAPPING_KEY")


def vault() -> Path | None:
    """``EVIDENT_VAULT``: the document by which disk keys are kept in the owner's Vault or OpenBao, and not below the state directory."""
    return _named("EVIDENT_VAULT")


def spire() -> Path | None:
    """``EVIDENT_SPIRE``: the document that says where the owner's spire-server is, for images with SPIRE's agent."""
    return _named("EVIDENT_SPIRE")


def _named(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named) if named else None


def _below(name: str, variable: str, fallback: str) -> Path:
    home = os.environ.get("EVIDENT_HOME")
    if home:
        return Path(home) / name
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / fallback) / "evident"
