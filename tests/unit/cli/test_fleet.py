"""`evident fleet` and `evident compare`, as a user types them: forms, exit codes, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evident.cli.deployments import surroundings
from evident.lifecycle.deployment import deployment, up
from evident.platforms.order import Order

Run = Callable[..., tuple[int, str, str]]


def launch(name: str) -> None:
    """As a crash leaves it right after the launch: nobody has asked the machine yet."""
    up(deployment(name, surroundings()), "simulated", Order())


def test_the_exit_code_tells_whether_all_are_well(run: Run, tmp_path: Path) -> None:
    assert run("fleet")[:2] == (0, run("fleet")[1])
    launch("shop")
    assert run("fleet")[0] == 12, "never attested"
    run("attest", "shop")
    code, out, _ = run("fleet")
    assert code == 0
    assert "The one deployment is well." in out
    code, _, err = run("up", "bad", "--platform", "simulated", "--attack", "swap-kernel")
    assert code == 11
    assert "quarantined" in err
    code, out, _ = run("fleet", "-o", "json")
    assert (code, json.loads(out)["well"]) == (11, False)
    (tmp_path / "state" / "deployments" / "bad" / "journal.jsonl").write_bytes(b"rubbish\n")
    code, out, _ = run("fleet", "-o", "html")
    assert code == 30
    assert out.startswith("<!doctype html>")
    assert run("fleet", "--interval", "soon")[0] == 2


def test_statements_side_by_side(run: Run, tmp_path: Path) -> None:
    for name, attack in (("shop", ()), ("bad", ("--attack", "swap-kernel"))):
        run("up", name, "--platform", "simulated", *attack)
        run("attest", name, "--bundle", f"{name}.json")
    code, out, _ = run("compare", "shop", "bad.json")
    assert code == 0
    assert "Where they differ" in out
    code, out, _ = run("compare", "shop", "bad", "shop.json", "-o", "json")
    assert code == 0
    assert [side["name"] for side in json.loads(out)["statements"]] == ["shop", "bad", "shop.json"]
    assert json.loads(out)["differences"][0]["name"] == "Decision"
    assert run("compare", "shop", "bad", "-o", "html")[1].startswith("<!doctype html>")
    (tmp_path / "shop").mkdir()
    assert run("compare", "shop", "bad")[0] == 0, "a folder of a deployment's name is no bundle"
    bundle = tmp_path / "bad.json"
    bundle.write_bytes(bundle.read_bytes().replace(b'"sig":"M', b'"sig":"N'))
    assert run("compare", "shop", "bad.json")[0] == 10


@pytest.mark.parametrize(
    ("words", "code"),
    [(("shop",), "compare.one"), (("shop", "ghost"), "compare.nothing-recorded"), (("new", "shop"), "compare.nothing-recorded")],
)
def test_mistakes_are_answered(run: Run, words: tuple[str, ...], code: str) -> None:
    run("up", "shop", "--platform", "simulated")
    run("attest", "shop")
    launch("new")
    exit_code, out, err = run("compare", *words)
    assert (exit_code, out) == (2, "")
    assert code in err
