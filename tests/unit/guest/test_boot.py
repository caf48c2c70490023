"""What the guest makes of its command line, its configuration and its own failures, and what it says on the console."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, load_ssh_private_key
from cryptography.x509 import load_pem_x509_certificate

from evident.errors import Indeterminate, Malformed, NotAuthentic
from evident.evidence import binding, cmw
from evident.guest import apart, config, init, libc
from evident.guest.config import Place, Unit
from evident.guest.console import STEPS, Console
from evident.guest.http import Server
from evident.guest.listener import Listener
from evident.guest.source import Evidence
from evident.guest.sources import vtpm
from evident.guest.steps import disk, network, secrets
from evident.guest.supervise import Responder
from evident.image import disk as writer
from evident.keys.exchange import spki
from evident.keys.messages import (
    ACTIVATE,
    ATTEST,
    ActivateReply,
    ActivateRequest,
    AttestReply,
    AttestRequest,
    Refusal,
    Volume,
    dumps,
    loads,
)
from evident.platforms.qemu import console as host_side

ROOT = "11111111-2222-3333-4444-555555555555"
GOOD = (
    f"evident.mode=encrypted evident.data={ROOT} evident.hashoffset=4096 evident.verifier=10.0.2.2:8443 evident.tee=simulated "
    f"evident.key={'ab' * 32} roothash={'cd' * 32}"
)


@pytest.mark.attack("BW-09", "The key of one image's disk goes to a machine of another image, which is as good.", "guest.root-hash")
def test_a_key_comes_with_the_root_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(disk, "partition", lambda identifier: Path(identifier))
    monkeypatch.setattr(disk, "open_luks", lambda device, *_, **_more: opened.append(device))
    machine = init.Machine(config.parse_command_line(GOOD), config.Configuration((Unit("x", ("/bin/x",), 0),)))

    def released(root_hash: bytes | None) -> None:
        monkeypatch.setattr(init, "attest", lambda *_: Volume(1, ROOT, bytes(64), root_hash))
        init._released(Console(lambda _: None), machine)

    for right in (machine.line.root_hash, None):
        released(right)
    assert opened == [Path(ROOT)] * 2
    with pytest.raises(NotAuthentic, match=r"guest\.root-hash"):
        released(b"\xce" * 32)
    assert len(opened) == 2
    monkeypatch.setattr(init, "check_root", lambda *_: None)
    released(b"\xce" * 32)
    assert len(opened) == 3


@pytest.mark.parametrize(
    "failure",
    [NotAuthentic.of("guest.verity", expected="x", found="y", remedy="z"), PermissionError(1, "not permitted", "/proc")],
    ids=["ours", "the kernel's"],
)
def test_what_is_done_apart_fails_here_and_leaves_nothing_here(failure: Exception) -> None:
    left: list[bytes] = []
    apart.run(lambda: left.append(b"a copy"))

    def fail() -> None:
        raise failure

    with pytest.raises(type(failure)) as caught:
        apart.run(fail)
    assert (left, str(caught.value)) == ([], str(failure))


def test_a_defect_of_what_is_done_apart_is_one_here() -> None:
    def defect() -> None:
        raise KeyError

    with pytest.raises(RuntimeError):
        apart.run(defect)


def test_a_command_line_is_read_whatever_else_is_on_it() -> None:
    line = config.parse_command_line(f"console=ttyS0 panic=-1 ro {GOOD} quiet")
    assert (line.mode, line.tee, line.verifier, line.data, line.hash_offset) == ("encrypted", "simulated", ("10.0.2.2", 8443), ROOT, 4096)
    assert (line.key, line.root_hash) == (b"\xab" * 32, b"\xcd" * 32)


@pytest.mark.attack("AT-09", "The host appends a parameter of its own to the command line.", "guest.config.*", "refused")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (GOOD + " evident.verifier=10.0.2.3:1", "twice"),
        (GOOD + " roothash=" + "00" * 32, "twice"),
        (GOOD + " evident.shell=1", "unknown"),
        (GOOD.replace("encrypted", "rescue"), "mode"),
        (GOOD.replace("simulated", "none"), "mode"),
        (GOOD.replace("evident.key=", "x="), "missing"),
        (GOOD.replace("ab" * 32, "AB" * 32), "digest"),
        (GOOD.replace("8443", "84430"), "number"),
        (GOOD.replace("10.0.2.2", "key.example"), "address"),
        (GOOD.replace(ROOT, "../../sda"), "partition"),
        (GOOD.replace("4096", "-1"), "number"),
        (f"{GOOD} evident.machine={ROOT}", "twice"),
        (f"evident.mode=microcvm evident.machine={ROOT} evident.verifier=10.0.2.2:8443", "missing"),
        (f"evident.mode=microcvm evident.machine={ROOT} evident.key={'ab' * 32}", "missing"),
        ("", "mode"),
    ],
)
def test_whatever_is_ambiguous_is_refused(line: str, code: str) -> None:
    with pytest.raises(Malformed, match=rf"guest\.config\.{code}"):
        config.parse_command_line(line)


def test_what_a_machine_asks_for_is_on_its_command_line() -> None:
    assert config.parse_command_line(GOOD).asks == ROOT
    there = f"evident.machine={ROOT} evident.verifier=10.0.2.2:8443 evident.key={'ab' * 32}"
    assert config.parse_command_line(f"evident.mode=microcvm {there}").asks == ROOT
    assert config.parse_command_line(f"evident.mode=microcvm evident.data={ROOT}").asks == ""


def test_every_secret_is_a_file_of_the_unit_that_reads_it(tmp_path: Path) -> None:
    value, other, place = bytes(bytearray(b"a value")), bytes(bytearray(b"another")), tmp_path / "evident" / "secrets"
    units = [Unit(name, ("/x",), os.getuid(), secrets=read) for name, read in (("web", ("one", "two")), ("job", ("two",)), ("idle", ()))]
    secrets.write(units, {"one": value, "two": other}, place)
    assert {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()} == {
        "web/one": b"a value",
        "web/two": b"another",
        "job/two": b"another",
    }
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in place.glob("*/*")} == {0o400}
    assert {path.stat().st_uid for path in place.rglob("*")} == {os.getuid()}
    assert value == other == bytes(7), "wiped in the agent"
    with pytest.raises(FileExistsError):
        secrets.write((), {"three": b"x"}, place)


def test_a_unit_whose_secret_was_not_released_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"guest\.secret.*two, which unit web reads"):
        secrets.write([Unit("web", ("/x",), 0, secrets=("one", "two"))], {"one": b"a value"}, tmp_path / "secrets")
    assert not (tmp_path / "secrets").exists()


def test_the_configuration_is_that_of_the_image() -> None:
    read = config.parse_configuration(
        b'{"units": [{"name": "x", "command": ["/bin/x"], "owner": 1000, "environment": {"A": "b"}}],'
        b' "tmpfs": [{"path": "/srv", "size": "1m"}]}'
    )
    assert read.units == (Unit("x", ("/bin/x",), 1000, {"A": "b"}),)
    assert (read.tmpfs, read.ima) == ((Place("/srv", "1m"),), False)
    for unknown in (b'{"units": [], "shell": true}', b'{"units": [{"name": "x", "command": ["/bin/x"]}]}'):
        with pytest.raises(Malformed):
            config.parse_configuration(unknown)


def test_the_console_says_what_the_host_side_reads(tmp_path: Path) -> None:
    written: list[str] = []
    times = iter(range(100))
    console = Console(written.append, clock=lambda: float(next(times)))
    for name in STEPS[:-1]:
        with console.step(name):
            pass
    with pytest.raises(NotAuthentic), console.step(STEPS[-1]):
        raise NotAuthentic.of("guest.verity", expected="x", found="y", remedy="z")
    console.say("\x1b[2J evident: step 9 root done")
    (tmp_path / host_side.HEAD).write_text("".join(f"[     1.000] {line}" for line in written))
    steps = host_side.steps(tmp_path)
    assert [(step.number, step.name) for step in steps if step.event == "start"] == list(enumerate(STEPS, start=1))
    assert (steps[-2].event, steps[-2].rest) == ("failed", "1.000 guest.verity")
    assert "\x1b" not in "".join(written)


def test_a_wiped_secret_is_gone() -> None:
    secret = bytes(bytearray(range(64)))
    libc.wipe(secret)
    assert secret == bytes(64)
    libc.wipe(b"")


def test_an_operating_system_without_privileges_refuses() -> None:
    with pytest.raises(OSError, match=r"mount|permitted|denied|such"):
        libc.mount("none", "/nonexistent/place", "tmpfs")


def blocks(folder: Path, table: bytes, start: int) -> tuple[Path, Path]:
    """A disk with one partition, as /sys/class/block and /dev show it."""
    classes, devices = folder / "block", folder / "dev"
    for path in (classes / "vda" / "vda1", classes / "vda1", devices):
        path.mkdir(parents=True)
    for place in (classes / "vda" / "vda1", classes / "vda1"):
        (place / "partition").write_text("1\n")
        (place / "start").write_text(f"{start}\n")
    (devices / "vda").write_bytes(table)
    return classes, devices


def table(*identifiers: str) -> bytes:
    parts = [writer.Partition("data", writer.LINUX_DATA, uuid.UUID(text), b"x" * 512) for text in identifiers]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "disk"
        writer.write(path, uuid.UUID(int=1), parts)
        return path.read_bytes()


def test_a_partition_is_found_by_its_identifier(tmp_path: Path) -> None:
    classes, devices = blocks(tmp_path, table(ROOT), 2048)
    assert disk.partition(ROOT, blocks=classes, devices=devices) == devices / "vda1"
    with pytest.raises(Indeterminate, match=r"guest\.disk"):
        disk.partition(ROOT.replace("1", "2"), blocks=classes, devices=devices, patience=0)


def test_a_table_that_the_kernel_does_not_see_is_not_believed(tmp_path: Path) -> None:
    classes, devices = blocks(tmp_path, table(ROOT), 4096)
    with pytest.raises(Indeterminate, match=r"guest\.disk"):
        disk.partition(ROOT, blocks=classes, devices=devices, patience=0)


@pytest.mark.attack("BW-20", "The host attaches a copy of the machine's disk beside it.", "guest.disk.twice", "refused")
def test_two_partitions_of_one_name_are_a_trap(tmp_path: Path) -> None:
    classes, devices = blocks(tmp_path, table(ROOT), 2048)
    for path in sorted((classes).rglob("vda*"), reverse=True):
        if path.is_dir():
            shutil.copytree(path, Path(str(path).replace("vda", "vdb")), dirs_exist_ok=True)
    (devices / "vdb").write_bytes((devices / "vda").read_bytes())
    with pytest.raises(NotAuthentic, match=r"guest\.disk\.twice.*vda1, .*vdb1"):
        disk.partition(ROOT, blocks=classes, devices=devices, patience=0)


def test_a_failing_tool_says_so_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "cryptsetup"
    tool.write_text("#!/bin/sh\ncat >/dev/null\necho 'No key available with this passphrase.' >&2\nexit 2\n")
    tool.chmod(0o755)
    monkeypatch.setattr(disk, "CRYPTSETUP", str(tool))
    monkeypatch.setattr(disk, "HEADER", tmp_path / "header")
    monkeypatch.setattr(disk, "check_header", lambda *_, **_more: None)
    key = bytes(bytearray(range(1, 65)))
    with pytest.raises(NotAuthentic, match=r"guest\.luks\.key.*No key available") as caught:
        disk.open_luks(tmp_path / "disk", "name", key)
    assert key == bytes(64), "wiped although it failed"
    assert bytes(range(1, 65)).hex() not in str(caught.value)


def test_leases_are_read_as_rfc_2131_has_them() -> None:
    question = network.request(1, b"\x52\x54\0\x12\x34\x56", b"abcd")
    assert (len(question), question[:4], question[236:240]) == (300, b"\1\1\6\0", b"\x63\x82\x53\x63")
    options = b"\x35\1\5" + b"\1\4\xff\xff\xff\0" + b"\3\4\x0a\0\2\2" + b"\x36\4\x0a\0\2\2" + b"\xff"
    reply = b"\2\1\6\0abcd" + bytes(8) + b"\x0a\0\2\x0f" + bytes(216) + b"\x63\x82\x53\x63" + options
    kind, offered, server, address = network.parse_reply(reply, b"abcd")
    assert (kind, offered, server) == (5, b"\x0a\0\2\x0f", b"\x0a\0\2\2")
    assert address == network.Address("10.0.2.15", 24, "10.0.2.2")
    with pytest.raises(Malformed):
        network.parse_reply(reply, b"efgh")


@pytest.fixture
def responder() -> Iterator[tuple[Server, Responder]]:
    refusing = vtpm.through(lambda _command: bytes.fromhex("80010000000a00000101"))  # TPM_RC_FAILURE
    responder = Responder(
        lambda question: (Evidence("snp", {"report": (question.report_data,)}, "test"),),
        lambda blob, secret: vtpm.activate(blob, secret, refusing),
    )
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as stream:
        listener = Listener(stream, responder.answer)

        def serve() -> None:
            while not stop.is_set():
                listener.turn(0.05)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Server("127.0.0.1", stream.getsockname()[1], 10), responder
        stop.set()
        thread.join(5)


def test_challenges_are_answered_while_the_units_run(responder: tuple[Server, Responder]) -> None:
    server, own = responder
    status, body = server.post(ATTEST, dumps(AttestRequest(1, bytes(32))))
    assert status == 200
    reply = loads(AttestReply, body)
    kind, pieces = cmw.to_pieces(cmw.decode(reply.evidence))
    assert (kind, reply.key) == ("snp", own._spki)
    assert pieces["report"] == (binding.report_data(bytes(32), reply.key),)


def test_a_credential_is_answered_for_challenge_and_key_and_its_secret_stays(responder: tuple[Server, Responder]) -> None:
    server, own = responder
    own._activate = lambda blob, secret: hashlib.sha256(blob + secret).digest()
    status, body = server.post(ACTIVATE, dumps(ActivateRequest(1, bytes(32), b"blob", b"secret")))
    inside = hashlib.sha256(b"blobsecret").digest()
    assert status == 200
    assert loads(ActivateReply, body).answer == binding.credential_answer(inside, binding.report_data(bytes(32), own._spki))
    assert inside.hex().encode() not in body


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (ACTIVATE, dumps(ActivateRequest(1, b"short", b"", b"")), 400, "guest.challenge"),
        (ACTIVATE, dumps(ActivateRequest(1, bytes(32), b"", b"")), 503, "guest.tpm.unavailable"),
        (ATTEST, b"{}", 400, "keys.message.missing-key"),
        (ATTEST, dumps(AttestRequest(1, b"short")), 400, "guest.challenge"),
        ("/etc/passwd", b"{}", 404, "guest.path"),
        (ATTEST, b"[" * 3000, 400, "keys.message.json"),
    ],
)
def test_other_questions_are_refused(responder: tuple[Server, Responder], path: str, body: bytes, status: int, code: str) -> None:
    found, answer = responder[0].post(path, body)
    assert (found, loads(Refusal, answer).codes) == (status, (code,))


def test_the_host_key_is_that_of_the_answers(tmp_path: Path, responder: tuple[Server, Responder]) -> None:
    path = tmp_path / "run" / "key"
    responder[1].write_host_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert spki(load_ssh_private_key(path.read_bytes(), None).public_key()) == responder[1]._spki  # type: ignore[arg-type]
    with pytest.raises(FileExistsError):
        responder[1].write_host_key(path)


def test_answers_carry_what_the_key_of_the_boot_certified(tmp_path: Path, responder: tuple[Server, Responder]) -> None:
    server, own = responder
    assert loads(AttestReply, server.post(ATTEST, dumps(AttestRequest(1, bytes(32))))[1]).certificates == ()
    own.certify(["localhost"], os.getuid(), tmp_path / "tls")
    body = server.post(ATTEST, dumps(AttestRequest(1, bytes(32))))[1]
    forms = [load_pem_x509_certificate((tmp_path / "tls" / f"{name}.pem").read_bytes()) for name in ("instance", "certificate")]
    assert loads(AttestReply, body).certificates == tuple(form.public_bytes(Encoding.DER) for form in forms)
    key = load_pem_private_key((tmp_path / "tls" / "key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert [form.public_key() for form in forms] == [own._own.public_key(), key.public_key()]
    assert f"{key.private_numbers().private_value:096x}".encode() not in body


SOURCE = Path(config.__file__).parent
LIBRARIES = {"cryptography"}


def test_the_guest_needs_one_library_and_no_shell() -> None:
    program = "import sys; before = set(sys.modules); import evident.guest.init; print('\\n'.join(sorted(set(sys.modules) - before)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    tops = {name.partition(".")[0] for name in loaded} - {"evident"}
    foreign = {name for name in tops if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign <= LIBRARIES, foreign
    assert not {"argparse", "http.client", "http.server", "email", "logging", "asyncio", "ssl", "cbor2", "rich"} & set(loaded)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.search(r"os\.(system|popen)|shell=True", ast.unparse(node)):
                pytest.fail(f"{path}: {ast.unparse(node)}")


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (NotAuthentic.of("guest.verity", expected="x", found="y", remedy="z"), "failed guest.verity: expected x"),
        (PermissionError(1, "Operation not permitted", "/proc"), "failed guest.system: Operation not permitted (/proc)"),
        (RuntimeError("a defect"), "failed guest.defect: RuntimeError"),
    ],
)
@pytest.mark.attack("BW-31", "The host makes a step fail, in the hope of a shell.", "guest.*", "refused")
def test_every_failure_ends_at_the_power_switch(monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str) -> None:
    said: list[str] = []
    switched: list[bool] = []

    def boot(_console: Console) -> Any:
        raise failure

    monkeypatch.setattr(init, "boot", boot)
    monkeypatch.setattr(init, "_console", lambda: Console(said.append))
    monkeypatch.setattr(libc, "power_off", lambda: switched.append(True))
    try:
        init.main()
    except RuntimeError:
        assert told.endswith("RuntimeError")
    assert switched == [True]
    assert any(told in line for line in said)
