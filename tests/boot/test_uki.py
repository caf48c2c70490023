"""The encrypted profile booted by UKI: firmware starts the machine's own disk, the TPM measures it, and the key follows the quoted PCRs.

The launch measurement covers the firmware alone. What it starts is the TPM's word: a machine that booted another command line or another
kernel gets no key, and with just that check taken out of the key server it gets it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import main
from evident.evidence import disk as partitions
from evident.evidence import uki as reader
from evident.image import build, disk, uki
from evident.keys import release
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import console, launch
from evident.platforms.qemu.order import Launch

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
Change = Callable[[Deployment, Launch], Launch]
MARKER = b"marker of the desk"
STEPS = ["devices", "network", "key", "challenge", "evidence", "release", "luks", "verity", "root"]
STAGES = {"uki", "kernel-image", "load-options", "initrd-as-loaded", "kernel", "initrd", "cmdline"}


def served(shop: Deployment) -> bytes:
    """What the workload serves; nothing while it is starting."""
    try:
        with urllib.request.urlopen(f"http://{shop.driver().addresses(shop.machine)[8080]}/", timeout=20) as answer:  # an address of ours
            content: bytes = answer.read()
            return content
    except OSError:
        return b""


def test_from_power_on_to_a_served_page(desk: Desk, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]) -> None:
    shop = desk.shop("shop")
    assert desk.up("shop", "--boot", "uki") == 0
    assert [step.name for step in console.steps(shop.machine) if step.event == "done"] == STEPS
    assert desk.events == ["challenged", "released", "confirmed"]
    eventually(lambda: MARKER in served(shop), "a served page")
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json"]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert (statement["decision"], statement["simulated"]) == ("accepted", True)
    predicted = {value.register: value.value.hex() for value in shop.references.values if value.algorithm == "sha256"}
    quoted = statement["claims"]["tpm"]["pcrs"]["sha256"]
    assert predicted.keys() == {"pcr4", "pcr7", "pcr9", "pcr11", "pcr12", "pcr13"}
    assert {register: quoted[register.removeprefix("pcr")] for register in predicted} == predicted
    says_what_rests_on_what(statement)


def says_what_rests_on_what(statement: dict[str, Any]) -> None:
    """Every stage by name; and that the TPM is the host's: without its word nothing holds above the firmware."""
    assert statement["levels"] == {"nominal": 4, "trustworthy": 2}
    layers = {layer["name"]: layer for layer in statement["layers"]}
    assert {each["name"] for each in layers["boot_chain"]["components"] if each["status"] == "matched"} >= STAGES
    assert [layers[name]["needs_provider"] for name in ("firmware", "boot_chain", "root_filesystem")] == [False, True, True]
    assert any("Whoever runs the host, whose vTPM carries the measurement" in text for text in layers["boot_chain"]["residual_trust"])
    assert "on the host, outside the confidential VM" in layers["vtpm"]["summary"]


def with_another_command_line(image: bytes) -> bytes:
    return uki.with_command_line(image, f"{reader.parse(image).command_line} quiet")


def with_another_kernel(image: bytes) -> bytes:
    """One bit of the kernel's last byte, which belongs to its signature or checksum: it boots all the same."""
    kernel = next(section for section in reader.parse(image).image.sections if section.name == ".linux")
    at = kernel.raw_offset + kernel.virtual_size - 1
    return image[:at] + bytes((image[at] ^ 1,)) + image[at + 1 :]


def on_the_disk(how: Callable[[bytes], bytes]) -> Change:
    """Another UKI in the place of the one on the machine's disk."""

    def change(_shop: Deployment, ordered: Launch) -> Launch:
        path = Path(ordered.disks[0].path)
        raw = path.read_bytes()
        table, sector = partitions.read_partition_table(raw)
        system = next(each for each in table.partitions if each.type == partitions.SYSTEM_PARTITION)
        volume = disk.system_partition([(build.BOOT_PATH, how(partitions.open_system_partition(raw).read(build.BOOT_PATH)))], 1)
        assert len(volume) <= (system.last - system.first + 1) * sector
        with path.open("r+b") as stream:
            stream.seek(system.first * sector)
            stream.write(volume)
        return ordered

    return change


CHANGES = {
    "command line": ("AT-09", "A parameter more in the UKI on the disk.", with_another_command_line, "boot.cmdline"),
    "kernel": ("AT-07", "Another kernel in the UKI on the disk.", with_another_kernel, "boot.kernel"),
}


@pytest.mark.parametrize(
    ("how", "code"),
    [pytest.param(how, code, marks=pytest.mark.attack(at, what, code), id=name) for name, (at, what, how, code) in CHANGES.items()],
)
def test_another_uki_gets_no_key(
    desk: Desk,
    cheat: Callable[[Change], None],
    server_here: Any,
    how: Callable[[bytes], bytes],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The key server denies; and on the very same evidence it releases, once it takes whatever the statement says."""
    cheat(on_the_disk(how))
    assert desk.up("shop", "--boot", "uki") != 0
    assert desk.events == ["challenged", "denied"]
    assert code in desk.log[-1].codes
    assert set(desk.log[-1].codes) <= {code, "boot.uki", "boot.load-options"}, "the whole, and the part that makes it another"
    assert any("guest.denied" in text for text in desk.failures(desk.shop("shop")))
    assert not any(launch.READY in text for text in desk.console(desk.shop("shop")))
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    server_here.decide_again()
    assert desk.events == ["challenged", "denied", "released"]
