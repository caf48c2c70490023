# ruff: noqa: N815 -- http.server wants its methods called do_GET
"""A Google Cloud of one project on 127.0.0.1: Compute Engine, Cloud Storage, Resource Manager and the token endpoint, over HTTP.

It keeps state, pages, lists late, honours request ids, refuses what is in use, finishes operations later (perhaps with an error inside),
and can be told to refuse, to throttle, to lose answers, and to have the caller die at any moment. What it is sent and what it answers are
both held against the SDK's own messages. `Google.answer` is the whole of it; `Server` puts it behind a socket, `Direct` under the SDK's
sessions, where a caller can be made to die.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import tarfile
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import requests
from google.cloud import compute_v1

PROJECT, ZONE, REGION = "shop-1", "europe-west4-a", "europe-west4"
EPOCH = datetime(2026, 6, 1, tzinfo=UTC)
PAGE = 2


class Crash(BaseException):
    """This process dies here."""


class Lost(Exception):
    """The call was carried out, and its answer never arrives."""


@dataclass
class Refusal(Exception):
    status: int
    reason: str
    message: str = "as the test wants"


LOSE = object()
"""A fault: carry the call out, and lose the answer."""


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Call:
    """One request, as it was on the wire; `body` is JSON or, of an upload, its length and SHA-256."""

    operation: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Thing:
    """One resource."""

    kind: str
    name: str
    body: dict[str, Any]
    made: float
    ready: float
    fate: tuple[str, str] | None = None
    """Code and message with which making it fails."""
    ending: float | None = None
    """When it will be gone."""
    objects: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


_COMPUTE = re.compile(
    r"/compute/v1/projects/([^/]+)(?:/(?:global|zones/([^/]+)|regions/([^/]+))(?:/([a-zA-Z]+)(?:/([^/]+)(?:/(\w+))?)?)?)?"
)
_KINDS = {f"{kind}s": kind for kind in ("instance", "disk", "image", "network", "subnetwork", "firewall")}
_MESSAGES = {
    "instances": (compute_v1.Instance, compute_v1.InstanceList),
    "disks": (compute_v1.Disk, compute_v1.DiskList),
    "images": (compute_v1.Image, compute_v1.ImageList),
    "networks": (compute_v1.Network, compute_v1.NetworkList),
    "subnetworks": (compute_v1.Subnetwork, compute_v1.SubnetworkList),
    "firewalls": (compute_v1.Firewall, compute_v1.FirewallList),
    "operations": (compute_v1.Operation, compute_v1.OperationList),
}
_MAKING = {"instance": 4.0, "image": 4.0, "network": 4.0, "subnetwork": 4.0, "firewall": 3.0, "disk": 0.0}
_ENDING = {"instance": 4.0, "network": 4.0, "subnetwork": 4.0}
_NEEDED: dict[str, tuple[str, ...]] = {
    "projects.get": ("compute.projects.get",),
    "zones.get": ("compute.zones.get",),
    "regions.get": ("compute.regions.get",),
    "machineTypes.get": ("compute.machineTypes.get",),
    "subnetworks.insert": ("compute.subnetworks.create", "compute.networks.updatePolicy"),
    "subnetworks.delete": ("compute.subnetworks.delete", "compute.networks.updatePolicy"),
    "firewalls.insert": ("compute.firewalls.create", "compute.networks.updatePolicy"),
    "firewalls.delete": ("compute.firewalls.delete", "compute.networks.updatePolicy"),
    "images.insert": ("compute.images.create", "compute.images.setLabels", "storage.objects.get"),
    "instances.insert": (
        "compute.instances.create",
        "compute.instances.setLabels",
        "compute.instances.setMetadata",
        "compute.disks.create",
        "compute.disks.setLabels",
        "compute.images.useReadOnly",
        "compute.subnetworks.use",
    ),
    "instances.delete": ("compute.instances.delete", "compute.disks.delete"),
    "buckets.insert": ("storage.buckets.create",),
    "buckets.list": ("storage.buckets.list",),
    "buckets.delete": ("storage.buckets.delete",),
    "objects.insert": ("storage.objects.create",),
    "objects.get": ("storage.objects.get",),
    "objects.delete": ("storage.objects.delete",),
    "projects.testIamPermissions": (),
}
"""What each method asks for, where that is not ``compute.COLLECTION.METHOD``: put together without the per-method reference at hand."""


class Google:
    """See the module. `things` by kind and name; `calls` in order; `faults` and `fates` by operation, used up one by one."""

    def __init__(self, time: Time | None = None, *, lag: float = 4.0) -> None:
        self.time, self.lag = time or Time(), lag
        self.things: dict[tuple[str, str], Thing] = {}
        self.made: list[tuple[str, str]] = []
        """Kind and idempotency tag of all that was ever made."""
        self.operations: dict[str, dict[str, Any]] = {}
        self.request_ids: dict[str, str] = {}
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.calls: list[Call] = []
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.fates: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.stuck: set[str] = set()
        """Kinds whose making never ends."""
        self.used: set[str] = set()
        """Permissions that the calls needed."""
        self.withheld: set[str] = set()
        self.types = {"n2d-standard-2": (2, 8192), "n2d-standard-4": (4, 16384), "c3-standard-4": (4, 16384), "e2-small": (2, 2048)}
        self.processors = ["AMD Rome", "AMD Milan", "Intel Sapphire Rapids"]
        self.zones = {ZONE: "UP"}
        self.quotas = {"N2D_CPUS": (2.0, 8.0), "C3_CPUS": (0.0, 8.0), "INSTANCES": (3.0, 24.0), "SSD_TOTAL_GB": (10.0, 500.0)}
        self.project_quotas = {"NETWORKS": (4.0, 15.0), "FIREWALLS": (9.0, 100.0), "IMAGES": (0.0, 100.0)}
        self.confidential = True
        self.gib = 1 << 30
        self.skew = 0.0
        """Seconds by which Google's clock is ahead of the caller's."""
        self.revoked = False
        self._numbers, self._addresses = itertools.count(1), itertools.count(7)
        self.dies_at(None)

    # -- the caller's life

    def dies_at(self, moment: int | None) -> None:
        """Kill the caller at this moment, counted from now (1 is the next); None: count only. `steps` says how many went by."""
        self.steps = 0

        def step() -> None:
            self.steps += 1
            if self.steps == moment:
                raise Crash

        self.step = step

    def dies_after(self, operation: str) -> None:
        """Kill the caller when Google has carried this out, before the answer is seen."""

        def step() -> None:
            if self.calls and self.calls[-1].operation == operation:
                raise Crash

        self.step = step

    def survives(self, work: Callable[[], Any]) -> bool:
        """Did `work` live to its end?"""
        try:
            work()
        except Crash:
            return False
        return True

    refusal = Refusal
    """What a fault is made of."""

    # -- what there is

    def live(self, kind: str | None = None) -> list[Thing]:
        """Everything that costs money or space."""
        self._age()
        return [each for each in self.things.values() if kind in (None, each.kind)]

    def thing(self, kind: str) -> Thing:
        [only] = self.live(kind)
        return only

    def _age(self) -> None:
        now = self.time.now
        for key, each in list(self.things.items()):
            failed = each.fate is not None and now >= each.ready
            if failed or (each.ending is not None and now >= each.ending):
                self._drop(key)
            elif each.kind == "instance" and each.ending is None and each.body["status"] == "PROVISIONING" and now >= each.ready:
                each.body["status"] = "RUNNING"
            elif each.kind == "image" and now >= each.ready:
                each.body["status"] = "READY"
        for operation in self.operations.values():
            if operation["status"] != "DONE" and now >= operation["_ends"]:
                operation["status"], operation["progress"] = "DONE", 100
                if operation["_fate"]:
                    code, message = operation["_fate"]
                    operation["error"] = {"errors": [{"code": code, "message": message}]}
                    operation["httpErrorStatusCode"] = 400

    def _drop(self, key: tuple[str, str]) -> None:
        gone = self.things.pop(key)
        if gone.kind == "instance":
            for disk in gone.body["disks"]:
                if disk["autoDelete"]:
                    self.things.pop(("disk", disk["initializeParams"]["diskName"]), None)

    # -- one request

    def answer(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        """What Google says to it. Raises `Lost`, and `Crash` where the caller is to die."""
        headers = {name.title(): value for name, value in headers.items()}
        split = urlsplit(url)
        query = dict(parse_qsl(split.query))
        if split.path == "/token":
            return self._token(dict(parse_qsl(body.decode())))
        operation, work = self._route(method, unquote(split.path), query, headers, body)
        self.step()  # dies before it is sent
        self.calls.append(self._seen(operation, method, unquote(split.path), query, headers, body))
        fault = self.faults[operation].pop(0) if self.faults[operation] else None
        try:
            if self.revoked or not headers.get("Authorization", "").startswith("Bearer "):
                raise Refusal(401, "authError", "Request had invalid authentication credentials.")
            self._permit(operation, body)
            if isinstance(fault, Exception):
                raise fault
            self._age()
            answer = work()
        except Refusal as refusal:
            self.step()
            entry = {"domain": "global", "reason": refusal.reason, "message": refusal.message}
            return Answer(refusal.status, {"error": {"code": refusal.status, "message": refusal.message, "errors": [entry]}})
        self.step()  # dies, or loses sight of the answer, after it is done
        if fault is LOSE:
            raise Lost
        return answer

    @staticmethod
    def _seen(operation: str, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Call:
        told: Any = None
        if body:
            plain = headers.get("Content-Type", "").startswith("application/json")
            told = json.loads(body) if plain else f"{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}"
        kept = {name: value for name, value in headers.items() if name.lower() in {"content-range", "x-upload-content-type"}}
        return Call(operation, method, path, query, kept, told)

    def _permit(self, operation: str, body: bytes) -> None:
        collection, _, name = operation.partition(".")
        verb = "create" if name == "insert" else name
        needed = set(_NEEDED.get(operation, (f"compute.{collection}.{verb}",)))
        if operation == "instances.insert" and b"ccessConfigs" in body:
            needed.add("compute.subnetworks.useExternalIp")
        self.used |= needed
        for permission in sorted(needed & self.withheld):
            raise Refusal(403, "forbidden", f"Required '{permission}' permission for 'projects/{PROJECT}'")

    def _route(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[str, Callable[[], Answer]]:
        """Google's name of the method, and what does it."""
        if path.startswith("/compute/"):
            match = _COMPUTE.fullmatch(path)
            assert match, path
            assert match[1] == PROJECT, path
            return self._compute(method, match, query, body)
        if path == f"/v3/projects/{PROJECT}:testIamPermissions":
            asked = json.loads(body)["permissions"]
            return "projects.testIamPermissions", lambda: Answer(
                body={"permissions": [each for each in asked if each not in self.withheld]}
            )
        if path.startswith("/upload/storage/v1/b/"):
            return "objects.insert", lambda: self._upload(method, path, query, headers, body)
        assert path.startswith("/storage/v1/b"), path
        return self._storage(method, [part for part in path.removeprefix("/storage/v1/b").split("/") if part], query, body)

    # -- Compute Engine

    def _compute(self, method: str, match: re.Match[str], query: dict[str, str], body: bytes) -> tuple[str, Callable[[], Answer]]:
        _, zone, region, collection, name, verb = match.groups()
        if collection is None:
            what = "zones" if zone else "regions" if region else "projects"
            return f"{what}.get", lambda: self._told_place(what, zone or region)
        if collection == "machineTypes":
            return "machineTypes.get", lambda: self._told_type(zone, str(name))
        if collection == "operations":
            within = "zone" if zone else "region" if region else "global"
            if name:
                return f"{within}Operations.get", lambda: self._told_operation(str(name))
            return f"{within}Operations.list", lambda: self._told_operations(query)
        kind = _KINDS[collection]
        assert (zone, region) == {"instance": (ZONE, None), "disk": (ZONE, None), "subnetwork": (None, REGION)}.get(kind, (None, None))
        if verb:
            return f"{collection}.{verb}", lambda: self._switch(str(name), str(verb))
        if method == "POST":
            return f"{collection}.insert", lambda: self._insert(collection, query, json.loads(body))
        if method == "DELETE":
            return f"{collection}.delete", lambda: self._delete(kind, str(name))
        if name:
            return f"{collection}.get", lambda: self._message(_MESSAGES[collection][0], self._existing(kind, str(name)).body)
        return f"{collection}.list", lambda: self._list(collection, [each.body for each in self._visible(kind)], query)

    def _existing(self, kind: str, name: str) -> Thing:
        found = self.things.get((kind, name))
        if found is None:
            raise Refusal(404, "notFound", f"The resource 'projects/{PROJECT}/.../{name}' was not found")
        return found

    def _visible(self, kind: str) -> list[Thing]:
        mine = [each for each in self.things.values() if each.kind == kind and self.time.now >= each.made + self.lag]
        return sorted(mine, key=lambda each: each.name)

    @staticmethod
    def _message(kind: Any, body: dict[str, Any]) -> Answer:
        """`body` without what is ours, held against the SDK's message."""
        name = kind.__name__
        public = {"kind": f"compute#{name[0].lower()}{name[1:]}", **{key: value for key, value in body.items() if not key.startswith("_")}}
        kind.from_json(json.dumps(public), ignore_unknown_fields=False)
        return Answer(body=public)

    def _list(self, collection: str, bodies: list[dict[str, Any]], query: dict[str, str]) -> Answer:
        matching = [each for each in bodies if _passes(query.get("filter"), each)]
        start = int(query.get("pageToken", 0))
        items = [{name: value for name, value in each.items() if not name.startswith("_")} for each in matching[start : start + PAGE]]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(matching) else {}
        return self._message(_MESSAGES[collection][1], {**({"items": items} if items else {}), **more})

    def _told_place(self, what: str, name: str | None) -> Answer:
        if what == "projects":
            return self._message(compute_v1.Project, {"name": PROJECT, "quotas": _quotas(self.project_quotas)})
        if what == "regions":
            return self._message(compute_v1.Region, {"name": name, "status": "UP", "quotas": _quotas(self.quotas)})
        if name not in self.zones:
            raise Refusal(404, "notFound", f"The resource 'projects/{PROJECT}/zones/{name}' was not found")
        return self._message(compute_v1.Zone, {"name": name, "status": self.zones[name], "availableCpuPlatforms": self.processors})

    def _told_type(self, zone: str | None, name: str) -> Answer:
        if name not in self.types:
            raise Refusal(404, "notFound", f"The resource 'projects/{PROJECT}/zones/{zone}/machineTypes/{name}' was not found")
        vcpus, memory = self.types[name]
        return self._message(compute_v1.MachineType, {"name": name, "guestCpus": vcpus, "memoryMb": memory, "zone": zone})

    def _told_operation(self, name: str) -> Answer:
        if name not in self.operations:
            raise Refusal(404, "notFound", name)
        return self._message(compute_v1.Operation, self.operations[name])

    def _told_operations(self, query: dict[str, str]) -> Answer:
        return self._list("operations", list(self.operations.values()), query)

    def _begun(self, what: str, kind: str, name: str, seconds: float, fate: tuple[str, str] | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        operation = {
            "name": f"operation-{number:08d}",
            "operationType": what,
            "status": "RUNNING",
            "progress": 0,
            "insertTime": self.time.wall().isoformat(),
            "targetLink": f"https://www.googleapis.com/compute/v1/projects/{PROJECT}/global/{kind}s/{name}",
            "_ends": self.time.now + (1e9 if kind in self.stuck else seconds),
            "_fate": fate,
        }
        self.operations[str(operation["name"])] = operation
        return operation

    def _insert(self, collection: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        kind, token = _KINDS[collection], query.get("requestId")
        _MESSAGES[collection][0].from_json(json.dumps(body), ignore_unknown_fields=False)
        if token in self.request_ids:
            return self._told_operation(self.request_ids[str(token)])
        name = body["name"]
        assert re.fullmatch(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?", name), name
        assert all(re.fullmatch(r"[-_a-z0-9]{0,63}", word) for pair in body.get("labels", {}).items() for word in pair)
        if (kind, name) in self.things:
            raise Refusal(409, "alreadyExists", f"The resource 'projects/{PROJECT}/{collection}/{name}' already exists")
        getattr(self, f"_check_{kind}")(body)
        fate = self.fates[f"{collection}.insert"].pop(0) if self.fates[f"{collection}.insert"] else None
        seconds = 1e9 if kind in self.stuck else _MAKING[kind]
        self._make(kind, name, getattr(self, f"_fresh_{kind}", lambda given: given)(body), seconds, fate)
        operation = self._begun("insert", kind, name, seconds, fate)
        if token:
            self.request_ids[token] = str(operation["name"])
        return self._message(compute_v1.Operation, operation)

    def _make(self, kind: str, name: str, body: dict[str, Any], seconds: float, fate: tuple[str, str] | None = None) -> Thing:
        self.things[kind, name] = Thing(kind, name, body, self.time.now, self.time.now + seconds, fate)
        self.made.append((kind, tags(kind, body).get("evident-key", name)))
        return self.things[kind, name]

    def _check_network(self, body: dict[str, Any]) -> None:
        assert body["autoCreateSubnetworks"] is False

    def _ready(self, kind: str, link: str) -> Thing:
        found = self._existing(kind, link.rpartition("/")[2])
        if self.time.now < found.ready or found.ending is not None:
            raise Refusal(400, "resourceNotReady", f"The resource '{link}' is not ready")
        return found

    def _check_subnetwork(self, body: dict[str, Any]) -> None:
        self._ready("network", body["network"])

    def _check_firewall(self, body: dict[str, Any]) -> None:
        self._ready("network", body["network"])
        assert len({"allowed", "denied"} & body.keys()) == 1
        families = {":" in each for name in ("sourceRanges", "destinationRanges") for each in body.get(name, ())}
        assert len(families) == 1, "one rule, one version of IP"

    def _check_image(self, body: dict[str, Any]) -> None:
        _, _, _, bucket, name = body["rawDisk"]["source"].split("/")
        found = self.things.get(("bucket", bucket))
        if found is None or name not in found.objects:
            raise Refusal(400, "invalid", f"no {body['rawDisk']['source']}")
        with tarfile.open(fileobj=io.BytesIO(found.objects[name]), mode="r:gz") as archive:
            [member] = archive.getmembers()
            assert member.name == "disk.raw"
            assert member.size % self.gib == 0
            content = archive.extractfile(member)
            assert content is not None
            body["_content"] = content.read()
        assert zlib.decompress(found.objects[name], 31)[257:265] == b"ustar  \0", "old GNU format"

    @staticmethod
    def _fresh_image(body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "status": "PENDING"}

    def _check_instance(self, body: dict[str, Any]) -> None:
        if body["machineType"].rpartition("/")[2] not in self.types:
            raise Refusal(400, "invalid", f"Invalid value for field 'resource.machineType': '{body['machineType']}'")
        self._ready("image", body["disks"][0]["initializeParams"]["sourceImage"])
        self._ready("subnetwork", body["networkInterfaces"][0]["subnetwork"])
        assert body["scheduling"]["onHostMaintenance"] == "TERMINATE"

    def _fresh_instance(self, body: dict[str, Any]) -> dict[str, Any]:
        disk = body["disks"][0]["initializeParams"]
        self._make("disk", disk["diskName"], {"name": disk["diskName"], "labels": disk["labels"], "status": "READY"}, 0.0)
        interface = dict(body["networkInterfaces"][0], networkIP="10.73.0.2")
        interface["accessConfigs"] = [
            {**each, "natIP": f"203.0.113.{next(self._addresses)}"} for each in interface.get("accessConfigs", ())
        ]
        config = body["confidentialInstanceConfig"] if self.confidential else {}
        return {**body, "status": "PROVISIONING", "networkInterfaces": [interface], "confidentialInstanceConfig": config}

    def _delete(self, kind: str, name: str) -> Answer:
        found = self._existing(kind, name)
        users = [each for each in self.things.values() if name in _uses(kind, each)]
        if users:
            raise Refusal(400, "resourceInUseByAnotherResource", f"{name} is already being used by {users[0].name}")
        if found.ending is None:
            found.ending = self.time.now + _ENDING.get(kind, 0.0)
            if kind == "instance":
                found.body["status"] = "STOPPING"
        self._age()
        return self._message(compute_v1.Operation, self._begun("delete", kind, name, _ENDING.get(kind, 0.0)))

    def _switch(self, name: str, verb: str) -> Answer:
        found = self._existing("instance", name)
        found.body["status"] = {"stop": "TERMINATED", "start": "RUNNING"}[verb]
        fate = self.fates[f"instances.{verb}"].pop(0) if self.fates[f"instances.{verb}"] else None
        return self._message(compute_v1.Operation, self._begun(verb, "instance", name, 12.0, fate))

    # -- Cloud Storage

    def _storage(self, method: str, parts: list[str], query: dict[str, str], body: bytes) -> tuple[str, Callable[[], Answer]]:
        if not parts:
            return (
                ("buckets.insert", lambda: self._make_bucket(query, json.loads(body)))
                if method == "POST"
                else (
                    "buckets.list",
                    lambda: self._buckets(query),
                )
            )
        bucket = parts[0]
        if len(parts) == 1:
            return "buckets.delete", lambda: self._delete_bucket(bucket)
        if method == "GET":
            return "objects.get", lambda: self._object(bucket, parts[2])
        return "objects.delete", lambda: self._delete_object(bucket, parts[2])

    def _make_bucket(self, query: dict[str, str], body: dict[str, Any]) -> Answer:
        assert query == {"project": PROJECT}
        assert re.fullmatch(r"[a-z0-9][-a-z0-9]{1,61}[a-z0-9]", body["name"])
        if ("bucket", body["name"]) in self.things:
            raise Refusal(409, "conflict", "The requested bucket name is not available.")
        self._make("bucket", body["name"], body, 0.0)
        return Answer(body={"kind": "storage#bucket", **body})

    def _buckets(self, query: dict[str, str]) -> Answer:
        assert query["project"] == PROJECT
        named = sorted(each.name for each in self.things.values() if each.kind == "bucket" and each.name.startswith(query["prefix"]))
        start = int(query.get("pageToken", 0))
        items = [{"name": name, "labels": self.things["bucket", name].body["labels"]} for name in named[start : start + PAGE]]
        more = {"nextPageToken": str(start + PAGE)} if start + PAGE < len(named) else {}
        return Answer(body={"kind": "storage#buckets", **({"items": items} if items else {}), **more})

    def _delete_bucket(self, name: str) -> Answer:
        if self._existing("bucket", name).objects:
            raise Refusal(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.things["bucket", name]
        return Answer(204)

    def _object(self, bucket: str, name: str) -> Answer:
        content = self._existing("bucket", bucket).objects.get(name)
        if content is None:
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        return Answer(body={"kind": "storage#object", "size": str(len(content)), "md5Hash": digest})

    def _delete_object(self, bucket: str, name: str) -> Answer:
        if self._existing("bucket", bucket).objects.pop(name, None) is None:
            raise Refusal(404, "notFound", f"No such object: {bucket}/{name}")
        return Answer(204)

    def _upload(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        bucket = path.split("/")[5]
        if method == "POST":
            if query["name"] in self._existing("bucket", bucket).objects:
                raise Refusal(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
            session = f"session-{next(self._numbers)}"
            self.uploads[session] = (bucket, bytearray())
            return Answer(headers={"Location": f"{self.base}{path}?uploadType=resumable&name={query['name']}&upload_id={session}"})
        if query["upload_id"] not in self.uploads:
            raise Refusal(410, "gone", "the upload session is no longer available")
        bucket, data = self.uploads[query["upload_id"]]
        span, _, total = headers["Content-Range"].removeprefix("bytes ").partition("/")
        if span != "*":
            first, _, last = span.partition("-")
            assert int(last) - int(first) + 1 == len(body)
            assert total != "*" or len(body) % (256 * 1024) == 0
            assert int(first) == len(data), "bytes that overlap or leave a hole"
            data += body
        if total != "*" and len(data) == int(total):
            self._existing("bucket", bucket).objects[query["name"]] = bytes(data)
            return Answer(body={"name": query["name"]})
        return Answer(308, headers={"Range": f"bytes=0-{len(data) - 1}"} if data else {})

    base = "https://storage.googleapis.com"

    # -- tokens

    def _token(self, form: dict[str, str]) -> Answer:
        """OAuth 2.0 for a service account: the assertion says when it was signed, by the caller's clock."""
        claims = json.loads(base64.urlsafe_b64decode(form["assertion"].split(".")[1] + "=="))
        now = datetime.now(UTC).timestamp() + self.skew
        if self.revoked:
            return Answer(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
        if not claims["iat"] - 300 <= now <= claims["exp"]:
            text = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values."
            )
            return Answer(400, {"error": "invalid_grant", "error_description": text})
        return Answer(body={"access_token": "token", "expires_in": 3600, "token_type": "Bearer"})


def tags(kind: str, body: dict[str, Any]) -> dict[str, str]:
    """What Evident's own labels, or its description, say."""
    if kind in {"instance", "disk", "image", "bucket"}:
        return dict(body.get("labels", {}))
    return dict(pair.split("=", 1) for pair in body.get("description", "").split() if "=" in pair)


def _quotas(values: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    return [{"metric": metric, "usage": usage, "limit": limit} for metric, (usage, limit) in values.items()]


def _uses(kind: str, other: Thing) -> set[str]:
    """Names of things of `kind` that `other` holds on to."""
    if kind == "network" and other.kind in {"subnetwork", "firewall"}:
        return {other.body["network"].rpartition("/")[2]}
    if kind == "subnetwork" and other.kind == "instance":
        return {each["subnetwork"].rpartition("/")[2] for each in other.body["networkInterfaces"]}
    if kind == "disk" and other.kind == "instance":
        return {each["initializeParams"]["diskName"] for each in other.body["disks"]}
    return set()


def _passes(expression: str | None, body: dict[str, Any]) -> bool:
    """A filter of the regular kind, on a member or a label; anything else is refused, as Google would."""
    if expression is None:
        return True
    match = re.fullmatch(r'(labels\.)?([-\w]+) eq "([^"]*)"', expression)
    if not match:
        raise Refusal(400, "invalid", f"Invalid value for field 'filter': '{expression}'")
    found = body.get("labels", {}) if match[1] else body
    return re.fullmatch(match[3], str(found.get(match[2], ""))) is not None


class Server:
    """Whichever Google is plugged in, behind a socket."""

    def __init__(self) -> None:
        self.google = Google()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.google.base = outer.url
                try:
                    answer = outer.google.answer(self.command, self.path, dict(self.headers), body)
                except Lost:
                    self.close_connection = True
                    return
                data = b"" if answer.body is None else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = _any

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Direct(requests.adapters.BaseAdapter):
    """Under a session of requests, in the place of a socket: what is sent is what would be on the wire."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        google = self._server.google
        google.base = self._server.url
        try:
            answer = google.answer(str(request.method), str(request.url), dict(request.headers), bytes(body))
        except Lost:
            raise requests.ConnectionError("the connection was closed without an answer") from None
        response = requests.Response()
        response.status_code, response.request, response.url = answer.status, request, str(request.url)
        response.headers.update(answer.headers)
        response._content = b"" if answer.body is None else json.dumps(answer.body).encode()
        return response

    def close(self) -> None:
        return
