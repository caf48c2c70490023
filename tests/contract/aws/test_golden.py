"""Every request as it leaves the SDK, against golden files that somebody has read.

The SDK validates parameters against its own service model before anything is sent, so a misspelt or misplaced member fails here too.
EVIDENT_UPDATE_GOLDEN=1 writes the files anew: read the difference before you commit it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ParamValidationError

from evident.platforms.aws import requests
from evident.platforms.aws.requests import BLOCK, ImageSpec, MachineSpec
from evident.platforms.opening import Opening
from evident.platforms.resources import Resource, Stage

GOLDEN = Path(__file__).parent / "golden"
KEY = "11111111-2222-4333-8444-555555555555"
TAGS = {"evident-deployment": "shop", "evident-generation": "1", "evident-id": "00112233aabbccdd", "evident-key": KEY}
ASKED = Resource("any", "evident-shop-1-11111111", KEY, TAGS, "aws/123456789012/eu-west-1", "", Stage.ASKED)
IMAGE = ImageSpec("ab" * 32, 5 * (1 << 30) + 1)
OPENINGS = (Opening("in", "tcp", 443, "203.0.113.0/24"), Opening("out", "udp", 53, "2001:db8::/32"))
SPEC = MachineSpec("m6a.large", "subnet-0a", OPENINGS)
GROUP = "sg-0c"
DEFAULT_RULE = {"SecurityGroupRuleId": "sgr-0", "IsEgress": True, "IpProtocol": "-1", "FromPort": -1, "ToPort": -1, "CidrIpv4": "0.0.0.0/0"}
OLD_RULE = {**DEFAULT_RULE, "SecurityGroupRuleId": "sgr-1", "IsEgress": False, "IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
CHANGES = dict(requests.rule_changes(GROUP, [DEFAULT_RULE, OLD_RULE], OPENINGS))
FILTERS = {"Filters": requests.tag_filters(TAGS)}

REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "start_snapshot": ("ebs", "start_snapshot", requests.start_snapshot(ASKED, IMAGE)),
    "put_snapshot_block": ("ebs", "put_snapshot_block", requests.put_block("snap-0a", 3, b"data")),
    "complete_snapshot": ("ebs", "complete_snapshot", requests.complete_snapshot("snap-0a", 2)),
    "register_image": ("ec2", "register_image", requests.register_image(ASKED, IMAGE, "snap-0a")),
    "register_image_secure_boot": (
        "ec2",
        "register_image",
        requests.register_image(ASKED, ImageSpec("ab" * 32, 1, uefi_data="QU1aTlVFRkk="), "snap-0a"),
    ),
    "create_security_group": ("ec2", "create_security_group", requests.create_group(ASKED, "vpc-0b")),
    "revoke_default_egress": ("ec2", "revoke_security_group_egress", requests.default_egress(GROUP)[0]),
    "revoke_default_egress_v6": ("ec2", "revoke_security_group_egress", requests.default_egress(GROUP)[1]),
    **{name: ("ec2", name, request) for name, request in CHANGES.items()},
    "run_instances": ("ec2", "run_instances", requests.run_instance(ASKED, SPEC, IMAGE.volume_gib, "ami-0d", GROUP)),
    "stop_instances": ("ec2", "stop_instances", requests.stop_instance("i-0e")),
    "start_instances": ("ec2", "start_instances", requests.start_instance("i-0e")),
    "get_instance_tpm_ek_pub": ("ec2", "get_instance_tpm_ek_pub", requests.ek_pub("i-0e")),
    "describe_by_tags": ("ec2", "describe_instances", FILTERS),
}


class Sent(Exception):
    """Carries a request away instead of sending it."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@pytest.fixture(scope="module")
def clients() -> dict[str, Any]:
    def take(request: Any, **_: Any) -> None:
        raise Sent(request)

    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    made = {}
    for service in ("ec2", "ebs"):
        client = session.create_client(service, region_name="eu-west-1", config=Config(retries={"total_max_attempts": 1}))
        client.meta.events.register("before-send", take)
        made[service] = client
    return made


def on_the_wire(client: Any, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(Sent) as sent:
        getattr(client, operation)(**request)
    raw = sent.value.request
    url = urlsplit(raw.url)
    body = raw.body if isinstance(raw.body, bytes) else raw.body.read() if hasattr(raw.body, "read") else (raw.body or "").encode()
    readable: Any = f"{len(body)} bytes, SHA-256 {hashlib.sha256(body).hexdigest()}"
    if client.meta.service_model.protocol == "ec2":
        readable = dict(parse_qsl(body.decode(), strict_parsing=True))
    elif body.startswith(b"{"):
        readable = json.loads(body)
    headers = {name.lower(): value for name, value in raw.headers.items()}
    headers = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in headers.items()
        if name.startswith("x-amz-") and name not in {"x-amz-date", "x-amz-content-sha256"} and not name.startswith("x-amz-sdk")
    }
    return {"method": raw.method, "url": f"{url.scheme}://{url.netloc}{url.path}", "query": url.query, "headers": headers, "body": readable}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_request_is_the_reviewed_one(name: str, clients: dict[str, Any]) -> None:
    service, operation, request = REQUESTS[name]
    assert request is not None
    seen = on_the_wire(clients[service], operation, request)
    path = GOLDEN / f"{name}.json"
    if os.environ.get("EVIDENT_UPDATE_GOLDEN"):
        path.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n")
    assert seen == json.loads(path.read_text())


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(REQUESTS)


def test_every_call_that_creates_has_a_golden_request(owner: Any, fake: Any, clients: dict[str, Any]) -> None:
    """Listings and removals carry an id or tags and nothing else; everything that creates or opens has been read by somebody."""
    owner.up()
    owner.down()
    method = clients["ec2"].meta.method_to_api_mapping | clients["ebs"].meta.method_to_api_mapping
    read = {method[operation] for _, operation, _ in REQUESTS.values()}
    plain = {"GetCallerIdentity"} | {name for name, _ in fake.calls if name.startswith(("Describe", "Terminate", "Delete", "Deregister"))}
    assert {name for name, _ in fake.calls} - plain <= read


@pytest.mark.parametrize("name", ["run_instances", "register_image", "create_security_group", "start_snapshot"])
def test_whatever_is_created_carries_every_tag(name: str) -> None:
    text = (GOLDEN / f"{name}.json").read_text()
    assert all(tag in text for pair in TAGS.items() for tag in pair)


def test_what_must_be_in_the_wire_form_of_a_confidential_machine() -> None:
    body = json.loads((GOLDEN / "run_instances.json").read_text())["body"]
    assert body["CpuOptions.AmdSevSnp"] == "enabled"
    assert body["MetadataOptions.HttpTokens"] == "required"
    assert body["ClientToken"] == KEY
    assert body["NetworkInterface.1.AssociatePublicIpAddress"] == "false"
    assert not [member for member in body if member.startswith(("UserData", "KeyName"))]
    assert {body[f"TagSpecification.{number}.ResourceType"] for number in (1, 2, 3)} == {"instance", "volume", "network-interface"}


def test_a_misspelt_member_does_not_leave_the_sdk(clients: dict[str, Any]) -> None:
    request = requests.run_instance(ASKED, SPEC, IMAGE.volume_gib, "ami-0d", GROUP)
    with pytest.raises(ParamValidationError, match="AmdSevSNP"):
        clients["ec2"].run_instances(**{**request, "CpuOptions": {"AmdSevSNP": "enabled"}})


def test_zero_blocks_are_not_sent_and_the_last_one_is_filled() -> None:
    assert requests.put_block("snap-0a", 0, bytes(BLOCK)) is None
    assert requests.put_block("snap-0a", 0, b"") is None
    last = requests.put_block("snap-0a", 7, b"x")
    assert last is not None
    assert last["BlockData"] == b"x" + bytes(BLOCK - 1)


@pytest.mark.parametrize(("size", "gib"), [(1, 1), (1 << 30, 1), ((1 << 30) + 1, 2), (5 << 30, 5)])
def test_the_volume_is_large_enough(size: int, gib: int) -> None:
    assert ImageSpec("00" * 32, size).volume_gib == gib


def test_rules_that_are_right_need_no_change() -> None:
    there = [
        {
            "SecurityGroupRuleId": "sgr-2",
            "IsEgress": False,
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 443,
            "CidrIpv4": "203.0.113.0/24",
        },
        {"SecurityGroupRuleId": "sgr-3", "IsEgress": True, "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIpv6": "2001:db8::/32"},
    ]
    assert requests.rule_changes(GROUP, there, OPENINGS) == []
