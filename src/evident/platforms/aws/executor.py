"""Carry out what `requests` builds: image upload, launch, listing and removal, through injected clients.

The journal comes before every creating call (`evident.platforms.resources`). Operations that change something and belong to no
resource of their own (blocks, firewall rules) may be repeated with the same effect, so a crash among them is repaired by repeating.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evident.errors import EvidentError
from evident.platforms import cloud
from evident.platforms.aws import errors, images, requests
from evident.platforms.aws.clients import Clients, call, pages
from evident.platforms.aws.requests import BLOCK, MachineSpec
from evident.platforms.cloud import Patience
from evident.platforms.order import Order
from evident.platforms.resources import TAG_KEY, Found, Stock

SNAPSHOT_WAIT = 3600.0
IMAGE_WAIT = 900.0
START_WAIT = 900.0
RULES_WAIT = 300.0
SEALED_WAIT = 600.0
STOP_WAIT = 900.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one kind of resource is listed and removed."""

    describe: str
    member: str
    identifier: str
    remove: str
    removal: Callable[[str], requests.Request]
    fixed: Mapping[str, Any]
    """Parameters of every listing."""


_OWN: Mapping[str, Any] = {}
_KINDS: Mapping[str, _Kind] = {  # in the order of removal
    "instance": _Kind("describe_instances", "Reservations", "InstanceId", "terminate_instances", lambda i: {"InstanceIds": [i]}, _OWN),
    "network-interface": _Kind(
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "delete_network_interface",
        lambda i: {"NetworkInterfaceId": i},
        _OWN,
    ),
    "volume": _Kind("describe_volumes", "Volumes", "VolumeId", "delete_volume", lambda i: {"VolumeId": i}, _OWN),
    "image": _Kind("describe_images", "Images", "ImageId", "deregister_image", lambda i: {"ImageId": i}, {"Owners": ["self"]}),
    "snapshot": _Kind(
        "describe_snapshots", "Snapshots", "SnapshotId", "delete_snapshot", lambda i: {"SnapshotId": i}, {"OwnerIds": ["self"]}
    ),
    "security-group": _Kind(
        "describe_security_groups", "SecurityGroups", "GroupId", "delete_security_group", lambda i: {"GroupId": i}, _OWN
    ),
}


class Aws:
    """One account and region; a `evident.platforms.cloud_driver.CloudPlatform`."""

    removal = tuple(_KINDS)

    def __init__(self, clients: Clients, patience: Patience) -> None:
        self._clients = clients
        self._patience = patience
        self._account: str | None = None

    def place(self) -> str:
        if self._account is None:
            answer = self._patience.insist("asking who we are", lambda: call(self._clients.sts, "get_caller_identity", {}))
            self._account = answer["Account"]
        return f"aws/{self._account}/{self._clients.region}"

    def find(self, kind: str, tags: Mapping[str, str]) -> tuple[Found, ...]:
        how = _KINDS[kind]
        listed = pages(self._clients.ec2, how.describe, {**how.fixed, "Filters": requests.tag_filters(tags)}, how.member)
        if kind == "instance":  # for about an hour a terminated one is still listed
            listed = [each for reservation in listed for each in reservation["Instances"] if each["State"]["Name"] != "terminated"]
        return tuple(Found(each[how.identifier], _key(each)) for each in listed)

    def remove(self, kind: str, identifier: str) -> None:
        how = _KINDS[kind]
        try:
            call(self._clients.ec2, how.remove, how.removal(identifier))
        except EvidentError as error:
            if errors.code_of(error) not in errors.GONE | errors.IN_USE:
                raise

    def launch(self, stock: Stock, order: Order) -> str:
        """Upload, register, open what is asked, start: the instance's id, running with SEV-SNP on. After a crash, repeat it.

        Raises the errors of `evident.platforms.cloud`, and `UsageError` ``aws.image``.
        """
        spec, file = requests.machine_spec(order), Path(order.disks[0].path)
        image = images.described(file, requests.uefi_data(order))
        network = self._patience.insist("reading the subnet", lambda: self._one("describe_subnets", "Subnets", SubnetIds=[spec.subnet]))
        snapshot = stock.ensure(
            "snapshot",
            image.terms,
            lambda asked: self._ebs("start_snapshot", requests.start_snapshot(asked, image))["SnapshotId"],
            lambda made: self._upload(made, file),
        )
        ami = stock.ensure(
            "image",
            image.terms,
            lambda asked: self._ec2("register_image", requests.register_image(asked, image, snapshot))["ImageId"],
            self._image_ready,
        )
        group = stock.ensure(
            "security-group",
            spec.group_terms,
            lambda asked: self._ec2("create_security_group", requests.create_group(asked, network["VpcId"]))["GroupId"],
            lambda made: self._open(made, spec),
        )
        return stock.ensure(
            "instance",
            spec.instance_terms(image),
            lambda asked: self._run(requests.run_instance(asked, spec, image.volume_gib, ami, group)),
            self._started,
        )

    def address(self, machine: str) -> str:
        """The public address where it has one, else the one of its subnet."""
        listed = self._patience.insist("asking for the address", lambda: self._instance(machine))
        found: str | None = listed.get("PublicIpAddress") or listed.get("PrivateIpAddress")
        if found is None:
            raise cloud.conflict(
                f"instance {machine} is {listed['State']['Name']} and has no address", "`evident up` with its document starts it again."
            )
        return found

    def stop(self, machine: str) -> None:
        self._patience.insist("stopping the instance", lambda: self._ec2("stop_instances", requests.stop_instance(machine)))
        self._patience.until("stopping the instance", lambda: self._is(machine, "stopped"), within=STOP_WAIT)

    def start(self, machine: str) -> None:
        self._patience.insist("starting the instance", lambda: self._ec2("start_instances", requests.start_instance(machine)))
        self._patience.until("starting the instance", lambda: self._is(machine, "running"), within=START_WAIT)

    def ek_pub(self, instance: str) -> bytes:
        """Public part of the machine's NitroTPM endorsement key, SubjectPublicKeyInfo in DER: AWS's word for which TPM it has."""
        answer = self._patience.insist("asking for the TPM's key", lambda: self._ec2("get_instance_tpm_ek_pub", requests.ek_pub(instance)))
        key: bytes = base64.b64decode(answer["KeyValue"], validate=True)
        return key

    def _ec2(self, operation: str, request: requests.Request) -> dict[str, Any]:
        return call(self._clients.ec2, operation, request)

    def _ebs(self, operation: str, request: requests.Request) -> dict[str, Any]:
        return call(self._clients.ebs, operation, request)

    def _one(self, operation: str, member: str, **request: Any) -> dict[str, Any]:
        """The one thing that a listing by id gives. Just after its creation that may not be there yet: transient."""
        try:
            listed = pages(self._clients.ec2, operation, request, member)
        except EvidentError as error:
            if errors.code_of(error) in errors.GONE:
                raise cloud.transient(error.findings[0].found, error.findings[0].remedy) from error
            raise
        if len(listed) != 1:
            raise cloud.transient(f"{operation} lists {len(listed)} instead of one", "Repeat the command.")
        one: dict[str, Any] = listed[0]
        return one

    def _instance(self, instance: str) -> dict[str, Any]:
        one: dict[str, Any] = self._one("describe_instances", "Reservations", InstanceIds=[instance])["Instances"][0]
        return one

    def _is(self, instance: str, state: str) -> bool | None:
        """True in `state`, None on the way there; raises ``cloud.conflict`` where it never will be."""
        now = self._instance(instance)["State"]["Name"]
        if now in {"terminated", "shutting-down"}:
            raise errors.died("Client.InstanceTerminated", f"the instance is {now}")
        return True if now == state else None

    def _upload(self, snapshot: str, file: Path) -> EvidentError | None:
        """Write all blocks, seal, wait. What was sealed before a crash refuses blocks, and only needs the waiting."""
        state = self._patience.insist("reading the snapshot", lambda: self._listed_snapshot(snapshot)["State"])
        refusal = self._write(snapshot, file) if state == "pending" else None
        try:
            within = SNAPSHOT_WAIT if refusal is None else SEALED_WAIT
            return self._patience.until(
                "completing the snapshot", lambda: _snapshot_outcome(self._listed_snapshot(snapshot)), within=within
            )[0]
        except EvidentError:
            if refusal is None:
                raise
            return refusal

    def _write(self, snapshot: str, file: Path) -> EvidentError | None:
        written, size, told = 0, file.stat().st_size, 0
        try:
            for index, data in images.blocks(file):
                request = requests.put_block(snapshot, index, data)
                if request is not None:
                    self._patience.insist("writing a block", functools.partial(self._ebs, "put_snapshot_block", request))
                    written += 1
                if (percent := 100 * index * BLOCK // size) >= told + 10:
                    told = percent
                    self._patience.progress(f"uploading the image: {percent} %")
            self._patience.insist(
                "sealing the snapshot", lambda: self._ebs("complete_snapshot", requests.complete_snapshot(snapshot, written))
            )
        except EvidentError as error:
            if errors.code_of(error) in {"ValidationException", "ConflictException", "ResourceNotFoundException"}:
                return error  # sealed or given up by EBS meanwhile: another one is needed
            raise
        return None

    def _listed_snapshot(self, snapshot: str) -> dict[str, Any]:
        return self._one("describe_snapshots", "Snapshots", SnapshotIds=[snapshot])

    def _image_ready(self, image: str) -> EvidentError | None:
        def look() -> Outcome | None:
            return _image_outcome(self._one("describe_images", "Images", ImageIds=[image]))

        return self._patience.until("registering the image", look, within=IMAGE_WAIT)[0]

    def _open(self, group: str, spec: MachineSpec) -> None:
        """Make the group's rules those of the specification, and see that they are."""
        for everything in requests.default_egress(group):  # first of all, for a new group's rules may not be listed yet
            self._patience.insist("closing the network", functools.partial(self._rule, "revoke_security_group_egress", everything))

        def settled() -> bool | None:
            filters = [{"Name": "group-id", "Values": [group]}]
            rules = pages(self._clients.ec2, "describe_security_group_rules", {"Filters": filters}, "SecurityGroupRules")
            changes = requests.rule_changes(group, rules, spec.openings)
            for operation, request in changes:
                self._rule(operation, request)
            return None if changes else True

        self._patience.until("opening what is asked", settled, within=RULES_WAIT)

    def _rule(self, operation: str, request: requests.Request) -> None:
        """Change a rule; one that is as wanted already is fine, a group too new to be found is worth another try."""
        try:
            self._ec2(operation, request)
        except EvidentError as error:
            code = errors.code_of(error)
            if code in errors.GONE:
                raise cloud.transient(error.findings[0].found, error.findings[0].remedy) from error
            if code not in {"InvalidPermission.NotFound", "InvalidPermission.Duplicate"}:
                raise

    def _run(self, request: requests.Request) -> str:
        answer = self._ec2("run_instances", request)
        identifier: str = answer["Instances"][0]["InstanceId"]
        return identifier

    def _started(self, instance: str) -> EvidentError | None:
        def look() -> Outcome | None:
            return _start_outcome(self._instance(instance))

        return self._patience.until("starting the instance", look, within=START_WAIT)[0]


Outcome = tuple[EvidentError | None]
"""Of waiting: why it failed for good, or None when all is well."""


def _snapshot_outcome(listed: Mapping[str, Any]) -> Outcome | None:
    if listed["State"] == "pending":
        return None
    if listed["State"] == "completed":
        return (None,)
    found = f"snapshot {listed['SnapshotId']} in state {listed['State']}: {listed.get('StateMessage', 'no reason given')}"
    return (cloud.conflict(found, "Repeat the command: the image is uploaded anew."),)


def _image_outcome(listed: Mapping[str, Any]) -> Outcome | None:
    if listed["State"] == "pending":
        return None
    if listed["State"] == "available":
        return (None,)
    reason = listed.get("StateReason", {}).get("Message", "no reason given")
    found = f"image {listed['ImageId']} in state {listed['State']}: {reason}"
    return (cloud.conflict(found, "Repeat the command: the image is registered anew."),)


def _start_outcome(listed: Mapping[str, Any]) -> Outcome | None:
    """RunInstances says yes before there is a machine: capacity and limits may still end it, and say so in the StateReason only."""
    state = listed["State"]["Name"]
    if state == "pending":
        return None
    if state == "running":
        if listed.get("CpuOptions", {}).get("AmdSevSnp") == "enabled":  # the member is missing where SEV-SNP is off
            return (None,)
        found = f"instance {listed['InstanceId']} runs without SEV-SNP"
        return (
            cloud.unsupported(found, "It was removed again. Choose a type and region that offer SEV-SNP: `evident doctor` lists them."),
        )
    if state in {"stopping", "stopped"}:  # with its disk: not ours to remove because of that
        raise cloud.conflict(f"instance {listed['InstanceId']} is {state}", "Start it again in EC2, or remove the deployment.")
    reason = listed.get("StateReason", {})
    return (errors.died(reason.get("Code", state), reason.get("Message", f"the instance is {state}")),)


def _key(listed: Mapping[str, Any]) -> str | None:
    return next((tag["Value"] for tag in listed.get("Tags", listed.get("TagSet", [])) if tag["Key"] == TAG_KEY), None)
