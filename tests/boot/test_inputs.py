"""What a host can hand to a running machine besides what is measured, and what comes of it (AT-24, AT-25, AT-26, AT-46, AT-49).

The same machine twice, each time with everything at once: a NoCloud disk, SMBIOS and fw_cfg credentials, a metadata service, the channel of
a guest agent, somebody typing on the console, keys and an NMI. A workload that heeds them is taken over by each; the image as it was built
serves its page and says nothing to any of them. ACPI tables are run by every kernel: that stays open, and the statement says so.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evident.cli.main import main
from evident.image.initrd import CONFIGURATION
from evident.keys import release
from evident.lifecycle.deployment import Deployment
from evident.platforms.qemu import qmp, relay, vm
from evident.platforms.qemu.order import INITRD, Launch

pytestmark = pytest.mark.slow
Desk = Any  # of conftest.py
METADATA = "10.0.2.169"
"""Where a cloud would have 169.254.169.254: an address that the machine reaches, and behind which its host is."""
TAKEN = "evident-test: taken over by "
WAYS = {
    "AT-24": ("A NoCloud disk.", "SMBIOS.", "Somebody who types on the console."),
    "AT-25": ("A forged metadata service.",),
    "AT-26": ("Orders to a guest agent.",),
}
HEEDING = """
import os, subprocess, time, urllib.request
def say(text):
    os.write(os.open('/dev/console', os.O_WRONLY), f'\\nevident-test: {text}\\n'.encode())
def taken(way, what):
    say(f'taken over by {way} {what}')
for path in ('/proc/1/mem', '/dev/dm-0', '/dev/tpmrm0', '/dev/mapper/control'):
    os.close(os.open(path, os.O_RDWR))
taken('its workload', 'agent, disk and TPM are open to it')
for place in ('/srv', '/usr/bin', '/run'):
    try:
        with open(f'{place}/written', 'w') as stream:
            stream.write('#!/usr/bin/python3\\n')
        os.chmod(f'{place}/written', 0o755)
        subprocess.run([f'{place}/written'])
        say(f'{place} may be written and run')
    except OSError as error:
        say(f'{place} {error.strerror}')
disk = open('/dev/vdb', 'rb').read(1 << 17)
taken('disk', disk[disk.index(b'#cloud-config'):][:40].split(b'\\n')[1].decode())
dmi = open('/sys/firmware/dmi/tables/DMI', 'rb').read()
taken('smbios', dmi[dmi.index(b'io.systemd.credential'):].split(b'\\0')[0].decode())
taken('metadata', urllib.request.urlopen('http://10.0.2.169/latest/user-data', timeout=120).read().decode())
ports = '/sys/class/virtio-ports'
port = next(each for each in os.listdir(ports) if 'guest_agent' in open(f'{ports}/{each}/name').read())
channel = open(f'/dev/{port}', 'rb+', buffering=0)
while not (said := channel.read(4096)):  # the host is not there yet
    time.sleep(0.1)
taken('agent', said.decode().strip())
channel.write(b'{"return": {}}\\n')
taken('console', open('/dev/ttyS0').readline().strip())
"""


def no_cloud(user_data: bytes) -> bytes:
    """An ISO 9660 image called ``cidata`` with ``user-data`` and ``meta-data`` (ECMA-119; the NoCloud data source of cloud-init)."""
    files, sector = {b"META-DATA.;1": b"instance-id: taken\n", b"USER-DATA.;1": user_data}, 2048

    def both(value: int) -> bytes:
        return struct.pack("<I", value) + struct.pack(">I", value)

    def record(name: bytes, at: int, size: int, flags: int = 0) -> bytes:
        fields = b"\0" + both(at) + both(size) + bytes(7) + bytes((flags, 0, 0)) + b"\1\0\0\1" + bytes((len(name),)) + name
        fields += bytes((len(fields) + 1) % 2)
        return bytes((len(fields) + 1,)) + fields

    root = record(b"\0", 18, sector, 2)
    entries = root + record(b"\1", 18, sector, 2)
    entries += b"".join(record(name, 21 + number, len(data)) for number, (name, data) in enumerate(files.items()))
    path = [struct.pack(f"{order}BBIH", 1, 0, 18, 1) + b"\0\0" for order in "<>"]
    total = 21 + len(files)
    volume = b"\1CD001\1\0" + bytes(32) + b"cidata".ljust(32) + bytes(8) + both(total) + bytes(32) + b"\1\0\0\1" * 2 + b"\0\x08\x08\0"
    volume += both(10) + struct.pack("<II", 19, 0) + struct.pack(">II", 20, 0) + root
    parts = [volume, b"\xffCD001\1", entries, *path, *files.values()]
    return bytes(16 * sector) + b"".join(part.ljust(sector, b"\0") for part in parts)


def marking_table(text: bytes) -> bytes:
    """An SSDT that writes `text` to the first serial port when the kernel loads it (ACPI 6.5, sections 5.2.11.2 and 20)."""
    body = b"\x5b\x80EVSP\x01\x0b\xf8\x03\x01" + b"\x5b\x81\x0bEVSP\x01EVDT\x08"
    body += b"".join(b"\x70\x0a" + bytes((each,)) + b"EVDT" for each in text)
    header = b"SSDT" + struct.pack("<IBB6s8sI4sI", 36 + len(body), 2, 0, b"EVDENT", b"MARKER  ", 1, b"EVDT", 1)
    table = bytearray(header + body)
    table[9] = -sum(table) % 256
    return bytes(table)


class Host:
    """Everything that the host attaches to one machine, and what it heard."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked = 0
        self._tap: socket.socket | None = None
        (directory / "cidata.iso").write_bytes(no_cloud(b"#cloud-config\npassword: taken\n"))
        (directory / "ssdt.aml").write_bytes(marking_table(b"\nevident-test: tables of the host run\n"))
        self._metadata = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        (directory / "metadata.port").write_text(str(self._metadata.server_address[1]))
        threading.Thread(target=self._metadata.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._metadata.shutdown()
        self._metadata.server_close()
        if self._tap is not None:
            self._tap.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"user-data of the host")

            def log_message(self, *_: object) -> None: ...

        return Handler

    def argv(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """QEMU's command line with everything attached."""
        own = list(words)
        at = own.index("-netdev") + 1
        network = json.loads(own[at])
        carry = " ".join(relay.argv(sys.executable, str(self.directory / "metadata.port")))
        network["guestfwd"].append({"str": f"tcp:{METADATA}:80-cmd:{carry}"})
        own[at] = json.dumps(network)
        console = own.index(f"socket,id=console,path={vm.CONSOLE_SOCKET}")
        own[console] = "socket,id=console,path=tap.sock"
        drive = {
            "node-name": "cidata",
            "driver": "raw",
            "read-only": True,
            "file": {"driver": "file", "filename": str(self.directory / "cidata.iso")},
        }
        return (
            *own,
            *("-blockdev", json.dumps(drive), "-device", "virtio-blk-pci,drive=cidata,serial=cidata"),
            *("-fw_cfg", "name=opt/io.systemd.credentials/passwd.hashed-password.root,string=taken"),
            *("-smbios", "type=11,value=io.systemd.credential:passwd.plaintext-password.root=taken"),
            *("-acpitable", f"file={self.directory / 'ssdt.aml'}"),
            *("-chardev", "socket,id=qga,path=qga.sock,server=on,wait=off"),
            *("-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"),
        )

    def tap(self, machine: Path) -> None:
        """Stand between QEMU and the attendant, to be able to type."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(machine, os.O_PATH | os.O_DIRECTORY)
        listener.bind(f"/proc/self/fd/{directory}/tap.sock")
        os.close(directory)
        listener.listen(1)
        threading.Thread(target=self._carry, args=(listener, machine), daemon=True).start()

    def _carry(self, listener: socket.socket, machine: Path) -> None:
        with listener:
            self._tap, _ = listener.accept()
        with qmp.connect_unix(machine / vm.CONSOLE_SOCKET, 20) as attendant, suppress(OSError):
            while chunk := self._tap.recv(65536):
                attendant.sendall(chunk)

    def type(self, text: bytes) -> None:
        assert self._tap is not None
        self._tap.sendall(text)

    @staticmethod
    def order_agent(machine: Path, *, seconds: float) -> bytes:
        """Tell the guest agent to set root's password; what it says to that."""
        with qmp.connect_unix(machine / "qga.sock", seconds) as channel:
            channel.sendall(b'{"execute": "guest-set-user-password", "arguments": {"username": "root", "password": "dGFrZW4="}}\n')
            try:
                return channel.recv(4096)
            except TimeoutError:
                return b""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made, argv = Host(tmp_path), vm.argv
    monkeypatch.setattr(vm, "argv", lambda machine, program: made.argv(argv(machine, program)))
    yield made
    made.close()


def shown(way: str) -> Callable[[Any], Any]:
    def mark(test: Any) -> Any:
        for identifier, whats in WAYS.items():
            for what in whats:
                test = pytest.mark.attack(identifier, what, "nobody listens", way)(test)
        return test

    return mark


@pytest.mark.attack(
    "AT-44", "A workload reaches for the agent, its key, its port, the processor, the TPM and the disk.", "user: own", "succeeds"
)
@shown("succeeds")
@pytest.mark.usefixtures("server_here")
def test_a_guest_that_heeds_its_host_is_taken_over(
    desk: Desk,
    host: Host,
    cheat: Callable[[Any], None],
    overlay: Callable[[Any], bytes],
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., None],
) -> None:
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    units = {"units": [{"name": "desk", "command": ["/usr/bin/python3", "-c", HEEDING], "owner": 0}]}

    def heeding(shop: Deployment, ordered: Launch) -> Launch:
        initrd = shop.machine / INITRD
        raw = initrd.read_bytes()
        initrd.write_bytes(raw + bytes(-len(raw) % 512) + overlay({CONFIGURATION: json.dumps(units).encode()}))
        host.tap(shop.machine)
        return ordered

    cheat(heeding)
    assert desk.up("shop") == 11, "it runs, and its owner knows that it is another"
    shop = desk.shop("shop")

    def taken(way: str) -> bool:
        return any(TAKEN + way in text for text in desk.console(shop))

    eventually(lambda: taken("metadata"), "what the metadata service says")
    # ST-10: nothing may be written to the root, and nothing that was written may be run.
    said = {found for text in desk.console(shop) if (found := text.partition("evident-test: /")[2])}
    assert said == {"srv Read-only file system", "usr/bin Read-only file system", "run Permission denied"}
    assert b"return" in host.order_agent(shop.machine, seconds=60)
    host.type(b"taken by a word\n")
    for way in (
        "its workload",
        "disk password: taken",
        "smbios io.systemd.credential",
        "metadata user-data",
        'agent {"execute"',
        "console taken",
    ):
        eventually(lambda way=way: taken(way), way)


@shown("refused")
@pytest.mark.attack("AT-46", "An ACPI table of the host's writes to the console.", "provisioning.acpi, a caveat that is always said")
def test_the_image_as_built_heeds_nothing(desk: Desk, host: Host, cheat: Callable[[Any], None], capsys: pytest.CaptureFixture[str]) -> None:
    def tapped(shop: Deployment, ordered: Launch) -> Launch:
        host.tap(shop.machine)
        return ordered

    cheat(tapped)
    assert desk.up("shop") == 0
    shop = desk.shop("shop")
    host.type(b"\nroot\ntaken\nid\n\x03\x04\x00")
    with qmp.monitor(shop.machine) as talk:
        for line in ("sendkey alt-sysrq-c", "sendkey ctrl-alt-f2", "sendkey alt-sysrq-b", "nmi"):
            talk.command("human-monitor-command", **{"command-line": line})
    assert host.order_agent(shop.machine, seconds=5) == b""
    assert host.asked == 0
    capsys.readouterr()
    assert main(["attest", "shop", "-o", "json"]) == 0
    statement = json.loads(capsys.readouterr().out)
    assert statement["decision"] == "accepted"
    text = "\n".join(desk.console(shop))
    assert "taken" not in text
    assert "evident-test: tables of the host run" in text, "AT-46: the kernel runs what the host's tables say"
    assert "ACPI" in json.dumps(statement), "and the statement names whoever serves them"
