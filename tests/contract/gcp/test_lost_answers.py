"""What was carried out and not answered, sent and not kept: nothing is made twice, nothing is missing."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import requests as http

from evident.errors import Indeterminate, UsageError
from evident.platforms.gcp import images
from evident.platforms.resources import Stage


def lose(google: Any) -> Any:
    """The fault of a lost answer."""
    return type(google).answer.__globals__["LOSE"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("buckets.insert", "bucket"),
        ("images.insert", "image"),
        ("networks.insert", "network"),
        ("subnetworks.insert", "subnetwork"),
        ("instances.insert", "instance"),
    ],
)
@pytest.mark.parametrize("losses", [1, 3])
def test_lost_answers_make_nothing_twice(owner: Any, google: Any, operation: str, kind: str, losses: int) -> None:
    google.faults[operation] = [lose(google)] * losses
    owner.up()
    assert len([made for made in google.made if made[0] == kind]) == 1
    owner.down()
    assert google.live() == []


@pytest.mark.parametrize("losses", [1, 2])
def test_an_upload_goes_on_where_it_was_when_answers_get_lost(owner: Any, google: Any, losses: int) -> None:
    google.faults["objects.insert"] = [None, *[lose(google)] * losses, google.refusal(503, "backendError"), lose(google)]
    owner.up()
    assert google.thing("image").body["_content"].rstrip(b"\0") == owner.file.read_bytes().rstrip(b"\0")


def test_an_upload_that_was_given_up_begins_anew(owner: Any, google: Any) -> None:
    google.faults["objects.insert"] = [None, None, google.refusal(410, "gone")]
    owner.up()
    assert google.live("bucket") == []
    assert len([made for made in google.made if made[0] == "bucket"]) == 2


def test_bytes_that_arrive_changed_are_noticed(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(google)._object
    answers = iter([{"md5Hash": "AAAA"}])

    def lie(self: Any, bucket: str, name: str) -> Any:
        answer = real(self, bucket, name)
        answer.body |= next(answers, {})
        return answer

    monkeypatch.setattr(type(google), "_object", lie)
    owner.up()
    assert any("other bytes arrived" in line for line in owner.said)
    assert len([made for made in google.made if made[0] == "bucket"]) == 2


@pytest.mark.parametrize("operation", ["instances.delete", "images.delete", "networks.delete", "firewalls.list", "disks.list"])
def test_lost_answers_of_a_removal_are_asked_again(owner: Any, google: Any, operation: str) -> None:
    owner.up()
    google.faults[operation] = [lose(google)] * 2
    owner.down()
    assert google.live() == []


def test_an_answer_lost_and_a_refusal_after_it_do_not_forget_the_machine(owner: Any, google: Any) -> None:
    """Made, the answer lost, then the permission is taken away: it stays written down, and goes with the rest."""
    google.faults["instances.insert"] = [lose(google), google.refusal(403, "forbidden")]
    with pytest.raises(UsageError):
        owner.up()
    assert [each.stage for each in owner.journal().resources() if each.kind == "instance"] == [Stage.ASKED]
    assert len(google.live("instance")) == 1
    owner.down()
    assert google.live() == []


def test_a_life_over_http_with_connections_that_break_after_the_work_was_done(afar: Any, google: Any) -> None:
    for operation in ("buckets.insert", "objects.insert", "images.insert", "instances.insert", "zoneOperations.get", "instances.delete"):
        google.faults[operation] = [lose(google)]
    afar.up()
    assert len([made for made in google.made if made[0] == "instance"]) == 1
    assert google.thing("image").body["_content"].rstrip(b"\0") == afar.file.read_bytes().rstrip(b"\0")
    afar.down()
    assert google.live() == []


def test_nobody_listens(owner: Any, google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise http.ConnectionError("connection refused")

    monkeypatch.setattr(type(google), "answer", refused)
    with pytest.raises(Indeterminate) as caught:
        owner.up()
    assert caught.value.code == "cloud.transient"
    assert "proxy and firewall" in caught.value.findings[0].remedy


def test_the_image_is_what_was_built(owner: Any, google: Any) -> None:
    owner.up()
    content = google.thing("image").body["_content"]
    assert content[: owner.file.stat().st_size] == owner.file.read_bytes()
    assert google.thing("image").body["description"] == f"sha256:{hashlib.sha256(owner.file.read_bytes()).hexdigest()}"
    assert len(content) % images.GIB == 0
