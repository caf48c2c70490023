"""A TD on Google Cloud: it boots the disk that was made for it, and its quote's run-time registers are held against that very disk.

The boot is played by `evident.simulator.td_boot` under a TEST root: it proves what Evident does with such evidence, and nothing of Google.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.contract.lifecycle.conftest import SPKI, TODAY
from tests.contract.lifecycle.images import an_image, digest
from tests.contract.lifecycle.stages import GCP_WHERE

from evident.appraisal.policy import Policy
from evident.audit.case import decide
from evident.cli.documents import read_specification
from evident.endorsements import anchors, intel
from evident.endorsements.fetcher import Fetched, StaticFetcher
from evident.errors import PolicyRefused
from evident.evidence import cmw
from evident.evidence import disk as reader
from evident.evidence import uki as uki_reader
from evident.evidence.binding import report_data
from evident.image import build, disk, uki
from evident.keys import release
from evident.keys.exchange import open_offer, spki
from evident.keys.messages import EvidenceRequest, Volume, loads
from evident.lifecycle import disks, keyserver, keystore
from evident.lifecycle.deployment import Deployment
from evident.lifecycle.journal import State
from evident.lifecycle.plan import plan
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Believed
from evident.reference_values import documents
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength
from evident.simulator.td_boot import Booted, boot
from evident.simulator.tdx import Platform, TdxPki, TrustDomain

NETWORK = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}], "outbound": [{"port": 8443, "peer": "203.0.113.10/32"}]}
INTEL = TdxPki(b"a life of a TD", TODAY)
FIRMWARE = ReferenceValue(
    ("firmware",), "launch", TrustDomain().mrtd, Strength.RECOMPUTED, "you", "firmware", Provenance("a test", "stated")
)


class Machine:
    """What answers in place of the TD."""

    booted: Booted
    key = SPKI
    """What the quote binds to the challenge."""

    def start(self, image: bytes, **changes: Any) -> None:
        self.booted = boot(image, **changes)

    def pieces(self, _: Any, nonce: bytes) -> dict[str, tuple[bytes, ...]]:
        quote = INTEL.quote(Platform(), self.booted.guest, report_data(nonce, self.key))
        return {"quote": (quote,), "log": (self.booted.log,), "tcb-chain": (INTEL.tcb_chain(),)}


def intel_service() -> StaticFetcher:
    """Intel's service, as it answers for the simulated platform."""
    served = INTEL.collateral(Platform(), TODAY)
    urls = {
        intel.tcb_info_url(Platform().fmspc): served["tcb-info"],
        intel.qe_identity_url(): served["qe-identity"],
        intel.pck_crl_url("platform"): served["pck-crl"],
        intel.ROOT_CRL_URL: served["root-crl"],
    }
    return StaticFetcher({url: Fetched(url, body, TODAY) for url, body in urls.items()})


@pytest.fixture
def platform() -> str:
    return "gcp"


@pytest.fixture
def machine(life: Any, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`life` on Google Cloud with technology tdx."""
    made = Machine()
    believed = Believed(INTEL.anchors(), frozenset({"simulated-root"}), intel_service())
    monkeypatch.setattr(CloudDriver, "believed", lambda *_: believed)
    (life.home / "firmware.json").write_bytes(documents.dump(ReferenceSet(1, (FIRMWARE,), "firmware")))
    policy = {"version": 1, "levels": {"nominal": 4, "trustworthy": 4}, "accepted_trust": ["Google"], "allow_simulated": True}
    life.write(technology="tdx", where={"gcp": {**GCP_WHERE, "type": "c3-standard-4"}}, policy=policy)
    return made


def up(life: Any, machine: Machine) -> Deployment:
    """The deployment is made, and where its machine answers `machine` does."""
    target: Deployment = life.up()
    life.machine.kind, life.machine._stage = "gcp-tdx", replace(life.stage, pieces=machine.pieces)
    return target


def own_disk(target: Deployment) -> bytes:
    (path,) = disks.made(target.home)
    return path.read_bytes()


def changed(image: bytes, how: Callable[[bytes], bytes]) -> bytes:
    """The disk with another UKI in the place of its own, and everything else as it was."""
    table, sector = reader.read_partition_table(image)
    system = next(each for each in table.partitions if each.type == reader.SYSTEM_PARTITION)
    volume = disk.system_partition([(build.BOOT_PATH, how(reader.open_system_partition(image).read(build.BOOT_PATH)))], 1)
    start, end = system.first * sector, (system.last + 1) * sector
    assert len(volume) <= end - start
    return image[:start] + volume.ljust(end - start, b"\0") + image[end:]


def with_another_kernel(image: bytes) -> bytes:
    kernel = next(section for section in uki_reader.parse(image).image.sections if section.name == ".linux")
    at = kernel.raw_offset + kernel.virtual_size - 1
    return image[:at] + bytes((image[at] ^ 1,)) + image[at + 1 :]


def with_another_command_line(image: bytes) -> bytes:
    return uki.with_command_line(image, f"{uki_reader.parse(image).command_line} quiet")


def test_the_disk_that_was_made_is_accepted_without_googles_word(life: Any, machine: Machine) -> None:
    target = up(life, machine)
    assert {value.register for value in target.references.values} >= {"rtmr1", "rtmr2", "launch"}
    assert not any(value.register.startswith("pcr") for value in target.references.values), "a TD is asked for no TPM"
    machine.start(own_disk(target))
    statement = life.statement()
    assert (statement.decision, statement.kind, statement.technology) == ("accepted", "gcp-tdx", "tdx"), statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 4)
    chosen = plan(read_specification(life.path), at=life.now().date()).chosen
    assert chosen.prospect.levels == statement.levels, "as the plan said"
    layers = {layer.name: layer for layer in statement.layers}
    for each in chosen.prospect.layers:
        assert each.layer not in ("firmware", "boot_chain", "root_filesystem") or each.verifiability == layers[each.layer].verifiability


def test_another_boot_than_of_its_disk_is_refused(life: Any, machine: Machine) -> None:
    """Another kernel, another command line, another machine's disk of the same image: by name, and only while the boot is compared."""
    target = up(life, machine)
    own = own_disk(target)
    elsewhere = (life.home / "one" / "disk.raw").read_bytes()
    codes = {"boot.kernel", "boot.cmdline"}
    for image, code in (
        (changed(own, with_another_kernel), "boot.kernel"),
        (changed(own, with_another_command_line), "boot.cmdline"),
        (elsewhere, "boot.cmdline"),
    ):
        machine.start(image)
        answer = life.attest()
        assert (answer.outcome.decision, target.journal.state) == ("refused", State.QUARANTINED)
        assert {finding.code for finding in answer.outcome.findings} & codes == {code}
        nothing_compared = replace(answer.case, references=(FIRMWARE,), policy=Policy(version=1, allow_simulated=True))
        assert decide(nothing_compared, anchors=anchors.production().plus(*INTEL.anchors()), fetcher=intel_service()).decision == "accepted"
    machine.start(own)
    assert life.statement().decision == "accepted"


def test_its_disk_key_is_released_to_its_own_boot_alone(life: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No TPM is asked, and nobody but Intel believed: Google may boot something else, and gets no key for it."""
    own = ec.generate_private_key(ec.SECP384R1())
    machine.key = spki(own.public_key())
    monkeypatch.setattr(keyserver, "begin", lambda *_: None)  # it is asked in this process
    an_image(life.home / "sealed", life.key, name="sealed", at=TODAY, profile="encrypted")
    image = {"path": "sealed", "sha256": digest(life.home / "sealed").hex()}
    life.write(image=image, disks={"root_key": "key-server"}, key_server="203.0.113.10:8443", network=NETWORK)
    target = up(life, machine)
    store = keystore.open_store(target.surroundings)
    (name,) = store.volumes.disks_under(target.name)
    service = keyserver.service(target, life.home / "cache")

    def asks(image: bytes) -> Volume:
        machine.start(image)
        nonce = service.challenge(name)
        evidence = cmw.encode(cmw.of_pieces("gcp-tdx", machine.pieces(None, nonce)))
        offer = service.release(EvidenceRequest(1, name, nonce, machine.key, evidence))
        return loads(Volume, open_offer(offer, own=own, nonce=nonce, releaser=store.releaser.private.public_key())[0])

    assert len(asks(own_disk(target)).key) == 64
    another = changed(own_disk(target), with_another_kernel)
    with pytest.raises(PolicyRefused, match=r"boot\.kernel"):
        asks(another)
    monkeypatch.setattr(release, "check_accepted", lambda *_: None)
    assert len(asks(another).key) == 64, "while nothing looks at the statement"


def test_without_a_value_for_the_firmware_the_plan_says_so(life: Any, machine: Machine) -> None:
    """Nobody sends Google's endorsement along: what the firmware is compared with, the owner brings."""
    life.write(references=[])
    with pytest.raises(PolicyRefused) as caught:
        life.up()
    (finding,) = (finding for finding in caught.value.findings if finding.code == "plan.trustworthy")
    assert finding.layer == "firmware"
    assert life.cloud.live() == []
