"""What AWS answers when it does not say yes: the right code, the right remedy, nothing made twice, nothing left."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import botocore.session
import pytest
from botocore import exceptions as sdk
from botocore.config import Config

from evident.errors import EvidentError, Indeterminate, Unsupported, UsageError
from evident.platforms import resources
from evident.platforms.aws import errors, requests
from evident.platforms.aws.clients import call
from evident.platforms.aws.executor import Aws
from evident.platforms.aws.requests import MachineSpec
from evident.platforms.cloud import Patience
from evident.platforms.resources import Resource, Stage

REFUSALS = [
    ("UnauthorizedOperation", "cloud.auth", "policy in docs/platforms/aws.md"),
    ("ExpiredToken", "cloud.auth", "Renew the credentials"),
    ("AuthFailure", "cloud.auth", "Renew the credentials"),
    ("AuthFailure", "cloud.auth", "clock"),
    ("RequestExpired", "cloud.auth", "clock"),
    ("OptInRequired", "cloud.auth", "AWS console"),
    ("VcpuLimitExceeded", "cloud.quota", "Service Quotas"),
    ("InsufficientInstanceCapacity", "cloud.capacity", "another availability zone"),
    ("Unsupported", "cloud.unsupported", "SEV-SNP type"),
    ("UnsupportedOperation", "cloud.unsupported", "SEV-SNP type"),
    ("InvalidParameterCombination", "cloud.unsupported", "SEV-SNP type"),
    ("InvalidAMIID.NotFound", "cloud.conflict", "create it anew"),
    ("SomethingNew", "cloud.unsupported", "evident doctor"),
]
EXITS = {"auth": 2, "quota": 2, "conflict": 2, "unsupported": 20, "capacity": 12, "transient": 12, "timeout": 12}


def refused(fake: Any, code: str, **more: Any) -> Exception:
    """What the fake raises to answer `code`."""
    kind = fake.answer.__globals__["Refusal"]
    error: Exception = kind(code, **more)
    return error


@pytest.mark.parametrize(("code", "ours", "remedy"), REFUSALS)
def test_a_refused_launch_leaves_nothing_and_may_be_repeated(owner: Any, fake: Any, code: str, ours: str, remedy: str) -> None:
    fake.faults["RunInstances"] = [refused(fake, code)]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    assert caught.value.code == ours
    assert caught.value.exit_code == EXITS[ours.removeprefix("cloud.")]
    assert remedy in caught.value.findings[0].remedy
    assert code in caught.value.findings[0].found
    assert not fake.live("instance")
    keys = [call[1]["ClientToken"] for call in fake.calls if call[0] == "RunInstances"]
    owner.up()  # with a new key: the old one was answered
    assert [call[1]["ClientToken"] for call in fake.calls if call[0] == "RunInstances"][-1] not in keys
    owner.down()
    assert fake.live() == []


EXPIRED = "Signature expired: 20191029T154623Z is now earlier than 20191029T163344Z (20191029T164844Z - 15 min.)"
EARLY = "Signature not yet current: 20191029T184623Z is still later than 20191029T170344Z (20191029T164844Z + 15 min.)"
WRONG = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key."


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidSignatureException"])
@pytest.mark.parametrize(
    ("message", "remedy"), [(EXPIRED, "machine's clock"), (EARLY, "machine's clock"), (WRONG, "Renew the credentials (aws sso")]
)
def test_a_clock_that_is_off_is_told_from_a_wrong_key(owner: Any, fake: Any, code: str, message: str, remedy: str) -> None:
    """Both have one code, of STS (the message is from EngineerBetter/control-tower, issue 51) and of EBS: the message tells."""
    fake.faults["StartSnapshot"] = [refused(fake, code, message=message, status=403)]
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.auth"
    assert remedy in caught.value.findings[0].remedy


@pytest.mark.parametrize("status", [401, 403])
def test_a_code_of_nobodys_is_told_by_its_status(owner: Any, fake: Any, status: int) -> None:
    fake.faults["StartSnapshot"] = [refused(fake, "Unheard.Of", status=status)]
    with pytest.raises(UsageError, match=r"cloud\.auth"):
        owner.up()


@pytest.mark.parametrize(("code", "status"), [("RequestLimitExceeded", 503), ("ServiceUnavailable", 503), ("Unheard.Of", 500)])
def test_throttling_is_waited_out_with_growing_pauses_and_one_key(owner: Any, fake: Any, code: str, status: int) -> None:
    fake.lag = 0
    fake.faults["RunInstances"] = [refused(fake, code, status=status) for _ in range(4)]
    owner.up()
    assert len({call[1]["ClientToken"] for call in fake.calls if call[0] == "RunInstances"}) == 1
    assert len(fake.live("instance")) == 1
    pauses = [pause for pause in fake.time.slept if pause != 5.0]
    assert pauses == [1.5, 3.0, 6.0, 12.0]
    assert any(code in line and "trying again" in line for line in owner.said)


def test_throttling_without_end_is_said(owner: Any, fake: Any) -> None:
    fake.faults["StartSnapshot"] = [refused(fake, "RequestThrottledException") for _ in range(99)]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.transient"
    assert len([1 for name, _ in fake.calls if name == "StartSnapshot"]) == owner.patience().attempts
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("StartSnapshot", "snapshot"),
        ("RegisterImage", "image"),
        ("CreateSecurityGroup", "security-group"),
        ("RunInstances", "instance"),
    ],
)
@pytest.mark.parametrize("losses", [1, 3])
def test_lost_answers_make_nothing_twice(owner: Any, fake: Any, operation: str, kind: str, losses: int) -> None:
    lost = fake.answer.__globals__["LOST"]
    fake.faults[operation] = [lost] * losses
    owner.up()
    assert len(fake.live(kind)) == 1
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("operation", ["TerminateInstances", "DeregisterImage", "DeleteSnapshot", "DeleteSecurityGroup", "DescribeVolumes"])
def test_lost_answers_of_a_removal_are_asked_again(owner: Any, fake: Any, operation: str) -> None:
    owner.up()
    fake.faults[operation] = [fake.answer.__globals__["LOST"]] * 2
    owner.down()
    assert fake.live() == []


def test_a_removal_that_is_not_permitted_is_said_and_stays_written_down(owner: Any, fake: Any) -> None:
    owner.up()
    fake.faults["TerminateInstances"] = [refused(fake, "UnauthorizedOperation", status=403)]
    with pytest.raises(UsageError) as caught:
        owner.down()
    assert caught.value.code == "cloud.auth"
    assert {each.stage for each in owner.journal().resources() if each.kind == "instance"} == {Stage.LEAVING}
    owner.down()
    assert fake.live() == []


def test_an_answer_lost_and_a_refusal_after_it_do_not_forget_the_machine(owner: Any, fake: Any) -> None:
    """Made, the answer lost, then the credentials expire: it stays written down, and goes with the rest."""
    fake.faults["RunInstances"] = [fake.answer.__globals__["LOST"], refused(fake, "ExpiredToken")]
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.auth"
    assert [each.stage for each in owner.journal().resources() if each.kind == "instance"] == [Stage.ASKED]
    assert len(fake.live("instance")) == 1
    owner.down()
    assert fake.live() == []


@pytest.mark.parametrize("operation", ["StartSnapshot", "RunInstances"])
def test_what_was_made_is_found_when_its_token_is_long_forgotten(owner: Any, fake: Any, operation: str) -> None:
    """EC2 honours a token for a day or so; whoever carries on after a weekend looks for the machine before asking for one."""
    fake.faults[operation] = [fake.answer.__globals__["LOST"], refused(fake, "ExpiredToken")]
    with pytest.raises(UsageError, match=r"cloud\.auth"):
        owner.up()
    fake.time.now += 3 * 24 * 3600
    fake.tokens.clear()
    owner.up()
    assert (len(fake.live("snapshot")), len(fake.live("instance"))) == (1, 1)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("Server.InsufficientInstanceCapacity", "cloud.capacity"),
        ("Client.VolumeLimitExceeded", "cloud.quota"),
        ("Server.InternalError", "cloud.transient"),
        ("Client.InvalidSnapshot.NotFound", "cloud.conflict"),
        ("Client.InternalError", "cloud.unsupported"),
    ],
)
def test_a_machine_that_ends_while_starting_says_why(owner: Any, fake: Any, reason: str, ours: str) -> None:
    fake.starts = [("terminated", {"Code": reason, "Message": "so it goes"})]
    with pytest.raises(EvidentError) as caught:
        owner.up()
    assert (caught.value.code, reason in caught.value.findings[0].found) == (ours, True)
    owner.up()  # another machine, for the dead one's key would give the dead one again
    assert len(fake.live("instance")) == 1


def test_a_machine_without_snp_is_not_kept(owner: Any, fake: Any) -> None:
    fake.snp = False
    with pytest.raises(Unsupported, match="runs without SEV-SNP"):
        owner.up()
    assert not fake.live("instance")


def test_a_stopped_machine_is_not_removed_with_its_disk(owner: Any, fake: Any) -> None:
    identifier = owner.up()
    fake.objects[identifier]["state"] = "stopped"
    with pytest.raises(UsageError, match="is stopped"):
        owner.up()
    assert fake.live("instance")


def test_a_start_that_never_ends_is_given_up_by_the_deadline(owner: Any, fake: Any) -> None:
    fake.starts = [("pending", {})]
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.timeout"
    assert "Repeat the command" in caught.value.findings[0].remedy
    assert any("starting the instance: 3" in line for line in owner.said)
    owner.down()
    assert fake.live() == []


def test_a_removal_that_never_ends_is_given_up_and_stays_written_down(owner: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.up()
    fake.faults["DeleteSecurityGroup"] = [refused(fake, "DependencyViolation") for _ in range(9999)]
    with pytest.raises(Indeterminate) as caught:
        owner.down()
    assert caught.value.code == "cloud.timeout"
    assert [each.kind for each in owner.journal().resources() if each.stage is not Stage.GONE] == ["security-group"]
    fake.faults.clear()
    owner.down()
    assert fake.live() == []


def test_somebody_elses_things_are_never_touched(tmp_path: Any, owner: Any, fake: Any, wire: Any) -> None:
    """Two people call their deployments `shop`, in one account."""
    (tmp_path / "other").mkdir()
    other = type(owner)(tmp_path / "other", fake, wire, seed="other")
    assert other.name == owner.name
    owner.up()
    other.up()
    assert len(fake.live("instance")) == 2
    owner.down()
    assert len(fake.live("instance")) == 1
    other.down()
    assert fake.live() == []


def test_a_name_that_is_taken_by_others_is_a_conflict(owner: Any, fake: Any) -> None:
    fake.faults["CreateSecurityGroup"] = [refused(fake, "InvalidGroup.Duplicate")]
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "cloud.conflict"


def test_credentials_of_another_account_find_nothing_and_say_so(owner: Any, fake: Any) -> None:
    owner.up()
    fake.account = "999999999999"
    with pytest.raises(UsageError, match="999999999999"):
        owner.down()
    with pytest.raises(UsageError, match="999999999999"):
        owner.up()
    fake.account = "123456789012"
    owner.down()
    assert fake.live() == []


def test_without_looking_at_the_place_another_account_passes_for_all_gone(owner: Any, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: `down` ends well, the journal says gone, and the machine runs on."""
    owner.up()
    fake.account = "999999999999"

    def look_away(*_: object) -> None:
        return None

    monkeypatch.setattr(resources.Stock, "_same_place", look_away)
    owner.down()
    assert {each.stage for each in owner.journal().resources()} == {Stage.GONE}
    assert fake.live("instance")


def test_another_specification_does_not_pass_for_the_one_that_was_launched(owner: Any, fake: Any) -> None:
    owner.up()
    owner.spec = replace(owner.spec, instance_type="m6a.4xlarge")
    with pytest.raises(UsageError, match="another specification"):
        owner.up()


def test_what_others_removed_is_made_again(owner: Any, fake: Any) -> None:
    first = owner.up()
    fake.time.now += 3600
    fake.objects[first]["state"] = "terminated"
    assert [each.kind for each in owner.stock().survey().missing] == ["instance"]
    assert owner.up() != first
    assert owner.stock().survey().missing == ()


def test_rules_that_others_opened_are_closed_again(owner: Any, fake: Any) -> None:
    owner.up()
    group = fake.live("security-group")[0]
    wanted = set(group["rules"].values())
    assert wanted == {(False, "tcp", 443, 443, "203.0.113.0/24"), (True, "tcp", 443, 443, "2001:db8::/32")}
    group["rules"]["sgr-evil"] = (False, "tcp", 22, 22, "0.0.0.0/0")
    owner.up()
    assert set(fake.live("security-group")[0]["rules"].values()) == wanted


def test_nothing_is_open_where_nothing_is_asked_however_late_rules_are_listed(owner: Any, fake: Any) -> None:
    """EC2 opens every new group to everywhere; who waits to see that listed may see an empty list first, and take it for closed."""
    fake.rules_lag = 120.0
    owner.spec = replace(owner.spec, openings=())
    owner.up()
    assert fake.live("security-group")[0]["rules"] == {}


def asked(fake: Any, operation: str) -> dict[str, Any]:
    found: dict[str, Any] = next(given for name, given in fake.calls if name == operation)
    return found


def test_what_the_document_says_of_a_machine_is_what_is_asked_for(owner: Any, fake: Any, tmp_path: Any) -> None:
    (tmp_path / "uefi.b64").write_text("QU1aTlVFRkk=\n")
    owner.where = {"public": "yes", "uefi_data": str(tmp_path / "uefi.b64")}
    owner.up()
    assert asked(fake, "RegisterImage")["UefiData"] == "QU1aTlVFRkk="
    assert asked(fake, "RunInstances")["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is True


def test_nothing_is_public_and_nothing_signed_that_the_document_does_not_say(owner: Any, fake: Any) -> None:
    owner.up()
    assert "UefiData" not in asked(fake, "RegisterImage")
    assert asked(fake, "RunInstances")["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is False


def test_the_image_arrives_whole_and_zeros_stay_home(owner: Any, fake: Any) -> None:
    owner.up()
    blocks = fake.live("snapshot")[0]["blocks"]
    content = b"".join(blocks.get(index, bytes(requests.BLOCK)) for index in range(3))
    assert set(blocks) == {0, 2}
    assert [line for line in owner.said if line.startswith("uploading")] == ["uploading the image: 49 %", "uploading the image: 99 %"]
    assert content[: owner.file.stat().st_size] == owner.file.read_bytes()


def test_an_image_that_changed_under_a_half_made_deployment_is_noticed(owner: Any, fake: Any) -> None:
    owner.up()
    owner.file.write_bytes(b"other")
    with pytest.raises(UsageError, match="another specification"):
        owner.up()


def test_a_technology_that_ec2_does_not_have(owner: Any, fake: Any) -> None:
    with pytest.raises(Unsupported, match="TDX on EC2"):
        owner.aws().launch(owner.stock(), replace(owner.order, technology="tdx"))
    assert not fake.calls


def test_stopped_and_started_again(owner: Any, fake: Any) -> None:
    machine = owner.up()
    aws = owner.aws()
    assert aws.address(machine) == "10.0.0.7"
    for _ in range(2):  # both may be repeated
        aws.stop(machine)
        assert fake.objects[machine]["state"] == "stopped"
    for _ in range(2):
        aws.start(machine)
        assert fake.objects[machine]["state"] == "running"
    owner.down()
    for act in (aws.stop, aws.start, aws.address):
        with pytest.raises(EvidentError) as caught:
            act(machine)
        assert caught.value.code == "cloud.conflict"


def test_the_subnet_must_exist(owner: Any) -> None:
    owner.spec = MachineSpec("m6a.large", "subnet-nowhere")
    with pytest.raises(UsageError, match="InvalidSubnetID"):
        owner.up()


def test_the_tpm_key_is_read(owner: Any) -> None:
    assert owner.aws().ek_pub(owner.up()) == b"an EK"


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (sdk.NoCredentialsError(), "cloud.auth"),
        (sdk.TokenRetrievalError(provider="sso", error_msg="expired"), "cloud.auth"),
        (sdk.EndpointConnectionError(endpoint_url="https://x"), "cloud.transient"),
        (sdk.ConnectTimeoutError(endpoint_url="https://x"), "cloud.transient"),
        (sdk.ConnectionClosedError(endpoint_url="https://x"), "cloud.transient"),
        (sdk.SSLError(endpoint_url="https://x", error="e"), "cloud.transient"),
    ],
)
def test_what_the_sdk_itself_raises(error: Exception, ours: str) -> None:
    translated = errors.translate(error, "run_instances")
    assert isinstance(translated, EvidentError)
    assert translated.code == ours


def test_a_defect_of_ours_stays_a_defect() -> None:
    error = sdk.ParamValidationError(report="wrong")
    assert errors.translate(error, "run_instances") is error


def test_no_code_is_in_two_rules() -> None:
    words = [code for names in errors._CODES.values() for code in names.split()]
    assert len(words) == len(set(words))


ANSWER = """<RunInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><instancesSet><item>
<instanceId>{}</instanceId></item></instancesSet></RunInstancesResponse>"""


@pytest.fixture
def loopback() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """An EC2 that makes instances by token, over HTTP, and hangs up on the first call once it has made one."""
    made: dict[str, str] = {}
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            token = body["ClientToken"][0]
            seen.append(token)
            made.setdefault(token, f"i-{len(made):08x}")
            if len(seen) == 1:
                self.close_connection = True
                return
            answer = ANSWER.format(made[token]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", made, seen
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_connection_that_breaks_after_the_work_was_done(loopback: tuple[str, dict[str, str], list[str]], owner: Any) -> None:
    url, made, seen = loopback
    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    client = session.create_client("ec2", region_name="eu-west-1", endpoint_url=url, config=Config(retries={"total_max_attempts": 1}))
    slept: list[float] = []
    patience = Patience(lambda: 0.0, slept.append, lambda: 0.0, lambda _: None)
    asked = Resource("instance", "evident-shop", "a-key", {}, "aws", "", Stage.ASKED)
    request = requests.run_instance(asked, owner.spec, 1, "ami-0", "sg-0")
    answer = patience.insist("starting", lambda: call(client, "run_instances", request))
    assert answer["Instances"][0]["InstanceId"] == "i-00000000"
    assert (seen, len(made), len(slept)) == (["a-key", "a-key"], 1, 1)
    client.close()


def test_the_executor_is_a_cloud(owner: Any) -> None:
    cloud: resources.Cloud = owner.aws()
    assert isinstance(cloud, Aws)
    assert cloud.place() == "aws/123456789012/eu-west-1"
