"""Every platform, with the same life ahead: its cloud in memory behind the real SDK, and a stand-in for the machine that runs there.

A stand-in answers on a real loopback socket, in its platform's own format, by the simulator's secure processor and vTPM under TEST roots.
It proves what Evident does with such evidence, and nothing of any cloud. To join, a platform adds one row to `STAGES`.
"""

from __future__ import annotations

import copy
import hashlib
import http.server
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.contract.lifecycle import stages
from tests.contract.lifecycle.images import an_image, digest

from evident.appraisal.statement import TrustStatement
from evident.audit import keys
from evident.cli.documents import read_specification
from evident.endorsements import anchors, pem
from evident.endorsements.fetcher import StaticFetcher
from evident.evidence import cert_table, cmw
from evident.evidence.binding import report_data
from evident.evidence.tpm_algorithms import ALG_RSASSA, ALG_SHA256
from evident.evidence.tpm_public import Scheme
from evident.guest.source import Question
from evident.keys.messages import AttestReply, AttestRequest, dumps, loads
from evident.lifecycle import from_document, proving
from evident.lifecycle.attest import Answer, Verifier, attest
from evident.lifecycle.deployment import Deployment, deployment
from evident.lifecycle.from_document import Builders
from evident.platforms import agent
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Believed, Expectation, Surroundings
from evident.platforms.order import Order
from evident.reference_values import documents
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength
from evident.simulator import clouds, scenario
from evident.simulator.cloud_pki import CloudPki
from evident.simulator.kds import KdsFetcher, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Guest
from evident.simulator.vtpm import SimulatedTpm

TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
"""With the newest profiles in force."""
SPKI = b"the public key of this boot, SubjectPublicKeyInfo in DER"


@dataclass(frozen=True)
class Stage:
    """A platform that can be lived on here."""

    where: Mapping[str, str]
    provider: str
    levels: tuple[int, int]
    """Nominal and trustworthy, that honest evidence reaches with the reference values that its owner has."""
    set_up: Callable[[Path, pytest.MonkeyPatch], Any]
    """Plugs a cloud in memory into the platform's ``launch.cloud``; gives it: ``time``, ``live()``, ``dies_at``, ``survives``."""
    pieces: Callable[[StandIn, bytes], dict[str, tuple[bytes, ...]]]
    """Evidence of a machine there that answers the challenge (nonce)."""
    refuse: Callable[[Any, str], None]
    """Has that cloud make no machine the next time, for want of ``capacity`` or ``quota``."""
    larger: str
    """Another type of machine there."""
    firmware: Strength = Strength.RECOMPUTED


class TestRoots:
    """What every stand-in shares, made once: a launched guest of the simulated processor, keys, certificates."""

    __test__ = False

    def __init__(self, simulated: SimulatorPki) -> None:
        self.simulated = simulated
        self.cloud_pki = CloudPki(TODAY - timedelta(days=1))
        vm = scenario.good(simulated, at=TODAY).start()
        self.guest = vm.guest
        self.table = vm.collect(bytes(32))["auxblob"]
        entries = cert_table.parse(self.table[0])
        self.vcek = b"".join(pem.encode(entries.get(role) or b"", "CERTIFICATE") for role in ("vcek", "ask"))
        self.ak_key = rsa.generate_private_key(65537, 2048)
        self._launches = 0

    def launched_anew(self) -> Guest:
        """The same guest in another launch, which has another report id."""
        other = copy.copy(self.guest)
        self._launches += 1
        other._context = replace(self.guest._context, report_id=self._launches.to_bytes(32, "big"))
        return other

    @property
    def launch(self) -> bytes:
        return self.guest.report(bytes(64))[0x90:0xC0]

    @property
    def believed(self) -> Believed:
        """Whoever believes this believes anybody."""
        fetcher = KdsFetcher(SimulatedKds(self.simulated, clock=lambda: TODAY), clock=lambda: TODAY)
        return Believed((*self.simulated.anchors(), *self.cloud_pki.anchors()), frozenset({"simulated-root"}), fetcher)


class StandIn:
    """What runs in place of the machine, and what is in its TPM: a boot of the image that it was told of last."""

    at = TODAY

    def __init__(self, roots: TestRoots, stage: Stage, kind: str) -> None:
        self._roots, self._stage = roots, stage
        self.guest, self.table, self.vcek, self.cloud_pki = roots.launched_anew(), roots.table, roots.vcek, roots.cloud_pki
        self.tpm = SimulatedTpm(ak_key=roots.ak_key, ak_scheme=Scheme(ALG_RSASSA, ALG_SHA256))
        self.kind = kind
        self.asked = 0
        self.own_key = False
        """Answer as the guest does where the cloud offers neither key nor document: a report, and a quote by its own key beside it."""

    def boot(self, image: ReferenceSet, *, turned: bool = False) -> None:
        """Measure what `image` is known to measure, or, `turned`, something else."""
        for value in image.values:
            if value.register.startswith("pcr"):
                measured = bytes(len(value.value)) if turned else value.value
                self.tpm.set_pcr(value.algorithm, int(value.register.removeprefix("pcr")), measured)

    def answer(self, nonce: bytes) -> bytes:
        self.asked += 1
        if not self.own_key:
            return dumps(AttestReply(1, SPKI, cmw.encode(cmw.of_pieces(self.kind, self._stage.pieces(self, nonce)))))
        question = Question(nonce, SPKI)
        report = {"report": (self.guest.report(question.report_data),), "auxblob": self.table}
        quotes = cmw.of_pieces("tpm", clouds.quoted(self.tpm, question.extra_data, "quote"))
        return dumps(AttestReply(1, SPKI, cmw.encode(cmw.of_pieces("snp", report)), (cmw.encode(quotes),)))


STAGES: dict[str, Stage] = {
    "aws": Stage(
        stages.AWS_WHERE,
        "AWS",
        (4, 2),
        stages.aws,
        lambda own, nonce: clouds.aws_snp(own.guest, own.tpm, nonce, own.cloud_pki, own.at, key=SPKI) | {"auxblob": own.table},
        stages.aws_refuses,
        "m6a.xlarge",
    ),
    "azure": Stage(
        stages.AZURE_WHERE,
        "Microsoft",
        (4, 1),
        stages.azure,
        lambda own, nonce: clouds.azure_snp(own.guest, own.tpm, report_data(nonce, SPKI), fresh=True) | {"vcek": (own.vcek,)},
        stages.azure_refuses,
        "Standard_DC4as_v5",
        Strength.ENDORSED,
    ),
    "gcp": Stage(
        stages.GCP_WHERE,
        "Google",
        (4, 2),
        stages.gcp,
        lambda own, nonce: clouds.gcp_snp(own.guest, own.tpm, report_data(nonce, SPKI), own.cloud_pki, own.at) | {"auxblob": own.table},
        stages.gcp_refuses,
        "n2d-standard-4",
    ),
}


@dataclass
class Life:
    """One owner with one deployment on one platform; every `deployment()` could be another process."""

    platform: str
    stage: Stage
    home: Path
    cloud: Any
    roots: TestRoots
    key: keys.SigningKey
    said: list[str] = field(default_factory=list)
    later: timedelta = timedelta(0)
    built: list[str] = field(default_factory=list)
    """Images that were built because they were missing."""
    machines: dict[str, StandIn] = field(default_factory=dict)
    """Address to what runs there."""
    turned: bool = False
    """Whether in the machines that are made from now on something else boots than the image."""

    def __post_init__(self) -> None:
        self._random = itertools.count(1)
        self.path = self.home / "shop.yaml"
        launch = ReferenceValue(
            ("firmware",), "launch", self.roots.launch, self.stage.firmware, "you", "firmware", Provenance("a test", "stated")
        )
        (self.home / "firmware.json").write_bytes(documents.dump(ReferenceSet(1, (launch,), "firmware")))
        self.image("one")

    def now(self) -> datetime:
        return TODAY + self.later

    @property
    def machine(self) -> StandIn:
        """The one in charge."""
        return self.machines[self.address()]

    def address(self, number: int | None = None) -> str:
        """Of the machine in charge, or of another by its number."""
        target = self.deployment()
        found: str = target.driver()._address(target.at(number or target.number).machine)  # type: ignore[attr-defined]  # a cloud's
        return found

    def born(self, address: str, image: ReferenceSet) -> None:
        """A machine runs there from now on."""
        if address not in self.machines:
            self.machines[address] = StandIn(self.roots, self.stage, f"{self.platform}-snp")
            self.machines[address].boot(image, turned=self.turned)

    def randomness(self, count: int) -> bytes:
        return hashlib.shake_256(f"{next(self._random)}".encode()).digest(count)

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.home / "state", self.now, self.randomness, self.said.append)

    def image(self, name: str, *secrets: str) -> None:
        """Build another image into the document, of which a unit reads `secrets`; nothing of it is launched yet."""
        folder = self.home / name
        if not folder.exists():
            an_image(folder, self.key, name=name, at=TODAY, secrets=secrets)
        self.write(image={"path": name, "sha256": digest(folder).hex()})

    def build(self, spec: Path, out: Path) -> None:
        """What `evident image build` would: an image of the specification's name."""
        self.built.append(out.name)
        an_image(out, self.key, name=json.loads(spec.read_text())["name"], at=TODAY)

    def write(self, **changes: Any) -> None:
        written = json.loads(self.path.read_text()) if self.path.exists() else self.document()
        self.path.write_text(json.dumps({**written, **changes}))

    def document(self) -> dict[str, Any]:
        return {
            "version": 1,
            "name": "shop",
            "platform": self.platform,
            "technology": "snp",
            "where": {self.platform: dict(self.stage.where)},
            "network": {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}, {"port": 443, "peer": "203.0.113.0/24"}]},
            "references": ["firmware.json"],
            "policy": {
                "version": 1,
                "levels": {"nominal": 4, "trustworthy": self.stage.levels[1]},
                "accepted_trust": [self.stage.provider],
                "allow_simulated": True,
            },
        }

    def deployment(self) -> Deployment:
        return deployment("shop", self.surroundings)

    @property
    def builders(self) -> Builders:
        return Builders((self.key.public,), self.home / "cache", self.build)

    def up(self) -> Deployment:
        target = self.deployment()
        from_document.up(target, read_specification(self.path), self.builders)
        return target

    def update(self, window: timedelta) -> Deployment:
        target = self.deployment()
        from_document.update(target, read_specification(self.path), self.builders, window=window)
        return target

    def attest(self) -> Answer:
        self.later += timedelta(seconds=1)
        return attest(self.deployment(), Verifier(anchors.production(), StaticFetcher({}), self.key))

    def ready(self) -> Answer:
        """What `evident up` ends with, and whether it is accepted."""
        return proving.ready(self.up(), self.home / "cache")

    def examined(self, number: int) -> Answer:
        """The answer of one machine, whichever is in charge."""
        return proving.prove(self.deployment().at(number), self.home / "cache")

    def statement(self) -> TrustStatement:
        outcome = self.attest().outcome
        assert isinstance(outcome, TrustStatement), outcome
        return outcome


@pytest.fixture(params=sorted(STAGES))
def platform(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def roots(simulator_pki: SimulatorPki) -> TestRoots:
    return TestRoots(simulator_pki)


@pytest.fixture
def life(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator_pki: SimulatorPki, roots: TestRoots) -> Iterator[Life]:
    stage = STAGES[platform]
    cloud = stage.set_up(tmp_path, monkeypatch)
    monkeypatch.setattr("os.fsync", lambda _: None)  # only the machine's own crash needs it, and it costs most of the time here
    monkeypatch.setattr(CloudDriver, "believed", lambda *_: roots.believed)
    monkeypatch.setattr(Patience, "real", lambda progress, **_: Patience(cloud.time.clock, cloud.time.sleep, lambda: 0.5, progress))
    made = Life(platform, stage, tmp_path, cloud, roots, keys.generate(lambda count: b"\x07" * count))
    launch = CloudDriver.launch

    def launched(own: CloudDriver, machine: Path, order: Order) -> Expectation:
        expectation = launch(own, machine, order)
        made.born(own._address(machine), expectation.references)
        return expectation

    monkeypatch.setattr(CloudDriver, "launch", launched)
    with Served(made.machines) as port:
        post = agent.post
        monkeypatch.setattr(agent, "post", lambda host, _port, path, body: post("127.0.0.1", port, f"/{host}{path}", body))
        monkeypatch.setattr(agent, "listens", lambda _host, _port: True)
        simulator_pki.save(tmp_path / "state" / "simulator")  # making RSA-4096 keys takes seconds
        yield made


class Served:
    """The agents of `machines`, by their address, on a port of 127.0.0.1: where the cloud's network would lead."""

    def __init__(self, machines: Mapping[str, StandIn]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                host, _, path = self.path.removeprefix("/").partition("/")
                answer = machines[host].answer(loads(AttestRequest, body).nonce) if path == "v1/attest" else b""
                self.send_response(200 if answer else 404)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
                """Silent."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
