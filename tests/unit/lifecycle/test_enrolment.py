"""A deployment whose machines ask by their SVIDs: names made with its disk and gone with it, whatever comes in between."""

from __future__ import annotations

import copy
import itertools
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from tests.spire_server import FakeSpireServer, split
from tests.svid import TrustDomain, client

from evident.cli import deployments
from evident.errors import EvidentError, Indeterminate, PolicyRefused, UsageError
from evident.identity import registration, selectors, spire_cli, spire_document, workload_api
from evident.identity.workload_api import Svid
from evident.keys import messages
from evident.keys.messages import KeyRequest, Refusal, Volume
from evident.keys.release import check_holder, check_revoked
from evident.keys.server import KeyServer
from evident.keys.store import VolumeStore
from evident.lifecycle import bring_up, enrolment, keyserver, keystore, own_svid, retire, specification, succession
from evident.lifecycle.bring_up import Release
from evident.lifecycle.deployment import Deployment, write_expectation
from evident.lifecycle.farewell import down
from evident.lifecycle.journal import State
from evident.lifecycle.keystore import BySvid, DiskKey
from evident.lifecycle.own_svid import OwnSvid
from evident.lifecycle.revoke import revoke
from evident.platforms.driver import PORT_FILE, SPIRE_FILE, Expectation
from evident.platforms.order import Order
from evident.verification import snp_tpm

DISK, NEXT = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "12")
ASKS = BySvid("example.org", b"\xee" * 32, {"web": 1000})
KEY = DiskKey(DISK, b"key of the disk " * 4, {"db": b"a value"}, by_svid=ASKS)
ID = "spiffe://example.org/evident/shop/machine/1"
AGENT = "spiffe://example.org/spire/agent/evident/00112233445566778899aabbccddeeff"
HOUR = timedelta(hours=1)
TRUST = TrustDomain()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeSpireServer:
    made = FakeSpireServer()
    monkeypatch.setattr(spire_cli, "client", made.client)
    monkeypatch.setattr(bring_up, "serve", lambda *_: None)
    return made


@pytest.fixture
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spire") / "spire.json"
    path.write_text(json.dumps(SAID))
    return path


SAID: dict[str, Any] = {
    "version": 1,
    "trust_domain": "example.org",
    "key_server": "spiffe://example.org/evident/key-server",
    "server_socket": "api.sock",
    "workload_socket": "agent.sock",
    "server": "127.0.0.1:8081",
}


def there(target: Deployment, document: Path | None) -> Deployment:
    """The same deployment, as a command sees it that was given this document."""
    return replace(target, surroundings=replace(target.surroundings, spire=document))


@pytest.fixture
def shop(owner: Any, document: Path, server: FakeSpireServer) -> Deployment:
    target = there(owner.up(), document)
    keyserver.register(target, KEY)
    return target


def names(*disks: str) -> set[str]:
    return {f"evident-{disk}-{what}" for disk in disks for what in ("node", "key", "unit-web")}


def test_the_door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVIDENT_SPIRE", str(tmp_path / "spire.json"))
    assert deployments.surroundings().spire == tmp_path / "spire.json"
    monkeypatch.delenv("EVIDENT_SPIRE")
    assert deployments.surroundings().spire is None


def test_an_entry_demands_what_was_launched_and_all_of_it(shop: Deployment, server: FakeSpireServer) -> None:
    measured = {value.register: value.value for value in shop.own_references.values}
    assert measured.keys() == {"launch"}
    node, key = (server.entries[f"evident-{DISK}-{what}"] for what in ("node", "key"))
    assert node["selectors"] == [{"type": "evident", "value": f"measurement:{measured['launch'].hex()}"}]
    assert (node["spiffe_id"], key["parent_id"], key["spiffe_id"]) == (split(ID), split(ID), split(f"{ID}/key"))
    assert VolumeStore(keystore.directory(shop.surroundings)).get(DISK).spiffe_id == f"{ID}/key", "and the key goes to nobody else"


def test_a_machine_that_the_owner_means_is_in_its_entry(owner: Any, document: Path, server: FakeSpireServer) -> None:
    target = there(owner.up(), document)
    policy = replace(target.policy, allowed_identities={"chip_id": ("AB" * 64,)})
    write_expectation(target, Expectation(target.own_references, policy), policy)
    keyserver.register(target, KEY)
    assert {"type": "evident", "value": "chip_id:" + "ab" * 64} in server.entries[f"evident-{DISK}-node"]["selectors"]


@pytest.mark.attack("AT-39", "A simulator's machine comes to an attestor that takes those too.", "svid.none")
@pytest.mark.parametrize("checked", [False, True], ids=["check off", "check on"])
def test_no_simulated_machine_has_the_name_of_a_real_one(owner: Any, document: Path, server: FakeSpireServer, checked: bool) -> None:
    """Its measurement is what it says itself: only a policy that takes it makes an entry that does."""
    target = there(owner.up(), document)
    policy = replace(target.policy, allow_simulated=not checked)
    write_expectation(target, Expectation(target.own_references, policy), policy)
    keyserver.register(target, KEY)
    demanded = {each["value"] for each in server.entries[f"evident-{DISK}-node"]["selectors"]}
    genuine = {*selectors.expected(target.own_references), "simulated:false"}
    assert demanded <= genuine
    simulated = {*selectors.expected(target.own_references), "simulated:true"}
    assert (demanded <= simulated) is not checked


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("spire.alternatives", lambda policy: replace(policy, allowed_identities={"chip_id": ("00" * 64, "11" * 64)})),
        ("spire.level", lambda policy: replace(policy, levels=replace(policy.levels, nominal=4, trustworthy=0))),
    ],
)
def test_what_no_entry_can_say(owner: Any, document: Path, server: FakeSpireServer, code: str, change: Any) -> None:
    target = there(owner.up(kernel=b"k" * 64, initrd=b"i" * 64, command_line="ro"), document)
    policy = change(target.policy)
    write_expectation(target, Expectation(target.own_references, policy), policy)
    with pytest.raises(EvidentError) as refused:
        keyserver.register(target, KEY)
    assert refused.value.code == code
    assert server.entries == {}, "no name, so no key"


def test_with_that_check_off_an_entry_proves_less_than_the_policy_demands(
    owner: Any, document: Path, server: FakeSpireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of any root file system would have the name that the policy wants proven up to that."""
    monkeypatch.setattr(enrolment, "check_levels", lambda *_: None)
    target = there(owner.up(kernel=b"k" * 64, initrd=b"i" * 64, command_line="ro"), document)
    policy = replace(target.policy, levels=replace(target.policy.levels, nominal=4, trustworthy=4))
    write_expectation(target, Expectation(target.own_references, policy), policy)
    keyserver.register(target, KEY)
    assert [each["value"] for each in server.entries[f"evident-{DISK}-node"]["selectors"]] == [measured(target)]
    assert target.own_references.values[0].layers[-1] != "root_filesystem"


def test_a_tpms_word_counts_for_whoever_takes_it(owner: Any, document: Path, server: FakeSpireServer) -> None:
    target = there(owner.up(kernel=b"k" * 64, initrd=b"i" * 64, command_line="ro"), document)
    booted = replace(target.own_references.values[0], register="pcr11", value=bytes(32), algorithm="sha256", layers=("root_filesystem",))
    references = replace(target.own_references, values=(*target.own_references.values, booted))
    for accepted in ((), (snp_tpm.OPERATOR,)):
        policy = replace(target.policy, levels=replace(target.policy.levels, nominal=4, trustworthy=0), accepted_trust=accepted)
        write_expectation(target, Expectation(references, policy), policy)
        if accepted:
            keyserver.register(target, KEY)
            assert {"type": "evident", "value": "pcr:sha256:11:" + "00" * 32} in server.entries[f"evident-{DISK}-node"]["selectors"]
        else:
            with pytest.raises(PolicyRefused, match=r"spire\.level"):
                keyserver.register(target, KEY)


def test_no_entry_before_there_is_a_measured_image(owner: Any, document: Path, server: FakeSpireServer) -> None:
    """BW-07: reference values come with the launch of what was customised; without, an entry would take any machine."""
    target = there(owner.up(), document)
    nothing = replace(target.own_references, values=())
    policy = replace(target.policy, levels=replace(target.policy.levels, nominal=0, trustworthy=0))
    write_expectation(target, Expectation(nothing, policy), policy)
    with pytest.raises(Indeterminate, match=r"spire\.no-measurement"):
        keyserver.register(target, KEY)


@pytest.mark.parametrize("end", [down, lambda target: revoke(target, "leaked"), keyserver.forget_machine])
def test_the_end_of_a_machine_is_that_of_its_names(shop: Deployment, server: FakeSpireServer, end: Callable[[Deployment], object]) -> None:
    server.agents = {AGENT: registration.entries(registration.node_id("example.org", "shop", 1), DISK, (measured(shop),), b"")[0].selectors}
    end(shop)
    assert server.entries == {}
    assert server.banned == [AGENT]
    assert not (shop.directory / enrolment.FILE).exists()


def measured(target: Deployment) -> str:
    return f"measurement:{target.own_references.values[0].value.hex()}"


@pytest.mark.parametrize("verb", ["revoke", "down"])
@pytest.mark.parametrize("how", ["out of reach", "no document", "another trust domain"])
def test_what_denies_does_so_first(shop: Deployment, server: FakeSpireServer, document: Path, how: str, verb: str) -> None:
    """The entries stay at spire-server: its SVIDs open nothing, and the same command removes them once it answers."""
    act: Callable[[Deployment], object] = down if verb == "down" else lambda target: revoke(target, "leaked")
    server.down = how == "out of reach"
    if how == "another trust domain":
        document.write_text(json.dumps({**SAID, "trust_domain": "example.net", "key_server": "spiffe://example.net/x"}))
    lame = there(shop, None if how == "no document" else document)
    for _ in range(2):
        with pytest.raises(EvidentError) as left:
            act(lame)
        assert left.value.code == ("spire.server" if how == "out of reach" else "spire.document")
        assert left.value.findings[-1].code == "spire.unremoved"
    with pytest.raises(PolicyRefused, match=r"keys\.revoked"):
        check_revoked({"disk": DISK}, VolumeStore(keystore.directory(shop.surroundings)).revocations())
    assert server.entries.keys() == names(DISK)
    assert shop.journal.state is (State.DESTROYING if verb == "down" else State.REVOKED)
    server.down = False
    document.write_text(json.dumps(SAID))
    act(shop)
    assert server.entries == {}
    assert shop.journal.state is (State.DESTROYED if verb == "down" else State.REVOKED)


def test_neither_spire_server_nor_the_keys_store_answers(shop: Deployment, server: FakeSpireServer, tmp_path: Path) -> None:
    server.down = True
    lame = replace(shop, surroundings=replace(shop.surroundings, vault=tmp_path / "absent.json"))
    with pytest.raises(EvidentError) as left:
        revoke(lame, "leaked")
    assert [finding.code for finding in left.value.findings] == ["spire.server", "spire.unremoved", "state.read", "keys.undeleted"]
    server.down = False
    revoke(shop, "leaked")
    assert server.entries == {}


def test_killed_at_every_other_moment_up_again_or_down_takes_up_what_is_left(
    owner: Any,
    document: Path,
    server: FakeSpireServer,
    killed: Callable[[Callable[[], object], int], bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every other durable write and answer of spire-server is one: terms, what is registered, each entry, the launch."""
    ask = server.ask

    def asked(*words: str) -> Any:
        answer = ask(*words)
        enrolment.write_private(owner.state / "moment", 0)  # one more that a process may die at, with the answer not seen
        return answer

    monkeypatch.setattr(server, "client", lambda _: asked)
    monkeypatch.setattr(spire_cli, "client", lambda _: asked)
    for survived, again in zip(itertools.count(step=2), itertools.cycle((True, False))):
        shop = there(owner.deployment(f"shop-{survived}"), document)
        key = replace(KEY, disk=f"{survived:08}-1222-4333-8444-555555555555")
        if not killed(lambda: bring_up.up(shop, "simulated", Order(), release=Release(key, owner.state / "cache")), survived):  # noqa: B023  # it is called at once
            break
        if again and shop.journal.path.exists() and shop.journal.state is State.PLANNED:
            later = f"{survived:08}-2222-4333-8444-555555555555"
            bring_up.up(shop, "simulated", Order(), release=Release(replace(KEY, disk=later), owner.state / "cache"))
            assert server.entries.keys() == names(later), f"after {survived} writes"
        if shop.journal.path.exists() and shop.journal.state is not None:
            down(shop)
        assert server.entries == {}, f"after {survived} writes"
    assert survived > 20


@pytest.mark.parametrize("loosened", [True, False])
def test_up_again_restores_what_its_entries_say(shop: Deployment, owner: Any, server: FakeSpireServer, loosened: bool) -> None:
    """By hand one was made to take any machine, or the server has lost both."""
    before = copy.deepcopy(server.entries)
    if loosened:
        server.entries[f"evident-{DISK}-node"]["selectors"] = [{"type": "evident", "value": "kind:snp"}]
    else:
        server.entries.clear()
    bring_up.resume(shop, owner.state / "cache", None)
    assert server.entries == before
    server.down = True
    with pytest.raises(Indeterminate, match=r"spire\.server"):
        bring_up.resume(shop, owner.state / "cache", None)


def test_a_disk_that_opens_again_by_itself_needs_no_spire_server(
    shop: Deployment, owner: Any, server: FakeSpireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    target = replace(shop, surroundings=replace(shop.surroundings, progress=said.append))
    image = specification.Image(path="image", sha256=bytes(32))
    wanted = specification.Specification(1, "shop", image, disks=specification.Disks(root_key="key-server", reopened_by="launch"))
    monkeypatch.setattr(specification, "kept", lambda _: wanted)
    server.down = True
    bring_up.resume(target, owner.state / "cache", None)
    assert said == ["without spire-server, which does not answer; the disk has to open by its launch"]


@pytest.mark.parametrize("window", [timedelta(0), HOUR])
def test_an_update_has_names_of_its_own(shop: Deployment, server: FakeSpireServer, owner: Any, window: timedelta) -> None:
    succession.update(shop, Order(), window=window, release=Release(replace(KEY, disk=NEXT), owner.state / "cache"))
    assert server.entries.keys() == (names(DISK, NEXT) if window else names(NEXT))
    assert server.entries[f"evident-{NEXT}-node"]["spiffe_id"] == split("spiffe://example.org/evident/shop/machine/2")
    owner.now += HOUR
    retire.finish(shop)
    assert server.entries.keys() == names(NEXT)


def test_an_update_that_is_given_up_leaves_the_old_names(shop: Deployment, server: FakeSpireServer, owner: Any) -> None:
    def refused(_: Deployment) -> Any:
        raise PolicyRefused.of("launch.mismatch", expected="what was predicted", found="another", remedy="-")

    with pytest.raises(PolicyRefused, match=r"update\.kept"):
        succession.update(shop, Order(), window=HOUR, release=Release(replace(KEY, disk=NEXT), owner.state / "cache"), prove=refused)
    assert server.entries.keys() == names(DISK)


@pytest.mark.parametrize("by_svid", [True, False])
def test_an_update_to_the_other_way_of_asking(owner: Any, document: Path, server: FakeSpireServer, by_svid: bool) -> None:
    target = there(owner.up(), document)
    keyserver.register(target, KEY if by_svid else replace(KEY, by_svid=None))
    other = replace(KEY, disk=NEXT, by_svid=None if by_svid else ASKS)
    with pytest.raises(UsageError, match=r"spire\.update"):
        succession.update(target, Order(), window=HOUR, release=Release(other, owner.state / "cache"))
    assert target.generations.coming is None, "nothing was begun"


def test_with_that_check_off_the_old_machine_finds_no_server_any_more(
    owner: Any, document: Path, server: FakeSpireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = there(owner.up(), document)
    keyserver.register(target, replace(KEY, by_svid=None))
    assert enrolment.served_by(target) is None
    monkeypatch.setattr(enrolment, "check_update", lambda *_, **__: None)
    succession.update(target, Order(), window=HOUR, release=Release(replace(KEY, disk=NEXT), owner.state / "cache"))
    assert len(target.machines()) == 2
    assert enrolment.served_by(target) is not None, "so the one key server speaks TLS, and machine 1 does not"


def test_no_key_server_without_the_document(shop: Deployment, owner: Any) -> None:
    with pytest.raises(UsageError, match=r"spire\.document"):
        keyserver.begin(there(shop, None), owner.state / "cache")


def test_a_key_server_without_an_svid_does_not_start(shop: Deployment, owner: Any) -> None:
    """Its process is told of the document; there is no agent here."""
    with pytest.raises(UsageError, match=r"keys\.server.*svid\.unreachable"):
        keyserver.begin(shop, owner.state / "cache")


def test_it_says_to_its_machines_where_spire_server_is(shop: Deployment, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_api, "fetch", lambda *_, **__: TRUST.svid("/evident/key-server"))
    monkeypatch.setattr(KeyServer, "serve_forever", lambda _: None)
    keyserver.serve(shop, owner.state / "cache")
    assert (shop.machine / SPIRE_FILE).read_text() == SAID["server"]
    assert (shop.machine / PORT_FILE).exists()


def asked(port: int, held: Svid, disk: str = DISK) -> Volume | tuple[str, ...]:
    connection = HTTPSConnection("127.0.0.1", port, timeout=10, context=client(held))
    try:
        connection.request("POST", messages.KEY, messages.dumps(KeyRequest(1, disk)))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    return messages.loads(Volume, body) if answer.status == 200 else messages.loads(Refusal, body).codes


def test_its_key_server_hands_the_key_to_that_name(shop: Deployment, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_api, "fetch", lambda *_, **__: TRUST.svid("/evident/key-server"))
    spire = enrolment.served_by(shop)
    assert spire is not None
    service = keyserver.service(shop, owner.state / "cache")
    with KeyServer(("127.0.0.1", 0), service, tls=OwnSvid(spire, say=lambda _: None)) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            port = listening.server_address[1]
            released = asked(port, TRUST.svid("/evident/shop/machine/1/key"))
            assert isinstance(released, Volume)
            assert (released.key, released.secrets) == (KEY.key, KEY.secrets)
            assert asked(port, TRUST.svid("/evident/shop/machine/2/key")) == ("keys.spiffe-id",)
            assert asked(port, TRUST.svid("/evident/shop/machine/1")) == ("keys.spiffe-id",), "the node's name opens nothing"
            with pytest.raises((ssl.SSLError, OSError)):
                asked(port, TrustDomain().svid("/evident/shop/machine/1/key"))
            revoke(shop, "leaked")
            assert asked(port, TRUST.svid("/evident/shop/machine/1/key")) == ("keys.revoked",), "whose SVID is good still"
        finally:
            listening.shutdown()
            thread.join(5)


def lives_again(shop: Deployment, owner: Any) -> keystore.KeyStore:
    down(shop)
    owner.up()
    keyserver.register(shop, replace(KEY, disk=NEXT))
    return keystore.open_store(shop.surroundings)


@pytest.mark.attack(
    "AT-53", "A machine of a deployment that was ended asks for the disk of the next one of its name.", "keys.spiffe-id", "refused"
)
def test_an_svid_of_the_life_before_opens_nothing(shop: Deployment, owner: Any) -> None:
    """It may be good for minutes yet, and the machine that has it may be why the deployment was ended."""
    store = lives_again(shop, owner)
    assert store.volumes.get(NEXT).spiffe_id == "spiffe://example.org/evident/shop/machine/1.2/key"
    with pytest.raises(PolicyRefused, match=r"keys\.spiffe-id"):
        check_holder(store.volumes.get(NEXT), registration.key_id(registration.node_id("example.org", "shop", 1)))


@pytest.mark.attack(
    "AT-53", "A machine of a deployment that was ended asks for the disk of the next one of its name.", "keys.spiffe-id", "succeeds"
)
def test_with_one_name_for_all_lives_it_opens_the_next_ones_disk(shop: Deployment, owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    named = registration.node_id
    monkeypatch.setattr(registration, "node_id", lambda domain, name, number, _: named(domain, name, number))
    check_holder(lives_again(shop, owner).volumes.get(NEXT), registration.key_id(named("example.org", "shop", 1)))


def test_the_key_servers_own_svid_is_renewed(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, said, given = [0.0], list[str](), [TRUST.svid("/evident/key-server")]
    monkeypatch.setattr(workload_api, "fetch", lambda *_, **__: given[-1])
    own = OwnSvid(spire_document.read(document), say=said.append, clock=lambda: now[0])
    given.append(TRUST.svid("/evident/key-server"))
    assert own() is given[0]
    now[0] += own_svid.FRESH + 1
    assert own() is given[1]
    given.append(TRUST.svid("/evident/another"))
    now[0] += own_svid.FRESH + 1
    assert own() is given[1], "what there is, until it ends"
    assert "spire.key-server" in said[0]
    with pytest.raises(PolicyRefused, match=r"spire\.key-server"):
        OwnSvid(spire_document.read(document), say=said.append)


def test_with_that_check_off_it_serves_under_a_name_that_no_machine_believes(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_api, "fetch", lambda *_, **__: TRUST.svid("/evident/another"))
    monkeypatch.setattr(own_svid, "check_name", lambda *_: None)
    assert str(OwnSvid(spire_document.read(document), say=lambda _: None)().spiffe_id) != SAID["key_server"]


def test_what_a_launch_takes_on_this_host(document: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spire_cli, "program", lambda: "spire-server")
    assert enrolment.parameters(document, "example.org") == {"evident.keyserver": SAID["key_server"], "evident.spire": "10.0.2.101:8081"}
    for named, domain, code in ((None, "example.org", r"spire\.document"), (document, "example.net", r"spire\.document")):
        with pytest.raises(UsageError, match=code):
            enrolment.parameters(named, domain)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"spire\.missing.*gRPC"):
        enrolment.parameters(document, "example.org")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"spire\.missing.*spire-server"):
        enrolment.parameters(document, "example.org")
