"""A machine that measures what it loads, whose workload has a hole: what an intruder gets there, and what the next question says of it.

One machine, one boot. The intruder runs whatever it likes as the workload's user: a script that no list shows (AT-33), an attack on the
agent (AT-44), a program that is not the image's (AT-57), a file that changes while it is measured (AT-34). Its host edits the list (AT-35),
and copies the TPM (AT-52). Whoever has the key logs in by SSH, to this machine and no other (SG-02); whoever has attested it knows who
answers by TLS (AT-50).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from tests.tls import Authority, serving

from evident.appraisal.statement import TrustStatement
from evident.audit.case import Case, decide
from evident.cli.main import main
from evident.errors import EvidentError, PolicyRefused
from evident.evidence import ima_log, tpm_public
from evident.guest.tpm_device import Tpm
from evident.keys.release import ReleaseService
from evident.lifecycle import attest
from evident.lifecycle.challenges import Challenges
from evident.lifecycle.deployment import Deployment
from evident.platforms.order import AGENT_PORT
from evident.platforms.qemu import swtpm
from evident.reports.json_report import Outcome
from evident.verification import ima

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ssh") is None, reason="not installed: ssh (Debian: openssh-client)"),
]
Desk = Any  # of conftest.py
HERE = Path(__file__).parent
IMPOSTOR_PORT = 2022
TLS_PORT, CERTIFIED_PORT = 8443, 9443
INTERVAL = 7.0
"""Seconds between two questions, which the test does not wait."""


@dataclass(frozen=True)
class Watched:
    """A machine of `watched.yaml`, and who may log in."""

    desk: Desk
    shop: Deployment
    login: Path
    """Private key of whoever may."""
    home: Path
    asked: list[tuple[Case, Any, Any]] = field(default_factory=list)
    """Every case that was decided, with anchors and fetcher."""

    def port(self, inside: int) -> int:
        return int(self.shop.driver().addresses(self.shop.machine)[inside].rpartition(":")[2])

    def intrude(self, code: str, *, seconds: float = 60) -> str:
        """Have the workload run Python code: what it printed."""
        address = f"http://127.0.0.1:{self.port(8080)}/"
        with urllib.request.urlopen(urllib.request.Request(address, code.encode()), timeout=seconds) as answer:  # an address of ours
            return str(answer.read().decode())

    def by_tls(self, where: str, trusted: Path) -> str:
        """What a client gets there that trusts this authority."""
        context = ssl.create_default_context(cafile=trusted)
        with urllib.request.urlopen(f"https://{where}/", b"print('by TLS')", timeout=60, context=context) as answer:  # as above
            return str(answer.read().decode())

    def ask(self, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
        capsys.readouterr()
        main(["attest", "shop", "-o", "json", *more])
        said: dict[str, Any] = json.loads(capsys.readouterr().out)
        return said

    def again(self, **changes: bytes) -> Outcome:
        """Decide on the last answer again, with other pieces."""
        case, anchors, fetcher = self.asked[-1]
        pieces = {**case.pieces, **{role: (content,) for role, content in changes.items()}}
        return decide(replace(case, pieces=pieces), anchors=anchors, fetcher=fetcher)

    def ssh(self, port: int, *options: str) -> subprocess.CompletedProcess[str]:
        known = ("-o", f"UserKnownHostsFile={self.home / 'known_hosts'}", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "UpdateHostKeys=no")
        words = (
            "ssh",
            "-F",
            "none",
            "-i",
            str(self.login),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            *options,
            *known,
            "-p",
            str(port),
        )
        told = "import os; print('in as', os.getuid())"
        return subprocess.run([*words, "workload@127.0.0.1", told], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="session")
def login(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("login") / "id_ed25519"
    path.write_bytes(openssh(ed25519.Ed25519PrivateKey.generate()))
    path.chmod(0o600)
    return path


def openssh(key: Any) -> bytes:
    form: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return form


def public(login: Path) -> str:
    key = serialization.load_ssh_private_key(login.read_bytes(), None)
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def package_store(built: Path) -> str:
    """Where the packages of the other image are."""
    return os.environ.get("EVIDENT_IMAGE_STORE", str(built / "packages"))


@pytest.fixture
def watched(built: Path, login: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> Watched:
    """The image is made for this run's login, by the owner who built the other one, of the packages that are there."""
    spec = (HERE / "watched.yaml").read_text()
    (tmp_path / "watched.yaml").write_text(f"{spec}ssh_authorized_keys: [{json.dumps(public(login))}]\n")
    assert main(["image", "build", str(tmp_path / "watched.yaml"), "--out", str(tmp_path / "image"), "--store", package_store(built)]) == 0
    machine = Watched(replace(desk, image=tmp_path / "image"), desk.shop("shop"), login, tmp_path)

    def keeping(case: Case, **given: Any) -> Outcome:
        machine.asked.append((case, given["anchors"], given["fetcher"]))
        return decide(case, **given)

    monkeypatch.setattr(attest, "decide", keeping)
    return machine


@pytest.mark.attack("AT-33", "A script of an intruder's runs, and no list shows it.", "userspace.gap, a caveat that is always said")
@pytest.mark.attack("AT-34", "A file is changed while it is mapped to be run.", "userspace.violations")
@pytest.mark.attack("AT-35", "The host takes what an intruder ran out of the list, reorders it, or cuts it short.", "ima.replay")
@pytest.mark.attack(
    "AT-44", "A workload reaches for the agent, its key, its port, the processor, the TPM and the disk.", "user: own", "refused"
)
@pytest.mark.attack("AT-52", "The host copies the TPM's state: the clone starts.", "vtpm.state, a caveat that is always said")
@pytest.mark.attack("AT-57", "A program that is not the image's is started after the boot.", "userspace.unlisted")
@pytest.mark.attack("AT-50", "A name leads to another server, with a key of its own and a valid certificate for the name.", "tls.other-key")
@pytest.mark.attack("SG-02", "Somebody with an SSH host key of his own answers in the machine's place.", "known_hosts")
def test_an_intruder(
    watched: Watched, server_here: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    desk = watched.desk
    assert desk.up("shop", *(f"--publish={port}" for port in (22, IMPOSTOR_PORT, TLS_PORT, CERTIFIED_PORT))) == 0
    assert desk.events == ["challenged", "released", "confirmed"]
    eventually(lambda: serves(watched), "the workload")
    logs_in_where_the_key_is_attested(watched, capsys, eventually)
    the_tls_key_is_the_machines_alone(watched)
    a_valid_certificate_is_not_enough(watched, capsys)
    nothing_of_the_agents_is_the_workloads(watched)
    a_script_is_a_gap(watched, capsys)
    a_copied_tpm_starts(watched)
    the_next_question_names_what_was_started(watched, server_here, capsys, monkeypatch)
    an_edited_list_is_refused(watched, monkeypatch)
    a_violation_is_named(watched, capsys)


def serves(watched: Watched) -> bool:
    with suppress(OSError):
        return watched.intrude("print('here')", seconds=10) == "here\n"
    return False


def userspace(statement: dict[str, Any]) -> dict[str, Any]:
    return next(layer for layer in statement["layers"] if layer["name"] == "userspace")


def listed(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["claims"]["tpm"]["ima"]
    return found


def logs_in_where_the_key_is_attested(watched: Watched, capsys: pytest.CaptureFixture[str], eventually: Callable[..., None]) -> None:
    """SG-02: ssh knows the machine once it is attested and not before, and nobody else by its name."""
    strict, port = ("-o", "StrictHostKeyChecking=yes"), watched.port(22)
    eventually(lambda: b"SSH-2.0" in greeting(port), "an SSH server")
    assert "Host key verification failed" in watched.ssh(port, *strict).stderr
    statement = watched.ask(capsys, "--known-hosts", str(watched.home / "known_hosts"))
    assert (statement["decision"], userspace(statement)["verifiability"]) == ("accepted", 2)
    assert (listed(statement)["unlisted"], listed(statement)["violated"]) == ([], [])
    said = watched.ssh(port, *strict)
    assert said.stdout == "in as 1000\n", said.stderr
    start_impostor(watched)
    eventually(lambda: b"SSH-2.0" in greeting(watched.port(IMPOSTOR_PORT)), "an impostor")
    swapped = ("-o", f"HostKeyAlias=[127.0.0.1]:{port}")
    refused = watched.ssh(watched.port(IMPOSTOR_PORT), *swapped, *strict)
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr
    assert refused.stdout == ""
    believing = watched.ssh(watched.port(IMPOSTOR_PORT), *swapped, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
    assert "in as" in believing.stdout, "whoever checks nothing logs in there"


def greeting(port: int) -> bytes:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as stream:
        return stream.recv(64)
    return b""


def start_impostor(watched: Watched) -> None:
    key = openssh(ec.generate_private_key(ec.SECP384R1())).decode()
    settings = f"Port {IMPOSTOR_PORT}\nHostKey /run/key\nAuthorizedKeysFile /run/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"
    files = {"/run/key": key, "/run/authorized": public(watched.login), "/run/settings": settings}
    said = watched.intrude(
        "import os, subprocess\n"
        f"for name, text in {files!r}.items():\n"
        "    with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), 'w') as stream: stream.write(text)\n"
        "subprocess.Popen(['/usr/sbin/sshd', '-D', '-e', '-f', '/run/settings'])\n"
    )
    assert said == "", said


def the_tls_key_is_the_machines_alone(watched: Watched) -> None:
    """EI-04: in memory, where its owner reads it and nobody writes; on no disk, and in nothing that its host keeps."""
    said = json.loads(
        watched.intrude(
            "import json, os\n"
            "at = '/run/evident/tls/'\n"
            "modes = {name: oct(os.stat(at + name).st_mode)[-3:] for name in os.listdir(at)}\n"
            "below = [line.split()[2] for line in open('/proc/mounts') if line.split()[1] == '/run']\n"
            "print(json.dumps([modes, os.stat(at + 'key.pem').st_uid, os.access(at, os.W_OK), below, open(at + 'key.pem').read()]))\n"
        )
    )
    readable = dict.fromkeys(("instance.pem", "certificate.pem", "request.pem"), "444")
    assert said[:4] == [{**readable, "key.pem": "400"}, 1000, False, ["tmpfs"]]
    key = serialization.load_pem_private_key(said[4].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    secret = key.private_numbers().private_value.to_bytes(48, "big")
    lines = said[4].encode().splitlines()[1:-1]
    for path in (path for path in watched.shop.surroundings.state.rglob("*") if path.is_file()):
        kept = path.read_bytes()
        assert not any(form in kept for form in (secret, secret.hex().encode(), *lines)), path


def a_valid_certificate_is_not_enough(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """AT-50: the attested machine by its own certificate, and by an authority's; and somebody with as good a one for the same name."""
    trusted = watched.home / "machine.pem"
    own, certified = (f"localhost:{watched.port(port)}" for port in (TLS_PORT, CERTIFIED_PORT))
    assert watched.ask(capsys, "--tls", own, "--certificate", str(trusted))["decision"] == "accepted"
    assert watched.by_tls(own, trusted) == "by TLS\n"

    authority, request = Authority(watched.home), watched.home / "request.pem"
    request.write_text(watched.intrude("print(open('/run/evident/tls/request.pem').read())"))
    granted = authority.grant(request).decode()
    put = f"with open('/tmp/granted.pem', 'w') as stream: stream.write({granted!r})"
    assert watched.intrude(f"import sys\n{put}\nsys.modules['__main__'].serve_tls({CERTIFIED_PORT}, '/tmp/granted.pem')\n") == ""
    assert watched.by_tls(certified, authority.file) == "by TLS\n"
    assert watched.ask(capsys, "--tls", certified)["decision"] == "accepted"

    trusted.unlink()
    with serving(authority.impostor("localhost")) as port, socket.create_connection(("127.0.0.1", port)) as stream:
        ordinary = ssl.create_default_context(cafile=authority.file)
        with ordinary.wrap_socket(stream, server_hostname="localhost") as session:
            assert session.recv(10) == b"served", "an ordinary client believes it"
        refused = watched.ask(capsys, "--tls", f"localhost:{port}", "--certificate", str(trusted))
    assert (refused["decision"], [finding["code"] for finding in refused["findings"]]) == ("not_authentic", ["tls.other-key"])
    assert not trusted.exists()


PROBES = """
import errno, json, os, signal, socket, subprocess
found = {}
def attempt(what, how):
    try:
        how()
        found[what] = ''
    except OSError as error:
        found[what] = errno.errorcode[error.errno]
def listen(address, port):
    stream = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    stream.bind((address, port))
    stream.listen()
def in_a_namespace():  # which a process with threads never may
    code = 'import os\\ntry: os.unshare(os.CLONE_NEWUSER)\\nexcept OSError as error: raise SystemExit(error.errno)'
    status = subprocess.run(['/usr/bin/python3', '-c', code]).returncode
    if status:
        raise OSError(status, '')
def dropped(place):
    path = f'{place}/dropped'
    with open(path, 'w') as stream:
        stream.write('#!/usr/bin/python3\\n')
    os.chmod(path, 0o755)
    subprocess.run([path])
for place in ('/run', '/tmp'):
    attempt(f'run from {place}', lambda: dropped(place))
channels = [f'/dev/{name}' for name in os.listdir('/sys/class/virtio-ports')]
for path in (*PATHS, *channels):
    attempt(path, lambda: open(path, 'rb'))
for path in ('/dev/console', '/dev/kmsg', '/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern'):
    attempt(path, lambda: open(path, 'wb'))
attempt('kill', lambda: os.kill(1, signal.SIGKILL))
attempt('become root', lambda: os.setuid(0))
attempt('be root elsewhere', in_a_namespace)
attempt('move its files', lambda: os.rename('/run/evident', '/run/elsewhere'))
attempt('ask for a report', lambda: os.mkdir('/sys/kernel/config/tsm/report/own'))
for address in ('0.0.0.0', '127.0.0.1', '10.0.2.15', '::'):
    attempt(f'answer at {address}', lambda: listen(address, AGENT))
    attempt(f'SSH at {address}', lambda: listen(address, 22))
print(json.dumps(found))
"""
OUT_OF_REACH = (
    *("/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/fd/0", "/dev/mem"),
    *("/dev/tpm0", "/dev/tpmrm0", "/dev/vda", "/dev/dm-0", "/dev/dm-1", "/dev/mapper/control"),
    *("/run/evident/ssh_host_ecdsa_key", "/sys/kernel/security/ima/binary_runtime_measurements"),
)


def nothing_of_the_agents_is_the_workloads(watched: Watched) -> None:
    """AT-44."""
    said = watched.intrude(PROBES.replace("PATHS", repr(OUT_OF_REACH)).replace("AGENT", str(AGENT_PORT)))
    found: dict[str, str] = json.loads(said)
    assert set(OUT_OF_REACH) <= found.keys()
    assert any(name.startswith("/dev/vport") for name in found), "the secure processor's channel"
    wanted = {
        name: "EADDRINUSE" if " at " in name else "EPERM" if name in ("kill", "become root", "move its files") else "EACCES"
        for name in found
    }
    assert found == {**wanted, "be root elsewhere": "ENOSPC"}, "there may be no namespace of users"


def a_script_is_a_gap(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """AT-33: it ran, no list has it, and the statement says that there may be such things."""
    said = watched.intrude(
        "import subprocess\n"
        "with open('/tmp/payload.py', 'w') as stream: stream.write(\"print('payload ran')\")\n"
        "print(subprocess.run(['/usr/bin/python3', '/tmp/payload.py'], capture_output=True, text=True).stdout)\n"
        "exec(open('/tmp/payload.py').read())\n"
    )
    assert said.count("payload ran") == 2
    statement = watched.ask(capsys)
    assert statement["decision"] == "accepted"
    names = {entry.name for entry in ima_log.parse(watched.asked[-1][0].pieces["ima"][0]).entries}
    assert {"/usr/bin/python3.13", "/usr/sbin/sshd"} <= names
    assert any(name.endswith("/dm-crypt.ko") for name in names)
    assert not any("payload" in name for name in names)
    layer = userspace(statement)
    assert [caveat["text"] for caveat in layer["caveats"] if caveat["code"] == "userspace.gap"] == list(ima.GAPS)
    assert any("Scripts" in text for text in layer["residual_trust"])


def a_copied_tpm_starts(watched: Watched) -> None:
    """AT-52: the same endorsement key in two TPMs at once. The statement names it as something that it cannot rule out."""
    case = watched.asked[-1][0]
    quoted = tpm_public.parse(case.pieces["ek"][0]).name
    shutil.copytree(watched.shop.machine / swtpm.STATE, watched.home / "copied", ignore=shutil.ignore_patterns(".lock"))
    with running_tpm(watched.home / "copied", watched.home / "tpm") as chip, chip.endorsement_key() as (_, endorsement):
        assert endorsement.name == quoted
    statement = decide(case, anchors=watched.asked[-1][1], fetcher=watched.asked[-1][2])
    assert isinstance(statement, TrustStatement)
    vtpm = next(layer for layer in statement.layers if layer.name == "vtpm")
    assert "vtpm.state" in {caveat.code for caveat in vtpm.caveats}


@contextmanager
def running_tpm(state: Path, at: Path) -> Iterator[Tpm]:
    words = ("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={at}")
    process = subprocess.Popen([*words, "--flags", "not-need-init,startup-clear"])
    try:
        while not at.exists():
            assert process.poll() is None
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(at))

            def exchange(command: bytes) -> bytes:
                stream.sendall(command)
                return stream.recv(4096)

            yield Tpm(exchange)
    finally:
        process.terminate()
        process.wait(10)


def unlisted_program(text: bytes) -> bytes:
    """An ELF program that writes `text` and ends."""
    code = b""
    for number, arguments in ((1, (1, None, len(text))), (60, (0, 0, 0))):
        for opcode, value in ((0xB8, number), *zip((0xBF, 0xBE, 0xBA), arguments, strict=True)):  # eax, edi, esi, edx
            code += bytes((opcode,)) + struct.pack("<I", 0x400000 + 120 + 44 if value is None else value)
        code += b"\x0f\x05"
    size = 120 + len(code) + len(text)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096) + code + text


STARTING = """
import base64, os
writing = os.memfd_create('unlisted')
os.write(writing, base64.b64decode(PROGRAM))
program = os.open(f'/proc/self/fd/{writing}', os.O_RDONLY)
os.close(writing)
read, write = os.pipe()
child = os.posix_spawn(f'/proc/self/fd/{program}', ['unlisted'], {}, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
print(os.read(read, 100).decode(), os.waitpid(child, 0)[1])
"""


def the_next_question_names_what_was_started(
    watched: Watched, server_here: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AT-57: `attest --every` ends with the program's name, and the machine gets no key again."""
    sleep, ran = time.sleep, []

    def start_meanwhile(seconds: float) -> None:
        if seconds != INTERVAL:
            sleep(seconds)
            return
        program = base64.b64encode(unlisted_program(b"unlisted ran\n"))
        ran.append(watched.intrude(STARTING.replace("PROGRAM", repr(program))))

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", start_meanwhile)
        status = main(["attest", "shop", "--every", f"{INTERVAL:.0f}s", "--times", "5"])
    assert (status, ran) == (11, ["unlisted ran\n 0\n"])
    told = capsys.readouterr().err
    assert "drift: decision: accepted -> refused" in told
    assert "drift: finding userspace.unlisted [userspace]: memfd:unlisted" in told
    service, request = server_here.asked[-1]
    with monkeypatch.context() as patch:
        patch.setattr(Challenges, "redeem", lambda *_: None)  # the very request that was granted at boot
        with pytest.raises(PolicyRefused, match=r"keys\.quarantined.*userspace\.unlisted"):
            ReleaseService.release(service, request)
    case, anchors, fetcher = watched.asked[-1]
    demands = {name: degree for name, degree in case.policy.levels.verifiability.items() if name != "userspace"}
    careless = replace(case.policy, levels=replace(case.policy.levels, verifiability=demands))
    assert decide(replace(case, policy=careless), anchors=anchors, fetcher=fetcher).decision == "accepted"


def an_edited_list_is_refused(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """AT-35: its host takes the program out of the list; with the replay off, nothing is left to see."""
    entries = entry_bytes(watched.asked[-1][0].pieces["ima"][0])
    wanted = next(number for number, entry in enumerate(entries) if b"memfd:unlisted" in entry)
    edits = {
        "edited": [entry.replace(b"memfd:unlisted", b"/usr/bin/other") for entry in entries],
        "taken out": entries[:wanted] + entries[wanted + 1 :],
        "cut short": entries[:wanted],
        "reordered": [*entries[:-2], entries[-1], entries[-2]],
    }
    for what, edited in edits.items():
        outcome = watched.again(ima=b"".join(edited))
        assert isinstance(outcome, EvidentError), what
        assert (outcome.decision, outcome.code) == ("not_authentic", "ima.template-hash" if what == "edited" else "ima.replay"), what
    with monkeypatch.context() as off:
        off.setattr(ima, "authenticate", lambda log, _: ima.Authenticated(log.entries, "sha256", "per-bank", 0))
        for what in ("taken out", "cut short"):
            assert watched.again(ima=b"".join(edits[what])).decision == "accepted", what


def entry_bytes(raw: bytes) -> list[bytes]:
    """The entries of a binary list, each as it stands."""
    found, at = [], 0
    while at < len(raw):
        end = at + 24
        for _ in range(2):  # template name, template data
            end += 4 + int.from_bytes(raw[end : end + 4], "little")
        found.append(raw[at:end])
        at = end
    assert b"".join(found) == raw
    return found


CHANGING = """
import mmap, os
made = os.memfd_create('changing')
os.write(made, bytes(4096))
writing, reading = (os.open(f'/proc/self/fd/{made}', how) for how in (os.O_RDWR, os.O_RDONLY))
mapped = mmap.mmap(reading, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
os.write(writing, b'changed')
"""


def a_violation_is_named(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    """AT-34: open for writing while it is mapped to be run. The layer falls to nothing."""
    assert watched.intrude(CHANGING) == ""
    statement = watched.ask(capsys)
    assert statement["decision"] == "refused"
    named = {finding["code"]: finding["found"] for finding in statement["findings"]}
    assert "memfd:changing" in named["userspace.violations"]
    assert userspace(statement)["verifiability"] == 0
    assert listed(statement)["violated"] == ["memfd:changing"]
