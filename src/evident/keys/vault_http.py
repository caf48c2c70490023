"""Requests to a store of the HashiCorp Vault or OpenBao kind: JSON, bounded, to the store that was named and nowhere else.

Source: OpenBao API documentation, "HTTP API": token in ``X-Vault-Token``, namespace in ``X-Vault-Namespace``, ``X-Vault-Request: true``.
A token appears in no error.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from evident import codec
from evident.errors import Indeterminate, Malformed

ANSWER_LIMIT = 256 * 1024
TIMEOUT = 10.0
_MEANINGS = {
    400: ", another writer was first, or it is another request than this store takes",
    403: ", the token is expired, revoked, or may not do this",
    503: ", the store is sealed or not ready",
}


class VaultHttp:
    """The store at `url`. `tls`: trust in its certificate, and what is shown to it; without it, what this host trusts."""

    def __init__(self, url: str, namespace: str, tls: ssl.SSLContext | None) -> None:
        self._url = url.rstrip("/")
        self._namespace = namespace
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirects()]
        if tls is not None:
            handlers.append(urllib.request.HTTPSHandler(context=tls))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """The JSON of the answer to `path`, below ``/v1/``, also of a ``GET``'s 404; None for an answer without body.

        Raises `Indeterminate` ``keys.vault``.
        """
        try:
            with self._opened(self._request(method, path, body, token)) as response:
                status, answer = response.status, response.read(ANSWER_LIMIT + 1)
        except (OSError, http.client.HTTPException) as error:
            raise unusable("an answer", str(getattr(error, "reason", "")) or type(error).__name__) from None
        if status not in (200, 204) and (method, status) != ("GET", 404):
            raise unusable(f"{method} of {path.partition('/')[0]}/...", f"HTTP status {status}{_MEANINGS.get(status, '')}")
        try:
            return codec.loads(answer, "keys.vault", limit=ANSWER_LIMIT) if answer else None
        except Malformed:
            raise unusable("a JSON document", "something else") from None

    def _opened(self, request: urllib.request.Request) -> Any:
        """The response, of whatever status."""
        try:
            return self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            return error

    def _request(self, method: str, path: str, body: Any, token: str) -> urllib.request.Request:
        headers = {"X-Vault-Request": "true"}
        if token:
            headers["X-Vault-Token"] = token
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        return urllib.request.Request(f"{self._url}/v1/{path}", data=data, headers=headers, method=method)  # noqa: S310 - https, see VaultPlace


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the store that was named, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def unusable(expected: str, found: str) -> Indeterminate:
    return Indeterminate.of(
        "keys.vault",
        expected=f"{expected} from the key store",
        found=found,
        remedy="Check the store's address, its seal status, and what the token may do; until then no key is released.",
        layer="storage",
    )
