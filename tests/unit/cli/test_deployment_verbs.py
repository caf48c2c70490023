"""`evident up`, `status`, `attest` and `down`, as a user types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evident.errors import EvidentError, Indeterminate, Unsupported
from evident.platforms.driver import Collected
from evident.platforms.simulated.launch import SimulatedPlatform

Run = Callable[..., tuple[int, str, str]]


def test_a_whole_life(run: Run, tmp_path: Path) -> None:
    assert run("status")[:2] == (0, "No deployments. `evident up NAME --platform simulated` creates one.\n")
    code, out, _ = run("up", "shop", "--platform", "simulated")
    assert code == 0
    for told in ("evident attest shop", "accepted: level 4 of 4, 4 without", "SIMULATED", "audit bundle:"):
        assert told in out
    code, out, err = run("attest", "shop")
    assert code == 0
    assert "SIMULATED" in out
    assert "audit bundle:" in err
    code, out, _ = run("status")
    assert code == 0
    assert "SIMULATED: accepted" in " ".join(out.split())
    code, out, _ = run("attest", "shop", "-o", "json", "--bundle", "bundle.json")
    document = json.loads(out)
    assert (code, document["decision"], document["simulated"], document["levels"]) == (
        0,
        "accepted",
        True,
        {"nominal": 4, "trustworthy": 4},
    )
    roots = str(tmp_path / "state" / "simulator" / "test-roots.pem")
    assert run("audit", "verify", "bundle.json", "--unsafe-simulated-root", roots)[0] == 0
    assert run("audit", "verify", "bundle.json")[0] == 10
    code, out, _ = run("attest", "shop", "-o", "html")
    assert code == 0
    assert "SIMULATED" in out.upper()
    code, out, _ = run("down", "shop", "-o", "json")
    record = json.loads(out)["record"]
    assert (code, json.loads(out)["state"]) == (0, "destroyed")
    code, out, _ = run("audit", "verify", record)
    assert code == 0
    assert "The final record holds: shop on simulated" in out
    code, out, _ = run("audit", "verify", record, "-o", "json")
    assert (code, json.loads(out)["final_record"]["last"]["decision"]) == (0, "accepted")
    assert run("audit", "verify", record, "-o", "html")[0] == 2
    assert "(decoded only" in run("show", record)[1]
    assert "nothing was left" in run("down", "shop")[1]
    assert json.loads(run("status", "-o", "json")[1])["deployments"][0]["state"] == "destroyed"
    assert "destroyed" in run("status", "shop")[1]


@pytest.mark.parametrize(
    ("attack", "expected", "code"),
    [("swap-kernel", 11, "launch.kernel"), ("replay", 10, "snp.challenge"), ("no-crl", 12, "snp.revocation")],
)
def test_a_cheating_host(run: Run, attack: str, expected: int, code: str) -> None:
    """`up` ends as its machine's answer was decided, and so does `attest`."""
    exit_code, out, _ = run("up", "bad", "--platform", "simulated", "--attack", attack)
    assert exit_code == expected
    assert f"{code}" in out
    assert "is not accepted" in out
    exit_code, out, _ = run("attest", "bad", "-o", "json")
    assert exit_code == expected
    assert any(finding["code"].startswith(code) for finding in json.loads(out)["findings"])
    exit_code, out, _ = run("up", "worse", "--platform", "simulated", "--attack", attack, "-o", "json")
    told = json.loads(out)
    assert (exit_code, told["decision"]) == (expected, told["answer"]["decision"])
    assert told["state"] == ("undecided" if expected == 12 else "quarantined")


@pytest.mark.parametrize("error", [Indeterminate, Unsupported])
def test_a_machine_that_cannot_be_asked_is_not_proved(run: Run, monkeypatch: pytest.MonkeyPatch, error: type[EvidentError]) -> None:
    """No agent, or none that was reached: the machine is there, and the exit code does not say that it is what was ordered."""

    def collect(*_: object) -> Collected:
        raise error.of("simulated.nobody", expected="an answer", found="none", remedy="Mend it.")

    with monkeypatch.context() as cut_off:
        cut_off.setattr(SimulatedPlatform, "collect", collect)
        code, out, err = run("up", "shop", "--platform", "simulated")
        assert (code, out) == (error.exit_code, "")
        for told in ("simulated.nobody", "up.unproven", "evident attest shop"):
            assert told in err
        code, out, _ = run("up", "shop", "-o", "json")
        assert (code, [finding["code"] for finding in json.loads(out)["findings"]]) == (
            error.exit_code,
            ["simulated.nobody", "up.unproven"],
        )
        code, _, err = run("update", "shop", "--append", "quiet", "--kernel", __file__)
        assert (code, "up.unproven" in err) == (error.exit_code, True), "a kernel alone is not asked before it takes over"
    assert json.loads(run("status", "-o", "json")[1])["deployments"][0]["state"] == "launched"
    assert run("up", "shop")[0] == 0


def test_attacks_are_listed(run: Run) -> None:
    code, out, _ = run("up", "--list-attacks")
    assert code == 0
    assert "swap-kernel" in out
    assert "swap-kernel" in json.loads(run("up", "--list-attacks", "-o", "json")[1])


def test_own_images_and_policy(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    (tmp_path / "policy.yaml").write_text("version: 1\nname: mine\n")
    assert run("up", "own", "--platform", "simulated", "--kernel", "vmlinuz", "--append", "quiet")[0] == 0
    assert run("attest", "own")[0] == 0
    code, out, _ = run("attest", "own", "--policy", "policy.yaml", "-o", "json")
    assert (code, json.loads(out)["policy_name"]) == (11, "mine")


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        (("up",), 2, "usage.up"),
        (("up", "shop"), 2, "usage.up"),
        (("up", "shop", "--vcpus", "2"), 2, "usage.up"),
        (("up", "Shop!", "--platform", "simulated"), 2, "deployment.name"),
        (("up", "shop", "--platform", "nowhere"), 2, "platform.unknown"),
        (("up", "shop", "--platform", "aws"), 2, "usage.up"),
        (("up", "shop", "--platform", "simulated", "--kernel", "missing"), 2, "input.unreadable"),
        (("up", "shop", "--platform", "simulated", "--kernel", "/"), 2, "input.not-a-file"),
        (("up", "shop", "--platform", "simulated", "--firmware", "pyproject"), 2, "input.unreadable"),
        (("up", "shop", "--platform", "simulated", "--attack", "bribe"), 2, "simulated.attack"),
        (("up", "shop", "--platform", "simulated", "--vcpus", "0"), 2, "usage.options"),
        (("attest", "ghost"), 2, "deployment.unknown"),
        (("down", "ghost"), 2, "deployment.unknown"),
        (("status", "ghost"), 2, "deployment.unknown"),
    ],
)
def test_mistakes_are_answered(run: Run, words: tuple[str, ...], expected: int, code: str) -> None:
    exit_code, out, err = run(*words)
    assert exit_code == expected, err
    assert code in err
    assert "next" in err
    assert out == ""


def test_the_same_words_or_the_name_alone_carry_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(SimulatedPlatform, "start", lambda _self, machine: started.append(machine.parent.name))
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    words = ("up", "shop", "--platform", "simulated", "--kernel", "vmlinuz", "--append", "quiet")
    for again in (words, words, ("up", "shop"), ("up", "shop", "--platform", "simulated"), ("up", "shop", *words[4:])):
        assert run(*again)[0] == 0, again
    assert started == ["shop"] * 4
    (tmp_path / "vmlinuz").write_bytes(b"another kernel")
    others = (words, (*words[:-1], "verbose"), ("up", "shop", "--vcpus", "2"), ("up", "shop", "--platform", "qemu"))
    for other in (*others, ("up", "shop", "--platform", "simulated", "--attack", "replay")):
        code, _, err = run(*other)
        assert (code, "deployment.changed" in err) == (2, True), other
    assert len(started) == 4
    assert run("update", "shop", "--kernel", "vmlinuz", "--append", "quiet")[0] == 0
    assert run(*words)[0] == 0, "what the update said is what there is now"
    run("revoke", "shop", "--reason", "over")
    code, _, err = run("up", "shop")
    assert (code, "deployment.state" in err) == (2, True)
    run("down", "shop")
    assert run("up", "shop")[0] == 2, "there is nothing to carry on with"


def test_a_damaged_journal_hides_nobody_else(run: Run, tmp_path: Path) -> None:
    for name in ("good", "bad"):
        run("up", name, "--platform", "simulated")
    (tmp_path / "state" / "deployments" / "bad" / "journal.jsonl").write_bytes(b"rubbish\n")
    code, out, _ = run("status")
    assert code == 0
    assert "attested" in out
    assert "damaged" in out
    code, _, err = run("status", "bad")
    assert code == 30
    assert "journal.damaged" in err


def test_what_the_system_refuses_is_no_defect_of_ours(run: Run, tmp_path: Path) -> None:
    run("up", "shop", "--platform", "simulated")
    in_the_way = tmp_path / "state" / "deployments" / "shop" / "bundles"
    shutil.rmtree(in_the_way)
    in_the_way.write_bytes(b"")
    code, out, err = run("attest", "shop", "-o", "json")
    assert (code, "internal error" in err) == (2, False)
    assert str(in_the_way) in err
    assert json.loads(out)["findings"][0]["code"] == "system.refused"


def test_a_table_fits_80_columns_with_whole_times(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run("up", "shop", "--platform", "simulated")
    run("attest", "shop")
    run("up", "a-name-that-is-as-long-as-names-become-in-practice", "--platform", "simulated")
    run("revoke", "a-name-that-is-as-long-as-names-become-in-practice", "--reason", "disk [red]leaked[/]")
    out = run("status")[1]
    assert max(map(len, out.splitlines())) <= 80
    for name in ("shop", "a-name-that-is-as-long-as-names-become-in-practice"):
        last = json.loads(run("status", name, "-o", "json")[1])["deployments"][0]["since"]
        assert last[:19] in out, "a time in one piece"
    assert "[red]leaked[/]" in " ".join(out.split())


def test_an_error_of_use_is_not_recorded_as_a_decision(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.bin").write_bytes(b"x")
    code, _, err = run("verify", "--kind", "snp", "report=report.bin", "report=report.bin", "--bundle", "out.json")
    assert (code, "pieces.count" in err) == (2, True)
    assert not (tmp_path / "out.json").exists()
    assert "bundle written" not in err
