"""Carry out what `requests` builds: image import, network, launch, listing and removal, through injected clients.

The journal comes before every creating call (`evident.platforms.resources`). What belongs to no resource of its own may be repeated with
the same effect, so a crash among it is repaired by repeating: the object in the bucket, and the firewall rules, which are parts of the
deployment's network and named after it.

A creating call answers with an operation, and whether it succeeds is told only in that, later (`_made`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evident.errors import EvidentError
from evident.platforms import cloud
from evident.platforms.cloud import Patience
from evident.platforms.gcp import errors, images, requests
from evident.platforms.gcp.clients import Clients, ask, call, pages, send
from evident.platforms.gcp.machine import MachineSpec, machine_spec
from evident.platforms.gcp.requests import CONFIDENTIAL, ImageSpec, Request
from evident.platforms.gcp.upload import stored, upload
from evident.platforms.order import Order
from evident.platforms.resources import TAG_KEY, Found, Resource, Stock

IMAGE_WAIT = 3600.0
START_WAIT = 900.0
NETWORK_WAIT = 600.0
STOP_WAIT = 900.0
"""Seconds."""

Outcome = tuple[EvidentError | None]
"""Of waiting: why it failed for good, or None when all is well."""


class Gcp:
    """One project and zone; a `evident.platforms.cloud_driver.CloudPlatform`."""

    removal: tuple[str, ...] = ("instance", "disk", "image", "bucket", "subnetwork", "network")

    def __init__(self, clients: Clients, patience: Patience) -> None:
        self._clients = clients
        self._place = clients.place
        self._patience = patience
        self._begun: dict[tuple[str, str], str] = {}
        """Kind and name to the operation that makes it, as far as this process has begun it."""

    def place(self) -> str:
        return f"gcp/{self._place.project}/{self._place.zone}"

    def find(self, kind: str, tags: Mapping[str, str]) -> tuple[Found, ...]:
        carried = [(name, labels) for name, labels in self._listed(kind, tags) if tags.items() <= labels.items()]
        return tuple(Found(name, labels.get(TAG_KEY)) for name, labels in carried)

    def remove(self, kind: str, identifier: str) -> None:
        if kind == "bucket":
            _delete(lambda: send(self._clients, "objects.delete", requests.delete_object(identifier)))
            _delete(lambda: send(self._clients, "buckets.delete", requests.delete_bucket(identifier)))
            return
        if kind == "network":  # its rules are parts of it, whoever made them
            for rule in self._rules(identifier):
                self.remove("firewall", rule.name)
        request = requests.one(self._place, kind, identifier)
        _delete(lambda: call(self._clients, requests.collection(kind), "delete_unary", request))

    def launch(self, stock: Stock, order: Order) -> str:
        """Import, open what is asked, start: the instance's name, running confidentially. After a crash, repeat it.

        Raises the errors of `evident.platforms.cloud`, `UsageError` ``gcp.image``, ``gcp.keys``.
        """
        spec, file = machine_spec(order), Path(order.disks[0].path)
        keys = order.where.get("secure_boot_keys")
        image = images.described(file, None if keys is None else images.secure_boot_keys(Path(keys)))
        imported = stock.ensure(
            "image", image.terms, lambda asked: self._import(stock, asked, image, file), lambda name: self._imported(stock, name)
        )
        network = stock.ensure(
            "network", spec.network_terms, lambda asked: self._insert("network", asked, requests.network(asked)), self._networked
        )
        self._open(network, spec)
        subnetwork = stock.ensure(
            "subnetwork",
            spec.network_terms,
            lambda asked: self._insert("subnetwork", asked, requests.subnetwork(asked, self._place, spec, network)),
            self._subnetworked,
        )
        return stock.ensure(
            "instance",
            spec.instance_terms(image),
            lambda asked: self._insert("instance", asked, requests.instance(asked, self._place, spec, image, imported, subnetwork)),
            lambda name: self._started(name, spec),
        )

    def address(self, machine: str) -> str:
        """The external address where it has one, else the one of its network."""
        listed = self._patience.insist("asking for the address", lambda: self._get("instance", machine))
        if listed is None or not listed.network_interfaces:
            raise errors.ended(f"instance {machine} is not there")
        interface = listed.network_interfaces[0]
        outside = [each.nat_i_p for each in interface.access_configs] + [each.external_ipv6 for each in interface.ipv6_access_configs]
        found: str = next((address for address in outside if address), interface.network_i_p)
        if not found:
            raise cloud.conflict(
                f"instance {machine} is {listed.status} and has no address", "`evident up` with its document starts it again."
            )
        return found

    def stop(self, machine: str) -> None:
        self._change("stop", machine, "stopping the instance", STOP_WAIT)

    def start(self, machine: str) -> None:
        self._change("start", machine, "starting the instance", START_WAIT)

    # -- what there is

    def _listed(self, kind: str, tags: Mapping[str, str]) -> list[tuple[str, Mapping[str, str]]]:
        """Names and tags of what could be the deployment's."""
        if kind != "bucket":
            listed = pages(self._clients, requests.collection(kind), requests.listing(self._place, kind, tags))
            return [(each.name, requests.tags_in(kind, each)) for each in listed]
        found: list[tuple[str, Mapping[str, str]]] = []
        token: str | None = None
        while True:
            answer = ask(self._clients, "buckets.list", requests.buckets(self._place, token), "storage#buckets")
            found += [(each["name"], each.get("labels", {})) for each in answer.get("items", [])]
            token = answer.get("nextPageToken")
            if not token:
                return found

    def _rules(self, network: str) -> list[Any]:
        """The rules of `network`; looked at again here, for the filter is Google's to read, and what comes of this may be removed."""
        listed = pages(self._clients, "firewalls", requests.rules_in(self._place, network))
        return [rule for rule in listed if rule.network.endswith(f"/networks/{network}")]

    def _get(self, kind: str, name: str) -> Any:
        """The resource, or None where there is none of that name."""
        try:
            return call(self._clients, requests.collection(kind), "get", requests.one(self._place, kind, name))
        except EvidentError as error:
            if errors.gone(error):
                return None
            raise

    # -- making

    def _insert(self, kind: str, asked: Resource, body: Request) -> str:
        request = requests.insert(self._place, kind, body, asked.key)
        self._begun[kind, asked.name] = call(self._clients, requests.collection(kind), "insert_unary", request).name
        return asked.name

    def _made(self, kind: str, name: str, judge: Callable[[Any], Outcome | None]) -> Outcome | None:
        """What has become of `name`: by the operation that makes it, then by `judge` of the resource itself; None while it is being made.

        After a crash nobody knows the operation. As long as there is the resource, it does not matter; else Google is asked for it.
        """
        operation = None
        if (kind, name) in self._begun:
            operation = self._operation(kind, self._begun[kind, name])
            if operation.status != operation.Status.DONE:
                return None
        listed = self._get(kind, name) if operation is None or not operation.error.errors else None
        if listed is not None:
            return judge(listed)
        operation = operation or self._latest(kind, name)
        if operation is None or operation.status != operation.Status.DONE:
            return None
        if operation.error.errors:
            return (errors.failed(operation, f"the making of {kind} {name}"),)
        return (errors.ended(f"{kind} {name} was made, and is not there"),)

    def _operation(self, kind: str, name: str) -> Any:
        return call(self._clients, requests.operations(kind), "get", requests.operation(self._place, kind, name))

    def _latest(self, kind: str, name: str) -> Any:
        listed = pages(self._clients, requests.operations(kind), requests.operations_on(self._place, kind, name))
        making = [each for each in listed if each.operation_type == "insert" and each.target_link.endswith(f"/{name}")]
        return max(making, key=lambda each: str(each.insert_time), default=None)

    def _waited(self, what: str, kind: str, name: str, judge: Callable[[Any], Outcome | None], within: float) -> EvidentError | None:
        return self._patience.until(what, lambda: self._made(kind, name, judge), within=within)[0]

    # -- image

    def _import(self, stock: Stock, asked: Resource, image: ImageSpec, file: Path) -> str:
        bucket = stock.ensure("bucket", image.terms, self._make_bucket, lambda name: self._fill(name, file))
        return self._insert("image", asked, requests.image(asked, self._place, image, bucket))

    def _make_bucket(self, asked: Resource) -> str:
        ask(self._clients, "buckets.insert", requests.bucket(asked, self._place), "storage#bucket")
        return requests.bucket_name(asked)

    def _fill(self, bucket: str, file: Path) -> EvidentError | None:
        """Upload, unless that is done: an object is there whole or not at all."""
        try:
            self._patience.insist("reading the object", lambda: stored(self._clients, bucket))
        except EvidentError as error:
            if not errors.gone(error):
                raise
            return upload(self._clients, self._patience, bucket, images.archive(file))
        return None

    def _imported(self, stock: Stock, image: str) -> EvidentError | None:
        """With the image ready, the archive that it came from has done its work."""
        failure = self._waited("importing the image", "image", image, _image_outcome, IMAGE_WAIT)
        if failure is None:
            stock.release("bucket")
        return failure

    # -- network

    def _networked(self, network: str) -> EvidentError | None:
        return self._waited("making the network", "network", network, lambda _: (None,), NETWORK_WAIT)

    def _subnetworked(self, subnetwork: str) -> EvidentError | None:
        return self._waited("making the subnetwork", "subnetwork", subnetwork, lambda _: (None,), NETWORK_WAIT)

    def _open(self, network: str, spec: MachineSpec) -> None:
        """Make the network's rules those of the specification, and see that they are: also what others opened is closed."""
        wanted = requests.firewall_rules(self._place, network, spec)

        def settled() -> bool | None:
            listed = self._rules(network)
            right = {rule.name for rule in listed if rule.name in wanted and requests.same_rule(rule, wanted[rule.name])}
            for rule in listed:
                if rule.name not in right:
                    self.remove("firewall", rule.name)
            for name in sorted(wanted.keys() - {rule.name for rule in listed}):
                self._add_rule(wanted[name])
            return True if len(right) == len(wanted) == len(listed) else None

        self._patience.until("opening what is asked", settled, within=NETWORK_WAIT)

    def _add_rule(self, rule: Request) -> None:
        """Without a key, for a rule that others removed may have to be made again; its name keeps it from being made twice."""
        begun = self._begun.get(("firewall", rule["name"]))
        if begun is not None:
            operation = self._operation("firewall", begun)
            if operation.error.errors:
                raise errors.failed(operation, f"the making of firewall rule {rule['name']}")
            if operation.status != operation.Status.DONE:
                return
        try:
            made = call(self._clients, "firewalls", "insert_unary", requests.insert(self._place, "firewall", rule, None))
        except EvidentError as error:
            if not errors.taken(error):
                raise
        else:
            self._begun["firewall", rule["name"]] = made.name

    # -- machine

    def _started(self, instance: str, spec: MachineSpec) -> EvidentError | None:
        judge = functools.partial(_start_outcome, spec.technology)
        return self._waited("starting the instance", "instance", instance, judge, START_WAIT)

    def _change(self, change: str, machine: str, what: str, within: float) -> None:
        begun = self._patience.insist(
            what, lambda: call(self._clients, "instances", f"{change}_unary", requests.one(self._place, "instance", machine))
        )

        def look() -> Outcome | None:
            operation = self._operation("instance", begun.name)
            if operation.status != operation.Status.DONE:
                return None
            return (errors.failed(operation, what) if operation.error.errors else None,)

        failure = self._patience.until(what, look, within=within)[0]
        if failure is not None:
            raise failure


def _delete(ask: Callable[[], Any]) -> None:
    """Silent where there is nothing to delete, or where it cannot go yet."""
    try:
        ask()
    except EvidentError as error:
        if not (errors.gone(error) or errors.in_use(error)):
            raise


def _image_outcome(listed: Any) -> Outcome | None:
    if listed.status == "PENDING":
        return None
    if listed.status == "READY":
        return (None,)
    return (cloud.conflict(f"image {listed.name} in state {listed.status}", "Repeat the command: the image is imported anew."),)


def _start_outcome(technology: str, listed: Any) -> Outcome | None:
    if listed.status in {"PENDING", "PROVISIONING", "STAGING", "REPAIRING"}:
        return None
    if listed.status == "RUNNING":
        there = listed.confidential_instance_config.confidential_instance_type
        if there == CONFIDENTIAL[technology]:
            return (None,)
        found = f"instance {listed.name} runs with {there or 'no confidential computing'} instead of {CONFIDENTIAL[technology]}"
        return (cloud.unsupported(found, "It was removed again. Choose a machine type and a zone that offer it: `evident doctor` tells."),)
    # stopped, or on its way there, with its disk: not ours to remove because of that
    raise cloud.conflict(f"instance {listed.name} is {listed.status}", "Start it again in the console, or remove the deployment.")
