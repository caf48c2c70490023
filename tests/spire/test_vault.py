"""A real Vault takes a real SPIRE's SVID (BW-24): what the key server keeps of its owner's keys needs no token in a file."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

import pytest
from tests.spire.real import Spire
from tests.spire.test_key_server import svid
from tests.unit.keys.real_vault import RealVault, start
from tests.unit.keys.test_vault import VOLUME

from evident.errors import Indeterminate
from evident.keys import vault_login
from evident.keys.store import Held
from evident.keys.vault import VaultPlace, VaultSecrets


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, spire: Spire) -> Iterator[RealVault]:
    made = start(tmp_path_factory.mktemp("vault"))
    made.ask("POST", "sys/auth/cert", {"type": "cert"})
    role = {
        "certificate": spire.bundle_pem,
        "allowed_uri_sans": [spire.named("/vault/*")],
        "token_policies": ["evident"],
        "token_type": "batch",
    }
    made.ask("POST", "auth/cert/certs/evident", role)
    yield made
    made.end()


@pytest.mark.parametrize("dns", [["-dns", "key-server"], []], ids=["with a DNS name", "without"])
def test_an_svid_with_a_dns_name_opens_the_store(spire: Spire, vault: RealVault, dns: list[str]) -> None:
    """The DNS name becomes the certificate's common name, and the store needs one to know the holder by."""
    path = f"/vault/{'named' if dns else 'unnamed'}"
    there = ("-parentID", spire.named("/host"), "-spiffeID", spire.named(path), "-selector", f"unix:uid:{os.getuid()}")
    agent = spire.host_agent()
    entry = f"vault-{'named' if dns else 'unnamed'}"  # under one ID the agent would go on with the SVID that it has
    spire.cli("entry", "create", "-entryID", entry, *there, *dns)
    place = VaultPlace(f"https://127.0.0.1:{vault.port}", "secret", "evident/disks")
    authority = str(vault.folder / "certificate.pem")
    try:
        own = svid(agent, path)
    finally:
        spire.cli("entry", "delete", "-entryID", entry)

    def token() -> str:
        return vault_login.token(place, own, ssl.create_default_context(cafile=authority), mount="cert", role="evident")

    store = VaultSecrets(place, token, tls=ssl.create_default_context(cafile=authority))
    if not dns:
        with pytest.raises(Indeterminate, match=r"keys\.vault .*500"):
            store.get(VOLUME)
        return
    store.put(VOLUME, Held(b"k" * 64))
    assert store.get(VOLUME) == Held(b"k" * 64)
