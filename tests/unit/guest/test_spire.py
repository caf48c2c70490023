"""What PID 1 makes of its SPIRE agent and of FetchKey, and whose way to the key a command line may state.

Agent and FetchKey are stand-ins of a few lines; the real ones run in `tests/boot/test_spire.py`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from evident import codec
from evident.errors import Indeterminate, Malformed, PolicyRefused
from evident.guest import apart, config
from evident.guest.config import Configuration, Unit
from evident.guest.console import SPIRE_STEPS, Console
from evident.guest.steps import spire
from evident.image.spec import FIRST_USER
from evident.keys.messages import Volume

ROOT = "11111111-2222-3333-4444-555555555555"
MACHINE = f"evident.mode=encrypted evident.data={ROOT} evident.hashoffset=4096 evident.tee=simulated roothash={'cd' * 32}"
BY_KEY = f"{MACHINE} evident.verifier=10.0.2.100:8443 evident.key={'ab' * 32}"
SERVER = "evident.keyserver=spiffe://example.org/evident/key-server"
BY_SVID = f"{MACHINE} evident.verifier=10.0.2.100:8443 {SERVER} evident.spire=10.0.2.101:8081"
UNITS = (Unit("x", ("/bin/x",), 0),)
VOLUME = Volume(1, ROOT, bytes(64))
ATTESTED = {"msg": "Node attestation was successful", "spiffe_id": "spiffe://example.org/spire/agent/evident/00"}
ATTESTS = f"""
import json, socket, time
print(json.dumps({ATTESTED!r}), flush=True)
with socket.create_server(PLACE + "/agent.sock", family=socket.AF_UNIX):
    time.sleep(60)
"""
CRASHES = """
import json
print("a line before the configuration is read")
print(json.dumps({"level": "warning", "msg": "Failed to retrieve attestation result", "error": "another"}))
print(json.dumps({"level": "error", "msg": "Agent crashed", "error": "certificate signed by unknown authority"}))
print(json.dumps({"level": "info", "msg": "Catalog closed"}))
raise SystemExit(1)
"""


def told(*lines: Any) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import json\nfor line in {lines!r}: print(json.dumps(line), flush=True)")


FETCHES = told({"error": None, "svid": "spiffe://example.org/key"}, {"error": None, "volume": codec.encode(VOLUME)})


def attest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str], agent: str, fetcher: tuple[str, ...] = FETCHES) -> Volume:
    """What came of it; `said` is the console."""
    place, program = tmp_path / "spire", tmp_path / "agent"
    program.write_text(f"#!{sys.executable}\nPLACE = {str(place)!r}\n{agent}")
    program.chmod(0o755)
    for name, value in {
        "AGENT": str(program),
        "PLACE": place,
        "SOCKET": place / "agent.sock",
        "LOG": place / "agent.log",
        "FETCH_KEY": fetcher,
        "FETCHER": os.getuid(),
    }.items():
        monkeypatch.setattr(spire, name, value)
    try:
        return spire.attest(Console(said.append), config.parse_command_line(BY_SVID))
    finally:
        assert not place.exists(), "nothing is left of the agent"


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="FetchKey has a user of its own, which only root can give it")


@needs_root
def test_every_step_is_told_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """BW-10 to BW-15."""
    said: list[str] = []
    assert attest(monkeypatch, tmp_path, said, ATTESTS) == VOLUME
    steps = re.findall(r"step (\d+) (\S+) (?:start|done)", "".join(said))
    assert steps == [(str(number), SPIRE_STEPS[number - 1]) for number in (3, 4, 5, 6) for _ in range(2)]
    assert f"this machine is {ATTESTED['spiffe_id']}\n" in "".join(said)
    assert VOLUME.key.hex() not in "".join(said)


def test_an_agent_that_is_not_attested_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Indeterminate, match=r"guest\.spire-agent.*found certificate signed by unknown authority"):
        attest(monkeypatch, tmp_path, said, CRASHES)
    assert re.search(r"step 4 node failed \S+ guest\.spire-agent", "".join(said))


def test_an_agent_that_waits_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spire, "_PATIENCE", 0.1)
    with pytest.raises(Indeterminate, match=r"guest\.spire-agent.*not within"):
        attest(monkeypatch, tmp_path, [], "import time; time.sleep(60)")


@needs_root
@pytest.mark.parametrize(
    ("fetcher", "failure", "step"),
    [
        (told(apart.tell(PolicyRefused.of("svid.none", expected="x", found="y", remedy="z"))), r"svid\.none", "5 svid"),
        (
            told(
                {"error": None, "svid": "spiffe://example.org/key"},
                apart.tell(PolicyRefused.of("guest.denied", expected="x", found="y", remedy="z")),
            ),
            r"guest\.denied",
            "6 release",
        ),
    ],
    ids=["no name", "no key"],
)
def test_what_fetch_key_is_refused_ends_the_boot_with_its_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fetcher: tuple[str, ...], failure: str, step: str
) -> None:
    said: list[str] = []
    with pytest.raises(PolicyRefused, match=failure):
        attest(monkeypatch, tmp_path, said, ATTESTS, fetcher)
    assert re.search(rf"step {step} failed \S+ {failure}", "".join(said))


@needs_root
def test_a_fetch_key_that_says_nothing_is_a_defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        attest(monkeypatch, tmp_path, [], ATTESTS, (sys.executable, "-c", ""))


def test_fetch_key_is_nobody_else() -> None:
    """AT-44: no unit of an image ever has its number."""
    assert 0 < spire.FETCHER < FIRST_USER


def test_a_command_line_names_both_servers() -> None:
    line = config.parse_command_line(BY_SVID)
    assert (str(line.key_server), line.spire) == ("spiffe://example.org/evident/key-server", ("10.0.2.101", 8081))
    started = f"evident.mode=microcvm evident.machine={ROOT} " + BY_SVID.split("roothash=" + "cd" * 32)[1]
    assert config.parse_command_line(started).asks == ROOT


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{BY_KEY} {SERVER}", r"guest\.config\.twice"),
        (f"{BY_SVID} evident.key={'ab' * 32}", r"guest\.config\.twice"),
        (f"{BY_SVID} {SERVER}-2", r"guest\.config\.twice"),
        (BY_SVID.replace(SERVER, ""), r"guest\.config\.missing"),
        (BY_SVID.replace("evident.spire=", "x="), r"guest\.config\.missing"),
        (BY_SVID.replace("10.0.2.101:8081", "spire.example:8081"), r"guest\.config\.address"),
        (BY_SVID.replace("spiffe://", "https://"), r"spiffe\.id"),
    ],
)
def test_a_command_line_that_names_neither_or_both_is_refused(line: str, code: str) -> None:
    with pytest.raises(Malformed, match=code):
        config.parse_command_line(line)


@pytest.mark.parametrize(("text", "by_spire"), [(BY_KEY, False), (BY_SVID, True)], ids=["by key", "by SVID"])
def test_the_way_is_the_images(text: str, by_spire: bool) -> None:
    line = config.parse_command_line(text)
    config.check_way(line, Configuration(UNITS, spire=by_spire))
    with pytest.raises(Malformed, match=r"guest\.config\.way"):
        config.check_way(line, Configuration(UNITS, spire=not by_spire))


def test_the_image_says_its_way_in_a_member_of_its_own() -> None:
    said = {"units": [{"name": "x", "command": ["/bin/x"], "owner": 0}]}
    assert not config.parse_configuration(json.dumps(said).encode()).spire
    assert config.parse_configuration(json.dumps({**said, "spire": True}).encode()).spire


def test_the_units_agent_is_root_s_and_comes_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everybody reaches its socket, and nobody else what it keeps."""
    monkeypatch.setattr(spire, "PLACE", tmp_path / "spire")
    made = spire.unit(config.parse_command_line(BY_SVID))
    assert (made.name, made.owner, made.on_end) == ("spire-agent", 0, "restart")
    assert made.command[:4] == ("/usr/bin/spire-agent", "run", "-config", "/etc/spire/agent.conf")
    assert made.command[4:8] == ("-serverAddress", "10.0.2.101", "-serverPort", "8081")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "spire", tmp_path / "spire" / "data")] == [0o755, 0o700]


def test_units_with_svids_need_a_machine_that_asks() -> None:
    """Else there is no SPIRE server to attest to."""
    line = config.parse_command_line("evident.mode=microcvm")
    config.check_way(line, Configuration(UNITS, spire=True))
    with pytest.raises(Malformed, match=r"guest\.config\.way"):
        config.check_way(line, Configuration((*UNITS, Unit("web", ("/bin/web",), 1000, svid=True)), spire=True))
