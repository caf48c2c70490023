"""The guest's own TPM commands on a real TPM (swtpm), judged by the verifier's side; and sources chosen by what works (NA-03, NA-04).

Skipped, saying so, where swtpm is not installed (Debian: swtpm).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.software_tpm import software_tpm
from tests.unit.image.test_seal import opens, sealed

from evident.endorsements import anchors
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import Fetched
from evident.errors import CollateralUnavailable, EvidentError
from evident.evidence import tpm_public
from evident.evidence.tpm_templates import EK_ATTRIBUTES, EK_POLICY
from evident.guest import sealing
from evident.guest.source import Evidence, Question
from evident.guest.sources.nitro_tpm import AWS_NSM_REQUEST, NitroTpm
from evident.guest.sources.vtpm import GOOGLE_CERTIFICATE, GOOGLE_TEMPLATE, GoogleNv, OwnQuote, through
from evident.guest.steps import reopen
from evident.guest.tpm_device import Tpm
from evident.simulator import scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import credential, environment
from evident.verification.context import Context

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="not installed: swtpm (Debian: swtpm)")
QUESTION = Question(bytes(range(32)), b"a key's SubjectPublicKeyInfo")


class Offline:
    def fetch(self, url: str, *, limit: int) -> Fetched:
        raise CollateralUnavailable.of("fetch.offline", expected=url, found=f"no network for {limit} bytes", remedy="Go online.")


@pytest.fixture(scope="module")
def transact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], bytes]]:
    """A command in, its response out: what the character device does."""
    yield from software_tpm(tmp_path_factory.mktemp("guest-tpm"))


def context() -> Context:
    return Context(datetime(2026, 11, 22, tzinfo=UTC), anchors.production(), Offline())


def extend(transact: Callable[[bytes], bytes], index: int, digest: bytes) -> None:
    """TPM2_PCR_Extend, SHA-256 bank."""
    body = index.to_bytes(4, "big") + bytes.fromhex("00000009400000090000000000") + bytes.fromhex("00000001000b") + digest
    response = transact(bytes.fromhex("8002") + (10 + len(body)).to_bytes(4, "big") + bytes.fromhex("00000182") + body)
    assert response[6:10] == bytes(4), response.hex()


def test_a_quote_answers_challenge_and_key(transact: Callable[[bytes], bytes]) -> None:
    evidence = OwnQuote(through(transact)).collect(QUESTION)
    assert evidence.kind == "tpm"
    verified, bound = environment.verify(evidence.pieces, context(), QUESTION.nonce, QUESTION.spki)
    assert verified.facts.freshness.scope == "challenge"
    assert bound == hashlib.sha384(QUESTION.spki).digest()
    assert verified.facts.vtpm is not None
    assert set(verified.facts.vtpm.pcrs["sha256"]) == set(range(24))


def test_another_key_or_challenge_is_refused(transact: Callable[[bytes], bytes]) -> None:
    evidence = OwnQuote(through(transact)).collect(QUESTION)
    for nonce, key in ((bytes(32), QUESTION.spki), (QUESTION.nonce, b"another key")):
        with pytest.raises(EvidentError, match=r"tpm\.challenge"):
            environment.verify(evidence.pieces, context(), nonce, key)


def test_the_key_is_the_same_every_time_and_restricted(transact: Callable[[bytes], bytes]) -> None:
    chip = Tpm(transact)
    names = set()
    for _ in range(5):  # more than a TPM keeps loaded: each is flushed
        handle, public = chip.create_ak()
        names.add(public.name)
        chip.flush(handle)
    assert len(names) == 1
    assert public.attribute_flags["restricted"]
    assert public.attribute_flags["fixed_tpm"]


def test_the_tpm_opens_what_is_for_its_own_keys_alone(transact: Callable[[bytes], bytes]) -> None:
    """TPM2_ActivateCredential under the default EK's policy, for the AK that quotes (AT-22)."""
    chip = Tpm(transact)
    key, ak = chip.create_ak()
    chip.flush(key)
    for _ in range(3):  # as often as it is asked: nothing stays loaded
        with chip.endorsement_key() as (_, ek):
            challenge = credential.challenge(ek, ak.name, os.urandom)
        assert chip.activate_credential(challenge.credential_blob, challenge.encrypted_secret) == challenge.secret
    assert (ek.attributes, ek.auth_policy) == (EK_ATTRIBUTES, EK_POLICY)
    other = SimulatedTpm()
    for foreign in (credential.challenge(ek, other.ak.name, os.urandom), credential.challenge(other.ek, ak.name, os.urandom)):
        with pytest.raises(EvidentError, match=r"command 0x147.*response code"):
            chip.activate_credential(foreign.credential_blob, foreign.encrypted_secret)


def test_an_index_that_is_not_there_is_named(transact: Callable[[bytes], bytes]) -> None:
    with pytest.raises(EvidentError, match=r"guest\.tpm\.unavailable.*response code"):
        Tpm(transact).nv_read(0x01400001)


TEMPLATE = bytes.fromhex("0023 000b 00050072 0000 0010 0018 000b 0003 0010 0000 0000")
"""TPMT_PUBLIC of a restricted ECDSA key on P-256 with SHA-256, without a point: the form of Google's template."""
MESSAGES = 0x01A04556
OWNER = tpm_public.HANDLE_OWNER.to_bytes(4, "big")


def manufacture(transact: Callable[[bytes], bytes], index: int, content: bytes) -> None:
    """NV_DefineSpace and NV_Write, which the guest does not do to others' indices: for owner and index to read."""
    public = index.to_bytes(4, "big") + bytes.fromhex("000b 02060006 0000") + len(content).to_bytes(2, "big")
    commands = [(0x12A, OWNER, tpm_public.sized(b"") + tpm_public.sized(public))]
    for start in range(0, len(content), 512):
        commands.append(
            (0x137, OWNER + index.to_bytes(4, "big"), tpm_public.sized(content[start : start + 512]) + start.to_bytes(2, "big"))
        )
    for code, handles, parameters in commands:
        body = handles + bytes.fromhex("00000009400000090000000000") + parameters
        response = transact(bytes.fromhex("8002") + (10 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body)
        assert response[6:10] == bytes(4), response.hex()


class Device:
    """A machine's secure processor, simulated: the report that is asked for, and the table of certificates."""

    def __init__(self, machine: Scenario) -> None:
        self._running = machine.start()

    def report(self, report_data: Mapping[str, bytes]) -> Evidence:
        return Evidence("snp", {"report": (self._running.guest.report(report_data["snp"]),), "auxblob": (self._running._table,)}, "test")


def test_google_s_key_is_made_of_its_template(transact: Callable[[bytes], bytes], simulator_pki: SimulatorPki) -> None:
    """All of kind ``gcp-snp`` but Google: a real TPM makes key, quote and PCRs; the certificate and the report are by TEST roots."""
    machine = scenario.good(simulator_pki)
    cloud = CloudPki(machine.at - timedelta(days=1))
    source = GoogleNv((Device(machine),), through(transact))
    with pytest.raises(EvidentError, match=r"command 0x169"):  # before the indices are there
        source.collect(QUESTION)
    manufacture(transact, GOOGLE_TEMPLATE, TEMPLATE)
    chip = Tpm(transact)
    handle, public = chip.create_from(TEMPLATE)
    chip.flush(handle)
    manufacture(transact, GOOGLE_CERTIFICATE, cloud.ak_certificate(public.public_key(), machine.at))
    fetcher = KdsFetcher(SimulatedKds(machine.pki, clock=lambda: machine.at), clock=lambda: machine.at)
    trusted = Context(machine.at, AnchorSet((*machine.pki.anchors(), *cloud.anchors())), fetcher, unsafe=frozenset({"simulated-root"}))
    for _ in range(4):  # as often as it is asked: nothing stays loaded
        evidence = source.collect(QUESTION)
    assert evidence.pieces["ak"] == (public.tpm2b,)
    verified, bound = environment.verify(evidence.pieces, trusted, QUESTION.nonce, QUESTION.spki)
    assert (verified.facts.kind, bound) == ("gcp-snp", hashlib.sha384(QUESTION.spki).digest())
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.pcrs["sha256"] == chip.pcr_read("sha256")
    foreign = cloud.ak_certificate(SimulatedTpm().ak_key.public_key(), machine.at)
    with pytest.raises(EvidentError, match=r"tpm\.ak-key"):
        environment.verify({**evidence.pieces, "ak-cert": (foreign,)}, trusted, QUESTION.nonce, QUESTION.spki)


def test_a_message_buffer_is_written_read_and_gone(transact: Callable[[bytes], bytes]) -> None:
    """What the guest does to an NV index for AWS's command; that command itself no TPM here has."""
    chip, message = Tpm(transact), bytes(range(256)) * 3
    for _ in range(2):
        with chip.message_buffer(MESSAGES, 1024):
            chip.nv_write(MESSAGES, message)
            assert chip.nv_read(MESSAGES, MESSAGES)[: len(message)] == message
    with pytest.raises(EvidentError, match=r"command 0x169"):
        chip.nv_read(MESSAGES)
    with pytest.raises(ZeroDivisionError), chip.message_buffer(MESSAGES, 1024):
        raise ZeroDivisionError
    with pytest.raises(EvidentError, match=r"command 0x169"):
        chip.nv_read(MESSAGES)
    with chip.message_buffer(MESSAGES, 64), chip.message_buffer(MESSAGES, 128):  # one run was killed with its index defined
        chip.nv_write(MESSAGES, message[:128])


def test_a_tpm_says_which_commands_it_has(transact: Callable[[bytes], bytes]) -> None:
    chip = Tpm(transact)
    assert chip.implements(0x158)
    assert not chip.implements(AWS_NSM_REQUEST)
    with pytest.raises(EvidentError, match=r"guest\.nitro-tpm\.unavailable"):
        NitroTpm((), through(transact)).collect(QUESTION)


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Callable[[Path], Callable[[bytes], bytes]]]:
    """Starts a TPM with what it kept in a folder, in the place of the one before."""
    with ExitStack() as running:

        def start(state: Path) -> Callable[[bytes], bytes]:
            running.close()
            state.mkdir(exist_ok=True)
            (state / "sock").unlink(missing_ok=True)
            return running.enter_context(contextmanager(software_tpm)(state))

        yield start


Restarted = Callable[[Path], Callable[[bytes], bytes]]
ANOTHER_KERNEL = hashlib.sha256(b"another kernel").digest()


@pytest.mark.attack("FS-05", "Another kernel asks the TPM for the passphrase of the disk.", "guest.tpm.unavailable")
def test_a_tpm_keeps_a_passphrase_for_the_same_boot_alone(restarted: Restarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FS-05, BW-25: after a restart the same boot opens its disk without a key server, a changed kernel does not."""
    volume, state = tmp_path / "volume", tmp_path / "tpm"
    way = reopen.through_tpm(through(restarted(state)))
    with pytest.raises(EvidentError, match=r"guest\.tpm\.unavailable"):
        way.recall()
    earlier = way.enrol()
    volume.write_bytes(sealed(key=way.enrol()))
    assert not opens(volume, earlier)
    transact = restarted(state)
    assert opens(volume, reopen.through_tpm(through(transact)).recall())
    extend(transact, 11, ANOTHER_KERNEL)
    with pytest.raises(EvidentError, match=r"response code 0x99d"):
        reopen.through_tpm(through(transact)).recall()
    extend(transact, 10, ANOTHER_KERNEL)  # what goes on after the boot does not count
    again = reopen.through_tpm(through(transact)).enrol()
    assert reopen.through_tpm(through(transact)).recall() == again
    monkeypatch.setattr(sealing, "PCRS", ())
    sealed_to_nothing = reopen.through_tpm(through(transact)).enrol()
    extend(transact, 11, ANOTHER_KERNEL)
    assert reopen.through_tpm(through(transact)).recall() == sealed_to_nothing


@pytest.mark.attack("FS-05", "The host copies the TPM's state, and starts another machine with it.", "not covered", "succeeds")
def test_a_copied_tpm_keeps_what_was_copied(restarted: Restarted, tmp_path: Path) -> None:
    """Nothing in the guest can tell: whoever runs the TPM has what it keeps, and has to be trusted with the disk (plan.party)."""
    passphrase = reopen.through_tpm(through(restarted(tmp_path / "tpm"))).enrol()
    restarted(tmp_path / "another")
    shutil.copytree(tmp_path / "tpm", tmp_path / "copy", ignore=shutil.ignore_patterns("sock", ".lock"))
    assert reopen.through_tpm(through(restarted(tmp_path / "copy"))).recall() == passphrase


def test_a_tpm_without_the_bank_keeps_nothing(transact: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tpm, "pcr_read", lambda *_: {})
    with pytest.raises(EvidentError, match=r"guest\.sealing\.unavailable"):
        reopen.through_tpm(through(transact)).enrol()
