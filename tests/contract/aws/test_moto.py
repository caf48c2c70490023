"""The whole life on moto, another implementation of EC2, so that not only our own fake says that the calls fit together.

moto drops CpuOptions, TpmSupport, UefiData and the tags of images, and ignores tokens: for those, what was *sent* is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moto
import moto.backends
import pytest
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT

from evident.platforms.aws.clients import Clients, connect
from evident.platforms.aws.executor import Aws
from evident.platforms.aws.requests import MachineSpec
from evident.platforms.resources import Stage


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Clients, dict[str, Any]]]:
    """Clients of moto's account as `connect` makes them, and what they sent by operation."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    sent: dict[str, Any] = {}

    def remember(params: dict[str, Any], model: Any, **_: Any) -> None:
        sent[model.name] = params["body"]

    def dropped(parsed: dict[str, Any], **_: Any) -> None:
        for snapshot in parsed.get("Snapshots", []):  # moto calls it completed before a block is written
            snapshot["State"] = "completed" if "CompleteSnapshot" in sent else "pending"
        for reservation in parsed.get("Reservations", []):
            for instance in reservation["Instances"]:
                instance.setdefault("CpuOptions", {})["AmdSevSnp"] = sent["RunInstances"].get("CpuOptions.AmdSevSnp", "disabled")

    def untagged(params: dict[str, Any], **_: Any) -> None:
        params.pop("Filters", None)  # moto keeps no tags of images; of its own there is but one

    with moto.mock_aws():
        clients = connect("eu-west-1")
        clients.ec2.meta.events.register("before-parameter-build.ec2.DescribeImages", untagged)
        clients.ec2.meta.events.register("before-call", remember)
        clients.ebs.meta.events.register("before-call", remember)
        clients.ec2.meta.events.register("after-call.ec2", dropped)
        yield clients, sent


def test_a_life_on_moto(account: tuple[Clients, dict[str, Any]], owner: Any, tmp_path: Path) -> None:
    clients, sent = account
    owner.clients = clients
    subnet = clients.ec2.describe_subnets()["Subnets"][0]
    owner.spec = MachineSpec("m6a.large", subnet["SubnetId"], owner.spec.openings)
    store = tmp_path / "uefi-data"
    store.write_text("QU1aTlVFRkk=\n")
    owner.where["uefi_data"] = str(store)
    aws: Aws = owner.aws()
    identifier = aws.launch(owner.stock(aws), owner.order)

    assert sent["RunInstances"]["CpuOptions.AmdSevSnp"] == "enabled"
    assert (sent["RegisterImage"]["TpmSupport"], sent["RegisterImage"]["UefiData"]) == ("v2.0", "QU1aTlVFRkk=")
    resources = {each.kind: each for each in owner.journal().resources()}
    assert {each.stage for each in resources.values()} == {Stage.READY}
    assert sent["RunInstances"]["ClientToken"] == resources["instance"].key

    instance = clients.ec2.describe_instances(InstanceIds=[identifier])["Reservations"][0]["Instances"][0]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert sent["RunInstances"]["NetworkInterface.1.SecurityGroupId.1"] == resources["security-group"].id
    rules = clients.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [resources["security-group"].id]}])
    seen = {(rule["IsEgress"], rule["FromPort"], rule.get("CidrIpv4") or rule.get("CidrIpv6")) for rule in rules["SecurityGroupRules"]}
    assert seen == {(False, 443, "203.0.113.0/24"), (True, 443, "2001:db8::/32")}

    first = clients.ebs.get_snapshot_block(SnapshotId=resources["snapshot"].id, BlockIndex=0, BlockToken="any")
    assert first["BlockData"].read() == owner.file.read_bytes()[:524288]

    owner.down()
    left = clients.ec2.describe_instances()["Reservations"][0]["Instances"][0]
    assert left["State"]["Name"] == "terminated"
    assert clients.ec2.describe_images(Owners=["self"])["Images"] == []
    assert resources["snapshot"].id not in moto.backends.get_backend("ec2")[ACCOUNT]["eu-west-1"].snapshots
    groups = clients.ec2.describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default"}
    assert {each.stage for each in owner.journal().resources()} == {Stage.GONE}


def test_moto_has_the_types_that_the_preflight_asks_for(account: tuple[Clients, dict[str, Any]]) -> None:
    """moto carries AWS's real instance data: the members that the preflight reads are there, spelt so."""
    clients, _ = account
    kind = clients.ec2.describe_instance_types(InstanceTypes=["m6a.large"])["InstanceTypes"][0]
    assert "amd-sev-snp" in kind["ProcessorInfo"]["SupportedFeatures"]
    assert kind["NitroTpmSupport"] == "supported"
    assert "uefi" in kind["SupportedBootModes"]


def test_boto3_is_configured_to_try_once(account: tuple[Clients, dict[str, Any]]) -> None:
    clients, _ = account
    assert clients.ec2.meta.config.retries["total_max_attempts"] == 1
