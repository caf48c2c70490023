# ruff: noqa: N802, N803, ARG002 -- the operations and parameters are called as AWS calls them
"""An AWS of one account in memory, behind the real SDK: it validates and serialises, this answers at ``before-call``.

Unlike moto it honours idempotency tokens, lists late (eventual consistency), refuses what is in use, and can be told to throttle, to
refuse, to lose answers, and to have the caller die at any moment. Answers are held against botocore's output models.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.validate import ParamValidator

from evident.platforms.aws.clients import Clients
from evident.platforms.aws.executor import Aws
from evident.platforms.aws.images import described
from evident.platforms.aws.requests import BLOCK, ImageSpec, MachineSpec
from evident.platforms.cloud import Patience
from evident.platforms.opening import Opening
from evident.platforms.order import Disk, Order
from evident.platforms.resources import Resource, ResourceJournal, Stock

REGION = "eu-west-1"
EPOCH = datetime(2026, 6, 1, tzinfo=UTC)


class Crash(BaseException):
    """This process dies here."""


class Refusal(Exception):
    def __init__(self, code: str, message: str = "as the test wants", status: int = 400) -> None:
        super().__init__(code)
        self.code, self.message, self.status = code, message, status


LOST = object()
"""A fault: the call is carried out, and its answer never arrives."""


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


class FakeAws:
    """See the module. `objects` by id; `calls` in order with the parameters as the caller gave them."""

    def __init__(self, time: Time, *, lag: float = 12.0) -> None:
        self.time, self.lag = time, lag
        self.account = "123456789012"
        self.objects: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, tuple[str, str]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.faults: dict[str, list[Any]] = defaultdict(list)
        self.starts: list[tuple[str, dict[str, str]]] = []
        """Fates of the next instances: a state and a StateReason."""
        self.snp = True
        self.rules_lag = 0.0
        """Seconds for which a new group's rules are not listed, though it is."""
        snp = {"ProcessorInfo": {"SupportedFeatures": ["amd-sev-snp"]}, "SupportedBootModes": ["legacy-bios", "uefi"]}
        self.types = {"m6a.large": {**snp, "NitroTpmSupport": "supported", "VCpuInfo": {"DefaultVCpus": 2}}}
        self.types["t3.micro"] = {"SupportedBootModes": ["uefi"], "NitroTpmSupport": "supported", "VCpuInfo": {"DefaultVCpus": 2}}
        self.zones = [f"{REGION}a", f"{REGION}b"]
        self.vcpus = 5.0
        self.steps = 0
        self.dies_at(None)
        self._numbers, self._addresses = itertools.count(1), itertools.count(7)

    def answer(self, model: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        operation = model.name
        self.step()  # dies before it is sent
        self.calls.append((operation, given))
        fault = self.faults[operation].pop(0) if self.faults[operation] else None
        try:
            if given.pop("DryRun", False) and fault is None:
                raise Refusal("DryRunOperation", status=412)
            if isinstance(fault, Exception):
                raise fault
            answer = getattr(self, f"do_{operation}")(**given)
        except Refusal as refusal:
            self.step()
            metadata = {"HTTPStatusCode": refusal.status}
            error = {"Error": {"Code": refusal.code, "Message": refusal.message}, "ResponseMetadata": metadata}
            return SimpleNamespace(status_code=refusal.status), error
        self.step()  # dies, or loses sight of the answer, after it is done
        if fault is LOST:
            raise ReadTimeoutError(endpoint_url="https://ec2.example")
        if model.output_shape is not None:
            report = ParamValidator().validate(answer, model.output_shape)
            assert not report.has_errors(), f"{operation}: {report.generate_report()}"
        return SimpleNamespace(status_code=200), {**answer, "ResponseMetadata": {"HTTPStatusCode": 200}}

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
        return [each for each in self.objects.values() if kind in (None, each["kind"]) and each["state"] != "terminated"]

    def _make(self, kind: str, prefix: str, tags: list[dict[str, str]], **more: Any) -> dict[str, Any]:
        made = {
            "kind": kind,
            "id": f"{prefix}-{next(self._numbers):017x}",
            "tags": tags,
            "at": self.time.now,
            "account": self.account,
            "state": "",
            **more,
        }
        self.objects[made["id"]] = made
        return made

    def _age(self, each: dict[str, Any]) -> None:
        now = self.time.now
        if "to" in each and now >= each["ready"]:
            each["state"] = each.pop("to")
        if each["state"] == "pending" and "to" not in each and each["kind"] == "instance" and now >= each["at"] + 25:
            each["state"], each["reason"] = each["fate"]
        if each["state"] == "pending" and each["kind"] == "image" and now >= each["at"] + 10:
            each["state"] = "available"
        if each.get("sealed") is not None and now >= each["sealed"] + 15:
            each["state"] = "completed"
        if each["state"] == "shutting-down" and now >= each.setdefault("ending", now) + 30:
            each["state"] = "terminated"
            for child in [other for other in self.objects.values() if other.get("of") == each["id"]]:
                del self.objects[child["id"]]

    def _visible(self, kind: str) -> list[dict[str, Any]]:
        for each in list(self.objects.values()):
            self._age(each)
        mine = [each for each in self.objects.values() if (each["kind"], each["account"]) == (kind, self.account)]
        return [each for each in mine if self.time.now >= each["at"] + self.lag]

    def _get(self, kind: str, identifier: str, missing: str) -> dict[str, Any]:
        for each in self._visible(kind):
            if each["id"] == identifier:
                return each
        raise Refusal(missing)

    def _list(self, kind: str, ids: list[str] | None, missing: str, filters: Any, token: str | None) -> tuple[list[Any], dict[str, str]]:
        """Matching objects, one a page where no ids are named, and the token of the next page."""
        if ids:
            return [self._get(kind, identifier, missing) for identifier in ids], {}
        wanted = {entry["Name"].removeprefix("tag:"): entry["Values"] for entry in filters or []}
        matching = [
            each
            for each in self._visible(kind)
            if all({tag["Key"]: tag["Value"] for tag in each["tags"]}.get(name) in values for name, values in wanted.items())
        ]
        start = int(token or 0)
        return matching[start : start + 1], {"NextToken": str(start + 1)} if start + 1 < len(matching) else {}

    def _once(self, token: str, given: Any, make: Callable[[], dict[str, Any]], mismatch: str) -> dict[str, Any]:
        digest = json.dumps(given, sort_keys=True)
        if token in self.tokens:
            identifier, before = self.tokens[token]
            if before != digest:
                raise Refusal(mismatch)
            return self.objects[identifier]
        made = make()
        self.tokens[token] = (made["id"], digest)
        return made

    # -- operations

    def do_GetCallerIdentity(self) -> dict[str, Any]:
        return {"Account": self.account, "Arn": f"arn:aws:iam::{self.account}:user/test", "UserId": "AIDAEXAMPLE"}

    def do_DescribeInstanceTypes(self, InstanceTypes: list[str]) -> dict[str, Any]:
        if InstanceTypes[0] not in self.types:
            raise Refusal("InvalidInstanceType", f"The following supplied instance types do not exist: [{InstanceTypes[0]}]")
        return {"InstanceTypes": [{"InstanceType": InstanceTypes[0], **self.types[InstanceTypes[0]]}]}

    def do_DescribeInstanceTypeOfferings(self, LocationType: str, Filters: Any) -> dict[str, Any]:
        return {"InstanceTypeOfferings": [{"LocationType": LocationType, "Location": zone} for zone in self.zones]}

    def do_GetServiceQuota(self, ServiceCode: str, QuotaCode: str) -> dict[str, Any]:
        assert (ServiceCode, QuotaCode) == ("ec2", "L-1216C47A")
        return {"Quota": {"QuotaCode": QuotaCode, "Value": self.vcpus}}

    def do_DescribeSubnets(self, SubnetIds: list[str]) -> dict[str, Any]:
        if SubnetIds != ["subnet-1"]:
            raise Refusal("InvalidSubnetID.NotFound", f"The subnet ID '{SubnetIds[0]}' does not exist")
        return {"Subnets": [{"SubnetId": "subnet-1", "VpcId": "vpc-1", "AvailabilityZone": f"{REGION}a", "AvailableIpAddressCount": 9}]}

    def do_StartSnapshot(self, ClientToken: str, Tags: Any, **given: Any) -> dict[str, Any]:
        made = self._once(
            ClientToken, given, lambda: self._make("snapshot", "snap", Tags, state="pending", blocks={}, sealed=None), "ConflictException"
        )
        return {"SnapshotId": made["id"], "Status": made["state"], "BlockSize": BLOCK, "VolumeSize": given["VolumeSize"]}

    def _unsealed(self, identifier: str) -> dict[str, Any]:
        snapshot = self.objects.get(identifier)
        if snapshot is None:
            raise Refusal("ResourceNotFoundException", status=404)
        if snapshot["sealed"] is not None:
            raise Refusal("ValidationException", "the snapshot is not pending")
        return snapshot

    def do_PutSnapshotBlock(self, SnapshotId: str, BlockIndex: int, BlockData: bytes, Checksum: str, **given: Any) -> dict[str, Any]:
        if (
            len(BlockData) != BLOCK
            or given["DataLength"] != BLOCK
            or base64.b64encode(hashlib.sha256(BlockData).digest()).decode() != Checksum
        ):
            raise Refusal("ValidationException", "INVALID_BLOCK")
        self._unsealed(SnapshotId)["blocks"][BlockIndex] = BlockData
        return {"Checksum": Checksum, "ChecksumAlgorithm": "SHA256"}

    def do_CompleteSnapshot(self, SnapshotId: str, ChangedBlocksCount: int) -> dict[str, Any]:
        snapshot = self._unsealed(SnapshotId)
        if len(snapshot["blocks"]) != ChangedBlocksCount:
            raise Refusal("ValidationException", "wrong count")
        snapshot["sealed"] = self.time.now
        return {"Status": "pending"}

    def do_DescribeSnapshots(
        self,
        SnapshotIds: Any = None,
        Filters: Any = None,
        OwnerIds: Any = None,
        NextToken: Any = None,
    ) -> dict[str, Any]:
        assert SnapshotIds or OwnerIds == ["self"], "what others have made public is listed too"
        listed, more = self._list("snapshot", SnapshotIds, "InvalidSnapshot.NotFound", Filters, NextToken)
        return {"Snapshots": [{"SnapshotId": each["id"], "State": each["state"], "Tags": each["tags"]} for each in listed], **more}

    def do_DeleteSnapshot(self, SnapshotId: str) -> dict[str, Any]:
        self._get("snapshot", SnapshotId, "InvalidSnapshot.NotFound")
        if any(each.get("snapshot") == SnapshotId for each in self.live("image")):
            raise Refusal("InvalidSnapshot.InUse")
        del self.objects[SnapshotId]
        return {}

    def do_RegisterImage(self, Name: str, TagSpecifications: Any, BlockDeviceMappings: Any, **_: Any) -> dict[str, Any]:
        snapshot = self._get("snapshot", BlockDeviceMappings[0]["Ebs"]["SnapshotId"], "InvalidSnapshot.NotFound")
        if snapshot["state"] != "completed":
            raise Refusal("InvalidParameterValue", "snapshot is not completed")
        if any(each["name"] == Name for each in self.live("image")):
            raise Refusal("InvalidAMIName.Duplicate")
        tags = TagSpecifications[0]["Tags"]
        return {"ImageId": self._make("image", "ami", tags, name=Name, state="pending", snapshot=snapshot["id"])["id"]}

    def do_DescribeImages(
        self,
        ImageIds: Any = None,
        Filters: Any = None,
        Owners: Any = None,
        NextToken: Any = None,
    ) -> dict[str, Any]:
        assert ImageIds or Owners == ["self"], "what others have made public is listed too"
        listed, more = self._list("image", ImageIds, "InvalidAMIID.NotFound", Filters, NextToken)
        return {"Images": [{"ImageId": each["id"], "State": each["state"], "Tags": each["tags"]} for each in listed], **more}

    def do_DeregisterImage(self, ImageId: str) -> dict[str, Any]:
        self._get("image", ImageId, "InvalidAMIID.NotFound")
        del self.objects[ImageId]
        return {}

    def do_CreateSecurityGroup(self, GroupName: str, VpcId: str, TagSpecifications: Any, **_: Any) -> dict[str, Any]:
        if any(each["name"] == GroupName for each in self.live("security-group")):
            raise Refusal("InvalidGroup.Duplicate")
        made = self._make("security-group", "sg", TagSpecifications[0]["Tags"], name=GroupName, vpc=VpcId, rules={})
        self._permit(made, egress=True, protocol="-1", low=-1, high=-1, peer="0.0.0.0/0")
        return {"GroupId": made["id"]}

    def _permit(self, group: dict[str, Any], *, egress: bool, protocol: str, low: int, high: int, peer: str) -> None:
        rule = (egress, protocol, low, high, peer)
        if rule in group["rules"].values():
            raise Refusal("InvalidPermission.Duplicate")
        group["rules"][f"sgr-{next(self._numbers):017x}"] = rule

    def _change(self, group_id: str, egress: bool, ids: Any, permissions: Any, *, add: bool) -> dict[str, Any]:
        group = self._get("security-group", group_id, "InvalidGroup.NotFound")
        if ids:
            group["rules"] = {name: rule for name, rule in group["rules"].items() if name not in ids}
        for each in permissions or []:
            peers = [entry["CidrIp"] for entry in each.get("IpRanges", [])] + [entry["CidrIpv6"] for entry in each.get("Ipv6Ranges", [])]
            rule = (egress, each["IpProtocol"], each.get("FromPort", -1), each.get("ToPort", -1), peers[0])
            if add:
                self._permit(group, egress=egress, protocol=rule[1], low=rule[2], high=rule[3], peer=rule[4])
            elif rule not in group["rules"].values():
                raise Refusal("InvalidPermission.NotFound")
            else:
                group["rules"] = {name: other for name, other in group["rules"].items() if other != rule}
        return {"Return": True}

    def do_AuthorizeSecurityGroupIngress(self, GroupId: str, IpPermissions: Any) -> dict[str, Any]:
        return self._change(GroupId, False, None, IpPermissions, add=True)

    def do_AuthorizeSecurityGroupEgress(self, GroupId: str, IpPermissions: Any) -> dict[str, Any]:
        return self._change(GroupId, True, None, IpPermissions, add=True)

    def do_RevokeSecurityGroupIngress(self, GroupId: str, SecurityGroupRuleIds: Any) -> dict[str, Any]:
        return self._change(GroupId, False, SecurityGroupRuleIds, None, add=False)

    def do_RevokeSecurityGroupEgress(self, GroupId: str, IpPermissions: Any = None, SecurityGroupRuleIds: Any = None) -> dict[str, Any]:
        return self._change(GroupId, True, SecurityGroupRuleIds, IpPermissions, add=False)

    def do_DescribeSecurityGroupRules(self, Filters: Any, NextToken: Any = None) -> dict[str, Any]:
        rules = []
        for group in self._visible("security-group"):
            if self.time.now < group["at"] + self.rules_lag:
                continue
            for name, (egress, protocol, low, high, peer) in group["rules"].items() if group["id"] in Filters[0]["Values"] else ():
                family = "CidrIpv6" if ":" in peer else "CidrIpv4"
                rule = {"SecurityGroupRuleId": name, "IsEgress": egress, "IpProtocol": protocol, "FromPort": low, "ToPort": high}
                rules.append({**rule, family: peer})
        start = int(NextToken or 0)
        return {"SecurityGroupRules": rules[start : start + 1], **({"NextToken": str(start + 1)} if start + 1 < len(rules) else {})}

    def do_DescribeSecurityGroups(self, Filters: Any, NextToken: Any = None) -> dict[str, Any]:
        listed, more = self._list("security-group", None, "", Filters, NextToken)
        return {"SecurityGroups": [{"GroupId": each["id"], "Tags": each["tags"]} for each in listed], **more}

    def do_DeleteSecurityGroup(self, GroupId: str) -> dict[str, Any]:
        self._get("security-group", GroupId, "InvalidGroup.NotFound")
        if any(each.get("group") == GroupId for each in self.live("network-interface")):
            raise Refusal("DependencyViolation")
        del self.objects[GroupId]
        return {}

    def do_RunInstances(self, ClientToken: str, **given: Any) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            self._get("image", given["ImageId"], "InvalidAMIID.NotFound")
            network = given["NetworkInterfaces"][0]
            fate = self.starts.pop(0) if self.starts else ("running", {})
            tags = {entry["ResourceType"]: entry["Tags"] for entry in given["TagSpecifications"]}
            address = f"10.0.0.{next(self._addresses)}"
            made = self._make("instance", "i", tags["instance"], state="pending", fate=fate, reason={}, address=address)
            self._make("volume", "vol", tags["volume"], of=made["id"], state="in-use")
            self._make("network-interface", "eni", tags["network-interface"], of=made["id"], group=network["Groups"][0], state="in-use")
            return made

        return {"Instances": [{"InstanceId": self._once(ClientToken, given, make, "IdempotentParameterMismatch")["id"]}]}

    def do_DescribeInstances(self, InstanceIds: Any = None, Filters: Any = None, NextToken: Any = None) -> dict[str, Any]:
        listed, more = self._list("instance", InstanceIds, "InvalidInstanceID.NotFound", Filters, NextToken)
        options = {"CpuOptions": {"CoreCount": 1, "ThreadsPerCore": 2, **({"AmdSevSnp": "enabled"} if self.snp else {})}}
        instances = [
            {"InstanceId": each["id"], "State": {"Name": each["state"]}, "Tags": each["tags"], "StateReason": each["reason"], **options}
            | ({"PrivateIpAddress": each["address"]} if each["state"] != "terminated" else {})
            for each in listed
        ]
        return {"Reservations": [{"Instances": [each]} for each in instances], **more}

    def do_StopInstances(self, InstanceIds: list[str]) -> dict[str, Any]:
        return self._switch(InstanceIds[0], "stopping", "stopped", "StoppingInstances")

    def do_StartInstances(self, InstanceIds: list[str]) -> dict[str, Any]:
        return self._switch(InstanceIds[0], "pending", "running", "StartingInstances")

    def _switch(self, identifier: str, through: str, to: str, member: str) -> dict[str, Any]:
        instance = self._get("instance", identifier, "InvalidInstanceID.NotFound")
        if instance["state"] in {"shutting-down", "terminated"}:
            raise Refusal("IncorrectInstanceState")
        if instance["state"] != to:
            instance.update(state=through, to=to, ready=self.time.now + 20)
        return {member: [{"InstanceId": identifier}]}

    def do_TerminateInstances(self, InstanceIds: list[str]) -> dict[str, Any]:
        instance = self._get("instance", InstanceIds[0], "InvalidInstanceID.NotFound")
        if instance["state"] != "terminated":
            instance["state"] = "shutting-down"
            instance["reason"] = {"Code": "Client.UserInitiatedShutdown", "Message": "User initiated shutdown"}
            instance.setdefault("ending", self.time.now)
        return {"TerminatingInstances": [{"InstanceId": InstanceIds[0]}]}

    def do_DescribeVolumes(self, Filters: Any, NextToken: Any = None) -> dict[str, Any]:
        listed, more = self._list("volume", None, "", Filters, NextToken)
        return {"Volumes": [{"VolumeId": each["id"], "Tags": each["tags"]} for each in listed], **more}

    def do_DeleteVolume(self, VolumeId: str) -> dict[str, Any]:
        if "of" in self._get("volume", VolumeId, "InvalidVolume.NotFound"):
            raise Refusal("VolumeInUse")
        del self.objects[VolumeId]
        return {}

    def do_DescribeNetworkInterfaces(self, Filters: Any, NextToken: Any = None) -> dict[str, Any]:
        listed, more = self._list("network-interface", None, "", Filters, NextToken)
        return {"NetworkInterfaces": [{"NetworkInterfaceId": each["id"], "TagSet": each["tags"]} for each in listed], **more}

    def do_DeleteNetworkInterface(self, NetworkInterfaceId: str) -> dict[str, Any]:
        if "of" in self._get("network-interface", NetworkInterfaceId, "InvalidNetworkInterfaceID.NotFound"):
            raise Refusal("InvalidNetworkInterface.InUse")
        del self.objects[NetworkInterfaceId]
        return {}

    def do_GetInstanceTpmEkPub(self, InstanceId: str, KeyType: str, KeyFormat: str) -> dict[str, Any]:
        self._get("instance", InstanceId, "InvalidInstanceID.NotFound")
        key = {"KeyType": KeyType, "KeyFormat": KeyFormat, "KeyValue": base64.b64encode(b"an EK").decode()}
        return {"InstanceId": InstanceId, **key}


class Wire:
    """The SDK's clients, made once (that is slow), talking to whichever AWS is plugged in."""

    def __init__(self) -> None:
        self.fake: FakeAws | None = None
        session = botocore.session.Session()
        session.set_credentials("AKIDEXAMPLE", "secret")
        made = {}
        for service in ("ec2", "ebs", "sts", "service-quotas"):
            client = session.create_client(service, region_name=REGION, config=Config(retries={"total_max_attempts": 1}))
            client.meta.events.register("before-parameter-build", self._remember)
            client.meta.events.register("before-call", self._answer)
            made[service] = client
        self.clients = Clients(REGION, made["ec2"], made["ebs"], made["sts"], made["service-quotas"])

    @staticmethod
    def _remember(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["given"] = copy.deepcopy(params)

    def _answer(self, model: Any, context: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        assert self.fake is not None
        return self.fake.answer(model, context["given"])


class Owner:
    """Somebody with one deployment; every `stock()` is a new process with the same journal."""

    def __init__(self, directory: Path, fake: FakeAws, wire: Wire, *, seed: str = "") -> None:
        self.fake, self.name, self.seed, self.clients = fake, "shop", seed, wire.clients
        wire.fake = fake
        self.path = directory / self.name / "resources.jsonl"
        self.file = directory / "disk.raw"
        self.file.write_bytes(b"\xe9" * BLOCK + bytes(BLOCK) + b"tail")
        self.image: ImageSpec = described(self.file)
        openings = (Opening("in", "tcp", 443, "203.0.113.0/24"), Opening("out", "tcp", 443, "2001:db8::/32"))
        self.spec = MachineSpec("m6a.large", "subnet-1", openings)
        self.where: dict[str, str] = {}
        """More settings."""
        self.said: list[str] = []
        self._random = itertools.count(1)

    @property
    def order(self) -> Order:
        where = {"type": self.spec.instance_type, "subnet": self.spec.subnet, **self.where}
        return Order(disks=(Disk(str(self.file)),), where=where, openings=self.spec.openings)

    def patience(self) -> Patience:
        return Patience(self.fake.time.clock, self.fake.time.sleep, lambda: 0.5, self.said.append)

    def journal(self) -> ResourceJournal:
        return CrashingJournal(self.path, self.fake)

    def aws(self) -> Aws:
        return Aws(self.clients, self.patience())

    def stock(self, aws: Aws | None = None) -> Stock:
        def randomness(count: int) -> bytes:
            return hashlib.sha256(f"{self.seed} {next(self._random)}".encode()).digest()[:count]

        return Stock((self.name, 1), self.journal(), aws or self.aws(), self.patience(), randomness)

    def up(self) -> str:
        aws = self.aws()
        return aws.launch(self.stock(aws), self.order)

    def down(self) -> None:
        self.stock().destroy()


class CrashingJournal(ResourceJournal):
    """Dies before, in the middle of (a torn line), and after its writes, where the fake says so."""

    def __init__(self, path: Path, fake: FakeAws) -> None:
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


@pytest.fixture(scope="session")
def wire() -> Wire:
    return Wire()


@pytest.fixture
def world(tmp_path: Path, wire: Wire) -> Callable[[], tuple[Owner, FakeAws]]:
    """Gives fresh worlds: an owner and their AWS; the newest is the one that is plugged in."""
    numbers = itertools.count()

    def make() -> tuple[Owner, FakeAws]:
        directory = tmp_path / f"world-{next(numbers)}"
        directory.mkdir()
        fresh = FakeAws(Time())
        return Owner(directory, fresh, wire), fresh

    return make


@pytest.fixture
def fake() -> FakeAws:
    return FakeAws(Time())


@pytest.fixture
def owner(tmp_path: Path, fake: FakeAws, wire: Wire) -> Owner:
    return Owner(tmp_path, fake, wire)
