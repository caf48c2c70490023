"""Agents are told by the files of their packages; other files are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from evident.cli.main import main
from evident.errors import Malformed
from evident.reference_values import documents
from evident.reference_values.agents import AGENTS, find, read_list
from evident.simulator.vmm import make_firmware

PACKAGED = {
    "cloud-init": ["/usr/bin/cloud-init", "lib/systemd/system/cloud-init-local.service", "/etc/systemd/system/x.wants/cloud-final.service"],
    "waagent": ["./usr/sbin/waagent", "usr/lib/systemd/system/walinuxagent.service"],
    "azure-init": ["usr/bin/azure-init"],
    "google-guest-agent": ["usr/bin/google_guest_agent", "lib/systemd/system/google-startup-scripts.service"],
    "amazon-ssm-agent": ["usr/bin/amazon-ssm-agent", "var/lib/snapd/snaps/amazon-ssm-agent_7993.snap"],
    "ec2-instance-connect": ["opt/aws/bin/eic_run_authorized_keys", "usr/share/ec2-instance-connect/eic_curl_authorized_keys"],
    "afterburn": ["usr/bin/afterburn", "usr/lib/systemd/system/afterburn-sshkeys@.service"],
    "ignition": ["usr/lib/dracut/modules.d/30ignition/ignition"],
    "qemu-guest-agent": ["usr/sbin/qemu-ga"],
    "open-vm-tools": ["usr/bin/vmtoolsd"],
}


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_each_is_found_by_each_of_its_files(agent: object) -> None:
    name = agent.name  # type: ignore[attr-defined]  # parametrised
    for path in PACKAGED[name]:
        assert find([path]) == (name,)
    assert AGENTS[[known.name for known in AGENTS].index(name)].can


def test_other_files_are_none() -> None:
    assert find(["usr/bin/python3", "usr/share/doc/cloud-init/copyright", "home/x/waagent", "usr/bin/cloud-initx", "etc/passwd"]) == ()
    assert find([]) == ()


def test_several_in_the_order_of_the_catalogue() -> None:
    assert find(["usr/sbin/qemu-ga", "usr/bin/cloud-init", "usr/bin/cloud-init"]) == ("cloud-init", "qemu-guest-agent")


@pytest.mark.parametrize("text", [b"", b"\n\n", b"a\0b\n"])
def test_lists_that_are_none(text: bytes) -> None:
    with pytest.raises(Malformed, match=r"files\.list"):
        read_list(text)


def test_measure_records_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    firmware, listing, reference = tmp_path / "fw", tmp_path / "files", tmp_path / "reference.json"
    firmware.write_bytes(make_firmware())
    words = ["measure", "snp", "--firmware", str(firmware), "--reference-out", str(reference)]
    for text, agents, said in (
        ("./usr/bin/cloud-init\n./etc/passwd\n", ("cloud-init",), "cloud-init"),
        ("./etc/passwd\n", (), "none that is known"),
    ):
        listing.write_text(text)
        assert main([*words, "--files", str(listing)]) == 0
        assert documents.load(reference.read_bytes()).values[0].agents == agents
        assert said in capsys.readouterr().out
    assert main(words) == 0
    assert documents.load(reference.read_bytes()).values[0].agents is None
