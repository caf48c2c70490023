"""The SDK's clients, as Evident uses them: one call, one attempt, every error one of ours.

The SDK's own machinery that would hide things is left out of its pipeline: repetition and waiting (`Patience` repeats, visibly), polling
of long operations (the executor asks for the state that they lead to, which also works after a crash), registration of resource providers
in the subscription, logging (the URL of an upload is a secret).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json import JSONDecodeError
from typing import Any, Final

from evident.errors import Unsupported
from evident.platforms.azure.errors import refuse_no_listing, refuse_page, skew, strange, translate

ENDPOINT: Final = "https://management.azure.com"
BLOB_VERSION: Final = "2021-08-06"
"""Of the Blob service's REST API."""
_CREATED: Final = 201
"""What Put Page answers with, and nobody in its place by chance."""
_PERMISSIONS: Final = "2022-04-01"
_RESOURCES: Final = "2021-04-01"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of a long operation's first call."""

    status: int
    location: str | None
    """Where its result will be."""
    body: dict[str, Any]


class _Accepted:
    """A polling method (`azure.core.polling.PollingMethod`) that does not poll."""

    def initialize(self, client: Any, initial_response: Any, deserialization_callback: Any) -> None:  # noqa: ARG002  # the SDK's protocol
        self._response = initial_response.http_response

    def finished(self) -> bool:
        return True

    def resource(self) -> Answer:
        return _read(self._response)


@dataclass(frozen=True, slots=True)
class Clients:
    """One subscription and resource group."""

    subscription: str
    group: str
    compute: Any
    network: Any
    blobs: Any
    """A pipeline without credentials: the URLs that it is given hold their own."""
    now: Callable[[], datetime]

    def call(self, doing: str, operation: Callable[..., Any], *args: Any, **more: Any) -> dict[str, Any]:
        """The resource that `operation` answers with, in wire form; every failure as `evident.platforms.azure.errors` has it."""
        found = self._tried(doing, lambda: operation(*args, **more))
        if not str(getattr(found, "id", "")).lower().startswith("/subscriptions/"):  # the SDK takes any JSON for a resource
            raise strange(doing)
        answer: dict[str, Any] = found.as_dict()
        return answer

    def begin(self, doing: str, operation: Callable[..., Any], *args: Any) -> Answer:
        """The first answer of a long operation. It proves nothing: the state that the operation leads to is asked for."""
        answer: Answer = self._tried(doing, lambda: operation(*args, polling=_Accepted()).result())
        return answer

    def listed(self, doing: str, operation: Callable[..., Any], *args: Any, **more: Any) -> list[dict[str, Any]]:
        """All pages of a listing."""
        found: list[dict[str, Any]] = self._tried(
            doing, lambda: [each.as_dict() for each in operation(*args, raw_response_hook=refuse_no_listing, **more)]
        )
        return found

    def get(self, doing: str, url: str) -> tuple[Answer, float]:
        """A resource of the Resource Manager that has no client here, and how far this machine's clock is ahead of Azure's, in seconds."""
        from azure.core.rest import HttpRequest

        def ask() -> tuple[Answer, float]:
            response = self.compute.send_request(HttpRequest("GET", url))
            response.raise_for_status()
            return _read(response), skew(response.headers, self.now())

        found: tuple[Answer, float] = self._tried(doing, ask)
        return found

    def resource(self, doing: str, path: str = "") -> tuple[dict[str, Any], float]:
        """What is at `path` of the subscription, and by how many seconds this machine's clock is ahead of Azure's."""
        answer, ahead = self.get(doing, f"/subscriptions/{self.subscription}{path}?api-version={_RESOURCES}")
        return answer.body, ahead

    def permissions(self) -> list[dict[str, Any]]:
        """What these credentials may do in the resource group (Authorization REST API, "Permissions - List For Resource Group")."""
        path = f"/subscriptions/{self.subscription}/resourcegroups/{self.group}/providers/Microsoft.Authorization/permissions"
        found: list[dict[str, Any]] = []
        url: str | None = f"{path}?api-version={_PERMISSIONS}"
        while url:
            body = self.get("listing permissions", url)[0].body
            if not isinstance(body.get("value"), list):
                raise strange("listing permissions")
            found += body["value"]
            url = body.get("nextLink")
        return found

    def put_page(self, url: str, offset: int, data: bytes) -> None:
        """Write `data` (whole sectors, at most 4 MiB) at `offset` of the page blob at `url` (Storage REST API, "Put Page")."""
        from azure.core.rest import HttpRequest

        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()  # what that service checks transfers by
        headers = {
            "x-ms-version": BLOB_VERSION,
            "x-ms-page-write": "update",
            "x-ms-range": f"bytes={offset}-{offset + len(data) - 1}",
            "Content-MD5": digest,
            "Content-Type": "application/octet-stream",
        }
        request = HttpRequest("PUT", url, params={"comp": "page"}, headers=headers, content=data)
        response = self._tried("writing a page", lambda: self._sent(request))
        if response.status_code != _CREATED:
            raise strange("writing a page")

    def _sent(self, request: Any) -> Any:
        response = self.blobs.send_request(request)
        response.raise_for_status()
        return response

    def _tried(self, doing: str, work: Callable[[], Any]) -> Any:
        from azure.core.exceptions import AzureError, DeserializationError

        try:
            return work()
        except (AzureError, DeserializationError, JSONDecodeError) as error:
            raise translate(error, doing, self.now()) from error


def _read(response: Any) -> Answer:
    body = response.json() if response.content else {}
    if not isinstance(body, dict):
        raise JSONDecodeError("no object", response.text(), 0)
    return Answer(response.status_code, response.headers.get("Location"), body)


def connect(where: Mapping[str, str]) -> Clients:
    """Clients with the credentials that the SDK finds (environment, workload or managed identity, az login).

    `where` names ``subscription`` and ``group``. Raises `Unsupported` ``azure.sdk``.
    """
    try:
        from azure.core.pipeline.transport import RequestsTransport
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise Unsupported.of(
            "azure.sdk", expected="the Azure SDK for Python", found=f"no {error.name}", remedy="Install it: pip install 'evident[azure]'."
        ) from None
    transport = RequestsTransport(connection_timeout=10, read_timeout=60)
    return assembled(where, DefaultAzureCredential(), transport, lambda: datetime.now(UTC))


def assembled(where: Mapping[str, str], credential: Any, transport: Any, now: Callable[[], datetime]) -> Clients:
    """Clients of `credential` that send by `transport`."""
    from azure.core import PipelineClient
    from azure.core.pipeline import policies
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
    from azure.mgmt.network import NetworkManagementClient

    common = [policies.UserAgentPolicy("evident"), policies.ProxyPolicy(), policies.CustomHookPolicy(raw_response_hook=refuse_page)]
    resources = [*common, ARMChallengeAuthenticationPolicy(credential, f"{ENDPOINT}/.default")]
    subscription = where["subscription"]
    compute, network = (
        client(credential, subscription, base_url=ENDPOINT, policies=resources, transport=transport)
        for client in (ComputeManagementClient, NetworkManagementClient)
    )
    return Clients(subscription, where["group"], compute, network, PipelineClient(ENDPOINT, policies=common, transport=transport), now)
