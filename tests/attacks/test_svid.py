"""A disk that opens for an SVID opens for that one alone: every other certificate, name and way is denied (BW-15, AT-53).

Every row gets the key with just the check it names switched off, and nothing with it on, with its own code and no release in the log.
The authorities are TEST ones of this process; machines that real SPIRE has attested are in `tests/spire` and `tests/boot/test_spire.py`.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.test_release import DISK, KEY, OTHER_DISK, OTHER_KEY, Desk, attack, boot
from tests.svid import TrustDomain, client, usage

from evident.errors import EvidentError
from evident.identity import spiffe_id, svid
from evident.identity.workload_api import Svid
from evident.keys import messages, mutual_tls, release
from evident.keys.messages import KeyRequest, Refusal, Volume
from evident.keys.server import KeyServer
from evident.keys.store import RootVolume
from evident.simulator import scenario
from evident.simulator.pki import SimulatorPki

TRUST, PARTNER = TrustDomain(), TrustDomain("example.com")
MACHINE, OTHER_MACHINE = "/evident/shop/machine/1/key", "/evident/shop/machine/2/key"
OWN = TRUST.svid("/evident/key-server")
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL


def named(path: str) -> str:
    return f"spiffe://{TRUST.name}{path}"


@pytest.fixture
def desk(tmp_path: Path, simulator_pki: SimulatorPki) -> Desk:
    """Two disks, each for the SVID of its machine."""
    machine = scenario.good(simulator_pki)
    made = Desk(tmp_path, machine, machine.at, ec.generate_private_key(ec.SECP384R1()))
    made.store(RootVolume(1, DISK, "image", spiffe_id=named(MACHINE)), KEY)
    made.store(RootVolume(1, OTHER_DISK, "image", spiffe_id=named(OTHER_MACHINE)), OTHER_KEY)
    return made


class Denied(Exception):
    """What the client is told."""


@contextmanager
def serving(desk: Desk) -> Iterator[Callable[..., Volume]]:
    """The key server with its own SVID; what it yields asks it for a disk, as the holder of an SVID or of none."""
    with KeyServer(("127.0.0.1", 0), desk.service, on_event=desk.events.append, tls=lambda: OWN) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()

        def ask(held: Svid | None, disk: str = DISK, **settings: Any) -> Volume:
            context = client(held, OWN.bundle)
            context.load_verify_locations(cadata=b"".join(OWN.bundle))
            for name, value in settings.items():
                setattr(context, name, value)
            connection = HTTPSConnection("127.0.0.1", server.server_address[1], timeout=10, context=context)
            try:
                connection.request("POST", messages.KEY, messages.dumps(KeyRequest(1, disk)))
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, ValueError) as error:
                raise Denied(str(error)) from None
            finally:
                connection.close()
            if answer.status != 200:
                raise Denied(",".join(messages.loads(Refusal, body).codes))
            return messages.loads(Volume, body)

        try:
            yield ask
        finally:
            server.shutdown()
            thread.join(5)


@contextmanager
def expected(desk: Desk, code: str, *, checked: bool) -> Iterator[None]:
    """The key is released, or denied: said with its code by the server, and nothing in the log but the denial."""
    if not checked:
        yield
        assert desk.released() == 1, "with the check off the key is released"
        return
    with pytest.raises(Denied):
        yield
    assert desk.released() == 0
    until = time.monotonic() + 5  # a handshake's end is told to its other side first
    while not any(code in line for line in desk.events) and time.monotonic() < until:
        time.sleep(0.01)
    assert any(code in line for line in desk.events), desk.events
    if code in ("keys.spiffe-id", "keys.revoked"):
        assert [(entry.event, entry.codes) for entry in desk.log.entries() if entry.event != "revoked"] == [("denied", (code,))]


def handshakes(monkeypatch: pytest.MonkeyPatch, change: Callable[[ssl.SSLContext], object]) -> None:
    """Every handshake of the server with this change to what it demands."""
    strict = mutual_tls.context

    def changed(own: Svid) -> ssl.SSLContext:
        context = strict(own)
        change(context)
        return context

    monkeypatch.setattr(mutual_tls, "context", changed)


def off(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    monkeypatch.setattr(module, name, lambda *_: None)


def test_the_machine_of_the_terms_gets_its_key(desk: Desk) -> None:
    with serving(desk) as ask:
        released = ask(TRUST.svid(MACHINE))
    assert (released.disk, released.key) == (DISK, KEY)
    (entry,) = desk.log.entries()
    assert (entry.event, entry.disk, entry.spiffe_id) == ("released", DISK, named(MACHINE))
    assert KEY.hex() not in desk.log.path.read_text() + "".join(desk.events)


@attack("BW-15", "A machine asks with an SVID that has expired.", "keys.handshake")
def test_expired(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    def ageless(context: ssl.SSLContext) -> None:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)

    if not checked:
        handshakes(monkeypatch, ageless)
    with expected(desk, "keys.handshake, certificate has expired", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE, ends=timedelta(minutes=-1))).key == KEY


@attack("BW-15", "Another trust domain's authority certifies the machine's name for somebody of its own.", "keys.handshake")
def test_another_authority(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """With the check off the server takes whatever the partner's authority has signed, as it would with all bundles in one heap."""
    if not checked:
        handshakes(monkeypatch, lambda context: context.load_verify_locations(cadata=PARTNER.certificate))
    with expected(desk, "keys.handshake", checked=checked), serving(desk) as ask:
        assert ask(PARTNER.svid(MACHINE, uris=[named(MACHINE)])).key == KEY


@attack("BW-15", "Somebody asks without a certificate.", "keys.handshake")
def test_no_certificate(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    """Where none is demanded there is no name to compare either: with the check off, whoever asks is taken for whom the disk is."""
    if not checked:
        handshakes(monkeypatch, lambda context: setattr(context, "verify_mode", ssl.CERT_NONE))
        monkeypatch.setattr(mutual_tls.MutualTls, "peer", lambda *_: spiffe_id.parse(named(MACHINE)))
    with expected(desk, "keys.handshake", checked=checked), serving(desk) as ask:
        assert ask(None).key == KEY


@attack("BW-15", "The network makes both sides speak an older TLS.", "keys.handshake")
def test_older_tls(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        handshakes(monkeypatch, lambda context: setattr(context, "minimum_version", ssl.TLSVersion.TLSv1_2))
    with expected(desk, "keys.handshake", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE), maximum_version=ssl.TLSVersion.TLSv1_2).key == KEY


@attack("SP-02", "A certificate that SPIRE's authority has signed, and that is no SVID of a workload, is shown as one.", "svid.*")
@pytest.mark.parametrize(
    ("wrong", "check", "code"),
    [
        ({"uris": [named(MACHINE), named("/web")]}, "check_one", "svid.uri"),
        ({"authority": True}, "check_leaf", "svid.authority"),
        ({"key_usage": usage(digital_signature=True, key_cert_sign=True)}, "check_key_usage", "svid.key-usage"),
    ],
    ids=["two URIs", "an authority", "key usage"],
)
def test_no_svid(desk: Desk, monkeypatch: pytest.MonkeyPatch, wrong: Mapping[str, Any], check: str, code: str, checked: bool) -> None:
    if not checked:
        off(monkeypatch, svid, check)
    with expected(desk, code, checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE, **wrong)).key == KEY


@attack("SP-02", "An authority certifies a name of another trust domain than its own.", "svid.trust-domain")
def test_name_of_another_trust_domain(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    theirs = f"spiffe://{PARTNER.name}{MACHINE}"
    desk.store(RootVolume(1, DISK, "image", spiffe_id=theirs), KEY)
    if not checked:
        off(monkeypatch, svid, "check_trust_domain")
    with expected(desk, "svid.trust-domain", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE, uris=[theirs])).key == KEY


@attack("SP-02", "A certificate in the name of the trust domain itself is shown as a workload's.", "svid.path")
def test_name_without_path(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    desk.store(RootVolume(1, DISK, "image", spiffe_id=named("")), KEY)
    if not checked:
        off(monkeypatch, svid, "check_path")
    with expected(desk, "svid.path", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE, uris=[named("")])).key == KEY


@pytest.mark.attack("AT-53", "A workload asks with an SVID of its own, which is valid, and not the one of the disk.", "keys.spiffe-id")
@attack("BW-15", "A valid SVID of another machine or workload asks for the key.", "keys.spiffe-id")
@pytest.mark.parametrize("path", [OTHER_MACHINE, MACHINE.removesuffix("/key"), MACHINE + "/key", MACHINE.upper(), "/web"])
def test_another_svid(desk: Desk, monkeypatch: pytest.MonkeyPatch, path: str, checked: bool) -> None:
    if not checked:
        off(monkeypatch, release, "check_holder")
    with expected(desk, "keys.spiffe-id", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(path)).key == KEY


@attack("BW-21", "A machine asks with its SVID for another machine's disk.", "keys.spiffe-id")
def test_another_machines_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        off(monkeypatch, release, "check_holder")
    with expected(desk, "keys.spiffe-id", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE), OTHER_DISK).key == OTHER_KEY


@attack("BW-15", "An SVID asks for a disk whose terms name none.", "keys.spiffe-id")
def test_a_disk_for_evidence(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    desk.store(RootVolume(1, DISK, "image"), KEY)
    if not checked:
        off(monkeypatch, release, "check_holder")
    with expected(desk, "keys.spiffe-id", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE)).key == KEY


@attack("BW-15", "A machine whose SVID or disk was revoked asks while the SVID is still valid.", "keys.revoked")
@pytest.mark.parametrize(("name", "value"), [("spiffe_id", named(MACHINE)), ("disk", DISK)], ids=["SVID", "disk"])
def test_revoked(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, value: str, checked: bool) -> None:
    desk.service.revoke(name, value, "stolen")
    if not checked:
        off(monkeypatch, release, "check_revoked")
    with expected(desk, "keys.revoked", checked=checked), serving(desk) as ask:
        assert ask(TRUST.svid(MACHINE)).key == KEY


@attack("BW-15", "Accepted evidence asks for a disk that opens for an SVID: past SPIRE, and past its bans.", "keys.by-svid")
def test_evidence_for_a_disk_by_svid(desk: Desk, monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    if not checked:
        off(monkeypatch, release, "check_by_evidence")
    with desk.serving() as server:
        if not checked:
            assert boot(desk, server).key == KEY
            return
        with pytest.raises(EvidentError, match=r"keys\.by-svid"):
            boot(desk, server)
    assert desk.released() == 0
