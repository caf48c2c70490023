"""The pure parts of the platform `qemu`: its command line, its console's log, its firmware tables, its relay."""

from __future__ import annotations

import json
import socket
import struct
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.errors import Unsupported, UsageError
from evident.evidence import ovmf
from evident.files import write_private_bytes
from evident.platforms.driver import KEY_SERVER, SPIRE_SERVER, Surroundings
from evident.platforms.order import Disk, Order
from evident.platforms.qemu import collector, console, firmware, launch, probe, qmp, relay, vm
from evident.platforms.qemu.console import ConsoleLog
from evident.platforms.qemu.vm import Machine, Snp, argv
from evident.simulator.vmm import make_firmware

AT = datetime(2026, 11, 22, tzinfo=UTC)


def after(words: tuple[str, ...], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_nothing_is_there_that_was_not_asked_for() -> None:
    words = argv(Machine("tcg", "firmware.fd"))
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert "-netdev" not in words
    assert after(words, "-device") == ["virtio-rng-pci", "virtio-serial-pci", "virtserialport,chardev=processor,name=org.evident.sp.0"]
    assert not any(word.startswith("/") for word in words[1:])


def test_the_network_leads_to_the_key_server_and_to_spire_server_alone() -> None:
    words = argv(
        Machine("tcg", "firmware.fd", reaches=((KEY_SERVER, ("relay, with a comma", "x")), (SPIRE_SERVER, ("y",))), served=(8080,))
    )
    network = json.loads(after(words, "-netdev")[0])
    assert network["restrict"] is True
    assert network["guestfwd"] == [{"str": f"tcp:{KEY_SERVER}-cmd:'relay, with a comma' x"}, {"str": f"tcp:{SPIRE_SERVER}-cmd:y"}]
    assert network["hostfwd"] == [{"str": "tcp:127.0.0.1:0-:8080"}]


def test_disks_keep_their_order_and_their_names() -> None:
    words = argv(Machine("kvm", "firmware.fd", disks=(Disk("/a,b"), Disk("/c", read_only=True))))
    nodes = [json.loads(text) for text in after(words, "-blockdev")]
    assert [(node["file"]["filename"], node["read-only"]) for node in nodes] == [("/a,b", False), ("/c", True)]


def test_hardware_takes_the_place_of_the_simulator() -> None:
    words = argv(Machine("kvm", "firmware.fd", kernel="kernel", command_line="ro", snp=Snp(51, 1, 0x30000)))
    assert "sev-snp-guest,id=sev,policy=0x30000,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on" in after(words, "-object")
    assert not any("org.evident.sp.0" in word for word in words)
    assert after(words, "-cpu") == ["EPYC-v4"]


def test_the_console_is_bounded_stamped_and_harmless(tmp_path: Path) -> None:
    ticks = iter(range(1, 10**6))
    with ConsoleLog(tmp_path, began=0.0, clock=lambda: float(next(ticks))) as log:
        log.write(b"evident: step 6 release st")
        log.write(b"art 1.5\r\nevident: step 6 release failed 0.2 guest.denied\n\x1b[2J\xff")
        for _ in range(600):
            log.write(b"x" * 4000 + b"\n")
    assert [(step.number, step.name, step.event, step.rest) for step in console.steps(tmp_path)] == [
        (6, "release", "start", "1.5"),
        (6, "release", "failed", "0.2 guest.denied"),
    ]
    text = (tmp_path / console.HEAD).read_text()
    assert "\\x1b[2J" in text
    assert "\x1b" not in text
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= console.HEAD_BYTES + 2 * console.TAIL_BYTES


def debian_like() -> bytes:
    """Firmware with SNP metadata whose table has a hash entry of zeros, as Debian's OVMF has, and erased flash in front."""
    image = make_firmware()
    whole = ovmf.parse(image)
    entry = whole.table[ovmf.SEV_HASH_TABLE]
    at = image.rfind(entry + struct.pack("<H", len(entry) + 18) + ovmf.SEV_HASH_TABLE.bytes_le)
    kinds = image.find(b"ASEV")
    broken = bytearray(image)
    broken[at : at + 8] = bytes(8)
    broken[kinds + 12 : kinds + 16] = struct.pack("<I", len(whole.sections) - 2)
    broken[kinds + 4 : kinds + 8] = struct.pack("<I", 16 + 12 * (len(whole.sections) - 2))
    return b"\xff" * 16384 + bytes(broken)


def test_firmware_gets_a_page_for_the_hashes_and_nothing_else() -> None:
    image = make_firmware()
    assert firmware.enforces_hashes(image)
    assert firmware.with_hash_page(image) == image
    with pytest.raises(Unsupported, match=r"qemu\.firmware"):
        firmware.with_hash_page(debian_like())  # its last section is no memory to take a page from


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (Order(attack="swap-kernel"), "qemu.attack"),
        (Order(initrd=b"x"), "qemu.images"),
        (Order(disks=(Disk("/nowhere/at/all"),)), "qemu.disk"),
        (Order(kernel=b"k", command_line="evident.verifier=10.0.2.2:1"), "qemu.verifier"),
        (Order(kernel=b"k", command_line="evident.spire=10.0.2.2:1"), "qemu.spire"),
    ],
)
def test_orders_that_cannot_be_met_are_refused_before_anything_starts(order: Order, code: str) -> None:
    with pytest.raises(UsageError, match=code.replace(".", r"\.")):
        launch._check(order)


def test_the_firmware_that_a_document_names_takes_the_place_of_the_distributions(tmp_path: Path) -> None:
    (tmp_path / "OVMF.fd").write_bytes(b"its own")
    named = {"firmware": str(tmp_path / "OVMF.fd")}
    assert launch._with_firmware(Order(where=named)).firmware == b"its own"
    assert launch._with_firmware(Order(where=named, firmware=b"another")).firmware == b"another"
    assert launch._with_firmware(Order()).firmware is None


def test_a_command_line_that_says_what_this_host_is_not_is_refused() -> None:
    launch._check_label("ro quiet", simulated=True)
    launch._check_label("evident.mode=integrity evident.tee=simulated", simulated=True)
    launch._check_label("evident.mode=integrity evident.tee=hardware", simulated=False)
    for line, simulated in (("evident.tee=hardware", True), ("evident.tee=simulated", False), ("", True)):
        with pytest.raises(UsageError, match=r"qemu\.tee"):
            launch._check_label(f"evident.mode=integrity {line}", simulated=simulated)


@pytest.mark.attack(
    "AT-10", "On real hardware, firmware that compares no hashes is to start the kernel.", "qemu.firmware-hashes", "refused"
)
def test_firmware_that_would_start_any_kernel_is_refused_on_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "snp", lambda _: Snp(51, 1, 0x30000))
    platform = launch.QemuPlatform(Surroundings(tmp_path, lambda: AT, bytes, print))
    order = Order(kernel=b"kernel", firmware=make_firmware(kernel_hashes=False))
    with pytest.raises(UsageError, match=r"qemu\.firmware-hashes"):
        platform._prepare(tmp_path / "machine", order)


def test_firmware_boots_the_first_disk_where_no_kernel_is_handed_over() -> None:
    disks = (Disk("/a"), Disk("/b"))
    devices = {kernel: after(argv(Machine("tcg", "firmware.fd", kernel=kernel, disks=disks)), "-device") for kernel in (None, "kernel")}
    boots = {kernel: [word for word in words if "bootindex" in word] for kernel, words in devices.items()}
    assert boots == {None: ["virtio-blk-pci,drive=disk0,serial=disk0,bootindex=0"], "kernel": []}


def test_the_agents_port_is_on_the_command_line() -> None:
    assert collector.agent_port("a evident.attest=8442 b") == 8442
    assert collector.agent_port("a notevident.attest=8442") is None


def test_the_relay_carries_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near, far = socket.socketpair()
        with near, far, far.makefile("rb", buffering=0) as source, far.makefile("wb") as sink:
            port = listener.getsockname()[1]
            carrier = threading.Thread(target=relay.carry, args=(("127.0.0.1", port), source, sink), daemon=True)
            carrier.start()
            stream, _ = listener.accept()
            with stream:
                near.sendall(b"question")
                assert stream.recv(100) == b"question"
                stream.sendall(b"answer")
                assert near.recv(100) == b"answer"
                near.shutdown(socket.SHUT_WR)
                assert stream.recv(100) == b""
            carrier.join(5)
            assert not carrier.is_alive()


def test_the_relay_waits_for_a_key_server_that_starts_after_its_machine(tmp_path: Path) -> None:
    place = tmp_path / "port"
    with pytest.raises(FileNotFoundError):
        relay.address_in(place, patience=0.0)
    later = threading.Timer(0.2, lambda: write_private_bytes(place, b"8443"))
    later.start()
    assert relay.address_in(place, patience=10.0) == ("127.0.0.1", 8443)
    later.join()
    place.write_text("192.0.2.7:8081")
    assert relay.address_in(place) == ("192.0.2.7", 8081), "as of spire-server, which need not be on this host"


def test_a_monitor_that_is_bound_but_does_not_listen_yet_is_waited_for(tmp_path: Path) -> None:
    """Seen on a busy host: QEMU's socket exists from bind on, and refuses until listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / vm.QMP_SOCKET))
        with pytest.raises(UsageError, match="'connect'"), qmp.monitor(tmp_path, timeout=0.1):
            pass
        threading.Timer(0.1, server.listen).start()
        # It listens now and says nothing: what fails is the greeting, no longer the connection.
        with pytest.raises(UsageError, match="'greeting'"), qmp.monitor(tmp_path, timeout=1.0):
            pass
