"""Who holds an SVID needs no token in a file: the store's auth method ``cert``, at the fake, and at a real store where there is one."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.svid import TrustDomain
from tests.unit.keys.real_vault import RealVault, certify
from tests.unit.keys.test_vault import PATH, VOLUME, Fake, faking

from evident.errors import Indeterminate, PolicyRefused
from evident.files import write_private_bytes
from evident.identity import workload_api
from evident.identity.workload_api import Svid
from evident.keys import vault_document, vault_login
from evident.keys.store import Held

TRUST, OTHER = TrustDomain(), TrustDomain("example.com")
OWN = TRUST.svid("/evident/key-server", dns="key-server")
HELD = Held(b"k" * 64, {"db": b"a password"})


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    """Over TLS, as a store with the auth method: it asks for a certificate, and demands none."""
    certify(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    tls.load_verify_locations(cadata=TRUST.certificate)
    tls.verify_mode = ssl.CERT_OPTIONAL
    with faking(tls) as server:
        yield server


def written(folder: Path, port: int, **members: str) -> Path:
    path = folder / "vault.json"
    said = {"version": 1, "url": f"https://127.0.0.1:{port}", "ca_file": "certificate.pem", **members}
    login = {"workload_socket": "agent.sock", "role": "evident", "mount": "certs"}
    write_private_bytes(path, json.dumps({**said, "login": login}).encode())
    return path


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Svid]:
    """The SVID that this process has: the last of these, at the socket of the document."""
    own = [OWN]

    def fetch(socket: Path, *, timeout: float) -> Svid:
        assert socket == tmp_path / "agent.sock"
        return own[-1]

    monkeypatch.setattr(workload_api, "fetch", fetch)
    return own


def test_every_request_is_made_with_a_token_of_its_own(fake: Fake, held: list[Svid], tmp_path: Path) -> None:
    store = vault_document.open_vault(written(tmp_path, fake.server_address[1], mount="kv", namespace="team"))
    store.put(VOLUME, HELD)
    held.append(TRUST.svid("/evident/key-server", dns="key-server"))  # renewed
    assert store.get(VOLUME) == HELD
    login = ("POST", "/v1/auth/certs/login")
    assert fake.seen == [login, ("GET", PATH), login, ("POST", PATH), login, ("GET", PATH)]


def test_the_svid_is_shown_for_the_login_alone(fake: Fake, held: list[Svid], tmp_path: Path) -> None:
    store = vault_document.open_vault(written(tmp_path, fake.server_address[1], mount="kv", namespace="team"))
    with pytest.raises(PolicyRefused, match=r"keys\.store\.no-key"):
        store.get(VOLUME)
    assert fake.shown == b"", "in the last request"


@pytest.mark.parametrize(
    "answer",
    [
        (403, b"{}"),
        (400, b'{"errors":["failed to match all constraints"]}'),
        (200, b"{}"),
        (200, b'{"auth":{"client_token":"a b"}}'),
        (204, b""),
    ],
)
def test_without_a_token_there_is_no_key(fake: Fake, held: list[Svid], tmp_path: Path, answer: tuple[int, bytes]) -> None:
    fake.answer = answer
    store = vault_document.open_vault(written(tmp_path, fake.server_address[1], namespace="team"))
    with pytest.raises(Indeterminate, match=r"keys\.vault"):
        store.get(VOLUME)
    assert [path for _, path in fake.seen] == ["/v1/auth/certs/login"]


def test_without_an_svid_the_store_is_not_asked(fake: Fake, tmp_path: Path) -> None:
    store = vault_document.open_vault(written(tmp_path, fake.server_address[1], namespace="team"))
    with pytest.raises(Indeterminate, match=r"keys\.vault .*svid\.unreachable"):
        store.get(VOLUME)
    assert fake.seen == []


@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_a_store_in_the_stores_place_is_shown_nothing(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """One of the trust domain's own workloads, say: its authorities certify SVIDs, and no store."""
    (tmp_path / "other").mkdir()
    certify(tmp_path / "other")
    trust = ssl.create_default_context(cafile=str(tmp_path / "other" / "certificate.pem"))
    if not checked:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    place = vault_document.read(written(tmp_path, fake.server_address[1], namespace="team")).place
    if not checked:
        assert vault_login.token(place, OWN, trust, mount="certs", role="evident")
        assert fake.shown == OWN.certificates[0]
        return
    with pytest.raises(Indeterminate, match="CERTIFICATE_VERIFY_FAILED"):
        vault_login.token(place, OWN, trust, mount="certs", role="evident")
    assert fake.shown == b""


@pytest.fixture
def taking(real_vault: RealVault, tmp_path: Path) -> Path:
    """The document of a real store whose role takes the key server's SVID, and no other of the trust domain."""
    if "certs/" not in real_vault.ask("GET", "sys/auth"):
        real_vault.ask("POST", "sys/auth/certs", {"type": "cert"})
    role = {
        "certificate": ssl.DER_cert_to_PEM_cert(TRUST.certificate),
        "allowed_uri_sans": [str(OWN.spiffe_id)],
        "token_policies": ["evident"],
        "token_no_default_policy": True,
        "token_type": "batch",
        "token_ttl": "60s",
    }
    real_vault.ask("POST", "auth/certs/certs/evident", role)
    (tmp_path / "certificate.pem").write_bytes((real_vault.folder / "certificate.pem").read_bytes())
    return written(tmp_path, real_vault.port)


def test_a_real_store_takes_the_svid_of_its_role(taking: Path, held: list[Svid]) -> None:
    store = vault_document.open_vault(taking)
    store.put(VOLUME, HELD)
    assert store.get(VOLUME) == HELD
    store.delete(VOLUME.disk)


@pytest.mark.parametrize(
    ("other", "status"),
    [
        (TRUST.svid("/web", dns="key-server"), 400),
        (OTHER.svid("/evident/key-server", uris=[str(OWN.spiffe_id)], dns="key-server"), 400),
        (TRUST.svid("/evident/key-server"), 500),
    ],
    ids=["name", "authority", "no common name"],
)
def test_a_real_store_takes_no_other(taking: Path, held: list[Svid], other: Svid, status: int) -> None:
    """One without a common name is in order, and a store has no alias for it: its entry has to give it a DNS name."""
    held.append(other)
    with pytest.raises(Indeterminate, match=rf"keys\.vault .*{status}"):
        vault_document.open_vault(taking).get(VOLUME)
