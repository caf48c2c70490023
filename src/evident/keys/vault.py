"""Disk keys in a store of the HashiCorp Vault or OpenBao kind: secrets engine KV, version 2, over HTTPS.

Source: OpenBao API documentation, "KV secrets engine - version 2": ``GET`` and ``POST /v1/MOUNT/data/PATH``, ``DELETE
/v1/MOUNT/metadata/PATH``, check-and-set in ``options.cas``: the version that is replaced, 0 for none.

One secret for each disk (its key, and the named secrets that go with it), with the digest of the terms it was stored under, so that changed
terms are noticed as in the embedded store.
The token is asked for before every request: it may be renewed.
"""

from __future__ import annotations

import hmac
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from evident import codec
from evident.errors import UsageError
from evident.keys.messages import check_disk
from evident.keys.store import Held, RootVolume, altered, no_key, terms_digest
from evident.keys.vault_http import VaultHttp, unusable


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where the secrets are. Plain HTTP is taken for this machine's own loopback alone."""

    url: str
    """``https://vault.example:8200``"""
    mount: str
    prefix: str
    namespace: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1")
        if not (parts.scheme == "https" or local) or not parts.hostname or parts.query or parts.fragment:
            raise UsageError.of(
                "keys.vault.url",
                expected="an https URL (http only to 127.0.0.1)",
                found=self.url[:80],
                remedy="Give the address of the store with TLS.",
            )


@dataclass(frozen=True, slots=True)
class _Secret:
    version: Literal[1]
    held: Held
    terms: bytes


class VaultSecrets:
    """`evident.keys.store.Secrets` behind HTTP. `token` gives the current token; `tls` the trust in the server's certificate."""

    def __init__(self, place: VaultPlace, token: Callable[[], str], *, tls: ssl.SSLContext | None = None) -> None:
        self._place = place
        self._token = token
        self._http = VaultHttp(place.url, place.namespace, tls)

    def put(self, volume: RootVolume, held: Held) -> None:
        """Store what goes to that machine, in the place of what was found there (the store keeps its older versions until `delete`)."""
        version = _version(self._ask("GET", "data", volume.disk))
        secret = json.dumps(codec.encode(_Secret(1, held, terms_digest(volume))), sort_keys=True)
        answer = self._ask("POST", "data", volume.disk, {"data": {"evident": secret}, "options": {"cas": version}})
        if not isinstance(answer, dict) or _version({"data": {"metadata": answer.get("data")}}) <= version:
            raise unusable("a new version of the secret (secrets engine KV, version 2)", "none")

    def get(self, volume: RootVolume) -> Held:
        answer = self._ask("GET", "data", volume.disk)
        if not _version(answer) or answer["data"].get("data") is None:
            raise no_key(volume.disk)
        try:
            text = answer["data"]["data"]["evident"]
            secret = codec.decode(_Secret, codec.loads(text.encode(), "keys.vault"), "keys.vault")
        except (KeyError, TypeError, AttributeError):
            raise unusable("a secret of ours", "another document") from None
        if not hmac.compare_digest(secret.terms, terms_digest(volume)):
            raise altered(volume.disk)
        return secret.held

    def delete(self, disk: str) -> None:
        """Remove every version."""
        self._ask("DELETE", "metadata", disk)

    def _ask(self, method: str, kind: str, disk: str, body: Any = None) -> Any:
        place = self._place
        path = f"{quote(place.mount)}/{kind}/{quote(place.prefix)}/{check_disk(disk)}"
        return self._http.ask(method, path, body, token=self._token())


def _version(answer: Any) -> int:
    """Number of the version that a ``GET`` speaks of, of a deleted one too; 0 where there never was one, or no more.

    A 404 of KV says that with no errors in it; one with errors is of something else, a mount that is not there among them.
    """
    if answer == {"errors": []}:
        return 0
    try:
        version = answer["data"]["metadata"]["version"]
    except (KeyError, TypeError):
        version = None
    if type(version) is not int or version < 1:
        raise unusable("a secret with its version (secrets engine KV, version 2)", "another document; is the mount right?")
    return version
