# ruff: noqa: N802, N815, ARG002 -- http.server names its handlers so, and every verb is given the same
"""An Azure of one subscription in memory, behind the real SDK: over a loopback server, or short-circuited below the SDK's transport.

It keeps state, pages its listings (one a page) and shows new things late there, refuses what is in use, what is not ready and what is
forbidden, checks tokens, upload URLs, ranges and digests, and can be told to throttle, to refuse, to break off, to lose answers, and to
have the caller die at any moment.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import http.server
import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests as http_client
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceResponseError
from azure.core.pipeline.transport import HttpTransport, RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.core.utils import case_insensitive_dict

from evident.platforms.azure.clients import Clients, assembled
from evident.platforms.azure.executor import Azure
from evident.platforms.azure.requests import MIB
from evident.platforms.cloud import Patience
from evident.platforms.opening import Opening
from evident.platforms.order import Disk, Order
from evident.platforms.resources import Resource, ResourceJournal, Stock

SUBSCRIPTION = "00000000-1111-4222-8333-444444444444"
GROUP, REGION, SIZE = "confidential", "westeurope", "Standard_DC2as_v5"
WHERE = {"subscription": SUBSCRIPTION, "group": GROUP, "region": REGION, "type": SIZE}
OPENINGS = (Opening("in", "tcp", 8442, "203.0.113.0/24"), Opening("out", "tcp", 443, "198.51.100.7/32"))
EPOCH = datetime(2026, 6, 1, tzinfo=UTC)
ARM = "https://management.azure.com"
DELAYS = {"virtualMachines": 45.0, "versions": 120.0, "disks": 6.0, "galleries": 8.0, "images": 6.0}
"""Seconds that a creation takes."""
NETWORK = {"networkSecurityGroups", "virtualNetworks", "publicIPAddresses", "networkInterfaces"}
KINDS = (*DELAYS, *sorted(NETWORK))


class Crash(BaseException):
    """This process dies here."""


class Refusal(Exception):
    def __init__(self, code: str, message: str = "as the test wants", status: int = 400, **headers: str) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


LOST = object()
"""A fault: the call is carried out, and its answer never arrives."""
BROKEN = object()
"""A fault: the call is carried out, and its answer breaks off half-way."""


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.skew = 0.0
        """Seconds that this machine is ahead of Azure."""

    def clock(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now + self.skew)

    def azure(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Credential:
    """What azure-identity gives, without a login."""

    def __init__(self) -> None:
        self.token = "valid"
        self.error: str | None = None

    def get_token(self, *_: Any, **__: Any) -> AccessToken:
        if self.error:
            raise ClientAuthenticationError(message=self.error)
        return AccessToken(self.token, 2**40)


class Lost(Exception):
    """The answer does not arrive, or only the first half of `text`."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text


class FakeAzure:
    """See the module. `objects` by lower-case id; `calls` in order: method, path, query and decoded body."""

    def __init__(self, time: Time, *, lag: float = 12.0, quick: bool = False) -> None:
        self.time, self.lag, self.quick = time, lag, quick
        """`quick`: without long waits and with long pages."""
        self.tokens = {"valid"}
        self.objects: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[tuple[str, str, Any]] = []
        self.faults: dict[str, list[Any]] = defaultdict(list)
        """By method and last type of the path: ``PUT virtualMachines``, ``POST beginGetAccess``, ``PUT page``."""
        self.fates: list[tuple[str, str]] = []
        """Code and message of why the next machines do not come up; empty code: forever on the way."""
        self.security = "ConfidentialVM"
        self.restrictions: list[dict[str, Any]] = []
        self.sizes = {SIZE: "SNP", "Standard_DC4as_v5": "SNP", "Standard_DC2es_v6": "TDX", "Standard_D2s_v5": None}
        self.room = {"standardDCASv5Family": (2, 10), "standardDCESv6Family": (0, 10), "cores": (12, 100)}
        self.granted = [{"actions": ["Microsoft.Authorization/*/read"], "notActions": []}, {"actions": ["*"], "notActions": []}]
        self.subscription = {"id": f"/subscriptions/{SUBSCRIPTION}", "displayName": "Research", "state": "Enabled"}
        self.group_exists = True
        self.steps = 0
        self.dies_at(None)
        self._numbers, self._addresses = itertools.count(1), itertools.count(200)

    # -- the life of the caller

    def dies_at(self, moment: int | None) -> None:
        """Kill the caller at this moment, counted from now (1 is the next); None: count only. `steps` says how many went by."""
        self.steps = 0

        def step() -> None:
            self.steps += 1
            if self.steps == moment:
                raise Crash

        self.step = step

    def survives(self, work: Callable[[], Any]) -> bool:
        """Did `work` live to its end?"""
        try:
            work()
        except Crash:
            return False
        return True

    # -- what there is

    def live(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Everything that costs money or space."""
        for each in list(self.objects.values()):
            self._age(each)
        return [each for each in self.objects.values() if kind in (None, each["kind"])]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.live(kind)
        return found

    def _age(self, each: dict[str, Any]) -> None:
        now, body = self.time.now, each["body"]
        if each.get("leaving") is not None and now >= each["leaving"] + 20:
            self.objects.pop(each["id"].lower(), None)
            for disk in [other for other in self.objects.values() if other.get("of") == each["id"]]:
                self.objects.pop(disk["id"].lower())
            return
        properties = body["properties"]
        if properties["provisioningState"] in {"Creating", "Updating"} and now >= each["ready"]:
            properties["provisioningState"] = "Succeeded"
            if each["kind"] == "virtualMachines":
                self._come_up(each)
            if "next" in each:
                properties.update(each.pop("next"))

    def _come_up(self, machine: dict[str, Any]) -> None:
        if machine.get("fate"):
            code, message = machine["fate"]
            machine["body"]["properties"]["provisioningState"] = "Failed" if code else "Creating"
            machine["statuses"] = [{"code": f"ProvisioningState/failed/{code}", "level": "Error", "message": message}]
        else:
            machine["statuses"] = [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{machine.pop('power', 'running')}"}]

    def _get(self, identifier: str) -> dict[str, Any]:
        each = self.objects.get(identifier.lower())
        if each is not None:
            self._age(each)
        if identifier.lower() not in self.objects:
            raise Refusal("ResourceNotFound", f"The Resource '{identifier}' was not found.", 404)
        return self.objects[identifier.lower()]

    def _ready(self, identifier: str) -> dict[str, Any]:
        try:
            each = self._get(identifier)
        except Refusal:
            raise Refusal("InvalidResourceReference", f"Resource {identifier} referenced by another was not found.", 400) from None
        if each["body"]["properties"]["provisioningState"] != "Succeeded":
            raise Refusal("ReferencedResourceNotProvisioned", f"{identifier} is not in Succeeded state", 409)
        return each

    # -- the wire

    def handle(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """One request to its answer. Raises `Lost` where there is none."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, strict_parsing=True))
        blob = parts.netloc.startswith("md-")
        what = f"{method} {'page' if blob else self._type(parts.path)}"
        self.step()  # dies before it is sent
        given = json.loads(body) if body and not blob else body
        self.calls.append((method, parts.path, query, given))
        fault = self.faults[what].pop(0) if self.faults[what] else None
        dated = {"Date": format_datetime(self.time.azure(), usegmt=True)}
        try:
            if isinstance(fault, Refusal):
                raise fault
            if blob:
                answer = self._page(parts.netloc, query, headers, body)
            else:
                self._authorised(headers, parts.path)
                answer = self._arm(method, parts.path, query, given)
        except Refusal as refusal:
            self.step()
            told = {"error": {"code": refusal.code, "message": refusal.message}}
            more = {"x-ms-error-code": refusal.code, "Content-Type": "application/xml"} if blob else {"Content-Type": "application/json"}
            text = f"<Error><Code>{refusal.code}</Code></Error>".encode() if blob else json.dumps(told).encode()
            return refusal.status, {**dated, **more, **refusal.headers}, text
        self.step()  # dies, or loses sight of the answer, after it is done
        status, more, told = answer
        self.answers.append((method, parts.path, told))
        text = b"" if told is None else json.dumps(told).encode()
        if fault is LOST or fault is BROKEN:
            raise Lost(text if fault is BROKEN else b"")
        return status, {**dated, "Content-Type": "application/json", **more}, text

    @staticmethod
    def _type(path: str) -> str:
        """The type (or action) that a path ends with."""
        names = path.strip("/").split("/")
        if names[-1] in {"beginGetAccess", "endGetAccess", "start", "deallocate", "permissions", "skus", "usages"}:
            return names[-1]
        return names[-1] if len(names) % 2 else names[-2]

    def _authorised(self, headers: dict[str, str], path: str) -> None:
        token = headers.get("Authorization", headers.get("authorization", "")).removeprefix("Bearer ")
        if token not in self.tokens:
            raise Refusal("ExpiredAuthenticationToken", "The access token has expired.", 401)
        if path.split("/")[2] != SUBSCRIPTION:
            raise Refusal("SubscriptionNotFound", f"The subscription '{path.split('/')[2]}' could not be found.", 404)
        if not self.group_exists and "resourcegroups" in path.lower():
            raise Refusal("ResourceGroupNotFound", f"Resource group '{GROUP}' could not be found.", 404)

    def _arm(self, method: str, path: str, query: dict[str, str], given: Any) -> tuple[int, dict[str, str], Any]:
        kind = self._type(path)
        assert query.get("api-version"), path
        if method == "GET" and kind in {"permissions", "skus", "usages"}:
            return self._paged(path, query, getattr(self, f"_{kind}")(query))
        if method == "GET" and kind == "diskOperations":
            return 200, {}, {"accessSAS": self.objects[query["disk"].lower()]["url"]}
        if method == "GET" and kind == "subscriptions":
            return 200, {}, self.subscription
        if method == "GET" and kind.lower() == "resourcegroups":
            return 200, {}, {"id": path, "name": GROUP, "location": REGION, "properties": {"provisioningState": "Succeeded"}}
        if method == "POST":
            return self._act(path.rpartition("/")[0], kind, given)
        if method == "GET" and len(path.strip("/").split("/")) % 2:
            return self._list(path, kind, query)
        answers = {"GET": self._read, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}
        return answers[method](path, kind, query, given)

    # -- resources

    def _shown(self, each: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        shown = copy.deepcopy(each["body"])
        if each.get("leaving") is not None:
            shown["properties"]["provisioningState"] = "Deleting"
        if query.get("$expand") == "instanceView":
            shown["properties"]["instanceView"] = {"statuses": each.get("statuses", [{"code": "ProvisioningState/creating"}])}
        return shown

    def _read(self, path: str, kind: str, query: dict[str, str], given: Any) -> tuple[int, dict[str, str], Any]:
        return 200, {}, self._shown(self._get(path), query)

    def _list(self, path: str, kind: str, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        parent = path.rpartition("/")[0]
        if kind in {"images", "versions"}:
            self._get(parent)
        listed = [each for each in self.live(kind) if each["id"].rpartition("/")[0].lower() == path.lower()]
        return self._paged(path, query, [self._shown(each, {}) for each in listed if self.time.now >= each["at"] + self.lag])

    def _paged(self, path: str, query: dict[str, str], listed: list[Any]) -> tuple[int, dict[str, str], Any]:
        start, size = int(query.get("$skiptoken", 0)), 20 if self.quick else 1
        link = f"{ARM}{path}?" + urlencode({**query, "$skiptoken": start + size})
        return 200, {}, {"value": listed[start : start + size], **({"nextLink": link} if start + size < len(listed) else {})}

    def _put(self, path: str, kind: str, query: dict[str, str], given: Any) -> tuple[int, dict[str, str], Any]:
        there = self.objects.get(path.lower())
        if there is not None:
            self._age(there)
        if path.lower() in self.objects:
            return self._put_again(self.objects[path.lower()], given)
        assert given["location"] == REGION, given
        body = copy.deepcopy({**given, "id": path, "name": path.rpartition("/")[2]})
        made = {
            "kind": kind,
            "id": path,
            "at": self.time.now,
            "ready": self.time.now + (4.0 if self.quick else DELAYS.get(kind, 4.0)),
            "body": body,
        }
        getattr(self, f"_make_{kind}", lambda *_: None)(made, body["properties"])
        body["properties"]["provisioningState"] = "Creating"
        self.objects[path.lower()] = made
        operation = f"{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{REGION}/operations/{next(self._numbers)}"
        shown = self._shown(made, {})
        if kind == "disks":  # one that is accepted has no id yet
            return 202, {"Location": operation}, {name: value for name, value in shown.items() if name != "id"}
        return 201, {"Azure-AsyncOperation": operation, "Retry-After": "10"}, shown

    def _put_again(self, there: dict[str, Any], given: Any) -> tuple[int, dict[str, str], Any]:
        state = there["body"]["properties"]["provisioningState"]
        if there.get("leaving") is not None or (state == "Creating" and there["kind"] in NETWORK):
            raise Refusal("AnotherOperationInProgress", "Another operation on this resource is in progress.", 409)
        fixed = {"virtualMachines", "disks", "images", "versions"}
        if there["kind"] in fixed and given["properties"] != there.get("given", given["properties"]):
            raise Refusal("PropertyChangeNotAllowed", "Changing this property is not allowed.", 409)
        there["body"]["tags"] = given["tags"]
        if there["kind"] in NETWORK:
            there["body"]["properties"] = {**copy.deepcopy(given["properties"]), "provisioningState": "Updating"}
            there["ready"] = self.time.now + 4
            if there["kind"] == "publicIPAddresses":
                there["body"]["properties"]["ipAddress"] = there["address"]
        return 200, {}, self._shown(there, {})

    def _make_disks(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        made["given"], made["pages"] = copy.deepcopy(properties), {}
        made["next"] = {"diskState": "ReadyToUpload"}

    def _make_images(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        made["given"] = copy.deepcopy(properties)
        self._ready(made["id"].rpartition("/images/")[0])

    def _make_versions(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        made["given"] = copy.deepcopy(properties)
        self._ready(made["id"].rpartition("/versions/")[0])
        disk = self._ready(properties["storageProfile"]["osDiskImage"]["source"]["id"])
        if disk["body"]["properties"]["diskState"] != "Unattached":
            raise Refusal("OperationNotAllowed", "There is an active shared access signature outstanding for the disk.", 409)

    def _make_virtualNetworks(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        for subnet in properties["subnets"]:
            self._ready(subnet["properties"]["networkSecurityGroup"]["id"])

    def _make_publicIPAddresses(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        made["address"] = f"203.0.113.{next(self._addresses)}"
        made["next"] = {"ipAddress": made["address"]}

    def _make_networkInterfaces(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        at = properties["ipConfigurations"][0]["properties"]
        self._ready(at["subnet"]["id"].rpartition("/subnets/")[0])
        if "publicIPAddress" in at:
            self._ready(at["publicIPAddress"]["id"])
        at["privateIPAddress"] = "10.0.0.4"

    def _make_virtualMachines(self, made: dict[str, Any], properties: dict[str, Any]) -> None:
        made["given"] = copy.deepcopy(properties)
        version = self._ready(properties["storageProfile"]["imageReference"]["id"])
        assert "osProfile" not in properties, "a specialised image takes none"
        interface = self._ready(properties["networkProfile"]["networkInterfaces"][0]["id"])
        if any(other.get("interface") == interface["id"] for other in self.live("virtualMachines")):
            raise Refusal("NicReservedForAnotherVm", "Nic is reserved for another virtual machine for 180 seconds.")
        made["interface"], made["version"] = interface["id"], version["id"]
        made["fate"] = self.fates.pop(0) if self.fates else None
        properties["securityProfile"]["securityType"] = self.security
        name = properties["storageProfile"]["osDisk"]["name"]
        path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP.upper()}/providers/Microsoft.Compute/disks/{name}"
        shown = {"id": path, "name": name, "location": REGION, "tags": made["body"]["tags"]}
        body = {**shown, "properties": {"provisioningState": "Succeeded", "diskState": "Attached"}}
        self.objects[path.lower()] = {"kind": "disks", "id": path, "at": self.time.now, "ready": 0.0, "body": body, "of": made["id"]}

    def _patch(self, path: str, kind: str, query: dict[str, str], given: Any) -> tuple[int, dict[str, str], Any]:
        each = self._get(path)
        each["body"]["tags"] = given["tags"]
        return 200, {}, self._shown(each, {})

    def _delete(self, path: str, kind: str, query: dict[str, str], given: Any) -> tuple[int, dict[str, str], Any]:
        if path.lower() not in self.objects:
            return 204, {}, None
        each = self._get(path)
        self._unused(each)
        if each.get("leaving") is None:
            each["leaving"] = self.time.now
        return 202, {"Location": f"{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{REGION}/operations/1"}, None

    def _unused(self, each: dict[str, Any]) -> None:
        kind, identifier = each["kind"], each["id"]
        texts = [(other, json.dumps(other["body"]["properties"])) for other in self.live() if other is not each]
        users = {other["kind"] for other, text in texts if f'"{identifier}"' in text or f'"{identifier}/' in text}
        children = [other for other, _ in texts if other["id"].startswith(f"{identifier}/")]
        if kind == "networkInterfaces" and "virtualMachines" in users:
            raise Refusal("NicInUse", "Network Interface is used by existing resource.")
        if kind == "publicIPAddresses" and "networkInterfaces" in users:
            raise Refusal("PublicIPAddressCannotBeDeleted", "Public IP address can not be deleted since it is still allocated.")
        if kind == "virtualNetworks" and "networkInterfaces" in users:
            raise Refusal("InUseSubnetCannotBeDeleted", "Subnet is in use and cannot be deleted.")
        if kind == "networkSecurityGroups" and "virtualNetworks" in users:
            raise Refusal("InUseNetworkSecurityGroupCannotBeDeleted", "Network security group is in use.")
        if kind in {"galleries", "images"} and children:
            raise Refusal("CannotDeleteResource", "Can not delete resource before nested resources are deleted.", 409)
        if kind == "disks" and ("of" in each or each["body"]["properties"].get("diskState") == "ActiveUpload"):
            raise Refusal("OperationNotAllowed", "The disk is attached, or has an active shared access signature outstanding.", 409)

    def _act(self, path: str, action: str, given: Any) -> tuple[int, dict[str, str], Any]:
        each = self._get(path)
        properties = each["body"]["properties"]
        if action == "beginGetAccess":
            if properties["diskState"] != "ReadyToUpload":
                raise Refusal("OperationNotAllowed", "There is an active shared access signature outstanding for the disk.", 409)
            assert given["access"] == "Write"
            properties["diskState"], name = "ActiveUpload", hashlib.sha256(path.encode()).hexdigest()[:12]
            each["url"] = f"https://md-{name}.z1.blob.storage.azure.net/{name}/abcd?sv=2018-03-28&sr=b&sig=a%2Bsecret%2Fof%3D{name}"
            where = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{REGION}/diskOperations/1"
            return 202, {"Location": f"{ARM}{where}?" + urlencode({"api-version": "2026-03-02", "monitor": "true", "disk": path})}, None
        if action == "endGetAccess":
            properties["diskState"] = "Unattached"
            each.pop("url", None)
            return 202, {}, None
        each["body"]["properties"]["provisioningState"] = "Updating"
        each["ready"], each["power"] = self.time.now + 20, "deallocated" if action == "deallocate" else "running"
        each["fate"] = self.fates.pop(0) if self.fates else None
        return 202, {}, None

    def _page(self, host: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        disk = next((each for each in self.live("disks") if urlsplit(each.get("url", "")).netloc == host), None)
        if disk is None or dict(parse_qsl(urlsplit(disk["url"]).query))["sig"] != query["sig"]:
            raise Refusal("AuthenticationFailed", status=403)
        first, last = (int(each) for each in headers["x-ms-range"].removeprefix("bytes=").split("-"))
        given = disk["given"]["creationData"]["uploadSizeBytes"]
        assert (query["comp"], headers["x-ms-page-write"], headers["x-ms-version"]) == ("page", "update", "2021-08-06")
        assert first % 512 == 0
        assert (last + 1) % 512 == 0
        assert last - first + 1 == len(body) <= 4 * MIB
        if last >= given:
            raise Refusal("InvalidPageRange", status=416)
        if base64.b64encode(hashlib.md5(body).digest()).decode() != headers["Content-MD5"]:  # noqa: S324 -- as the service does
            raise Refusal("Md5Mismatch", status=400)
        disk["pages"][first] = body
        return 201, {}, None

    # -- what is asked before

    def _permissions(self, _: dict[str, str]) -> list[Any]:
        return self.granted

    def _skus(self, query: dict[str, str]) -> list[Any]:
        assert query["$filter"] == f"location eq '{REGION}'"
        listed = []
        for name, confidential in self.sizes.items():
            told = {"vCPUs": "2", "HyperVGenerations": "V1,V2", **({"ConfidentialComputingType": confidential} if confidential else {})}
            family = {"SNP": "standardDCASv5Family", "TDX": "standardDCESv6Family"}.get(confidential or "", "standardDSv5Family")
            listed.append(
                {
                    "resourceType": "virtualMachines",
                    "name": name,
                    "family": family,
                    "locations": [REGION],
                    "locationInfo": [{"location": REGION, "zones": ["1", "2", "3"]}],
                    "capabilities": [{"name": each, "value": value} for each, value in told.items()],
                    "restrictions": self.restrictions,
                }
            )
        return [{"resourceType": "disks", "name": "Premium_LRS"}, *listed]

    def _usages(self, _: dict[str, str]) -> list[Any]:
        return [
            {"unit": "Count", "name": {"value": name, "localizedValue": name}, "currentValue": used, "limit": limit}
            for name, (used, limit) in self.room.items()
        ]


class Answered(HttpResponse):
    """What a transport gives to the SDK's pipeline, all of it there already."""

    is_closed = is_stream_consumed = True
    encoding = "utf-8"
    request = status_code = headers = content = reason = url = content_type = None
    """Of each instance; the base class has them abstract."""

    def __init__(self, request: Any, status: int, headers: dict[str, str], content: bytes) -> None:
        self.request, self.status_code, self.headers, self.content = request, status, case_insensitive_dict(headers), content
        self.reason, self.url, self.content_type = "", request.url, self.headers.get("Content-Type")

    def json(self) -> Any:
        return json.loads(self.content)

    def text(self, encoding: str | None = None) -> str:
        return self.content.decode()

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise HttpResponseError(response=self)

    def read(self) -> bytes:
        return self.content

    def close(self) -> None:
        return

    def iter_bytes(self, **_: Any) -> Iterator[bytes]:
        yield self.content

    iter_raw = iter_bytes

    def __enter__(self) -> HttpResponse:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Short(HttpTransport[HttpRequest, HttpResponse]):
    """Answers the SDK's pipeline at once: no socket, for tests that ask ten thousand times."""

    def __init__(self, fake: FakeAzure) -> None:
        self.fake = fake

    def send(self, request: Any, **_: Any) -> HttpResponse:
        body = request.content if isinstance(request.content, bytes) else (request.content or "").encode()
        try:
            return Answered(request, *self.fake.handle(request.method, request.url, dict(request.headers), body))
        except Lost:
            raise ServiceResponseError("timed out") from None

    def open(self) -> None:
        return

    def close(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


class Tunnel(http_client.adapters.HTTPAdapter):
    """Sends what is for Azure to a loopback server, over HTTP/1.1, and leaves it as it is otherwise."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def send(self, request: Any, *args: Any, **more: Any) -> http_client.Response:
        request.headers["X-Meant-For"] = request.url
        request.url = f"http://{self.address}/"
        return super().send(request, *args, **more)


class Loopback:
    """`fake` behind a server of 127.0.0.1."""

    def __init__(self, fake: FakeAzure) -> None:
        lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with lock:
                    try:
                        status, headers, text = fake.handle(self.command, self.headers["X-Meant-For"], dict(self.headers), body)
                    except Lost as lost:
                        self.close_connection = True
                        if lost.text:
                            self.send_response_only(200)
                            self.send_header("Content-Length", str(len(lost.text)))
                            self.end_headers()
                            self.wfile.write(lost.text[: len(lost.text) // 2])
                        return
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _any

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def tunnelled(address: str) -> RequestsTransport:
    """The SDK's own transport, but for the adapter below it."""
    session = http_client.Session()
    session.trust_env = False
    session.mount("https://", Tunnel(address))
    return RequestsTransport(session=session, session_owner=False)


class Owner:
    """Somebody with one deployment; every `stock()` is a new process with the same journal."""

    def __init__(self, directory: Path, fake: FakeAzure, clients: Clients, *, seed: str = "") -> None:
        self.fake, self.name, self.seed, self.clients = fake, "shop", seed, clients
        self.path = directory / self.name / "resources.jsonl"
        self.file = directory / "disk.raw"
        self.file.write_bytes(b"\xe9" * 512 + b"EFI PART" + bytes(9 * MIB) + b"tail")
        self.order = Order(disks=(Disk(str(self.file)),), where=dict(WHERE), openings=OPENINGS)
        self.said: list[str] = []
        self._random = itertools.count(1)

    def patience(self) -> Patience:
        return Patience(self.fake.time.clock, self.fake.time.sleep, lambda: 0.5, self.said.append)

    def journal(self) -> ResourceJournal:
        return CrashingJournal(self.path, self.fake)

    def azure(self) -> Azure:
        return Azure(self.clients, self.patience(), REGION)

    def stock(self, azure: Azure | None = None) -> Stock:
        def randomness(count: int) -> bytes:
            return hashlib.sha256(f"{self.seed} {next(self._random)}".encode()).digest()[:count]

        return Stock((self.name, 1), self.journal(), azure or self.azure(), self.patience(), randomness)

    def up(self) -> str:
        azure = self.azure()
        return azure.launch(self.stock(azure), self.order)

    def down(self) -> None:
        self.stock().destroy()


class CrashingJournal(ResourceJournal):
    """Dies before, in the middle of (a torn line), and after its writes, where the fake says so."""

    def __init__(self, path: Path, fake: FakeAzure) -> None:
        super().__init__(path, fake.time.wall)
        self._path, self._fake = path, fake

    def write(self, resource: Resource) -> Resource:
        self._fake.step()
        before = self._path.read_bytes() if self._path.exists() else b""
        written = super().write(resource)
        try:
            self._fake.step()
        except Crash:
            whole = self._path.read_bytes()
            self._path.write_bytes(whole[: (len(before) + len(whole)) // 2])
            raise
        self._fake.step()
        return written


@pytest.fixture(autouse=True)
def _process_crashes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote outlives it without fsync; only the machine's own crash needs that, and it costs much of the time here."""

    def nothing(_: int) -> None:
        return None

    monkeypatch.setattr("os.fsync", nothing)


@pytest.fixture(scope="session")
def short() -> Callable[[FakeAzure], Clients]:
    """Clients, made once (that is slow), talking to whichever Azure is plugged in last."""
    transport = Short(FakeAzure(Time()))
    made = assembled(WHERE, Credential(), transport, transport.fake.time.wall)

    def plug(fake: FakeAzure) -> Clients:
        transport.fake = fake
        return Clients(made.subscription, made.group, made.compute, made.network, made.blobs, fake.time.wall)

    return plug


@pytest.fixture
def world(tmp_path: Path, short: Callable[[FakeAzure], Clients]) -> Callable[[], tuple[Owner, FakeAzure]]:
    """Gives fresh worlds: an owner and their Azure; the newest is the one that is plugged in."""
    numbers = itertools.count()

    def make() -> tuple[Owner, FakeAzure]:
        directory = tmp_path / f"world-{next(numbers)}"
        directory.mkdir()
        fresh = FakeAzure(Time(), quick=True)
        owner = Owner(directory, fresh, short(fresh))
        owner.file.write_bytes(b"image")
        return owner, fresh

    return make


@pytest.fixture
def fake() -> FakeAzure:
    return FakeAzure(Time())


@pytest.fixture
def owner(tmp_path: Path, fake: FakeAzure, short: Callable[[FakeAzure], Clients]) -> Owner:
    return Owner(tmp_path, fake, short(fake))


@pytest.fixture
def credential() -> Credential:
    return Credential()


@pytest.fixture
def loopback(fake: FakeAzure, credential: Credential) -> Iterator[Clients]:
    """Clients that talk to `fake` over HTTP."""
    server = Loopback(fake)
    transport = tunnelled(server.address)
    yield assembled(WHERE, credential, transport, fake.time.wall)
    transport.session.close()
    server.close()
