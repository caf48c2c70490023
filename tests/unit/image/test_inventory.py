"""What an image must not hold is found in it and refused; without the check it would be built."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from evident.errors import PolicyRefused
from evident.image import inventory
from evident.image.spec import ImageSpec, Unit, Writable
from evident.image.tree import Tree

SPEC = ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),))
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ" + b"\n-----END OPENSSH PRIVATE KEY-----\n"


def tree(files: Mapping[str, bytes]) -> Tree:
    made = Tree()
    for path, data in files.items():
        made.add_file(path, data, 0o755 if "bin/" in path else 0o644)
    return made


GOOD = {"usr/bin/python3": b"\x7fELF", "etc/evident/guest.json": b"{}", "usr/lib/x.ko": b""}


def check(files: Mapping[str, bytes], spec: ImageSpec = SPEC) -> None:
    inventory.check(spec, tree({}), tree({**GOOD, **files}))


def test_a_good_image_passes() -> None:
    check({})
    check({"usr/lib/python3/pem.py": b"-----BEGIN PRIVATE KEY-----\\n%s", "etc/passwd": b"root:x:0:0::/:/bin/false\n"})


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"usr/bin/cloud-init": b""}, "image.agent"),
        ({"usr/sbin/waagent": b""}, "image.agent"),
        ({"usr/bin/google_guest_agent": b""}, "image.agent"),
        ({"usr/bin/sh": b""}, "image.shell"),
        ({"bin/busybox": b""}, "image.shell"),
        ({"usr/sbin/agetty": b""}, "image.shell"),
        ({"usr/lib/systemd/system/serial-getty@.service": b""}, "image.console"),
        ({"etc/ssh/host_key": KEY}, "image.secret"),
        ({"srv/config": b"key = AKIAIOSFODNN7EXAMPLE\n"}, "image.secret"),
        ({"etc/shadow": b"root:$6$saltsalt$hashhashhash:1:0:\n"}, "image.secret"),
        ({"srv/sa.json": b'{"private_key_id": "' + b"0" * 40 + b'"}'}, "image.secret"),
        ({"root/.ssh/authorized_keys": b"ssh-ed25519 AAAA"}, "image.ssh-key"),
    ],
)
def test_what_must_not_be_in_an_image(files: Mapping[str, bytes], code: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        check(files)
    assert [finding.code for finding in caught.value.findings] == [code]
    assert "/" + next(iter(files)) in caught.value.findings[0].found or code == "image.agent"


def test_the_secret_itself_is_not_repeated() -> None:
    with pytest.raises(PolicyRefused) as caught:
        check({"etc/key": KEY})
    assert "b3BlbnNz" not in str(caught.value)


def test_everything_is_reported_at_once() -> None:
    with pytest.raises(PolicyRefused) as caught:
        check({"bin/sh": b"", "etc/key": KEY, "usr/sbin/waagent": b""})
    assert {finding.code for finding in caught.value.findings} == {"image.shell", "image.secret", "image.agent"}


def listening(files: Mapping[str, bytes], spec: ImageSpec = SPEC) -> Mapping[str, bool]:
    taken = inventory.take(spec, tree(files), tree(GOOD), parts={}, modules_offered=9, python_modules=1)
    return {item.name.split(" ")[0]: item.here for item in taken.host_inputs}


def a_login(image: Mapping[str, bytes], typed: bytes) -> bytes:
    """A console: what is typed reaches whatever shell the image has."""
    return b"root# " + typed if inventory.found_shells([tree(image)]) else b""


def a_metadata_service(image: Mapping[str, bytes]) -> list[str]:
    """A forged metadata service that hands out the host's own key, to whoever asks."""
    return ["ssh-ed25519 HOST"] if inventory.found_agents([tree(image)]) else []


@pytest.mark.attack("AT-24", "An attached disk with cloud-init data adds a user.", "image.agent")
@pytest.mark.attack("AT-25", "A forged metadata service hands out the host's key.", "image.agent")
def test_an_image_with_cloud_init_obeys_the_host_and_is_not_built() -> None:
    with_agent = {**GOOD, "usr/bin/cloud-init": b"#!/usr/bin/python3"}
    assert a_metadata_service(with_agent)  # with the check off it would run
    with pytest.raises(PolicyRefused, match=r"image\.agent"):
        check(with_agent)
    assert not a_metadata_service(GOOD)


@pytest.mark.attack("AT-49", "The provider types on the console.", "image.shell")
def test_a_console_with_a_shell_obeys_the_provider_and_is_not_built() -> None:
    with_shell = {**GOOD, "usr/bin/bash": b"\x7fELF"}
    assert a_login(with_shell, b"cat /srv/secret") == b"root# cat /srv/secret"
    with pytest.raises(PolicyRefused, match=r"image\.shell"):
        check(with_shell)
    check(
        with_shell, ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),), allow_shell=True)
    )  # named unsafe, and in the signed specification
    assert a_login(GOOD, b"cat /srv/secret") == b""


@pytest.mark.attack("AT-48", "A private key is left in the public image.", "image.secret")
def test_a_key_in_the_image_is_readable_by_the_host_and_is_not_built() -> None:
    planted = tree({**GOOD, "srv/tls.key": KEY})
    assert b"PRIVATE KEY" in planted.cpio()  # the host reads an image
    with pytest.raises(PolicyRefused, match=r"image\.secret"):
        check({"srv/tls.key": KEY})


def test_host_inputs_are_told_from_the_files() -> None:
    plain, with_network = listening({}), listening({"m/virtio_net.ko": b"", "m/qemu_fw_cfg.ko": b"", "bin/sh": b""})
    assert not any(plain[name] for name in ("cloud-init", "metadata", "agent", "keyboard", "QEMU", "devices", "network"))
    assert all(with_network[name] for name in ("keyboard", "QEMU", "network"))
    assert plain["block"]
    assert not listening({}, ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),), profile="microcvm"))["block"]
    assert plain["ACPI"]  # said openly: the launch digest does not cover it
    assert not listening({}, ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),), command_line=("acpi=off",)))["ACPI"]


def test_the_inventory_counts() -> None:
    spec = ImageSpec(1, "shop", (Unit("shop", ("/usr/bin/python3",)),), writable=(Writable("/srv/data"),))
    taken = inventory.take(spec, tree({"m/erofs.ko": b""}), tree(GOOD), parts={"b": 1, "a": 2}, modules_offered=9, python_modules=3)
    assert (taken.kernel_modules_offered, taken.kernel_modules, taken.programs) == (9, ("erofs",), ("/usr/bin/python3",))
    assert (taken.initrd_files, taken.root_files, taken.writable, taken.agents) == (1, 3, ("/srv/data",), ())
