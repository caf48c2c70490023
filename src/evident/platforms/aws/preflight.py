"""Everything that can be known before the first thing is created: `evident doctor` for AWS. Changes nothing.

Asked in this order, each answer a `Probe`:

1. Credentials: who are we (STS GetCallerIdentity, which needs no permission).
2. Type: does the region offer it, with SEV-SNP, NitroTPM and UEFI (EC2 DescribeInstanceTypes; queried, never a list of ours).
3. Subnet: does it exist, with a free address, in a zone that offers the type (DescribeSubnets, DescribeInstanceTypeOfferings).
4. Quota: do the vCPUs fit into those left (Service Quotas L-1216C47A, "Running On-Demand Standard instances", in vCPUs).
5. Permissions, by DryRun, as far as calls have it; the EBS direct API has none, and is not tried. What may be removed by its tag alone, as
   docs/platforms/aws-policy.json has it, cannot be tried on what does not exist: a refusal there decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evident.errors import EvidentError, UsageError
from evident.platforms import cloud
from evident.platforms.aws import errors, requests
from evident.platforms.aws.clients import Clients, call, connect, pages
from evident.platforms.aws.images import described
from evident.platforms.aws.requests import ImageSpec, MachineSpec
from evident.platforms.cloud import Patience, Probe
from evident.platforms.resources import Resource, Stage

STANDARD_VCPUS = "L-1216C47A"
_NOWHERE = "00000000000000000"
"""Well-formed id of nothing, for calls that are only tried."""
_REMOVALS: Mapping[str, requests.Request] = {
    "terminate_instances": {"InstanceIds": [f"i-{_NOWHERE}"]},
    "deregister_image": {"ImageId": f"ami-{_NOWHERE}"},
    "delete_snapshot": {"SnapshotId": f"snap-{_NOWHERE}"},
    "delete_security_group": {"GroupId": f"sg-{_NOWHERE}"},
}

SETTINGS = ("type", "subnet", "image", "region")


def doctor(settings: Mapping[str, str], patience: Patience) -> tuple[Probe, ...]:
    """`preflight` of ``type``, ``subnet``, ``image`` (a file) and, where the SDK has no default, ``region``.

    Raises `UsageError` ``aws.settings``, and what `connect` and `described` raise.
    """
    missing, strange = {"type", "subnet", "image"} - settings.keys(), settings.keys() - set(SETTINGS)
    if missing or strange:
        raise UsageError.of(
            "aws.settings",
            expected="type, subnet and image, perhaps region",
            found=", ".join(sorted(settings)) or "nothing",
            remedy="For example: --set type=m6a.large --set subnet=subnet-0a1b --set image=disk.raw --set region=eu-west-1",
        )
    clients = connect(settings.get("region"))
    return preflight(clients, MachineSpec(settings["type"], settings["subnet"]), described(Path(settings["image"])), patience)


def preflight(clients: Clients, spec: MachineSpec, image: ImageSpec, patience: Patience) -> tuple[Probe, ...]:
    """Probe everything that does not hang on a failed probe. Raises nothing that a cloud answers."""
    known: dict[str, Any] = {}
    steps: tuple[cloud.Step, ...] = (
        ("credentials", lambda: _who(clients), ()),
        ("instance type", lambda: _type(clients, spec, known), ("credentials",)),
        ("subnet", lambda: _subnet(clients, spec, known), ("credentials",)),
        ("zone", lambda: _zone(clients, spec, known), ("instance type", "subnet")),
        ("quota", lambda: _quota(clients, known), ("instance type",)),
        *((f"permission {name}", _tried(clients, name, request), ("credentials", "subnet")) for name, request in _dry_runs(spec, image)),
    )
    return cloud.probed(steps, patience)


def _who(clients: Clients) -> str:
    answer = call(clients.sts, "get_caller_identity", {})
    return f"{answer['Arn']} in {clients.region}"


def _type(clients: Clients, spec: MachineSpec, known: dict[str, Any]) -> str:
    listed = pages(clients.ec2, "describe_instance_types", {"InstanceTypes": [spec.instance_type]}, "InstanceTypes")
    if not listed:
        raise _no_type(f"no {spec.instance_type} in {clients.region}")
    kind = listed[0]
    lacks = [
        word
        for word, there in (
            ("SEV-SNP", "amd-sev-snp" in kind.get("ProcessorInfo", {}).get("SupportedFeatures", [])),
            ("NitroTPM", kind.get("NitroTpmSupport") == "supported"),
            ("UEFI", "uefi" in kind.get("SupportedBootModes", [])),
        )
        if not there
    ]
    if lacks:
        raise _no_type(f"{spec.instance_type} in {clients.region} without {', '.join(lacks)}")
    known["vcpus"] = kind["VCpuInfo"]["DefaultVCpus"]
    return f"{spec.instance_type}: SEV-SNP, NitroTPM, UEFI, {known['vcpus']} vCPUs"


def _no_type(found: str) -> EvidentError:
    return cloud.unsupported(found, errors.RULES["Unsupported"][1])


def _subnet(clients: Clients, spec: MachineSpec, known: dict[str, Any]) -> str:
    subnets = pages(clients.ec2, "describe_subnets", {"SubnetIds": [spec.subnet]}, "Subnets")
    if not subnets or not subnets[0].get("AvailableIpAddressCount", 1):
        raise cloud.quota(f"no free address in {spec.subnet}", "Choose a subnet with free addresses.")
    known["zone"] = subnets[0]["AvailabilityZone"]
    return f"{spec.subnet} in {known['zone']}"


def _zone(clients: Clients, spec: MachineSpec, known: Mapping[str, Any]) -> str:
    request = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": [spec.instance_type]}]}
    zones = sorted(each["Location"] for each in pages(clients.ec2, "describe_instance_type_offerings", request, "InstanceTypeOfferings"))
    if known["zone"] not in zones:
        found = f"no {spec.instance_type} in {known['zone']}; there is in {', '.join(zones) or 'no zone of the region'}"
        raise cloud.unsupported(found, "Choose a subnet in one of these zones, or another instance type.")
    return f"{spec.instance_type} is offered in {known['zone']}"


def _quota(clients: Clients, known: Mapping[str, Any]) -> str:
    try:
        answer = call(clients.quotas, "get_service_quota", {"ServiceCode": "ec2", "QuotaCode": STANDARD_VCPUS})
    except EvidentError as error:
        if error.code == cloud.TRANSIENT:
            raise
        return f"{cloud.UNKNOWN}{error.findings[0].found}"
    limit = int(answer["Quota"]["Value"])
    running = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    reservations = pages(clients.ec2, "describe_instances", {"Filters": running}, "Reservations")
    used = sum(_vcpus(instance) for each in reservations for instance in each["Instances"])
    if used + known["vcpus"] > limit:
        raise cloud.quota(f"{used} of {limit} vCPUs in use, {known['vcpus']} more wanted", errors.RULES["VcpuLimitExceeded"][1])
    return f"at most {used} of {limit} vCPUs in use, {known['vcpus']} wanted{cloud.beside(used, known['vcpus'], limit)}"


def _vcpus(instance: Mapping[str, Any]) -> int:
    """vCPUs that count towards the limit; instance families that do not count are few, and counted here too."""
    options = instance.get("CpuOptions", {})
    return int(options.get("CoreCount", 1)) * int(options.get("ThreadsPerCore", 1))


def _dry_runs(spec: MachineSpec, image: ImageSpec) -> tuple[tuple[str, requests.Request], ...]:
    """What the launch is going to call, on things that do not exist."""
    key = "00000000-0000-4000-8000-000000000000"
    dry = Resource("dry-run", "evident-dry-run", key, {}, "", "", Stage.ASKED)
    return (
        ("register_image", requests.register_image(dry, image, f"snap-{_NOWHERE}")),
        ("create_security_group", requests.create_group(dry, f"vpc-{_NOWHERE}")),
        ("run_instances", requests.run_instance(dry, spec, image.volume_gib, f"ami-{_NOWHERE}", f"sg-{_NOWHERE}")),
        *_REMOVALS.items(),
    )


def _tried(clients: Clients, operation: str, request: requests.Request) -> Callable[[], str]:
    def look() -> str:
        try:
            call(clients.ec2, operation, {**request, "DryRun": True})
        except EvidentError as error:
            code = errors.code_of(error)
            if code == "DryRunOperation":
                return "permitted"
            if code == "UnauthorizedOperation" and operation in _REMOVALS:
                return f"{cloud.UNKNOWN}not permitted on what carries no tag of Evident's; on what does, only a removal tells"
            if error.code in {"cloud.auth", cloud.TRANSIENT}:
                raise
            return f"{cloud.UNKNOWN}AWS answered {code} before it looked at permissions"
        return f"{cloud.UNKNOWN}AWS took no notice of DryRun"

    return look
