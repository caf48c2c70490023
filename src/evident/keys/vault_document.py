"""Where the owner's Vault or OpenBao is, as they write it down, and what authenticates the two to each other.

    {"version": 1, "url": "https://vault.example:8200", "token_file": "token", "ca_file": "ca.pem",
     "mount": "secret", "prefix": "evident/disks", "namespace": ""}

The document holds no secret. Its files are looked for beside it where their paths are relative. The token's file is read, and its mode
checked, before every request: whatever renews the token replaces the file. In the place of ``token_file`` stands ``login`` where whoever
asks has an X.509-SVID of its own, which the store's auth method ``cert`` takes:

     "login": {"workload_socket": "/run/spire/agent/public/api.sock", "role": "evident", "mount": "cert"}
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evident import codec
from evident.errors import EvidentError, Malformed, UsageError
from evident.files import check_private, read_private
from evident.identity import workload_api
from evident.keys import vault_login
from evident.keys.vault import VaultPlace, VaultSecrets
from evident.keys.vault_http import unusable

_WHAT = "keys.vault-document"
_AGENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Login:
    workload_socket: str
    """Workload API of the SPIRE agent that gives this process its SVID."""
    role: str
    mount: str = "cert"


@dataclass(frozen=True, slots=True)
class VaultDocument:
    version: Literal[1]
    url: str
    token_file: str = ""
    """Mode 0600 or less."""
    login: Login | None = None
    """In its place."""
    ca_file: str = ""
    """PEM; the authorities that may have certified the store. Without one: those that this host trusts."""
    mount: str = "secret"
    prefix: str = "evident/disks"
    namespace: str = ""

    def __post_init__(self) -> None:
        if bool(self.token_file) == (self.login is not None):
            found = "both" if self.token_file else "neither"
        elif self.login is not None and not self.url.startswith("https:"):
            found = f"login over {self.url[:80]}, where no SVID can be shown"
        else:
            return
        raise Malformed.of(
            f"{_WHAT}.login",
            expected="token_file, or login over https",
            found=found,
            remedy="Write the file of a token, or how the store knows an SVID.",
        )

    @property
    def place(self) -> VaultPlace:
        return VaultPlace(self.url, self.mount, self.prefix, self.namespace)


def read(path: Path) -> VaultDocument:
    """The document at `path`. Raises `Malformed` ``keys.vault-document.*``, and `UsageError` where there is none."""
    return codec.decode(VaultDocument, codec.loads(read_private(path), _WHAT), _WHAT)


def open_vault(path: Path) -> VaultSecrets:
    """The store that the document at `path` names; it is not asked anything yet."""
    document = read(path)
    token_file, login = path.parent / document.token_file, document.login

    def trust() -> ssl.SSLContext:
        return _trust(path.parent / document.ca_file) if document.ca_file else ssl.create_default_context()

    def by_svid(login: Login) -> str:
        try:
            own = workload_api.fetch(path.resolve().parent / login.workload_socket, timeout=_AGENT_SECONDS)
        except EvidentError as error:  # whoever asks for a key has nothing to do with it
            raise unusable("a login by SVID", f"none to show ({error.code}: {error.findings[0].found})") from None
        return vault_login.token(document.place, own, trust(), mount=login.mount, role=login.role)

    return VaultSecrets(document.place, lambda: by_svid(login) if login else token(token_file), tls=trust())


def token(path: Path) -> str:
    """What is in the file now. Raises `UsageError` ``keys.vault.token`` and ``keys.vault.token.mode``."""
    content = read_private(path)
    check_private(path, "keys.vault.token.mode", "revoke the token, and use another")
    text = content.strip()
    if not text or not all(0x21 <= byte <= 0x7E for byte in text):
        raise UsageError.of(
            "keys.vault.token",
            expected=f"one token in {path}",
            found="none, or something else",
            remedy="Write the token alone into the file.",
        )
    return text.decode("ascii")


def _trust(path: Path) -> ssl.SSLContext:
    read_private(path)
    try:
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise UsageError.of(
            "keys.vault.ca",
            expected=f"certificates in PEM in {path}",
            found="none",
            remedy="Give the certificates of the authority that certified the store.",
        ) from None
