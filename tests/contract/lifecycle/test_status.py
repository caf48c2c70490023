"""`evident status` of deployments in a cloud: the journal against what is listed there, and nothing changed by looking."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from evident import codec
from evident.cli.main import main
from evident.lifecycle import farewell
from evident.platforms import cloud


@pytest.fixture
def status(life: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("EVIDENT_HOME", str(life.home))
    monkeypatch.setattr("evident.cli.deployments.surroundings", lambda: life.surroundings)

    def run(*words: str) -> str:
        assert main(["status", *words]) == 0
        return capsys.readouterr().out

    return run


def shown(status: Any, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(status(*words, "-o", "json"))["deployments"][0]
    return found


def test_everything_is_there(life: Any, status: Any) -> None:
    life.up()
    before = life.cloud.live()
    seen = shown(status)["cloud"]
    assert seen["missing"] == []
    assert {each["kind"] for each in seen["present"]} & {"instance", "machine"}
    assert all(each["id"] for each in seen["present"])
    assert f"{len(seen['present'])} resources" in " ".join(status().split())
    assert "there" in status("shop")
    assert life.cloud.live() == before
    assert "cloud" not in shown(status, "--offline")


def test_after_a_crash(life: Any, status: Any) -> None:
    life.cloud.dies_at(60)
    assert not life.cloud.survives(life.up)
    life.cloud.dies_at(None)
    life.cloud.time.now += 3600  # long enough for everything to be listed
    row = shown(status)
    assert row["state"] == "planned"
    assert row["cloud"]["present"] or row["cloud"]["missing"]


def test_what_cannot_be_asked_is_said(life: Any, status: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    life.up()

    def refuse(*_: object) -> None:
        raise cloud.auth("no usable credentials", "Renew the credentials.")

    monkeypatch.setattr("evident.platforms.resources.Stock.survey", refuse)
    assert shown(status)["cloud"] == {"unknown": "cloud.auth", "found": "no usable credentials", "remedy": "Renew the credentials."}
    assert "cloud.auth" in status()
    assert "Renew the credentials." in status("shop")


def test_both_machines_of_an_update_are_told(life: Any, status: Any) -> None:
    target = life.up()
    life.image("two")
    life.update(timedelta(hours=1))
    seen = shown(status)
    until = codec.format_time(target.generations.replaced[1])
    assert (seen["machine"], seen["others"]) == (2, [{"machine": 1, "accepted_until": until}])
    assert len([each for each in seen["cloud"]["present"] if each["kind"] in ("instance", "machine")]) == 2
    assert f"machine 1 was replaced, and is accepted until {until}" in status("shop")


def test_nothing_is_left_to_ask_about(life: Any, status: Any) -> None:
    farewell.down(life.up())
    assert "cloud" not in shown(status)
