"""A real TPM (swtpm) and tpm2-tools against Evident, in both directions: keys, quotes, PCR files, credential activation.

Skipped, saying so, where swtpm or tpm2-tools are not installed (Debian: swtpm tpm2-tools).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evident.endorsements import anchors
from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported
from evident.evidence import binding, tpm, tpm_public
from evident.evidence.importers import tpm2_tools
from evident.evidence.tpm_algorithms import ALG_RSASSA, ALG_SHA256
from evident.evidence.tpm_public import Scheme
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential, kinds
from evident.verification.context import Context

TOOLS = ("swtpm", "tpm2_createek", "tpm2_createak", "tpm2_quote", "tpm2_checkquote", "tpm2_makecredential", "tpm2_activatecredential")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: swtpm tpm2-tools)")

NONCE = bytes(range(20))
PCRS = (0, 4, 16, 23)
AKS = {
    "ecc": ("ecc", "sha256", "ecdsa"),
    "ecc384": ("ecc384", "sha384", "ecdsa"),
    "rsassa": ("rsa", "sha256", "rsassa"),
    "rsapss": ("rsa", "sha256", "rsapss"),
}


@dataclass(frozen=True)
class Live:
    """A running swtpm and a directory for the tools' files."""

    folder: Path

    def run(self, *words: str, succeed: bool = True) -> str:
        environment = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.folder}/sock"}
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0) is succeed, done.stderr
        return done.stdout

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def flush(self) -> None:
        self.run("tpm2_flushcontext", "--transient-object")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("tpm")  # short: the path of a unix socket has at most 107 bytes
    state = folder / "state"
    state.mkdir()
    server, control = f"type=unixio,path={folder}/sock", f"type=unixio,path={folder}/sock.ctrl"
    words = ("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", server, "--ctrl", control)
    process = subprocess.Popen([*words, "--flags", "not-need-init,startup-clear"])
    try:
        for _ in range(100):
            if (folder / "sock").exists():
                break
            time.sleep(0.05)
        machine = Live(folder)
        machine.run("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")
        machine.flush()
        machine.run("tpm2_pcrextend", "16:sha256=" + "ab" * 32 + ",sha384=" + "cd" * 48)
        for name, (kind, digest, scheme) in AKS.items():
            machine.run(
                "tpm2_createak",
                "-C",
                "ek.ctx",
                "-c",
                f"{name}.ctx",
                "-G",
                kind,
                "-g",
                digest,
                "-s",
                scheme,
                "-u",
                f"{name}.pub",
                "-n",
                f"{name}.name",
            )
            machine.flush()
        yield machine
    finally:
        process.terminate()
        process.wait(timeout=10)


def context(nonce: bytes = NONCE, **changes: object) -> Context:
    return Context(
        **({"at": datetime(2026, 11, 22, tzinfo=UTC), "anchors": anchors.production(), "fetcher": None, "nonce": nonce} | changes)
    )


def quote(live: Live, ak: str, nonce: bytes = NONCE, bank: str = "sha256") -> dict[str, tuple[bytes, ...]]:
    """What a guest would send, in the files that tpm2-tools write."""
    selection = f"{bank}:" + ",".join(map(str, PCRS))
    scheme = ("--scheme", AKS[ak][2]) if AKS[ak][2] == "rsapss" else ()
    live.run(
        "tpm2_quote",
        "-c",
        f"{ak}.ctx",
        "-l",
        selection,
        "-q",
        nonce.hex(),
        "-m",
        "q.msg",
        "-s",
        "q.sig",
        "-o",
        "q.pcrs",
        "-g",
        AKS[ak][1],
        *scheme,
    )
    live.flush()
    files = {"quote": "q.msg", "signature": "q.sig", "pcrs": "q.pcrs", "ak": f"{ak}.pub", "ek": "ek.pub"}
    return {role: (live.read(name),) for role, name in files.items()}


@pytest.mark.parametrize("bank", ["sha256", "sha384"])
@pytest.mark.parametrize("ak", AKS)
def test_a_live_quote_is_authentic(live, ak, bank):
    """The digest is under the scheme's hash, whatever the bank; the signer's qualified name follows from EK and AK."""
    verified = kinds.verify("tpm", quote(live, ak, bank=bank), context())
    assert verified.facts.vtpm is not None
    values = verified.facts.vtpm.pcrs[bank]
    assert sorted(values) == list(PCRS)
    printed = live.run("tpm2_pcrread", f"{bank}:16").split("0x")[1].split()[0].lower()
    assert values[16].hex() == printed
    assert "tpm.ak-parent-unknown" not in verified.facts.caveats
    assert tpm_public.parse(live.read(f"{ak}.pub")).name == live.read(f"{ak}.name")


def test_tpm2_checkquote_accepts_what_we_make(live):
    machine = SimulatedTpm(ak_key=rsa.generate_private_key(65537, 2048), ak_scheme=Scheme(ALG_RSASSA, ALG_SHA256))
    machine.extend(16, {"sha256": b"\xab" * 32})
    message, signature = machine.quote(NONCE)
    live.write("our.pem", machine.ak_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    live.write("our.msg", message)
    live.write("our.sig", signature)
    words = ("tpm2_checkquote", "-u", "our.pem", "-m", "our.msg", "-s", "our.sig", "-g", "sha256", "-q", NONCE.hex())
    live.run(*words)
    live.write("our.sig", signature[:-1] + bytes((signature[-1] ^ 1,)))
    live.run(*words, succeed=False)


def test_a_hundred_mutated_quotes_are_refused(live):
    """Every single one by us; whatever tpm2_checkquote accepts of them (it is asked for ten), we would have to accept too, and do not."""
    pieces = quote(live, "rsassa")
    ak = tpm_public.parse(pieces["ak"][0]).public_key()
    live.write("ak.pem", ak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    dice = random.Random(20261122)
    for number in range(100):
        role = dice.choice(("quote", "signature", "pcrs"))
        raw = bytearray(pieces[role][0])
        at = dice.randrange(len(raw)) if role != "pcrs" else _significant(pieces["pcrs"][0], dice)
        raw[at] ^= 1 << dice.randrange(8)
        mutated = {**pieces, role: (bytes(raw),)}
        with pytest.raises((NotAuthentic, Malformed, Unsupported)):
            kinds.verify("tpm", mutated, context())
        if number < 10 and role != "pcrs":
            for name, content in (("m.msg", mutated["quote"][0]), ("m.sig", mutated["signature"][0])):
                live.write(name, content)
            live.run("tpm2_checkquote", "-u", "ak.pem", "-m", "m.msg", "-s", "m.sig", "-g", "sha256", "-q", NONCE.hex(), succeed=False)


def _significant(pcrs: bytes, dice: random.Random) -> int:
    """A byte of a PCR value: the tools' files have buffers that nobody reads."""
    value = dice.choice([value for bank in tpm2_tools.parse(pcrs)[1].values() for value in bank.values()])
    return pcrs.index(value, tpm2_tools.HEAD_BYTES) + dice.randrange(len(value))


def test_an_old_nonce_is_refused(live):
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("tpm", quote(live, "ecc", b"of yesterday"), context())
    assert refused.value.code == "tpm.challenge"


@pytest.mark.attack(
    "AT-18", "The host of a vTPM quotes PCR values of its own choosing.", "nothing: the facts say whose vTPM it is", "succeeds"
)
def test_at18_the_host_of_a_vtpm_quotes_what_it_likes(live):
    """AT-18: the host extends what the verifier expects, before the guest starts. The quote is perfect; the facts do not vouch for it."""
    live.run("tpm2_pcrextend", "23:sha256=" + "77" * 32)
    verified = kinds.verify("tpm", quote(live, "ecc"), context())
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    expected = tpm.alg.HASH_BY_NAME["sha256"].digest(bytes(32), b"\x77" * 32)
    assert vtpm.pcrs["sha256"][23] == expected
    assert (vtpm.anchor, vtpm.operator) == ("none", "unknown")


def activate(live: Live, ak: str, blob: bytes, *, succeed: bool = True) -> bytes:
    live.write("credential", blob)
    live.run("tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
    try:
        live.run("tpm2_policysecret", "-S", "session.ctx", "-c", "e")
        words = (
            "tpm2_activatecredential",
            "-c",
            f"{ak}.ctx",
            "-C",
            "ek.ctx",
            "-i",
            "credential",
            "-o",
            "secret",
            "-P",
            "session:session.ctx",
        )
        live.run(*words, succeed=succeed)
    finally:
        live.run("tpm2_flushcontext", "session.ctx")
        live.flush()
    return live.read("secret") if succeed else b""


def test_at22_the_tpm_answers_for_its_own_ak_only(live):
    """AT-22: our MakeCredential, the TPM's ActivateCredential; the same credential for another AK gets nothing."""
    ek, ecc, other = (tpm_public.parse(live.read(name)) for name in ("ek.pub", "ecc.pub", "rsassa.pub"))
    challenge = credential.challenge(ek, ecc.name, os.urandom)
    assert activate(live, "ecc", challenge.tpm2_tools_file) == challenge.secret
    foreign = credential.challenge(ek, SimulatedTpm().ak.name, os.urandom)
    assert activate(live, "ecc", foreign.tpm2_tools_file, succeed=False) == b""
    assert ecc.name != other.name
    activation = challenge.answered(binding.credential_answer(challenge.secret, NONCE))
    verified = kinds.verify("tpm", quote(live, "ecc"), context(activation=activation))
    assert "tpm.activation-witnessed" in verified.facts.caveats


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_our_tpm_answers_what_tpm2_makecredential_asks(live, kind):
    machine = SimulatedTpm(ek_key=rsa.generate_private_key(65537, 2048)) if kind == "rsa" else SimulatedTpm()
    live.write("sim-ek.pub", machine.ek.tpm2b)
    live.write("plain", bytes(range(32)))
    name = machine.ak.name.hex()
    live.run("tpm2_makecredential", "-T", "none", "-u", "sim-ek.pub", "-s", "plain", "-n", name, "-o", "made")
    made = live.read("made")
    assert made.startswith(credential.TPM2_TOOLS_HEADER)
    body = made[len(credential.TPM2_TOOLS_HEADER) :]
    size = 2 + int.from_bytes(body[:2], "big")
    assert machine.activate(body[:size], body[size:]) == bytes(range(32))
    try:
        answer = SimulatedTpm(ek_key=machine.ek_key).activate(body[:size], body[size:])
    except EvidentError:
        answer = b""
    assert answer != bytes(range(32))
