"""`evident plan`, `up`, `update`, `attest` and `status` with a deployment document, as a user types them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.lifecycle.images import an_image, digest

from evident.audit import keys

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def images(run: Run, tmp_path: Path) -> None:  # in the home that it makes
    """Two images of its owner's, and a document that names the first."""
    key = keys.load_or_create(tmp_path / "state", os.urandom)
    for name in ("one", "two"):
        an_image(tmp_path / name, key, name=name, at=datetime(2026, 11, 22, tzinfo=UTC))
    write(tmp_path)


def write(home: Path, image: str = "one", **changes: Any) -> None:
    least = {"version": 1, "name": "shop", "image": {"path": image, "sha256": digest(home / image).hex()}, "platform": "simulated"}
    (home / "shop.yaml").write_text(json.dumps({**least, **changes}))


def test_a_life_by_document(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("plan", "shop.yaml")
    assert code == 0
    assert "SIMULATED" in out
    assert "Every requirement of the document is met." in out
    assert run("up", "shop.yaml")[0] == 0
    code, out, _ = run("up", "shop.yaml", "-o", "json")
    assert (code, json.loads(out)["state"], json.loads(out)["decision"]) == (0, "attested", "accepted"), "done already, and asked again"
    assert run("attest", "shop")[0] == 0
    write(tmp_path, "two", reattest_seconds=1)
    code, _, err = run("up", "shop.yaml")
    assert (code, "deployment.changed" in err) == (2, True)
    code, _, err = run("update", "shop", "--kernel", "one/vmlinuz")
    assert (code, "usage.update" in err) == (2, True), "by options it would not be what its document says"
    assert run("update", "shop.yaml", "--window", "1h")[0] == 0
    assert run("up", "shop.yaml")[0] == 0, "the new document is that of the deployment now"
    assert run("attest", "shop", "--every", "--times", "2")[0] == 0
    assert json.loads(run("status", "-o", "json")[1])["deployments"][0]["state"] == "attested"
    assert run("revoke", "shop", "--reason", "over")[0] == 0
    code, _, err = run("up", "shop.yaml")
    assert (code, "deployment.state" in err) == (2, True)
    assert run("down", "shop")[0] == 0


def test_a_plan_is_refused_with_everything_that_is_unmet(run: Run, tmp_path: Path) -> None:
    write(tmp_path, platform="aws", policy={"version": 1, "levels": {"nominal": 4, "trustworthy": 3}})
    code, out, _ = run("plan", "shop.yaml")
    assert code == 11
    assert "plan.trustworthy" in out
    assert "Nothing was created" in out
    code, out, _ = run("plan", "shop.yaml", "-o", "json")
    document = json.loads(out)
    assert code == 11
    assert {each["finding"]["code"] for each in document["chosen"]["unmet"]} >= {"plan.trustworthy", "plan.party", "where.missing"}
    code, _, err = run("up", "shop.yaml")
    assert code == 11
    assert err.count("next") >= 3
    assert not (tmp_path / "state" / "deployments").exists()


def test_another_platform_than_the_documents(run: Run, tmp_path: Path) -> None:
    write(tmp_path, platform="aws")
    assert run("plan", "shop.yaml", "--platform", "simulated")[0] == 0
    assert run("up", "shop.yaml", "--platform", "simulated")[0] == 0
    assert json.loads(run("status", "shop", "-o", "json")[1])["deployments"][0]["platform"] == "simulated"


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        (("plan", "nowhere.yaml"), 2, "input.unreadable"),
        (("plan", "shop.yaml", "--platform", "gpc"), 2, "platform.unknown"),
        (("up", "shop.yaml", "--vcpus", "2"), 2, "usage.document"),
        (("up", "shop.yaml", "--attack", "replay"), 2, "usage.document"),
        (("up", "nowhere.yaml"), 2, "input.unreadable"),
        (("update", "shop.yaml"), 2, "deployment.unknown"),
        (("update", "shop.yaml", "--kernel", "vmlinuz"), 2, "usage.document"),
    ],
)
def test_mistakes_are_answered(run: Run, words: tuple[str, ...], expected: int, code: str) -> None:
    exit_code, out, err = run(*words)
    assert exit_code == expected, err
    assert code in err
    assert out == ""


def test_every_without_an_interval_anywhere(run: Run) -> None:
    assert run("up", "shop.yaml")[0] == 0
    code, _, err = run("attest", "shop", "--every")
    assert (code, "usage.every" in err) == (2, True)


def test_yaml_mistakes_name_the_nearest_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("version: 1\nname: shop\nimgae: {}\n")
    code, _, err = run("plan", "shop.yaml")
    assert (code, "Did you mean 'image'?" in err) == (30, True)


def test_a_plan_fits_80_columns_and_no_sentence_falls_to_the_margin(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path, platform="aws", policy={"version": 1, "levels": {"nominal": 4, "trustworthy": 3}})
    lines = run("plan", "shop.yaml", "--platform", "any")[1].splitlines()
    assert max(map(len, lines)) <= 80
    listed = lines[lines.index("It will not prove") + 1 : -2]
    heads = [line for line in listed if line and not line.startswith("  ")]
    assert all(line == "Also allowed by the document" or "requirement" in line for line in heads), heads


def test_options_that_name_an_image_carry_on_with_that_very_image(run: Run) -> None:
    words = ("up", "other", "--platform", "simulated", "--image", "one")
    for again in (words, words, ("up", "other"), ("up", "other", "--image", "one")):
        assert run(*again)[0] == 0, again
    code, _, err = run(*words[:-1], "two")
    assert (code, "deployment.changed" in err) == (2, True)
    assert run("up", "shop.yaml")[0] == 0
    assert run("up", "shop")[0] == 0, "by its document, and now by its name"
    code, _, err = run("up", "shop", "--image", "one")
    assert (code, "deployment.changed" in err) == (2, True)
