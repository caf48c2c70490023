"""A token of a Vault or OpenBao for whoever holds an SVID: its auth method ``cert``.

Source: OpenBao API documentation, "TLS certificate auth method": ``POST /v1/auth/MOUNT/login`` with the client's certificate in the
handshake and ``{"name": ROLE}``; the token comes in ``auth.client_token``. Which SVIDs a role takes says its ``certificate`` (the trust
domain's bundle) with ``allowed_uri_sans``.

A login for every request, and nothing kept: an SVID lives for an hour or less, and so may the tokens.
"""

from __future__ import annotations

import ssl
from urllib.parse import quote

from evident.identity.workload_api import Svid
from evident.keys.vault import VaultPlace
from evident.keys.vault_http import VaultHttp, unusable


def token(place: VaultPlace, own: Svid, trust: ssl.SSLContext, *, mount: str, role: str) -> str:
    """For the holder of `own`; `trust` in the store's certificate shows `own` from then on. Raises `Indeterminate` ``keys.vault``."""
    own.shown_in(trust)
    answer = VaultHttp(place.url, place.namespace, trust).ask("POST", f"auth/{quote(mount)}/login", {"name": role})
    try:
        found = answer["auth"]["client_token"]
    except (KeyError, TypeError):
        found = None
    if not isinstance(found, str) or not found or not all("!" <= letter <= "~" for letter in found):
        raise unusable("a token (auth method cert)", "another document")
    return found
