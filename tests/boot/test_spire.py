"""Fig. 6 of Pontes et al. (section 6) with a real SPIRE: a machine whose agent attests, and a disk whose key FetchKey's SVID opens.

SPIRE's server and agents are the real programs, and so are QEMU, LUKS and dm-verity; the machine's secure processor is the simulator, which
the server takes because it was told to take its TEST root (`tests.spire.real`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.boot.test_encrypted import MARKER, fetch, no_copy_in_memory, no_copy_of
from tests.tls import Authority

import evident
from evident.cli.documents import read_document
from evident.cli.main import main
from evident.guest.console import SPIRE_STEPS
from evident.image.initrd import PYTHON
from evident.lifecycle import enrolment
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import console
from evident.platforms.qemu.order import INITRD, Launch

if TYPE_CHECKING:
    from tests.spire.real import Spire

    from evident.simulator.pki import SimulatorPki

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
Change = Callable[[Deployment, Launch], Launch]
STEPS = [name for name in SPIRE_STEPS if name != "secrets"]
KEY_SERVER = "spiffe://example.org/evident/key-server"
LOOK = """
import os
print("look: agent's place", os.path.exists("/run/spire"))
print("look: its programs", sorted({open(f"/proc/{each}/comm").read().strip() for each in os.listdir("/proc") if each.isdigit()}))
"""


@pytest.fixture(scope="session")
def built(spire: Spire, tmp_path_factory: pytest.TempPathFactory, simulator_pki: SimulatorPki) -> Path:
    """A home with the image of ``desk.yaml``, but that it attests by `spire`."""
    home = tmp_path_factory.mktemp("built")
    simulator_pki.save(home / "state" / "simulator")
    specify(home / "desk.json", spire.bundle_pem)
    build(home, "desk", "--spire-agent", shutil.which("spire-agent") or "")
    return home


def specify(path: Path, bundle: str) -> None:
    agent = Path(shutil.which("spire-agent") or "").read_bytes()
    said = dict(read_document(Path(__file__).parent / "desk.yaml", "image"))
    look = {"name": "look", "command": ["/usr/bin/python3", "-Ic", LOOK], "on_end": "next"}
    said["units"] = [look, *said["units"]]
    said["spire"] = {"agent_sha256": hashlib.sha256(agent).hexdigest(), "trust_domain": "example.org", "bundle": bundle}
    path.write_text(json.dumps(said))


def build(home: Path, name: str, *more: str) -> None:
    store = os.environ.get("EVIDENT_IMAGE_STORE", str(home / "packages"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVIDENT_HOME", str(home))
        folder = "image" if name == "desk" else f"{name}.image"
        assert main(["image", "build", str(home / f"{name}.json"), "--out", str(home / folder), "--store", store, *more]) == 0


@pytest.fixture
def owned(spire: Spire, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The owner of `desk`, whose spire-server `spire` is, and whose key server has an SVID of its own."""
    agent = spire.host_agent()
    entry = spire.entry(KEY_SERVER, [f"unix:uid:{os.getuid()}"], parent="/host")
    document = desk.home / "spire.json"
    document.write_text(
        json.dumps(
            {
                "version": 1,
                "trust_domain": spire.trust_domain,
                "key_server": KEY_SERVER,
                "server_socket": str(spire.server_socket),
                "workload_socket": str(agent.workload_socket),
                "server": spire.address,
            }
        )
    )
    document.chmod(0o600)
    monkeypatch.setenv("EVIDENT_SPIRE", str(document))
    yield desk
    spire.cli("entry", "delete", "-entryID", entry)


def test_from_power_on_to_a_served_page_by_an_svid(
    owned: Desk, registered: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]
) -> None:
    """BW-05, BW-06, BW-08, BW-10 to BW-18: every step of the figure on the console, in its order; nothing of the key anywhere."""
    shop = owned.shop("shop")
    assert owned.up("shop") == 0
    done = [(step.number, step.name) for step in console.steps(shop.machine) if step.event == "done"]
    assert done == [(SPIRE_STEPS.index(name) + 1, name) for name in STEPS]
    said = "\n".join(owned.console(shop))
    assert re.search(r"this machine is spiffe://example\.org/spire/agent/evident/[0-9a-f]{32}\b", said)
    assert "FetchKey, user 900, is spiffe://example.org/evident/shop/machine/1/key" in said
    assert [(entry.event, entry.spiffe_id) for entry in owned.log] == [("released", "spiffe://example.org/evident/shop/machine/1/key")]
    eventually(lambda: MARKER in fetch(shop), "a served page")
    eventually(lambda: "look: its programs" in "\n".join(owned.console(shop)), "a look around")
    said = "\n".join(owned.console(shop))
    assert "look: agent's place False" in said
    assert "spire-agent" not in said.split("look: its programs")[1].splitlines()[0]
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["levels"] == {"nominal": 4, "trustworthy": 4}
    no_copy_of(registered[0], shop.surroundings.state)
    no_copy_in_memory(shop, registered[0], tmp_path)


def test_somebody_else_builds_the_same_image(desk: Desk) -> None:
    """BW-03: with the agent of the store."""
    assert main(["image", "reproduce", str(desk.image / "manifest.json"), "--endorsement-out", str(desk.home / "mine.json")]) == 0


def ended(owned: Desk, shop: Deployment) -> str:
    """Why the boot ended: without a release."""
    assert owned.up("shop") != 0
    assert "released" not in owned.events
    (failure,) = owned.failures(shop)
    return str(failure)


@pytest.mark.attack("AT-41", "The first process tells the console the key, where the machine attests by SPIRE.", "svid.none")
def test_a_changed_initrd_gets_no_name(
    owned: Desk,
    cheat: Callable[[Change], None],
    overlay: Callable[[Mapping[str, bytes]], bytes],
    spire: Spire,
    registered: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """BW-05, BW-06, SP-22: attested for what it is, it matches no entry. One that demands less gives it the key."""
    honest = (Path(evident.__file__).parent / "guest" / "steps" / "spire.py").read_bytes()
    released = b'            console.say(f"released for'
    changed = honest.replace(released, b'            console.say("stolen " + volume.key.hex())\n' + released)
    assert changed != honest

    def change(shop: Deployment, ordered: Launch) -> Launch:
        path = shop.machine / INITRD
        raw = path.read_bytes()
        path.write_bytes(raw + bytes(-len(raw) % 512) + overlay({f"{PYTHON}/evident/guest/steps/spire.py": changed}))
        return ordered

    cheat(change)
    shop = owned.shop("shop")
    assert "svid.none" in ended(owned, shop)
    (agent,) = re.findall(r"this machine is (spiffe://\S+)", "\n".join(owned.console(shop)))
    assert agent.rsplit("/", 1)[1] in json.dumps(spire.agents())
    monkeypatch.setattr(enrolment, "_demanded", lambda _: ("simulated:true",))
    assert owned.up("other") != 0, "its evidence is not what its owner expects"
    assert any(f"evident: stolen {registered[1].hex()}" in text for text in owned.console(owned.shop("other")))


@pytest.mark.attack("AT-03", "Another of the trust domain's servers answers in the key server's place.", "guest.key-server", "refused")
def test_another_key_server_is_told_nothing(owned: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """BW-14: its certificate is of the same authority, and its SPIFFE ID is another."""
    parameters = enrolment.parameters

    def pinned(*words: Any) -> dict[str, str]:
        return {**parameters(*words), "evident.keyserver": f"{KEY_SERVER}-of-old"}

    monkeypatch.setattr(enrolment, "parameters", pinned)
    shop = owned.shop("shop")
    failure = ended(owned, shop)
    assert "guest.key-server" in failure
    assert KEY_SERVER in failure.partition("found")[2]


@pytest.mark.life
@pytest.mark.attack(
    "SP-17", "A SPIRE server of another authority listens where the agent looks for its own.", "guest.spire-agent", "refused"
)
def test_another_spire_server_is_not_believed(owned: Desk, built: Path, tmp_path: Path) -> None:
    """AT-03: the machine's bundle is in its measurement."""
    specify(built / "other.json", Authority(tmp_path).file.read_text())
    shutil.copy(built / "desk.lock.json", built / "other.lock.json")
    build(built, "other")
    other = replace(owned, image=built / "other.image")
    failure = ended(other, other.shop("shop"))
    assert "guest.spire-agent" in failure
    assert "unknown authority" in failure
