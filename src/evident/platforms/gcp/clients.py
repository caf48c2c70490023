"""The SDK's clients, as Evident uses them: one call, one attempt, every error one of ours.

Compute Engine through google-cloud-compute's own clients. For Cloud Storage and the project's permissions, a handful of calls, the
session of google-auth that those clients use too: two more packages would bring nothing.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evident.errors import Unsupported, UsageError
from evident.platforms.gcp.requests import Place, Request

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT = 60.0
"""Seconds for one answer."""
_ZONE = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+-[a-z]")
_COMPUTE = {
    "instances": "InstancesClient",
    "disks": "DisksClient",
    "images": "ImagesClient",
    "networks": "NetworksClient",
    "subnetworks": "SubnetworksClient",
    "firewalls": "FirewallsClient",
    "zone_operations": "ZoneOperationsClient",
    "region_operations": "RegionOperationsClient",
    "global_operations": "GlobalOperationsClient",
    "projects": "ProjectsClient",
    "zones": "ZonesClient",
    "regions": "RegionsClient",
    "machine_types": "MachineTypesClient",
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where Google answers."""

    compute: str = "https://compute.googleapis.com"
    storage: str = "https://storage.googleapis.com"
    projects: str = "https://cloudresourcemanager.googleapis.com"


GOOGLE = Endpoints()


@dataclass(frozen=True, slots=True)
class Clients:
    """One project and zone."""

    place: Place
    compute: Mapping[str, Any]
    """The SDK's client of each collection, ``instances``..."""
    session: Any
    """google.auth.transport.requests.AuthorizedSession."""
    at: Endpoints


def connect(project: str | None, zone: str) -> Clients:
    """Clients with the credentials that the SDK finds (GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, the machine's service account).

    `project` None: the one that the credentials name. Raises `Unsupported` ``gcp.sdk``, `UsageError` ``gcp.zone``,
    ``gcp.project`` or ``cloud.auth``.
    """
    absent()
    if not _ZONE.fullmatch(zone):
        raise UsageError.of(
            "gcp.zone", expected="a zone such as europe-west4-a", found=repr(zone), remedy="Correct it (gcloud compute zones list)."
        )
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    from evident.platforms.gcp.errors import translate

    try:
        credentials, named = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        raise translate(error, "the SDK's configuration") from error
    project = project or named
    if not project:
        raise UsageError.of(
            "gcp.project",
            expected="a project",
            found="none given or configured",
            remedy="Name one in the specification, or set GOOGLE_CLOUD_PROJECT.",
        )
    return assemble(Place(project, zone), credentials)


def absent() -> None:
    """Raises `Unsupported` ``gcp.sdk`` where the SDK is not installed."""
    try:
        there = importlib.util.find_spec("google.cloud.compute_v1") is not None
    except ModuleNotFoundError:  # not even the parent package
        there = False
    if not there:
        raise Unsupported.of(
            "gcp.sdk",
            expected="Google's SDK for Python",
            found="no google-cloud-compute",
            remedy="Install it: pip install 'evident[gcp]'.",
        )


def assemble(place: Place, credentials: Any, at: Endpoints = Endpoints()) -> Clients:  # frozen
    """Clients that speak REST with `credentials`, at `at`."""
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import compute_v1

    made = {}
    for name, kind in _COMPUTE.items():
        client = getattr(compute_v1, kind)
        made[name] = client(transport=client.get_transport_class("rest")(host=at.compute, credentials=credentials))
    return Clients(place, made, AuthorizedSession(credentials), at)


def call(clients: Clients, collection: str, operation: str, request: Request) -> Any:
    """The answer (a compute_v1 message) of `operation`; every failure as `evident.platforms.gcp.errors` has it.

    The SDK's own repetition is off: `Patience` repeats, visibly and with the same idempotency key. Changing operations are called by
    their ``_unary`` name: the other one waits by itself, at Google's public address whatever the transport says.
    """
    doing = f"{collection}.{operation.removesuffix('_unary')}"
    _sign_in(clients, doing)
    with _translating(doing):
        return _theirs(getattr(clients.compute[collection], operation)(request=request, retry=None, timeout=TIMEOUT), doing)


def pages(clients: Clients, collection: str, request: Request) -> list[Any]:
    """Everything on all pages of a listing."""
    doing = f"{collection}.list"
    _sign_in(clients, doing)
    with _translating(doing):
        listed = clients.compute[collection].list(request=request, retry=None, timeout=TIMEOUT)
        return [each for page in listed.pages for each in _theirs(page, doing).items]


def _theirs(answer: Any, doing: str) -> Any:
    """`answer`, which names its kind as all of Compute Engine's do. Other people's JSON reads as a message with nothing in it, and so, as a
    listing, as the word that nothing is there.
    """
    from evident.platforms.gcp.errors import strange

    if not answer.kind.startswith("compute#"):
        raise strange(doing)
    return answer


def send(clients: Clients, doing: str, request: Request) -> Any:
    """The answer (requests.Response) to an HTTP request of `requests`, where it is one of those that the request expects."""
    from google.api_core.exceptions import from_http_response

    base = getattr(clients.at, request["endpoint"]) if "endpoint" in request else ""
    _sign_in(clients, doing)
    with _translating(doing):
        response = clients.session.request(
            request["method"],
            base + request["path"],
            params=request.get("query"),
            json=request.get("json"),
            data=request.get("data"),
            headers=request.get("headers"),
            allow_redirects=False,
            timeout=TIMEOUT,
        )
        if response.status_code not in request.get("expect", (200, 204)):
            raise from_http_response(response)
    return response


def ask(clients: Clients, doing: str, request: Request, kind: str | None = None) -> dict[str, Any]:
    """As `send`: the JSON object in its answer, which says that it is a `kind`, where those of this interface do."""
    from requests import JSONDecodeError

    from evident.platforms.gcp.errors import strange

    try:
        answer = send(clients, doing, request).json()
    except JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") != kind:
        raise strange(doing)
    return answer


def _sign_in(clients: Clients, doing: str) -> None:
    """Have a token. Fetched here and not by the way, since google-auth takes any answer for one: a portal's page fails in its hands."""
    from google.auth.transport.requests import Request as Transport
    from requests import Session

    from evident.platforms.gcp.errors import strange

    credentials = clients.session.credentials
    if credentials.valid:
        return
    with _translating(doing), Session() as session:
        try:
            credentials.refresh(Transport(session))
        except (TypeError, AttributeError) as error:
            raise strange(f"the sign-in for {doing}") from error


@contextmanager
def _translating(doing: str) -> Iterator[None]:
    """Turns what the SDK raises within into one of ours."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError
    from google.protobuf.json_format import ParseError
    from requests import RequestException

    from evident.platforms.gcp.errors import translate

    try:
        yield
    except (GoogleAPICallError, GoogleAuthError, ParseError, RequestException) as error:
        raise translate(error, doing) from error
