"""Disk keys in a store of the HashiCorp Vault or OpenBao kind: secrets engine KV, version 2, over HTTPS.

Source: OpenBao API documentation, "KV secrets engine - version 2": ``GET`` and ``POST /v1/MOUNT/data/PATH``, ``DELETE
/v1/MOUNT/metadata/PATH``, token in ``X-Vault-Token``, check-and-set in ``options.cas``.

One secret for each disk (its key, and the named secrets that go with it), with the digest of the terms it was stored under, so that changed
terms are noticed as in the embedded store.
The token is read anew for every request (it may be renewed) and appears in no error.
"""

from __future__ import annotations

import hmac
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from evident import codec
from evident.errors import Indeterminate, Malformed, UsageError
from evident.keys.messages import check_disk
from evident.keys.store import Held, RootVolume, altered, no_key, terms_digest

ANSWER_LIMIT = 256 * 1024
TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where the secrets are. Plain HTTP is taken for this machine's own loopback alone."""

    url: str
    """``https://vault.example:8200``"""
    mount: str = "secret"
    prefix: str = "evident/disks"
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
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects()]
        if tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)

    def put(self, volume: RootVolume, held: Held) -> None:
        """Store what goes to that machine; what is there is replaced (the store keeps its older versions)."""
        secret = codec.encode(_Secret(1, held, terms_digest(volume)))
        self._ask("POST", "data", volume.disk, {"data": {"evident": json.dumps(secret, sort_keys=True)}})

    def get(self, volume: RootVolume) -> Held:
        answer = self._ask("GET", "data", volume.disk)
        if answer is None:
            raise no_key(volume.disk)
        try:
            text = answer["data"]["data"]["evident"]
            secret = codec.decode(_Secret, codec.loads(text.encode(), "keys.vault"), "keys.vault")
        except (KeyError, TypeError, AttributeError):
            raise _unusable("a secret of ours", "another document") from None
        if not hmac.compare_digest(secret.terms, terms_digest(volume)):
            raise altered(volume.disk)
        return secret.held

    def delete(self, disk: str) -> None:
        """Remove every version."""
        self._ask("DELETE", "metadata", disk)

    def _ask(self, method: str, kind: str, disk: str, body: Any = None) -> Any:
        """The answer's JSON; None for 404 and for an answer without body."""
        place = self._place
        url = f"{place.url.rstrip('/')}/v1/{quote(place.mount)}/{kind}/{quote(place.prefix)}/{check_disk(disk)}"
        headers = {"X-Vault-Token": self._token(), "X-Vault-Request": "true"}
        if place.namespace:
            headers["X-Vault-Namespace"] = place.namespace
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - https, see VaultPlace
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                answer = response.read(ANSWER_LIMIT + 1)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404 and method == "GET":
                    return None
                raise _unusable(f"{method} of a secret", f"HTTP status {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _unusable("an answer", type(error).__name__) from None
        try:
            return codec.loads(answer, "keys.vault", limit=ANSWER_LIMIT) if answer else None
        except Malformed:
            raise _unusable("a JSON document", "something else") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the store that was named, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _unusable(expected: str, found: str) -> Indeterminate:
    return Indeterminate.of(
        "keys.vault",
        expected=f"{expected} from the key store",
        found=found,
        remedy="Check the store's address, its seal status, and what the token may do; until then no key is released.",
        layer="storage",
    )
