"""What becomes of a deployment that others touched, that never gets done, or that was ordered wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evident.errors import Indeterminate, Unsupported, UsageError
from evident.platforms import resources
from evident.platforms.gcp import clients, executor, requests
from evident.platforms.gcp.executor import Gcp
from evident.platforms.opening import Opening
from evident.platforms.order import Disk
from evident.platforms.resources import Stage


@pytest.mark.parametrize("kind", ["image", "network", "instance"])
def test_a_making_that_never_ends_is_given_up_by_the_deadline(owner: Any, google: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMAGE_WAIT", "NETWORK_WAIT", "START_WAIT"):
        monkeypatch.setattr(executor, name, 60.0)
    google.stuck = {kind}
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.timeout"
    assert "Repeat the command" in caught.value.findings[0].remedy
    assert any(line.endswith("30 s") for line in owner.said)
    owner.down()
    assert google.live() == []


def test_a_removal_that_never_ends_is_given_up_and_stays_written_down(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "REMOVAL", 120.0)
    owner.up()
    google.faults["networks.delete"] = [google.refusal(400, "resourceInUseByAnotherResource") for _ in range(9999)]
    with pytest.raises(Indeterminate) as caught:
        owner.down()
    assert caught.value.code == "cloud.timeout"
    assert [each.kind for each in owner.journal().resources() if each.stage is not Stage.GONE] == ["network"]
    google.faults.clear()
    owner.down()
    assert google.live() == []


def test_a_machine_that_is_not_confidential_is_not_kept(owner: Any, google: Any) -> None:
    google.confidential = False
    with pytest.raises(Unsupported, match="no confidential computing instead of SEV_SNP"):
        owner.up()
    assert not google.live("instance")


def test_without_looking_at_it_a_machine_that_is_not_confidential_is_kept(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: Google's yes is enough, and the machine runs in the open."""
    google.confidential = False
    monkeypatch.setattr(executor, "_start_outcome", lambda _, listed: (None,) if listed.status == "RUNNING" else None)
    owner.up()
    assert google.thing("instance").body["confidentialInstanceConfig"] == {}


def test_a_stopped_machine_is_not_removed_with_its_disk(owner: Any, google: Any) -> None:
    owner.gcp().stop(owner.up())
    with pytest.raises(UsageError, match="is TERMINATED"):
        owner.up()
    assert google.live("instance")


def test_a_machine_stops_starts_and_has_an_address(owner: Any, google: Any) -> None:
    name = owner.up()
    assert owner.gcp().address(name) == "203.0.113.7"
    owner.gcp().stop(name)
    owner.gcp().stop(name)
    owner.gcp().start(name)
    assert google.thing("instance").body["status"] == "RUNNING"
    google.fates["instances.start"] = [("ZONE_RESOURCE_POOL_EXHAUSTED", "none left")]
    with pytest.raises(Indeterminate, match="none left"):
        owner.gcp().start(name)


def test_without_anything_outside_the_address_is_the_networks(owner: Any) -> None:
    owner.order = replace(owner.order, openings=(Opening("in", "tcp", 8442, "10.0.0.0/8"),))
    assert owner.gcp().address(owner.up()) == "10.73.0.2"


def test_a_machine_that_others_removed_has_no_address(owner: Any) -> None:
    with pytest.raises(UsageError, match="is not there"):
        owner.gcp().address("evident-shop-00000000")


def test_somebody_elses_things_are_never_touched(tmp_path: Path, owner: Any, google: Any, wire: Any) -> None:
    """Two people call their deployments `shop`, in one project."""
    (tmp_path / "other").mkdir()
    other = type(owner)(tmp_path / "other", google, wire, seed="other")
    owner.up()
    other.up()
    assert len(google.live("instance")) == 2
    owner.down()
    assert [len(google.live(kind)) for kind in ("instance", "network", "image")] == [1, 1, 1]
    other.down()
    assert google.live() == []


def test_credentials_of_another_project_find_nothing_and_say_so(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.up()
    monkeypatch.setattr(Gcp, "place", lambda _: "gcp/other/europe-west4-a")
    with pytest.raises(UsageError, match="gcp/other"):
        owner.down()

    def look_away(*_: object) -> None:
        return None

    monkeypatch.setattr(resources.Stock, "_same_place", look_away)
    monkeypatch.setattr(Gcp, "find", lambda *_: ())
    monkeypatch.setattr(Gcp, "remove", look_away)
    owner.down()  # the check off: it ends well, and the machine runs on
    assert {each.stage for each in owner.journal().resources()} == {Stage.GONE}
    assert google.live("instance")


def test_another_specification_does_not_pass_for_the_one_that_was_launched(owner: Any, google: Any) -> None:
    owner.up()
    owner.moved(type="n2d-standard-8")
    with pytest.raises(UsageError, match="another specification"):
        owner.up()


def test_what_others_removed_is_made_again(owner: Any, google: Any) -> None:
    first = owner.up()
    google.time.now += 3600
    del google.things["instance", first]
    assert [each.kind for each in owner.stock().survey().missing] == ["instance"]
    assert owner.up() != first
    assert owner.stock().survey().missing == ()


def test_what_google_makes_by_itself_is_found_and_goes(owner: Any, google: Any) -> None:
    """The boot disk is made with the machine, and is in no line of the journal."""
    owner.up()
    google.time.now += 60
    assert owner.stock().survey().unwritten == (("disk", google.thing("disk").name),)
    google.thing("instance").body["disks"][0]["autoDelete"] = False
    owner.down()
    assert google.live() == []


def rules(google: Any) -> set[tuple[str, Any]]:
    return {
        (each.body["direction"], *each.body.get("sourceRanges", each.body.get("destinationRanges"))) for each in google.live("firewall")
    }


@pytest.mark.parametrize("change", ["added", "widened", "disabled", "removed"])
def test_what_others_did_to_the_rules_is_undone(owner: Any, google: Any, change: str) -> None:
    owner.up()
    wanted = rules(google)
    network = google.thing("network").name
    rule = next(each for each in google.live("firewall") if each.body["direction"] == "INGRESS")
    if change == "added":
        body = {"name": "evil", "network": f"projects/x/global/networks/{network}", "direction": "INGRESS", "priority": 1}
        google._make("firewall", "evil", {**body, "sourceRanges": ["0.0.0.0/0"], "allowed": [{"IPProtocol": "all"}]}, 0.0)
    elif change == "widened":
        rule.body["sourceRanges"] = ["0.0.0.0/0"]
    elif change == "disabled":
        rule.body["disabled"] = True
    else:
        del google.things["firewall", rule.name]
    google.time.now += 3600
    owner.up()
    assert rules(google) == wanted
    assert not [each for each in google.live("firewall") if each.body.get("disabled")]


def test_without_reading_the_rules_a_widened_one_stays(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check off: a rule of the right name passes, whatever it lets through."""
    owner.up()
    rule = next(each for each in google.live("firewall") if each.body["direction"] == "INGRESS")
    rule.body["sourceRanges"] = ["0.0.0.0/0"]
    google.time.now += 3600
    monkeypatch.setattr(requests, "same_rule", lambda *_: True)
    owner.up()
    assert ("INGRESS", "0.0.0.0/0") in rules(google)


def test_the_rules_of_other_networks_stay_even_if_google_filters_nothing(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"name": "theirs", "network": "projects/x/global/networks/default", "direction": "INGRESS", "priority": 1}
    google._make("firewall", "theirs", {**body, "sourceRanges": ["10.0.0.0/8"], "allowed": [{"IPProtocol": "all"}]}, 0.0)
    monkeypatch.setitem(type(google).answer.__globals__, "_passes", lambda *_: True)
    google.time.now += 60
    owner.up()
    owner.down()
    assert [each.name for each in google.live()] == ["theirs"]


def test_rules_of_others_in_our_network_do_not_keep_it_alive(owner: Any, google: Any) -> None:
    owner.up()
    body = {"network": f"projects/x/global/networks/{google.thing('network').name}", "direction": "INGRESS", "priority": 1}
    google._make("firewall", "theirs", {**body, "name": "theirs", "sourceRanges": ["0.0.0.0/0"], "allowed": [{"IPProtocol": "all"}]}, 0.0)
    google.time.now += 60
    owner.down()
    assert google.live() == []


@pytest.mark.parametrize("content", [None, b""])
def test_without_an_image_nothing_is_asked(owner: Any, google: Any, content: bytes | None) -> None:
    owner.order = replace(owner.order, disks=(Disk(str(owner.file.with_name("other.raw"))),))
    if content is not None:
        owner.file.with_name("other.raw").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "gcp.image"
    assert google.calls == []


def test_a_zone_that_is_none_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UsageError) as caught:
        clients.connect("shop-1", "europe-west4")
    assert caught.value.code == "gcp.zone"


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_keys_that_are_none_are_refused_before_anything_is_asked(owner: Any, google: Any, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "PK.der").write_bytes(content)
    owner.moved(secure_boot_keys=str(tmp_path))
    with pytest.raises(UsageError) as caught:
        owner.up()
    assert caught.value.code == "gcp.keys"
    assert google.calls == []
