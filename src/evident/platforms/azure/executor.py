"""Carry out what `requests` builds: image upload, network, launch, listing and removal, through injected clients.

The journal comes before every creating call (`evident.platforms.resources`). Names hold the journal's key, and Azure creates by PUT under
a name: repeated, it makes nothing new. What a call leads to is asked of the resource itself (``provisioningState``), never of the
operation: a crash forgets operations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evident.errors import EvidentError, UsageError
from evident.platforms import cloud
from evident.platforms.azure import errors, images, requests, sizes
from evident.platforms.azure.clients import Answer, Clients
from evident.platforms.azure.machine import MachineSpec, machine_spec
from evident.platforms.azure.requests import ImageSpec
from evident.platforms.cloud import Patience
from evident.platforms.order import Order
from evident.platforms.resources import TAG_KEY, Found, Resource, Stock

ACCESS_WAIT = 300.0
DISK_WAIT = 600.0
IMAGE_WAIT = 3600.0
NETWORK_WAIT = 600.0
START_WAIT = 1200.0
STOP_WAIT = 900.0
"""Seconds."""
UPLOADS = 3
"""Disks that are tried before an upload is given up."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where the SDK has one kind of resource."""

    type: str
    """As in ids."""
    operations: str
    list: str
    wait: float
    parent: str | None = None
    """Kind of what it is listed under; None: the resource group."""
    mine: Callable[[str], bool] = lambda _: True
    """Whether something of this name is of this kind, where Azure makes no difference."""


def _is_os_disk(name: str) -> bool:
    return name.endswith(requests.OS_DISK)


_KINDS: Mapping[str, _Kind] = {  # in the order of removal
    "machine": _Kind("Microsoft.Compute/virtualMachines", "virtual_machines", "list", START_WAIT),
    "os-disk": _Kind("Microsoft.Compute/disks", "disks", "list_by_resource_group", DISK_WAIT, mine=_is_os_disk),
    "network-interface": _Kind("Microsoft.Network/networkInterfaces", "network_interfaces", "list", NETWORK_WAIT),
    "public-address": _Kind("Microsoft.Network/publicIPAddresses", "public_ip_addresses", "list", NETWORK_WAIT),
    "network": _Kind("Microsoft.Network/virtualNetworks", "virtual_networks", "list", NETWORK_WAIT),
    "security-group": _Kind("Microsoft.Network/networkSecurityGroups", "network_security_groups", "list", NETWORK_WAIT),
    "image-version": _Kind(
        "Microsoft.Compute/galleries/images/versions", "gallery_image_versions", "list_by_gallery_image", IMAGE_WAIT, "image"
    ),
    "image": _Kind("Microsoft.Compute/galleries/images", "gallery_images", "list_by_gallery", IMAGE_WAIT, "gallery"),
    "gallery": _Kind("Microsoft.Compute/galleries", "galleries", "list_by_resource_group", IMAGE_WAIT),
    "disk": _Kind("Microsoft.Compute/disks", "disks", "list_by_resource_group", DISK_WAIT, mine=lambda name: not _is_os_disk(name)),
}


class Azure:
    """One subscription and resource group; a `evident.platforms.cloud_driver.CloudPlatform`. Ids are those of the Resource Manager."""

    removal = tuple(_KINDS)

    def __init__(self, clients: Clients, patience: Patience, region: str) -> None:
        self._clients = clients
        self._patience = patience
        self._region = region

    def place(self) -> str:
        """Named by the caller, not by the credentials: they may see many subscriptions."""
        return f"azure/{self._clients.subscription}/{self._clients.group}/{self._region}"

    def find(self, kind: str, tags: Mapping[str, str]) -> tuple[Found, ...]:
        listed = [each for each in self._listed(kind, tags) if each.get("tags", {}).items() >= tags.items()]
        return tuple(Found(each["id"], each["tags"].get(TAG_KEY)) for each in listed)

    def remove(self, kind: str, identifier: str) -> None:
        try:
            self._do(kind, identifier, "delete")
        except EvidentError as error:
            code = errors.code_of(error)
            if code not in errors.GONE | errors.IN_USE:
                raise
            if (kind, code) == ("disk", "OperationNotAllowed"):  # somebody may still write to it: then that has to end first
                self._do(kind, identifier, "revoke_access")

    def launch(self, stock: Stock, order: Order) -> str:
        """Upload, publish in a gallery of its own, make a network, start: the machine's id, running as a confidential VM.

        After a crash, repeat it. Raises the errors of `evident.platforms.cloud`, and `UsageError` ``azure.image``.
        """
        spec, file = machine_spec(order), Path(order.disks[0].path)
        image = images.described(file, requests.secure_boot_keys(order))
        self._patience.insist("asking for the size", lambda: sizes.offered(self._clients, spec))
        version = self._image(stock, spec, image, file)
        interface = self._network(stock, spec)
        return stock.ensure(
            "machine",
            spec.machine_terms(image),
            lambda asked: self._put(
                "machine", (asked.name,), requests.machine(asked, spec, version, interface, secure_boot=image.keys is not None)
            ),
            lambda made: self._runs(made, _launched),
        )

    def address(self, machine: str) -> str:
        """The public address where it has one, else the one of its subnet."""
        return self._patience.insist("asking for the address", lambda: self._address(machine))

    def stop(self, machine: str) -> None:
        """Deallocate it: what is only switched off is still paid for."""
        if self._patience.insist("asking for the machine", lambda: _power(self._machine(machine))) != "deallocated":
            self._order(machine, "deallocate")
            self._patience.until("stopping the machine", lambda: self._stopped(machine), within=STOP_WAIT)

    def start(self, machine: str) -> None:
        self._order(machine, "start")
        failure = self._runs(machine, _started)
        if failure is not None:
            raise failure

    def _image(self, stock: Stock, spec: MachineSpec, image: ImageSpec, file: Path) -> str:
        """Id of the image version, ready to be launched from."""
        terms, region = {"image": image.terms, "region": spec.region}, spec.region
        disk = self._disk(stock, terms, lambda asked: requests.disk(asked, region, image), lambda made: self._upload(made, image, file))
        gallery = stock.ensure(
            "gallery",
            {"region": region},
            lambda asked: self._put("gallery", (requests.gallery_name(asked),), requests.gallery(asked, region)),
            lambda made: self._settled("gallery", made),
        )
        definition = stock.ensure(
            "image",
            terms,
            lambda asked: self._put("image", (*_names(gallery), asked.name), requests.image(asked, region)),
            lambda made: self._settled("image", made),
        )
        return stock.ensure(
            "image-version",
            terms,
            lambda asked: self._put(
                "image-version", (*_names(definition), requests.VERSION), requests.image_version(asked, region, disk, image.keys)
            ),
            lambda made: self._settled("image-version", made),
        )

    def _disk(
        self, stock: Stock, terms: Any, body: Callable[[Resource], requests.Body], upload: Callable[[str], EvidentError | None]
    ) -> str:
        """Id of the disk that holds the image. One that was written half is removed and made again, for nobody could finish it."""
        for left in reversed(range(UPLOADS)):
            try:
                return stock.ensure("disk", terms, lambda asked: self._put("disk", (asked.name,), body(asked)), upload)
            except _HalfWritten:
                if not left:
                    raise
        raise AssertionError("UPLOADS is positive")

    def _upload(self, disk: str, image: ImageSpec, file: Path) -> EvidentError | None:
        """Write every page, end the access, write on the disk that it is whole."""
        failure = self._settled("disk", disk)
        if failure is not None:
            return failure
        listed = self._seen("disk", disk)
        if listed["tags"].get(requests.UPLOADED) == image.sha256:
            return None
        if listed["properties"].get("diskState") != "ReadyToUpload":
            return _HalfWritten.of(cloud.CONFLICT, **_HALF_WRITTEN)
        url = self._access(disk)
        if url is None:
            return _HalfWritten.of(cloud.CONFLICT, **_HALF_WRITTEN)
        told = 0
        for offset, data in images.pages(file, image):
            self._patience.insist("writing a page", functools.partial(self._clients.put_page, url, offset, data))
            if (percent := 100 * offset // image.disk_bytes) >= told + 10:
                told = percent
                self._patience.progress(f"uploading the image: {percent} %")
        self._patience.insist("ending the access", lambda: self._do("disk", disk, "revoke_access"))
        self._patience.until("ending the access", lambda: self._closed(disk), within=ACCESS_WAIT)
        self._patience.insist("marking the disk", lambda: self._do("disk", disk, "update", requests.uploaded(listed["tags"], image)))
        return self._settled("disk", disk)

    def _access(self, disk: str) -> str | None:
        """URL to write the disk to; None where an earlier call, whose answer was lost, has already been given the only one."""
        try:
            answer = self._patience.insist("asking for access", lambda: self._do("disk", disk, "grant_access", requests.access()))
        except EvidentError as error:
            if errors.code_of(error) == "OperationNotAllowed":
                return None
            raise

        def granted() -> str | None:
            done = answer if answer.status == 200 else self._clients.get("asking for access", answer.location or "")[0]
            url: str | None = done.body.get("accessSAS")
            return url

        return self._patience.until("asking for access", granted, within=ACCESS_WAIT)

    def _closed(self, disk: str) -> bool | None:
        listed = self._got("disk", disk)
        return True if listed["properties"]["diskState"] == "Unattached" else None

    def _network(self, stock: Stock, spec: MachineSpec) -> str:
        """Id of a network interface, in a network of its own that lets through what is asked."""
        region = spec.region
        group = self._kept(
            stock,
            "security-group",
            {"region": region, "rules": requests.rules(spec.openings)},
            lambda tags: requests.security_group(tags, spec),
            lambda listed: requests.opens(listed, spec.openings),
        )
        network = self._kept(
            stock,
            "network",
            {"region": region},
            lambda tags: requests.network(tags, region, group),
            lambda listed: requests.guarded(listed, group),
        )
        address = None
        if spec.exposed:
            address = self._kept(stock, "public-address", {"region": region}, lambda tags: requests.address(tags, region))
        return self._kept(
            stock,
            "network-interface",
            {"region": region, "exposed": spec.exposed},
            lambda tags: requests.network_interface(tags, region, network, address),
        )

    def _kept(
        self,
        stock: Stock,
        kind: str,
        terms: Any,
        body: Callable[[Mapping[str, str]], requests.Body],
        right: Callable[[requests.Body], bool] = lambda _: True,
    ) -> str:
        """Id of a resource whose properties are `right`; what others changed of them is ordered anew."""

        def finish(made: str) -> EvidentError | None:
            failure = self._settled(kind, made)
            listed = self._seen(kind, made)
            if failure is not None or right(listed["properties"]):
                return failure
            self._patience.insist(f"restoring {kind}", lambda: self._put(kind, _names(made), body(listed["tags"])))
            failure = self._settled(kind, made)
            if failure is None and not right(self._seen(kind, made)["properties"]):
                raise cloud.conflict(
                    f"{kind} {made} is changed by somebody each time", "Find out who: the Activity log of the portal shows it."
                )
            return failure

        return stock.ensure(kind, terms, lambda asked: self._put(kind, (asked.name,), body(asked.tags)), finish)

    def _operations(self, kind: str) -> Any:
        how = _KINDS[kind]
        return getattr(self._clients.compute if how.type.startswith("Microsoft.Compute/") else self._clients.network, how.operations)

    def _put(self, kind: str, names: tuple[str, ...], body: requests.Body) -> str:
        """The id is put together here, for not every answer to a creation holds it."""
        clients = self._clients
        clients.begin(f"creating {kind}", self._operations(kind).begin_create_or_update, clients.group, *names, body)
        provider, *types = _KINDS[kind].type.split("/")
        path = "/".join(f"{type_}/{name}" for type_, name in zip(types, names, strict=True))
        return f"/subscriptions/{clients.subscription}/resourceGroups/{clients.group}/providers/{provider}/{path}"

    def _do(self, kind: str, identifier: str, what: str, *body: requests.Body) -> Answer:
        operation = getattr(self._operations(kind), f"begin_{what}")
        return self._clients.begin(what.replace("_", " "), operation, self._clients.group, *_names(identifier), *body)

    def _got(self, kind: str, identifier: str, **more: str) -> requests.Body:
        """What Azure tells of a resource. Just after its creation that may be nothing yet: transient."""
        try:
            return self._clients.call(f"reading {kind}", self._operations(kind).get, self._clients.group, *_names(identifier), **more)
        except EvidentError as error:
            if errors.code_of(error) in errors.GONE:
                raise cloud.transient(error.findings[0].found, error.findings[0].remedy) from error
            raise

    def _seen(self, kind: str, identifier: str) -> requests.Body:
        return self._patience.insist(f"reading {kind}", lambda: self._got(kind, identifier))

    def _listed(self, kind: str, tags: Mapping[str, str]) -> list[requests.Body]:
        """Everything of `kind`, where it has parents only what is in those of the deployment. Nothing in a group that does not exist."""
        how = _KINDS[kind]
        parents: list[tuple[str, ...]] = [()]
        if how.parent is not None:
            own = {name: value for name, value in tags.items() if name != TAG_KEY}
            parents = [_names(each.id) for each in self.find(how.parent, own)]
        found: list[requests.Body] = []
        for parent in parents:
            try:
                found += self._clients.listed(f"listing {kind}", getattr(self._operations(kind), how.list), self._clients.group, *parent)
            except EvidentError as error:
                if errors.code_of(error) not in errors.GONE:
                    raise
        return [each for each in found if how.mine(each["name"])]

    def _settled(self, kind: str, identifier: str) -> EvidentError | None:
        """Wait until Azure is done with it; why it failed for good, or None when all is well."""

        def look() -> Outcome | None:
            return _outcome(kind, self._got(kind, identifier))

        return self._patience.until(f"creating {kind}", look, within=_KINDS[kind].wait)[0]

    def _machine(self, machine: str) -> requests.Body:
        return self._got("machine", machine, expand="instanceView")

    def _order(self, machine: str, what: str) -> None:
        self._patience.insist(f"{what} of the machine", lambda: self._do("machine", machine, what))

    def _runs(self, machine: str, outcome: Callable[[requests.Body], Outcome | None]) -> EvidentError | None:
        return self._patience.until("starting the machine", lambda: outcome(self._machine(machine)), within=START_WAIT)[0]

    def _stopped(self, machine: str) -> bool | None:
        """True when it is; None on the way there."""
        return True if _power(self._machine(machine)) == "deallocated" else None

    def _address(self, machine: str) -> str:
        interface = self._got("machine", machine)["properties"]["networkProfile"]["networkInterfaces"][0]["id"]
        at = self._got("network-interface", interface)["properties"]["ipConfigurations"][0]["properties"]
        if "publicIPAddress" in at:
            at = self._got("public-address", at["publicIPAddress"]["id"])["properties"]
        found: str = at.get("ipAddress") or at["privateIPAddress"]
        return found


Outcome = tuple[EvidentError | None]
"""Of waiting: why it failed for good, or None when all is well."""


class _HalfWritten(UsageError):
    """A disk that can neither be used nor be written to its end."""


_HALF_WRITTEN = {
    "expected": "a disk that waits for its image, or holds it",
    "found": "one whose upload was broken off",
    "remedy": "Repeat the command: the image is uploaded anew.",
}


def _names(identifier: str) -> tuple[str, ...]:
    """Of a resource and those it is in: every second part of its id, behind ``/subscriptions/S/resourceGroups/G/providers/P/``."""
    return tuple(identifier.split("/")[8::2])


def _outcome(kind: str, listed: requests.Body) -> Outcome | None:
    state = listed["properties"]["provisioningState"]
    if state == "Succeeded":
        return (None,)
    if state in _ON_THE_WAY:
        return None
    return (
        cloud.conflict(
            f"{kind} {listed['name']} in state {state}", "The Activity log of the portal tells why. Repeated, the command makes it anew."
        ),
    )


_ON_THE_WAY = {"Creating", "Updating", "Migrating"}


def _statuses(listed: requests.Body) -> dict[str, requests.Body]:
    """The instance view's two states by their first word: ``ProvisioningState/failed/AllocationFailed``, ``PowerState/running``."""
    return {each["code"].split("/")[0]: each for each in listed["properties"].get("instanceView", {}).get("statuses", [])}


def _power(listed: requests.Body) -> str | None:
    told: str = _statuses(listed).get("PowerState", {}).get("code", "")
    return told.partition("/")[2] or None


def _started(listed: requests.Body) -> Outcome | None:
    """Azure says yes before there is a machine: capacity and quota may still end it, and are told in the instance view only."""
    state = listed["properties"]["provisioningState"]
    if state in _ON_THE_WAY:
        return None
    if state == "Succeeded":
        return (None,) if _power(listed) == "running" else None
    told = _statuses(listed).get("ProvisioningState", {}) if state == "Failed" else {}
    code, message = told.get("code", state).split("/")[-1], told.get("message", f"the machine is {state}")
    return (errors.died(code, message, "the start of the machine"),)


def _launched(listed: requests.Body) -> Outcome | None:
    properties = listed["properties"]
    if properties["provisioningState"] == "Succeeded":
        security = properties.get("securityProfile", {})
        if security.get("securityType") != "ConfidentialVM" or security.get("uefiSettings", {}).get("vTpmEnabled") is not True:
            found = f"machine {listed['name']} runs as {security.get('securityType', 'Standard')}, not as a confidential VM with a vTPM"
            return (cloud.unsupported(found, "It was removed again. Choose a confidential size: `evident doctor` asks Azure for it."),)
        if _power(listed) in {"deallocating", "deallocated", "stopping", "stopped"}:  # with its disk: not ours to remove because of that
            raise cloud.conflict(f"machine {listed['name']} is {_power(listed)}", "Start it again in Azure, or remove the deployment.")
    return _started(listed)
