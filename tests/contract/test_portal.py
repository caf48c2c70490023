# ruff: noqa: N815 -- http.server wants its methods called do_GET
"""A network's login page, or a proxy's own JSON, in a cloud's place: never a defect of ours, and never the word that nothing is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from evident.errors import EvidentError
from evident.platforms import cloud

ANSWERS = {
    "page": ("text/html; charset=utf-8", b"<!doctype html><html><title>Welcome to the guest network</title></html>"),
    "list": ("application/json", b"[]"),
    "object": ("application/json", b"{}"),
    "null": ("application/json", b"null"),
    "text": ("application/json", b'"welcome"'),
    "number": ("application/json", b"5"),
    "other": ("application/json", b'{"login": "http://guest.example/", "value": {}, "items": 5, "id": 7}'),
}


class _Portal(BaseHTTPRequestHandler):
    kind, content = ANSWERS["page"]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    do_GET = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(params=ANSWERS)
def answers(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def portal(answers: str) -> Iterator[str]:
    kind, content = ANSWERS[answers]
    with ThreadingHTTPServer(("127.0.0.1", 0), type("_Says", (_Portal,), {"kind": kind, "content": content})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(5)


def refused(call: Callable[[], object], place: str) -> None:
    with pytest.raises(EvidentError) as caught:
        call()
    assert caught.value.code == cloud.TRANSIENT
    assert f"in {place}'s place" in caught.value.findings[0].remedy


def test_google(portal: str, answers: str) -> None:
    pytest.importorskip("google.cloud.compute_v1")
    from cryptography.hazmat.primitives.asymmetric import rsa
    from google.auth.credentials import AnonymousCredentials
    from google.auth.crypt import RSASigner
    from google.oauth2 import service_account

    from evident.platforms.gcp import clients, preflight, requests, upload

    at, place = clients.Endpoints(portal, portal, portal), requests.Place("shop-1", "europe-west4-a")
    anybody = clients.assemble(place, AnonymousCredentials(), at)
    key = rsa.generate_private_key(65537, 2048)
    signer = RSASigner(key)
    account = service_account.Credentials(signer, "shop@example", f"{portal}/token", scopes=[clients.SCOPE])
    asks: list[Callable[[], object]] = [
        lambda: clients.call(anybody, "projects", "get", {"project": "shop-1"}),
        lambda: clients.pages(anybody, "instances", {"project": "shop-1", "zone": "europe-west4-a"}),
        lambda: clients.ask(anybody, "buckets.list", requests.buckets(place, None), "storage#buckets"),
        lambda: upload.stored(anybody, "bucket"),
        lambda: upload._begun(anybody, "bucket"),
        lambda: clients.call(clients.assemble(place, account, at), "projects", "get", {"project": "shop-1"}),
    ]
    if answers != "object":  # with which Google says that nothing is permitted
        asks.append(lambda: preflight._permissions(anybody))
    for ask in asks:
        refused(ask, "Google")


def test_azure(portal: str, answers: str) -> None:
    pytest.importorskip("azure.mgmt.compute")
    import requests
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    from evident.platforms.azure.clients import assembled

    class Astray(HTTPAdapter):
        def send(self, request: Any, **more: Any) -> Any:  # type: ignore[override]
            request.url = portal + request.path_url
            return super().send(request, **more)

    class Credential:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("token", 2**40)

    with requests.Session() as session:
        session.mount("https://", Astray())
        transport = RequestsTransport(session=session, session_owner=False)
        clients = assembled({"subscription": "s", "group": "g"}, Credential(), transport, lambda: datetime.now(UTC))
        disks = clients.compute.disks
        refused(lambda: clients.call("reading", disks.get, "g", "d"), "Azure")
        refused(lambda: clients.listed("listing", disks.list_by_resource_group, "g"), "Azure")
        if answers not in ("object", "other"):  # after which the disk itself is asked for
            refused(lambda: clients.begin("removing", disks.begin_delete, "g", "d"), "Azure")
        refused(clients.permissions, "Azure")
        refused(lambda: clients.put_page("https://shop.blob.core.windows.net/disk", 0, bytes(512)), "Azure")


def test_aws(portal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    from evident.platforms.aws.clients import call, connect

    for name, value in {"AWS_ENDPOINT_URL": portal, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}.items():
        monkeypatch.setenv(name, value)
    clients = connect("eu-west-1")
    refused(lambda: call(clients.ec2, "describe_instances", {}), "AWS")
    refused(lambda: call(clients.sts, "get_caller_identity", {}), "AWS")
    refused(lambda: call(clients.quotas, "get_service_quota", {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}), "AWS")
    refused(lambda: call(clients.ebs, "start_snapshot", {"VolumeSize": 1}), "AWS")
