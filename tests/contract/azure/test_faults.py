"""What Azure answers when it does not say yes: the right code, the right remedy, nothing made twice, nothing left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core import exceptions as sdk

from evident.errors import EvidentError, Indeterminate, Unsupported, UsageError
from evident.platforms import resources
from evident.platforms.azure import errors, requests
from evident.platforms.azure.executor import Azure
from evident.platforms.cloud import LONGEST_PAUSE
from evident.platforms.resources import Stage

NOW = datetime(2026, 6, 1, tzinfo=UTC)
REFUSALS = [
    ("AuthorizationFailed", 403, "cloud.auth", "azure-role.json"),
    ("LinkedAuthorizationFailed", 403, "cloud.auth", "azure-role.json"),
    ("RequestDisallowedByPolicy", 403, "cloud.auth", "Azure Policy"),
    ("ExpiredAuthenticationToken", 401, "cloud.auth", "az login"),
    ("InvalidAuthenticationTokenTenant", 401, "cloud.auth", "az account list"),
    ("ReadOnlyDisabledSubscription", 409, "cloud.auth", "az account list"),
    ("MissingSubscriptionRegistration", 409, "cloud.auth", "az provider register"),
    ("QuotaExceeded", 409, "cloud.quota", "higher quota"),
    ("OperationNotAllowed", 409, "cloud.quota", "higher quota"),
    ("SkuNotAvailable", 409, "cloud.capacity", "another zone"),
    ("AllocationFailed", 409, "cloud.capacity", "another zone"),
    ("ZonalAllocationFailed", 409, "cloud.capacity", "another zone"),
    ("OverconstrainedAllocationRequest", 409, "cloud.capacity", "another zone"),
    ("BadRequest", 400, "cloud.unsupported", "confidential size"),
    ("NoRegisteredProviderFound", 400, "cloud.unsupported", "confidential size"),
    ("LocationNotAvailableForResourceType", 400, "cloud.unsupported", "confidential size"),
    ("PropertyChangeNotAllowed", 409, "cloud.conflict", "create it anew"),
    ("ResourceGroupNotFound", 404, "cloud.conflict", "az group create"),
    ("ScopeLocked", 409, "cloud.conflict", "az lock list"),
    ("SomethingNew", 400, "cloud.unsupported", "evident doctor"),
    ("SomethingNew", 401, "cloud.auth", "az login"),
    ("SomethingNew", 403, "cloud.auth", "azure-role.json"),
    ("SomethingNew", 404, "cloud.conflict", "create it anew"),
    ("Conflict", 409, "cloud.conflict", "Remove what the message names"),
]
EXITS = {"auth": 2, "quota": 2, "conflict": 2, "unsupported": 20, "capacity": 12, "transient": 12, "timeout": 12}
KINDS = (
    "disks",
    "galleries",
    "images",
    "versions",
    "networkSecurityGroups",
    "virtualNetworks",
    "publicIPAddresses",
    "networkInterfaces",
    "virtualMachines",
)


def refused(fake: Any, code: str, status: int = 409, **headers: str) -> Exception:
    """What the fake raises to answer `code`."""
    kind = fake.handle.__globals__["Refusal"]
    error: Exception = kind(code, status=status, **headers)
    return error


def lost(fake: Any) -> Any:
    return fake.handle.__globals__["LOST"]


def ordered(fake: Any, kind: str) -> list[str]:
    """Paths of all orders of `kind`."""
    return [path for method, path, _, _ in fake.calls if method == "PUT" and fake._type(path) == kind]


@pytest.mark.parametrize(("code", "status", "ours", "remedy"), REFUSALS, ids=[f"{code}-{status}" for code, status, *_ in REFUSALS])
def test_every_refusal_is_told_for_what_it_is(world: Any, code: str, status: int, ours: str, remedy: str) -> None:
    owner, fake = world()
    fake.faults["GET skus"] = [refused(fake, code, status)]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    assert caught.value.code == ours
    assert caught.value.exit_code == EXITS[ours.removeprefix("cloud.")]
    assert remedy in caught.value.findings[0].remedy
    assert code in caught.value.findings[0].found


@pytest.mark.parametrize("code", ["AuthorizationFailed", "QuotaExceeded", "AllocationFailed", "BadRequest"])
def test_a_refused_launch_leaves_nothing_and_may_be_repeated(world: Any, code: str) -> None:
    owner, fake = world()
    fake.faults["PUT virtualMachines"] = [refused(fake, code)]
    with pytest.raises(EvidentError, match=code):
        owner.up()
    assert not fake.live("virtualMachines")
    owner.up()
    assert len(set(ordered(fake, "virtualMachines"))) == 2  # under a new name: the old one was answered
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize(
    ("code", "status"), [("TooManyRequests", 429), ("OperationNotAllowed", 429), ("ServiceUnavailable", 503), ("Unheard.Of", 500)]
)
def test_throttling_is_waited_out_with_growing_pauses_and_one_name(world: Any, code: str, status: int) -> None:
    """Also where the code means a full quota otherwise: the status is what tells."""
    owner, fake = world()
    fake.faults["PUT virtualMachines"] = [refused(fake, code, status) for _ in range(4)]
    owner.up()
    assert len(set(ordered(fake, "virtualMachines"))) == 1
    assert len(fake.live("virtualMachines")) == 1
    assert [pause for pause in fake.time.slept if pause != 5.0] == [1.5, 3.0, 6.0, 12.0]
    assert any(code in line and "trying again" in line for line in owner.said)


def test_azure_says_how_long_to_stay_away(world: Any) -> None:
    owner, fake = world()
    fake.faults["GET virtualMachines"] = [
        refused(fake, "OperationNotAllowed", 429, Retry_After="47"),
        refused(fake, "OperationNotAllowed", 429, Retry_After="99999"),
    ]
    owner.up()
    assert [pause for pause in fake.time.slept if pause != 5.0] == [47.0, LONGEST_PAUSE]


def test_a_network_interface_that_is_kept_for_a_dead_machine_is_waited_for(world: Any) -> None:
    owner, fake = world()
    fake.faults["PUT virtualMachines"] = [refused(fake, "NicReservedForAnotherVm", 400) for _ in range(3)]
    owner.up()
    assert [pause for pause in fake.time.slept if pause != 5.0] == [60.0, 60.0, 60.0]


def test_throttling_without_end_is_said(world: Any) -> None:
    owner, fake = world()
    fake.faults["PUT disks"] = [refused(fake, "TooManyRequests", 429) for _ in range(99)]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.transient"
    assert len(ordered(fake, "disks")) == owner.patience().attempts
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("kind", KINDS)
def test_lost_answers_make_nothing_twice(world: Any, kind: str) -> None:
    owner, fake = world()
    fake.faults[f"PUT {kind}"] = [lost(fake)] * 3
    owner.up()
    assert len(set(ordered(fake, kind))) == 1
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("what", ["POST beginGetAccess", "POST endGetAccess", "PUT page", "PATCH disks", "GET diskOperations"])
def test_lost_answers_in_an_upload_end_in_a_whole_image(world: Any, what: str) -> None:
    """Access is given once: where its URL was lost, nobody can write that disk any more, and another is made."""
    owner, fake = world()
    fake.faults[what] = [lost(fake)]
    owner.up()
    disks = [each for each in fake.live("disks") if "of" not in each]
    assert [len(each["pages"]) for each in disks] == [2]
    assert len(set(ordered(fake, "disks"))) == (2 if what == "POST beginGetAccess" else 1)
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("what", [*(f"DELETE {kind}" for kind in KINDS), "GET disks"])
def test_lost_answers_of_a_removal_are_asked_again(world: Any, what: str) -> None:
    owner, fake = world()
    owner.up()
    fake.faults[what] = [lost(fake)] * 2
    owner.down()
    assert fake.live() == []


def test_answers_that_break_off_half_way_are_lost_answers(owner: Any, fake: Any, loopback: Any) -> None:
    """Over HTTP: the connection ends in the middle of the body, or before it."""
    owner.clients = loopback
    for method, kind in (("PUT", "virtualMachines"), ("GET", "virtualMachines"), ("DELETE", "virtualMachines"), ("GET", "skus")):
        fake.faults[f"{method} {kind}"] = [fake.handle.__globals__["BROKEN"], lost(fake)]
    owner.up()
    assert len(set(ordered(fake, "virtualMachines"))) == 1
    owner.down()
    assert fake.live() == []
    assert any("no answer to creating machine" in line for line in owner.said)


def test_a_server_that_is_not_there(owner: Any, fake: Any, loopback: Any) -> None:
    owner.clients = loopback
    loopback.compute._client._pipeline._transport.session.get_adapter("https://x").address = "127.0.0.1:1"
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.transient"
    assert "network, proxy and firewall" in caught.value.findings[0].remedy


def test_a_removal_that_is_not_permitted_is_said_and_stays_written_down(world: Any) -> None:
    owner, fake = world()
    owner.up()
    fake.faults["DELETE virtualMachines"] = [refused(fake, "AuthorizationFailed", 403)]
    with pytest.raises(UsageError) as caught:
        owner.down()
    assert caught.value.code == "cloud.auth"
    assert {each.stage for each in owner.journal().resources() if each.kind == "machine"} == {Stage.LEAVING}
    owner.down()
    assert fake.live() == []


def test_an_answer_lost_and_a_refusal_after_it_do_not_forget_the_machine(world: Any) -> None:
    """Made, the answer lost, then the credentials expire: it stays written down, and goes with the rest."""
    owner, fake = world()
    fake.faults["PUT virtualMachines"] = [lost(fake), refused(fake, "ExpiredAuthenticationToken", 401)]
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.auth"
    assert [each.stage for each in owner.journal().resources() if each.kind == "machine"] == [Stage.ASKED]
    assert len(fake.live("virtualMachines")) == 1
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("AllocationFailed", "cloud.capacity"),
        ("ZonalAllocationFailed", "cloud.capacity"),
        ("QuotaExceeded", "cloud.quota"),
        ("InternalOperationError", "cloud.transient"),
        ("OSProvisioningTimedOut", "cloud.unsupported"),
    ],
)
def test_a_machine_that_ends_while_starting_says_why(world: Any, code: str, ours: str) -> None:
    owner, fake = world()
    fake.fates = [(code, "so it goes")]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    assert (caught.value.code, code in caught.value.findings[0].found) == (ours, True)
    assert not [each for each in fake.live() if each["kind"] == "virtualMachines"]
    owner.up()
    assert len(fake.live("virtualMachines")) == 1
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("kind", ["disks", "galleries", "images", "versions", "virtualNetworks", "networkInterfaces"])
def test_whatever_else_fails_after_a_first_yes_is_removed_and_made_anew(world: Any, kind: str) -> None:
    owner, fake = world()
    handle = fake.handle

    def failing(method: str, *rest: Any) -> Any:
        answer = handle(method, *rest)
        if method == "PUT" and ordered(fake, kind) == [fake.calls[-1][1]]:
            fake.objects[fake.calls[-1][1].lower()]["body"]["properties"]["provisioningState"] = "Failed"
        return answer

    fake.handle = failing
    with pytest.raises(UsageError, match="in state Failed"):
        owner.up()
    fake.handle = handle
    assert fake.live(kind) == []
    owner.up()
    owner.down()
    assert fake.live() == []


def test_a_machine_that_is_not_confidential_is_not_kept(world: Any) -> None:
    owner, fake = world()
    fake.security = "TrustedLaunch"
    with pytest.raises(Unsupported, match="runs as TrustedLaunch"):
        owner.up()
    assert not fake.live("virtualMachines")


def test_without_that_look_an_ordinary_machine_passes(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: Azure's yes is taken for it."""
    from evident.platforms.azure import executor

    owner, fake = world()
    fake.security = "TrustedLaunch"
    monkeypatch.setattr(executor, "_launched", executor._started)
    owner.up()
    assert fake.one("virtualMachines")["body"]["properties"]["securityProfile"]["securityType"] == "TrustedLaunch"


def test_a_machine_that_somebody_removes_while_it_starts(world: Any) -> None:
    owner, fake = world()
    handle = fake.handle

    def removing(method: str, *rest: Any) -> Any:
        answer = handle(method, *rest)
        for machine in fake.live("virtualMachines"):
            machine.setdefault("leaving", fake.time.now)
        return answer

    fake.handle = removing
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.conflict"
    fake.handle = handle
    owner.up()
    owner.down()
    assert fake.live() == []


def test_stopping_and_starting(world: Any) -> None:
    owner, fake = world()
    machine = owner.up()
    owner.azure().stop(machine)
    assert fake.one("virtualMachines")["statuses"][-1]["code"] == "PowerState/deallocated"
    asked = len(fake.calls)
    owner.azure().stop(machine)
    assert len(fake.calls) == asked + 1
    owner.azure().start(machine)
    assert fake.one("virtualMachines")["statuses"][-1]["code"] == "PowerState/running"
    assert owner.azure().address(machine) == "203.0.113.200"


def test_a_start_for_which_there_is_no_room_any_more(world: Any) -> None:
    owner, fake = world()
    machine = owner.up()
    owner.azure().stop(machine)
    fake.fates = [("AllocationFailed", "We do not have sufficient capacity.")]
    with pytest.raises(Indeterminate) as caught:
        owner.azure().start(machine)
    assert caught.value.code == "cloud.capacity"
    assert fake.live("virtualMachines")  # with its disk


def test_a_stopped_machine_is_not_removed_with_its_disk(world: Any) -> None:
    owner, fake = world()
    owner.azure().stop(owner.up())
    with pytest.raises(UsageError, match="is deallocated"):
        owner.up()
    assert fake.live("virtualMachines")


def test_without_openings_there_is_no_public_address(world: Any) -> None:
    owner, fake = world()
    owner.order = replace(owner.order, openings=())
    assert owner.azure().address(owner.up()) == "10.0.0.4"
    assert fake.live("publicIPAddresses") == []
    owner.down()
    assert fake.live() == []


def test_a_start_that_never_ends_is_given_up_by_the_deadline(world: Any) -> None:
    owner, fake = world()
    fake.fates = [("", "")]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.timeout"
    assert "Repeat the command" in caught.value.findings[0].remedy
    assert any("starting the machine: 3" in line for line in owner.said)
    owner.down()
    assert fake.live() == []


def test_a_removal_that_never_ends_is_given_up_and_stays_written_down(world: Any) -> None:
    owner, fake = world()
    owner.up()
    fake.faults["DELETE networkSecurityGroups"] = [refused(fake, "InUseNetworkSecurityGroupCannotBeDeleted", 400) for _ in range(9999)]
    with pytest.raises(Indeterminate) as caught:
        owner.down()
    assert caught.value.code == "cloud.timeout"
    assert "security-group" in [each.kind for each in owner.journal().resources() if each.stage is not Stage.GONE]
    fake.faults.clear()
    owner.down()
    assert fake.live() == []


def test_a_disk_that_somebody_still_writes_to_is_removed_all_the_same(world: Any) -> None:
    owner, fake = world()
    fake.faults["PUT page"] = [refused(fake, "AuthenticationFailed", 403)]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert "expired" in caught.value.findings[0].remedy
    assert fake.one("disks")["body"]["properties"]["diskState"] == "ActiveUpload"
    owner.down()
    assert fake.live() == []


def test_somebody_elses_things_are_never_touched(tmp_path: Path, owner: Any, fake: Any) -> None:
    """Two people call their deployments `shop`, in one resource group."""
    (tmp_path / "other").mkdir()
    other = type(owner)(tmp_path / "other", fake, owner.clients, seed="other")
    assert other.name == owner.name
    owner.up()
    other.up()
    assert len(fake.live("virtualMachines")) == 2
    owner.down()
    assert len(fake.live("virtualMachines")) == 1
    other.down()
    assert fake.live() == []


def test_another_resource_group_or_subscription_is_another_place(world: Any) -> None:
    owner, fake = world()
    owner.up()
    for change in ({"group": "other"}, {"subscription": "other"}):
        clients, owner.clients = owner.clients, replace(owner.clients, **change)
        with pytest.raises(UsageError, match="other"):
            owner.down()
        owner.clients = clients
    owner.down()
    assert fake.live() == []


def test_without_looking_at_the_place_another_group_passes_for_all_gone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: `down` ends well, the journal says gone, and the machine runs on."""
    owner, fake = world()
    owner.up()
    owner.clients = replace(owner.clients, group="other")
    monkeypatch.setattr(resources.Stock, "_same_place", lambda *_: None)
    monkeypatch.setattr(Azure, "remove", lambda *_: None)
    owner.down()
    assert {each.stage for each in owner.journal().resources()} == {Stage.GONE}
    assert fake.live("virtualMachines")


def test_a_resource_group_that_was_removed_with_all_in_it_leaves_nothing_to_do(world: Any) -> None:
    owner, fake = world()
    owner.up()
    fake.group_exists = False
    fake.objects.clear()
    owner.down()
    assert {each.stage for each in owner.journal().resources()} == {Stage.GONE}


def test_a_subscription_that_is_not_seen_is_not_an_empty_one(world: Any) -> None:
    """Logged in to another tenant: all would pass for gone."""
    owner, fake = world()
    owner.up()
    fake.faults["GET virtualMachines"] = [refused(fake, "SubscriptionNotFound", 404)]
    with pytest.raises(UsageError) as caught:
        owner.down()
    assert caught.value.code == "cloud.auth"
    owner.down()
    assert fake.live() == []


def test_another_specification_does_not_pass_for_the_one_that_was_launched(world: Any) -> None:
    owner, _ = world()
    owner.up()
    owner.order = replace(owner.order, where={**owner.order.where, "encryption": "DiskWithVMGuestState"})
    with pytest.raises(UsageError, match="another specification"):
        owner.up()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"type": "Standard_D2s_v5"}, "nothing confidential"),
        ({"type": "Standard_DC2es_v6"}, "is for TDX, not for SNP"),
        ({"type": "Standard_DC2as_v9"}, "no Standard_DC2as_v9 in westeurope"),
    ],
)
def test_a_size_that_would_not_do_is_refused_before_anything_is_made(world: Any, change: dict[str, str], word: str) -> None:
    owner, fake = world()
    owner.order = replace(owner.order, where={**owner.order.where, **change})
    with pytest.raises(Unsupported, match=word):
        owner.up()
    assert fake.live() == []
    assert not owner.path.exists()


def test_a_size_that_this_subscription_may_not_have(world: Any) -> None:
    owner, fake = world()
    fake.restrictions = [{"type": "Location", "values": ["westeurope"], "reasonCode": "NotAvailableForSubscription"}]
    with pytest.raises(Unsupported, match="NotAvailableForSubscription"):
        owner.up()
    fake.restrictions = [{"type": "Zone", "restrictionInfo": {"zones": ["2"]}, "reasonCode": "NotAvailableForSubscription"}]
    owner.order = replace(owner.order, where={**owner.order.where, "zone": "2"})
    with pytest.raises(Unsupported, match="there is in 1, 3"):
        owner.up()


def test_a_tdx_machine_is_ordered_by_its_size(world: Any) -> None:
    owner, fake = world()
    owner.order = replace(owner.order, technology="tdx", where={**owner.order.where, "type": "Standard_DC2es_v6"})
    owner.up()
    assert fake.one("virtualMachines")["body"]["properties"]["hardwareProfile"] == {"vmSize": "Standard_DC2es_v6"}
    owner.order = replace(owner.order, technology="snp")
    with pytest.raises(Unsupported, match="is for TDX, not for SNP"):
        owner.up()


def test_what_others_removed_is_made_again(world: Any) -> None:
    owner, fake = world()
    first = owner.up()
    fake.time.now += 3600
    del fake.objects[first.lower()]
    assert [each.kind for each in owner.stock().survey().missing] == ["machine"]
    assert owner.up() != first
    assert owner.stock().survey().missing == ()


def test_rules_that_others_opened_are_closed_again(world: Any) -> None:
    owner, fake = world()
    owner.up()
    group = fake.one("networkSecurityGroups")["body"]["properties"]
    wanted = requests.rules(owner.order.openings)
    evil = {"name": "evil", "properties": {**wanted[0]["properties"], "priority": 50, "destinationPortRange": "22"}}
    group["securityRules"].append(evil)
    owner.up()
    assert fake.one("networkSecurityGroups")["body"]["properties"]["securityRules"] == wanted
    group = fake.one("networkSecurityGroups")["body"]["properties"]
    group["securityRules"][0]["properties"]["sourceAddressPrefix"] = "*"
    owner.up()
    assert fake.one("networkSecurityGroups")["body"]["properties"]["securityRules"] == wanted


def test_a_subnet_without_its_guard_gets_it_back(world: Any) -> None:
    owner, fake = world()
    owner.up()
    (subnet,) = fake.one("virtualNetworks")["body"]["properties"]["subnets"]
    del subnet["properties"]["networkSecurityGroup"]
    owner.up()
    (subnet,) = fake.one("virtualNetworks")["body"]["properties"]["subnets"]
    assert subnet["properties"]["networkSecurityGroup"]["id"] == fake.one("networkSecurityGroups")["id"]


def test_rules_that_somebody_changes_each_time_are_said(world: Any) -> None:
    owner, fake = world()
    handle = fake.handle

    def meddling(*request: Any) -> Any:
        answer = handle(*request)
        for group in fake.live("networkSecurityGroups"):
            group["body"]["properties"]["securityRules"][0]["properties"]["sourceAddressPrefix"] = "*"
        return answer

    fake.handle = meddling
    with pytest.raises(UsageError, match="changed by somebody each time"):
        owner.up()


def test_without_that_look_a_door_stays_open(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: what others opened is open after the next launch too."""
    owner, fake = world()
    owner.up()
    fake.one("networkSecurityGroups")["body"]["properties"]["securityRules"].append({"name": "evil", "properties": {}})
    monkeypatch.setattr(requests, "opens", lambda *_: True)
    owner.up()
    assert len(fake.one("networkSecurityGroups")["body"]["properties"]["securityRules"]) == 5


def test_the_image_arrives_whole_and_zeros_stay_home(owner: Any, fake: Any) -> None:
    owner.up()
    (disk,) = [each for each in fake.live("disks") if "of" not in each]
    size = disk["given"]["creationData"]["uploadSizeBytes"]
    content = bytearray(size)
    for offset, page in disk["pages"].items():
        content[offset : offset + len(page)] = page
    assert size == 10 * requests.MIB + 512
    assert set(disk["pages"]) == {0, 8 * requests.MIB, 10 * requests.MIB}
    assert bytes(content).startswith(owner.file.read_bytes())
    assert content[-512:].startswith(b"conectix")


def test_a_file_that_is_not_there_is_not_uploaded(owner: Any, fake: Any) -> None:
    owner.file.unlink()
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "azure.image"
    assert not fake.calls


def test_the_secret_of_an_upload_is_never_told(world: Any) -> None:
    owner, fake = world()
    fake.faults["PUT page"] = [lost(fake), refused(fake, "ServerBusy", 503), refused(fake, "InvalidMd5", 400)]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    told = "\n".join([*owner.said, str(caught.value), owner.path.read_text()])
    assert "ServerBusy" in told
    assert "secret" not in told
    assert "sig=" not in told


def test_expired_credentials(owner: Any, fake: Any, loopback: Any, credential: Any) -> None:
    owner.clients, credential.token = loopback, "stale"
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert (caught.value.code, "az login" in caught.value.findings[0].remedy) == ("cloud.auth", True)
    assert "clock" not in caught.value.findings[0].found


@pytest.mark.parametrize(("skew", "word"), [(-7200.0, "7200 s behind"), (7200.0, "7200 s ahead of")])
def test_credentials_that_expired_because_the_clock_is_wrong(
    owner: Any, fake: Any, loopback: Any, credential: Any, skew: float, word: str
) -> None:
    """A clock that is behind keeps a token for valid that Azure does not; Azure's answer is dated."""
    owner.clients, credential.token, fake.time.skew = loopback, "stale", skew
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.auth"
    assert "Set this machine's clock" in caught.value.findings[0].remedy
    assert word in caught.value.findings[0].found


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted: ...", "az login"),
        ("AADSTS700082: The refresh token has expired due to inactivity.", "az login"),
        ("AADSTS700024: Client assertion is not within its valid time range.", "clock"),
    ],
)
def test_no_credentials_at_all(owner: Any, loopback: Any, credential: Any, message: str, remedy: str) -> None:
    owner.clients, credential.error = loopback, message
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert (caught.value.code, remedy in caught.value.findings[0].remedy) == ("cloud.auth", True)
    assert message.splitlines()[0] in caught.value.findings[0].found


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (sdk.ServiceRequestError("no route"), "cloud.transient"),
        (sdk.ServiceRequestTimeoutError("slow"), "cloud.transient"),
        (sdk.ServiceResponseError("reset"), "cloud.transient"),
        (sdk.IncompleteReadError("short"), "cloud.transient"),
        (sdk.ClientAuthenticationError("who?"), "cloud.auth"),
    ],
)
def test_what_the_sdk_itself_raises(error: Exception, ours: str) -> None:
    translated = errors.translate(error, "creating machine", NOW)
    assert isinstance(translated, EvidentError)
    assert translated.code == ours


def test_a_defect_of_ours_stays_a_defect() -> None:
    error = sdk.AzureError("wrong")
    assert errors.translate(error, "creating machine", NOW) is error


def test_a_code_that_another_wraps_is_told(world: Any) -> None:
    """Compute wraps what the network answered."""
    owner, fake = world()
    handle = fake.handle

    def wrapping(method: str, url: str, *rest: Any) -> Any:
        status, headers, text = handle(method, url, *rest)
        if b"QuotaExceeded" in text:
            text = b'{"error": {"code": "Conflict", "message": "m", "details": [{"code": "QuotaExceeded", "message": "so many"}]}}'
        return status, headers, text

    fake.faults["PUT virtualMachines"] = [refused(fake, "QuotaExceeded")]
    fake.handle = wrapping
    with pytest.raises(UsageError, match="QuotaExceeded: so many") as caught:
        owner.up()
    assert caught.value.code == "cloud.quota"


def test_no_code_is_in_two_rules() -> None:
    words = [code for names in errors._CODES.values() for code in names.split()]
    assert len(words) == len(set(words))


def test_the_executor_is_a_cloud(owner: Any) -> None:
    cloud: resources.Cloud = owner.azure()
    assert cloud.place() == "azure/00000000-1111-4222-8333-444444444444/confidential/westeurope"
