"""Owners of deployments on the Google Cloud of ``loopback.py``, through the real SDK."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.crypt import RSASigner
from google.oauth2 import service_account

from evident.platforms.cloud import Patience
from evident.platforms.gcp import images, requests
from evident.platforms.gcp.clients import SCOPE, Clients, Endpoints, assemble
from evident.platforms.gcp.executor import Gcp
from evident.platforms.gcp.requests import Place
from evident.platforms.opening import Opening
from evident.platforms.order import Disk, Order
from evident.platforms.resources import Resource, ResourceJournal, Stock

SMALL_GIB = 512 * 1024
"""A hundredth of a second instead of three, for every archive of every machine that is launched here."""
SMALL_CHUNK = 256 * 1024


def _sibling(name: str) -> ModuleType:
    """A module beside this one: pytest's import mode knows no packages of tests."""
    full = f"evident_tests_gcp_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


loopback = _sibling("loopback")


class Account(service_account.Credentials):
    def _is_regional_access_boundary_lookup_required(self) -> bool:
        """A courtesy to Google's routers, asked in the background at Google's public address whatever the endpoints are."""
        return False


class Wire:
    """The SDK's clients, made once, talking to whichever Google is plugged in: `direct` without sockets, `over_http` as always."""

    def __init__(self) -> None:
        self.server = loopback.Server()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.direct = self.over_http()
        sessions = [client.transport._session for client in self.direct.compute.values()]
        for session in (self.direct.session, *sessions):
            session.mount("http://", loopback.Direct(self.server))
            session.trust_env = False  # reading proxies from the environment, each time anew, costs a third of everything

    def over_http(self) -> Clients:
        """Clients with a token of their own to fetch."""
        signer = RSASigner.from_string(self._pem)
        email = f"evident@{loopback.PROJECT}.iam.gserviceaccount.com"
        credentials = Account(signer, email, f"{self.server.url}/token", scopes=[SCOPE])
        at = Endpoints(self.server.url, self.server.url, self.server.url)
        return assemble(Place(loopback.PROJECT, loopback.ZONE), credentials, at)


class Owner:
    """Somebody with one deployment; every `stock()` is a new process with the same journal."""

    def __init__(self, directory: Path, google: Any, wire: Wire, *, seed: str = "", http: bool = False) -> None:
        self.google, self.name, self.seed = google, "shop", seed
        self.clients = wire.over_http() if http else wire.direct
        wire.server.google = google
        google.gib = SMALL_GIB
        self.path = directory / self.name / "resources.jsonl"
        self.file = directory / "disk.raw"
        self.file.write_bytes(hashlib.shake_256(b"an image").digest(SMALL_CHUNK + 1000))
        openings = (
            Opening("in", "tcp", 8442, "203.0.113.0/24"),
            Opening("out", "tcp", 443, "0.0.0.0/0"),
            Opening("out", "udp", 53, "::/0"),
        )
        where = {"project": loopback.PROJECT, "zone": loopback.ZONE, "type": "n2d-standard-2"}
        self.order = Order(disks=(Disk(str(self.file)),), where=where, openings=openings)
        self.said: list[str] = []
        self._random = itertools.count(1)

    def patience(self) -> Patience:
        return Patience(self.google.time.clock, self.google.time.sleep, lambda: 0.5, self.said.append)

    def journal(self) -> ResourceJournal:
        return CrashingJournal(self.path, self.google)

    def gcp(self) -> Gcp:
        return Gcp(self.clients, self.patience())

    def stock(self, gcp: Gcp | None = None) -> Stock:
        def randomness(count: int) -> bytes:
            return hashlib.sha256(f"{self.seed} {next(self._random)}".encode()).digest()[:count]

        return Stock((self.name, 1), self.journal(), gcp or self.gcp(), self.patience(), randomness)

    def up(self) -> str:
        gcp = self.gcp()
        return gcp.launch(self.stock(gcp), self.order)

    def down(self) -> None:
        self.stock().destroy()

    def moved(self, **where: str) -> None:
        """Order with other settings."""
        self.order = replace(self.order, where={**self.order.where, **where})


class CrashingJournal(ResourceJournal):
    """Dies before, in the middle of (a torn line), and after its writes, where Google says so."""

    def __init__(self, path: Path, google: Any) -> None:
        super().__init__(path, google.time.wall)
        self._path, self._google = path, google

    def write(self, resource: Resource) -> Resource:
        self._google.step()
        before = self._path.read_bytes() if self._path.exists() else b""
        written = super().write(resource)
        try:
            self._google.step()
        except loopback.Crash:
            whole = self._path.read_bytes()
            self._path.write_bytes(whole[: (len(before) + len(whole)) // 2])
            raise
        self._google.step()
        return written


@pytest.fixture(autouse=True)
def _small_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "GIB", SMALL_GIB)
    monkeypatch.setattr(images, "GIB", SMALL_GIB)
    monkeypatch.setattr(images, "CHUNK", SMALL_CHUNK)


@pytest.fixture(scope="session")
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.server.close()


@pytest.fixture
def google() -> Any:
    return loopback.Google()


@pytest.fixture
def owner(tmp_path: Path, google: Any, wire: Wire) -> Owner:
    return Owner(tmp_path, google, wire)


@pytest.fixture
def afar(tmp_path: Path, google: Any, wire: Wire) -> Owner:
    """An owner whose requests go through sockets, with a token to fetch first."""
    return Owner(tmp_path, google, wire, http=True)


@pytest.fixture
def world(tmp_path: Path, wire: Wire) -> Callable[[], tuple[Owner, Any]]:
    """Gives fresh worlds: an owner and their Google; the newest is the one that is plugged in."""
    numbers = itertools.count()

    def make() -> tuple[Owner, Any]:
        directory = tmp_path / f"world-{next(numbers)}"
        directory.mkdir()
        fresh = loopback.Google()
        return Owner(directory, fresh, wire), fresh

    return make
