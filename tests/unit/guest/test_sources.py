"""Four environments that look like real ones to the guest, one that lies, and what the verifier's side makes of them (NA-03, NA-04)."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.unit.image.test_seal import opens, sealed

from evident.endorsements.anchors import Anchor, AnchorSet
from evident.errors import EvidentError, Unsupported, UsageError
from evident.evidence import binding, cmw, cose, tpm_public
from evident.evidence.reader import Reader
from evident.evidence.tpm import parse_selections
from evident.guest import collectors, sealing
from evident.guest.source import Evidence, Question, Source
from evident.guest.sources import simulated
from evident.guest.sources.configfs_tsm import ConfigfsTsm
from evident.guest.sources.nitro_tpm import AWS_NSM_REQUEST, INDEX, NitroTpm
from evident.guest.sources.sev_guest import GET_DERIVED_KEY, SevGuest
from evident.guest.sources.simulated import SimulatedProcessor
from evident.guest.sources.vtpm import GOOGLE_CERTIFICATE, GOOGLE_TEMPLATE, AzureNv, GoogleNv, SvsmNv, through
from evident.simulator import clouds, scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.simulator.secure_processor import FieldSelect, Guest, KeyRequest
from evident.simulator.vtpm import Scheme, SimulatedTpm
from evident.verification import aws, environment, gcp
from evident.verification.context import Context

QUESTION = Question(bytes(range(32)), b"SubjectPublicKeyInfo of a key made in this guest")


@pytest.fixture(scope="module")
def machine(simulator_pki: SimulatorPki) -> Scenario:
    return scenario.good(simulator_pki)


@pytest.fixture(scope="module")
def cloud(machine: Scenario) -> CloudPki:
    return CloudPki(machine.at - timedelta(days=1))


def context(machine: Scenario, *others: Anchor) -> Context:
    def now() -> datetime:
        return machine.at

    fetcher = KdsFetcher(SimulatedKds(machine.pki, clock=now), clock=now)
    return Context(machine.at, AnchorSet((*machine.pki.anchors(), *others)), fetcher, unsafe=frozenset({"simulated-root"}))


class Chip:
    """The TPM commands that the guest uses, answered by the simulator's TPM and these NV indices."""

    def __init__(self, tpm: SimulatedTpm, indices: dict[int, bytes]) -> None:
        self._tpm = tpm
        self._indices = indices

    def __call__(self, command: bytes) -> bytes:
        reader = Reader(command, "test")
        tag, _, code = reader.u16("tag", order="big"), reader.u32("size", order="big"), reader.u32("code", order="big")
        try:
            body = self._answers[code](self, reader)
        except KeyError:
            return bytes.fromhex("80010000000a0000018b")  # TPM_RC_HANDLE
        if tag == 0x8002:
            handle, body = (body[:4], body[4:]) if code == 0x131 else (b"", body)
            body = handle + len(body).to_bytes(4, "big") + body + bytes(5)
        return tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + bytes(4) + body

    def _read_nv_public(self, reader: Reader) -> bytes:
        index = reader.u32("index", order="big")
        public = index.to_bytes(4, "big") + bytes.fromhex("000b") + bytes(4) + bytes(2) + len(self._indices[index]).to_bytes(2, "big")
        return tpm_public.sized(public) + tpm_public.sized(b"")

    def _read_nv(self, reader: Reader) -> bytes:
        reader.take(4, "owner")
        index = reader.u32("index", order="big")
        reader.take(13, "authorisation")
        size, offset = reader.u16("size", order="big"), reader.u16("offset", order="big")
        return tpm_public.sized(self._indices[index][offset : offset + size])

    def _read_pcrs(self, reader: Reader) -> bytes:
        (selection,) = parse_selections(reader)
        values = [self._tpm.pcrs[selection.bank][index] for index in selection.indices]
        back = bytes.fromhex("00000001000b03") + selection.select
        return bytes(4) + back + len(values).to_bytes(4, "big") + b"".join(map(tpm_public.sized, values))

    def _quote(self, reader: Reader) -> bytes:
        reader.take(4 + 13, "key and authorisation")
        extra = tpm_public.buffer(reader, "extra data")
        reader.take(2, "scheme")
        (selection,) = parse_selections(reader)
        quoted, signature = self._tpm.quote(extra, selection.bank, selection.indices)
        return tpm_public.sized(quoted) + signature

    def _create(self, _reader: Reader) -> bytes:
        return bytes.fromhex("80000001") + self._tpm.ak.tpm2b

    def _read_public(self, reader: Reader) -> bytes:
        assert reader.u32("handle", order="big") == 0x81010001
        return self._tpm.ek.tpm2b

    def _capability(self, _reader: Reader) -> bytes:
        return bytes.fromhex("0000000002") + bytes(4)  # no command of a vendor

    _answers: dict[int, Callable[[Chip, Reader], bytes]] = {  # noqa: RUF012 - never changed
        0x169: _read_nv_public,
        0x14E: _read_nv,
        0x17E: _read_pcrs,
        0x158: _quote,
        0x131: _create,
        0x173: _read_public,
        0x165: lambda _self, _reader: b"",
        0x17A: _capability,
    }


class NitroChip(Chip):
    """A stand-in for a NitroTPM: the vendor's command as AWS's own tool asks for it, answered with a document of the TEST authority."""

    def __init__(self, tpm: SimulatedTpm, machine: Scenario, cloud: CloudPki, answer: bytes = b"") -> None:
        super().__init__(tpm, {INDEX: b"left by a run that was killed"})
        self._machine, self._cloud, self._answer = machine, cloud, answer
        self.requests: list[Any] = []

    def _capability(self, reader: Reader) -> bytes:
        assert reader.take(12, "capability") == bytes.fromhex("000000022000000100000001")
        return bytes.fromhex("00000000020000000124400001")  # TPMA_CC: two handles, nv, vendor

    def _define(self, reader: Reader) -> bytes:
        assert reader.take(4 + 13, "owner and password") == bytes.fromhex("4000000100000009400000090000000000")
        assert tpm_public.buffer(reader, "password") == b""
        area = Reader(tpm_public.buffer(reader, "public"), "test")
        index, _, attributes = area.u32("index", order="big"), area.take(2, "hash"), area.u32("attributes", order="big")
        assert (attributes, area.u16("policy", order="big"), index in self._indices) == (0x00040004, 0, False)
        self._indices[index] = b"\xff" * area.u16("size", order="big")
        return b""

    def _undefine(self, reader: Reader) -> bytes:
        reader.take(4, "owner")
        del self._indices[reader.u32("index", order="big")]
        return b""

    def _write(self, reader: Reader) -> bytes:
        index = self._by_itself(reader)
        data, offset = tpm_public.buffer(reader, "data"), reader.u16("offset", order="big")
        old = self._indices[index]
        self._indices[index] = old[:offset] + data + old[offset + len(data) :]
        return b""

    def _attest(self, reader: Reader) -> bytes:
        index = self._by_itself(reader)
        reader.end()
        request = cbor2.loads(self._indices[index])
        self.requests.append(request)
        asked = request["Attestation"]
        document = self._cloud.nitro_document(self._tpm.pcrs["sha384"], asked["nonce"], self._machine.at, public_key=asked["public_key"])
        answer = self._answer or cose.encode({"Attestation": {"document": document}})
        self._indices[index] = answer + self._indices[index][len(answer) :]
        return b""

    @staticmethod
    def _by_itself(reader: Reader) -> int:
        authority, index = reader.u32("authority", order="big"), reader.u32("index", order="big")
        assert (authority, reader.take(13, "password")) == (index, bytes.fromhex("00000009400000090000000000"))
        return index

    _answers = Chip._answers | {
        0x17A: _capability,
        0x12A: _define,
        0x122: _undefine,
        0x137: _write,
        AWS_NSM_REQUEST: _attest,
    }


def fake_ioctl(guest: Guest, table: bytes) -> Callable[[int, int, bytearray], int]:
    """The kernel's and the secure processor's half of /dev/sev-guest."""

    def call(_descriptor: int, number: int, argument: bytearray) -> int:
        version, asked, answered, _ = struct.unpack("<B7xQQQ", argument)
        assert version == 1
        if number == GET_DERIVED_KEY:
            root, _, fields, vmpl, svn, _tcb = struct.unpack("<IIQIIQ", ctypes.string_at(asked, 32))
            assert root == 0
            key = guest.derive_key(KeyRequest(FieldSelect(fields), vmpl=vmpl, guest_svn=svn))
            ctypes.memmove(answered, bytes(32) + key, 64)
            return 0
        data, vmpl, place, room = struct.unpack("<64sI28xQI4x", ctypes.string_at(asked, 112))
        assert room >= len(table)
        report = guest.report(data, vmpl=vmpl)
        ctypes.memmove(answered, struct.pack("<II24x", 0, len(report)) + report, 32 + len(report))
        ctypes.memmove(place, table, len(table))
        return 0

    return call


@pytest.fixture
def configfs(tmp_path: Path, machine: Scenario, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that behaves as configfs does."""
    running = machine.start()
    make, read, remove = Path.mkdir, Path.read_bytes, Path.rmdir

    def mkdir(path: Path, *words: Any, **named: Any) -> None:
        make(path, *words, **named)
        if path.name.startswith("evident-"):
            for name, content in (("generation", "1\n"), ("provider", "sev_guest\n"), ("auxblob", ""), ("outblob", ""), ("inblob", "")):
                (path / name).write_text(content)

    def read_bytes(path: Path) -> bytes:
        if path.name == "outblob":
            return running.guest.report(read(path.with_name("inblob")))
        return running._table if path.name == "auxblob" else read(path)

    def rmdir(path: Path) -> None:
        for entry in path.iterdir():
            entry.unlink()
        remove(path)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    return tmp_path


def azure_chip(machine: Scenario) -> Chip:
    key = rsa.generate_private_key(65537, 2048)
    chip = SimulatedTpm(ak_key=key, ak_scheme=Scheme(0x0014, 0x000B))
    return Chip(chip, {0x01400001: clouds.hcl_report(machine.start().guest, chip)})


def svsm_chip(machine: Scenario) -> Chip:
    chip = SimulatedTpm()
    return Chip(chip, {0x01C00002: machine.start().guest.report(hashlib.sha512(chip.ek.tpm2b).digest())})


def judged(machine: Scenario, evidence: Evidence, nonce: bytes = QUESTION.nonce) -> Any:
    """What the key server would find, given only what was sent."""
    pieces = dict(evidence.pieces)
    if "auxblob" not in pieces and "report" not in pieces:
        pieces["vcek"] = (machine.pki.vcek(machine.chip.product, machine.chip.hwid, machine.chip.tcb("reported")),)
    return environment.verify(pieces, context(machine), nonce, QUESTION.spki)


NOTHING = Path("/nonexistent")


def sources(**working: Source) -> Sequence[Source]:
    """All of them, in the order of `collectors.sources`, with just these working."""
    dead = through(lambda _command: bytes.fromhex("80010000000a0000018b"))
    own: dict[str, Source] = {
        "azure": AzureNv(dead, log=NOTHING),
        "google": GoogleNv((), dead, log=NOTHING),
        "nitro": NitroTpm((), dead, log=NOTHING),
        "configfs": ConfigfsTsm(NOTHING),
        "sev": SevGuest(NOTHING),
        "svsm": SvsmNv(dead, log=NOTHING),
    }
    assert [type(source) for source in own.values()] == [type(source) for source in collectors.sources("hardware")]
    return tuple((own | working).values())


def test_configfs_is_chosen_where_it_works(machine: Scenario, configfs: Path) -> None:
    evidence = collectors.collect(sources(configfs=ConfigfsTsm(configfs)), QUESTION)
    assert evidence.source == "configfs-tsm"
    assert not list(configfs.iterdir()), "the report's directory is gone"
    verified, bound = judged(machine, evidence)
    assert (verified.facts.kind, bound) == ("snp", hashlib.sha384(QUESTION.spki).digest())


def test_a_td_sends_its_quote_and_its_log(
    configfs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ccel = tmp_path_factory.mktemp("acpi") / "CCEL"
    ccel.write_bytes(b"the log of the RTMRs")
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *words: "tdx_guest\n" if path.name == "provider" else read(path, *words))
    evidence = ConfigfsTsm(configfs, log=ccel).collect(QUESTION)
    assert (evidence.kind, set(evidence.pieces)) == ("tdx", {"quote", "key", "log"})
    assert "tdx" in environment.candidates(evidence.pieces)
    monkeypatch.setattr(Path, "read_text", lambda path, *words: "cca_guest\n" if path.name == "provider" else read(path, *words))
    with pytest.raises(Unsupported, match=r"cca_guest"):
        ConfigfsTsm(configfs, log=ccel).collect(QUESTION)


def test_the_device_is_chosen_where_it_works(machine: Scenario, tmp_path: Path) -> None:
    device = tmp_path / "sev-guest"
    device.touch()
    running = machine.start()
    source = SevGuest(device, ioctl=fake_ioctl(running.guest, running._table))
    evidence = collectors.collect(sources(sev=source), QUESTION)
    assert evidence.source == "sev-guest"
    verified, bound = judged(machine, evidence)
    assert (verified.facts.kind, bound) == ("snp", hashlib.sha384(QUESTION.spki).digest())


def test_azure_is_chosen_by_its_index(machine: Scenario) -> None:
    evidence = collectors.collect(sources(azure=AzureNv(through(azure_chip(machine)), log=NOTHING)), QUESTION)
    assert evidence.source == "azure-nv"
    verified, bound = judged(machine, evidence)
    assert (verified.facts.kind, bound) == ("azure-snp", hashlib.sha384(QUESTION.spki).digest())
    with pytest.raises(EvidentError, match=r"challenge"):
        judged(machine, evidence, nonce=bytes(32))


def sev_guest(machine: Scenario, folder: Path) -> SevGuest:
    """`/dev/sev-guest` of a machine with its certificates."""
    device = folder / "sev-guest"
    device.touch()
    running = machine.start()
    return SevGuest(device, ioctl=fake_ioctl(running.guest, running._table))


def google_chip(machine: Scenario, cloud: CloudPki) -> Chip:
    """The template is answered with the same key whatever it says; a software TPM makes one of it (tests/integration)."""
    chip = SimulatedTpm()
    certificate = cloud.ak_certificate(chip.ak_key.public_key(), machine.at)
    return Chip(chip, {GOOGLE_TEMPLATE: chip.ak.raw, GOOGLE_CERTIFICATE: certificate + b"\xff" * 100})


def test_google_is_chosen_by_its_template(machine: Scenario, cloud: CloudPki, tmp_path: Path) -> None:
    device = sev_guest(machine, tmp_path)
    source = GoogleNv((ConfigfsTsm(NOTHING), device), through(google_chip(machine, cloud)), log=NOTHING)
    (evidence,) = collectors.answer(sources(google=source, sev=device), QUESTION)
    assert (evidence.kind, evidence.source) == ("gcp-snp", "google-nv")
    trusted = context(machine, *cloud.anchors())
    verified, bound = environment.verify(evidence.pieces, trusted, QUESTION.nonce, QUESTION.spki)
    assert (verified.facts.kind, bound) == ("gcp-snp", hashlib.sha384(QUESTION.spki).digest())
    assert verified.facts.vtpm is not None
    assert (verified.facts.vtpm.operator, verified.facts.vtpm.location) == ("Google", "hypervisor")
    for nonce, key in ((bytes(32), QUESTION.spki), (QUESTION.nonce, b"another key")):
        with pytest.raises(EvidentError, match=r"tpm\.challenge.*\n*.*gcp\.binding|gcp\.binding"):
            environment.verify(evidence.pieces, trusted, nonce, key)


def test_a_td_at_google_sends_its_quote_alone(machine: Scenario, cloud: CloudPki, configfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once, for the challenge and the key as anywhere: its kind names no key of a TPM."""
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *words: "tdx_guest\n" if path.name == "provider" else read(path, *words))
    written: list[bytes] = []
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: (written.append(data), write(path, data))[1])
    tee = ConfigfsTsm(configfs, log=NOTHING)
    (evidence,) = collectors.answer([GoogleNv((tee,), through(google_chip(machine, cloud)), log=NOTHING), tee], QUESTION)
    assert (evidence.kind, set(evidence.pieces), written) == ("gcp-tdx", {"quote", "key"}, [QUESTION.report_data])


def test_aws_is_chosen_by_its_command(machine: Scenario, cloud: CloudPki, tmp_path: Path) -> None:
    device, chip = sev_guest(machine, tmp_path), NitroChip(SimulatedTpm(), machine, cloud)
    source = NitroTpm((ConfigfsTsm(NOTHING), device), through(chip), log=NOTHING)
    (evidence,) = collectors.answer(sources(nitro=source, sev=device), QUESTION)
    assert (evidence.kind, evidence.source) == ("aws-snp", "nitro-tpm")
    assert chip.requests == [{"Attestation": {"user_data": None, "nonce": QUESTION.nonce, "public_key": QUESTION.spki}}]
    assert chip._indices == {}, "the index is gone, and what a killed run left there too"
    trusted = context(machine, *cloud.anchors())
    verified, bound = environment.verify(evidence.pieces, trusted, QUESTION.nonce, QUESTION.spki)
    assert (verified.facts.kind, bound) == ("aws-snp", hashlib.sha384(QUESTION.spki).digest())
    for nonce, key in ((bytes(32), QUESTION.spki), (QUESTION.nonce, b"another key")):
        with pytest.raises(EvidentError, match=r"nitro\.(challenge|key)"):
            environment.verify(evidence.pieces, trusted, nonce, key)


def test_aws_without_a_tee_sends_the_document_alone(machine: Scenario, cloud: CloudPki) -> None:
    source = NitroTpm((ConfigfsTsm(NOTHING),), through(NitroChip(SimulatedTpm(), machine, cloud)), log=NOTHING)
    (evidence,) = collectors.answer(sources(nitro=source), QUESTION)
    verified, _ = environment.verify(evidence.pieces, context(machine, *cloud.anchors()), QUESTION.nonce, QUESTION.spki)
    assert (evidence.kind, verified.facts.kind, verified.facts.tee) == ("nitrotpm", "nitrotpm", None)


@pytest.mark.parametrize(("answer", "code"), [({"Error": "InvalidArgument"}, "nsm.refused"), ({"DescribeNSM": {}}, "nsm.response")])
def test_a_module_that_gives_no_document(machine: Scenario, cloud: CloudPki, answer: object, code: str) -> None:
    chip = NitroChip(SimulatedTpm(), machine, cloud, cbor2.dumps(answer))
    with pytest.raises(EvidentError, match=code):
        NitroTpm((), through(chip), log=NOTHING).collect(QUESTION)
    assert chip._indices == {}


def test_another_tpm_costs_three_questions(machine: Scenario) -> None:
    """Azure's index, Google's index, AWS's command: each is asked for once, and nothing is written."""
    asked: list[int] = []
    chip = Chip(SimulatedTpm(), {})

    def counted(command: bytes) -> bytes:
        asked.append(int.from_bytes(command[6:10], "big"))
        return chip(command)

    for source in (AzureNv(through(counted)), GoogleNv((), through(counted)), NitroTpm((), through(counted))):
        with pytest.raises(Unsupported):
            source.collect(QUESTION)
    assert asked == [0x169, 0x169, 0x17A]


@pytest.mark.attack("AT-23", "A report that another machine made for its own TPM, beside this TPM's words.", "gcp.binding or aws.binding")
@pytest.mark.parametrize("place", ["gcp", "aws"])
def test_at23_a_report_of_another_machine(machine: Scenario, cloud: CloudPki, tmp_path: Path, place: str) -> None:
    """With the binding off it passes: report and TPM are each authentic."""
    device = sev_guest(machine, tmp_path)
    if place == "gcp":
        own, other = (GoogleNv((device,), through(google_chip(machine, cloud)), log=NOTHING).collect(QUESTION) for _ in range(2))
    else:
        chips = (NitroChip(SimulatedTpm(), machine, cloud) for _ in range(2))
        own, other = (NitroTpm((device,), through(chip), log=NOTHING).collect(QUESTION) for chip in chips)
    mixed = {**own.pieces, "report": other.pieces["report"]}
    trusted = context(machine, *cloud.anchors())
    with pytest.raises(EvidentError, match=rf"{place}\.binding"):
        environment.verify(mixed, trusted, QUESTION.nonce, QUESTION.spki)
    off, nonce = frozenset({f"{place}.binding"}), binding.report_data(QUESTION.nonce, QUESTION.spki)
    if place == "gcp":
        gcp.verify(mixed, replace(trusted, nonce=nonce), without=off)
    else:
        aws.verify(mixed, replace(trusted, nonce=QUESTION.nonce), without=off)


def test_an_svsm_is_chosen_by_its_index(machine: Scenario) -> None:
    evidence = collectors.collect(sources(svsm=SvsmNv(through(svsm_chip(machine)), log=NOTHING)), QUESTION)
    assert evidence.source == "svsm-nv"
    table = machine.start()._table
    verified, bound = environment.verify({**evidence.pieces, "auxblob": (table,)}, context(machine), QUESTION.nonce, QUESTION.spki)
    assert verified.facts.kind == "svsm"
    assert bound == hashlib.sha384(QUESTION.spki).digest()


def test_a_plain_machine_says_what_it_lacks() -> None:
    with pytest.raises(Unsupported, match=r"guest\.no-evidence") as caught:
        collectors.collect(sources(), QUESTION)
    for name in ("configfs-tsm", "sev-guest", "tpm"):
        assert f"guest.{name}.unavailable" in str(caught.value)


def test_hardware_never_falls_back_to_the_simulator() -> None:
    assert [type(source) for source in collectors.sources("simulated")] == [SimulatedProcessor]
    assert SimulatedProcessor not in {type(source) for source in collectors.sources("hardware")}


def test_two_that_ask_the_simulated_processor_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process and SPIRE's plug-in; the channel takes one at a time. Whoever has waited long enough says so."""
    channel, opening = tmp_path / "channel", os.open
    channel.touch()
    busy = [OSError(errno.EBUSY, "busy")] * 2

    def opened(path: Path, flags: int) -> int:
        if busy:
            raise busy.pop()
        return opening(path, flags)

    monkeypatch.setattr(os, "open", opened)
    os.close(simulated._opened(channel, time.monotonic() + 60))
    assert busy == []
    busy += [OSError(errno.EBUSY, "busy")]
    with pytest.raises(Unsupported, match="busy"):
        simulated._opened(channel, 0.0)


@pytest.mark.attack("NA-04", "An agent calls Azure's evidence that of a plain SNP machine.", "judged as azure-snp", "refused")
def test_a_lying_agent_is_judged_by_what_verifies(machine: Scenario) -> None:
    """The word is not looked at: with it taken, the paravisor's machine would pass for one without a paravisor."""
    honest = AzureNv(through(azure_chip(machine)), log=NOTHING).collect(QUESTION)
    lying = cmw.encode(cmw.of_pieces("snp", honest.pieces))
    kind, pieces = cmw.to_pieces(cmw.decode(lying))
    assert kind == "snp"
    verified, _ = judged(machine, Evidence(kind, pieces, "liar"))
    assert verified.facts.kind == "azure-snp"


@pytest.mark.attack("NA-04", "An agent sends another machine's report beside its own quote.", "svsm.* or evidence.unknown-kind", "refused")
def test_pieces_of_two_machines_verify_as_nothing(machine: Scenario) -> None:
    own = SvsmNv(through(svsm_chip(machine)), log=NOTHING).collect(QUESTION)
    other = SvsmNv(through(svsm_chip(machine)), log=NOTHING).collect(QUESTION)
    mixed = {**own.pieces, "report": other.pieces["report"], "auxblob": (machine.start()._table,)}
    with pytest.raises(EvidentError, match=r"svsm\.binding"):
        environment.verify(mixed, context(machine), QUESTION.nonce, QUESTION.spki)
    with pytest.raises(Unsupported, match=r"evidence\.unknown-kind"):
        environment.verify({"signature": (b"x",)}, context(machine), QUESTION.nonce, QUESTION.spki)


def deriver(machine: Scenario, folder: Path) -> SevGuest:
    device = folder / "sev-guest"
    device.touch()
    running = machine.start()
    return SevGuest(device, ioctl=fake_ioctl(running.guest, running._table))


def at_level_one(running: Guest) -> bytes:
    """What a less privileged level of the same guest gets for the same question."""
    fields = FieldSelect(sealing.FIELDS)
    with pytest.raises(UsageError, match=r"simulator\.sp\.vmpl"):
        running.derive_key(KeyRequest(fields), current_vmpl=1)
    return running.derive_key(KeyRequest(fields, vmpl=1), current_vmpl=1)


def test_a_launch_gets_its_own_key_alone(machine: Scenario, tmp_path: Path) -> None:
    """RV-09: same launch same key; another measurement, another chip, a less privileged level, another use: another one."""
    key = sealing.launch_key(deriver(machine, tmp_path), "disk")
    assert sealing.launch_key(deriver(machine, tmp_path), "disk") == key
    less = SimpleNamespace(derive_key=lambda *_, **__: at_level_one(machine.start().guest))
    others = [
        sealing.launch_key(deriver(scenario.ATTACKS["swap-kernel"].on(machine), tmp_path), "disk"),
        sealing.launch_key(deriver(replace(machine, chip=replace(machine.chip, chip_id=b"\7" * 64)), tmp_path), "disk"),
        sealing.launch_key(less, "disk"),
        sealing.launch_key(deriver(machine, tmp_path), "another use"),
    ]
    assert len({key, *others}) == 5


def test_a_launch_opens_its_own_disk_alone(machine: Scenario, tmp_path: Path) -> None:
    """RV-09, BW-25: the derived key opens a disk without a key server; that of another kernel or another chip does not."""
    volume = tmp_path / "volume"
    volume.write_bytes(sealed(key=sealing.launch_key(deriver(machine, tmp_path), "disk")))
    assert opens(volume, sealing.launch_key(deriver(machine, tmp_path), "disk"))
    for other in (scenario.ATTACKS["swap-kernel"].on(machine), replace(machine, chip=replace(machine.chip, chip_id=b"\7" * 64))):
        assert not opens(volume, sealing.launch_key(deriver(other, tmp_path), "disk"))
