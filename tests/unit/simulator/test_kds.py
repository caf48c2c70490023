"""The simulated key distribution service: AMD's paths, and every kind of bad day."""

from __future__ import annotations

import http.client
import time
import urllib.parse
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from evident.endorsements import amd, crl, x509
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.cache import Cache
from evident.endorsements.http import real_world, standard_fetcher
from evident.errors import CollateralUnavailable, NotAuthentic
from evident.evidence.snp_report import MILAN, PRODUCTS, TURIN, Product, SigningKey, Tcb
from evident.simulator.guest import SimulatedVm, VmState
from evident.simulator.kds import KdsFetcher, KdsServer, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import sample_launch
from evident.simulator.secure_processor import Chip
from evident.verification import snp
from evident.verification.context import Context

HWID = bytes(range(64))
TCB = Tcb(4, 0, 24, 219)


@pytest.fixture
def kds(simulator_pki: SimulatorPki) -> SimulatedKds:
    return SimulatedKds(simulator_pki, clock=lambda: simulator_pki.made_at)


def ask(url: str) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of a GET over the loopback."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def fetcher(kds: SimulatedKds, pki: SimulatorPki) -> KdsFetcher:
    return KdsFetcher(kds, clock=lambda: pki.made_at)


def tcb(product: Product) -> Tcb:
    return Tcb(1, 2, 3, 200, fmc=5) if product is TURIN else TCB


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_serves_what_our_urls_ask_for(kds: SimulatedKds, simulator_pki: SimulatorPki, product: Product) -> None:
    hwid = HWID[: amd.hwid_bytes(product)]
    with KdsServer(kds) as server:

        def get(url: str) -> bytes:
            status, _, body = ask(url)
            assert status == 200
            return body

        key = amd.load_endorsement_key(get(amd.vcek_url(product, hwid, tcb(product), base=server.base_url)))
        assert (key.hwid, key.tcb, key.product) == (hwid, tcb(product), product)
        for kind, role in ((SigningKey.VCEK, "ask"), (SigningKey.VLEK, "asvk")):
            chain = x509.load_all(get(amd.chain_url(product, kind, base=server.base_url)))
            assert [certificate.der for certificate in chain] == [simulator_pki.certificate(product, of) for of in (role, "ark")]
            crl.verify_issued_by(crl.load(get(amd.crl_url(product, kind, base=server.base_url))), chain[1])


def test_the_same_question_has_the_same_answer(kds: SimulatedKds, simulator_pki: SimulatorPki) -> None:
    url = amd.vcek_url(MILAN, HWID, TCB)
    assert kds.respond(url.removeprefix(amd.KDS_BASE)) == kds.respond(url.removeprefix(amd.KDS_BASE))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/vcek/v1/Milan",
        "/vcek/v1/Rome/cert_chain",
        "/vcek/v2/Milan/cert_chain",
        "/vlek/v1/Milan/" + HWID.hex() + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",  # clouds alone get VLEKs
        "/vcek/v1/Milan/" + HWID.hex(),
        "/vcek/v1/Milan/" + HWID.hex() + "?blSPL=04&teeSPL=00&snpSPL=24",
        "/vcek/v1/Milan/" + HWID.hex() + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=256",
        "/vcek/v1/Milan/" + HWID.hex() + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=-1",
        "/vcek/v1/Milan/" + HWID.hex() + "?fmcSPL=01&blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",
        "/vcek/v1/Milan/" + HWID[:8].hex() + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",
        "/vcek/v1/Milan/" + "zz" * 64 + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",
        "/vcek/v1/Turin/" + HWID[:8].hex() + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219",
    ],
)
def test_has_nothing_elsewhere(kds: SimulatedKds, target: str) -> None:
    assert kds.respond(target).status == 404


def test_outage_rate_limit_and_latency_over_http(kds: SimulatedKds) -> None:
    with KdsServer(kds) as server:
        url = amd.crl_url(MILAN, SigningKey.VCEK, base=server.base_url)
        kds.mode = Mode(outage=True)
        assert ask(url)[0] == 503
        kds.mode = Mode(rate_limited=2, retry_after_seconds=7)
        for _ in range(2):
            status, headers, _ = ask(url)
            assert (status, headers["Retry-After"]) == (429, "7")
        kds.mode = Mode(latency_seconds=0.05)
        start = time.monotonic()
        assert ask(url)[0] == 200
        assert time.monotonic() - start >= 0.05
    assert len(kds.requests) == 4


def test_a_rate_limit_ends(kds: SimulatedKds, simulator_pki: SimulatorPki) -> None:
    kds.mode = Mode(rate_limited=1)
    url = amd.crl_url(MILAN, SigningKey.VCEK)
    with pytest.raises(CollateralUnavailable):
        fetcher(kds, simulator_pki).fetch(url, limit=10_000)
    assert fetcher(kds, simulator_pki).fetch(url, limit=10_000).body


def test_the_limit_holds(kds: SimulatedKds, simulator_pki: SimulatorPki) -> None:
    with pytest.raises(CollateralUnavailable):
        fetcher(kds, simulator_pki).fetch(amd.crl_url(MILAN, SigningKey.VCEK), limit=100)


def test_corrupt_stale_forged_and_revoking(kds: SimulatedKds, simulator_pki: SimulatorPki) -> None:
    ark = x509.load(simulator_pki.certificate(MILAN, "ark"))

    def served(mode: Mode) -> bytes:
        kds.mode = mode
        return fetcher(kds, simulator_pki).fetch(amd.crl_url(MILAN, SigningKey.VCEK), limit=10_000).body

    with pytest.raises(NotAuthentic):
        crl.verify_issued_by(crl.load(served(Mode(corrupt=True))), ark)
    with pytest.raises(NotAuthentic):
        crl.verify_issued_by(crl.load(served(Mode(crl_signer="ask"))), ark)
    stale = crl.load(served(Mode(crl_age=timedelta(days=60))))
    crl.verify_issued_by(stale, ark)
    assert stale.next_update is not None
    assert stale.next_update < simulator_pki.made_at
    revoking = crl.load(served(Mode(revoked=("ask",), crl_number=9)))
    assert (revoking.number, len(revoking.revoked)) == (9, 1)


def test_a_bare_report_is_verified_through_the_network(kds: SimulatedKds, simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    """The production path, cache and HTTP included, with AMD's address replaced: VCEK by REPORTED_TCB, then the CRL."""
    at = simulator_pki.made_at
    vm = SimulatedVm(simulator_pki, Chip(committed_tcb=Tcb(1, 0, 1, 1)), sample_launch(), VmState(bytes(32)))
    pieces = {role: contents for role, contents in vm.collect(b"nonce").items() if role != "auxblob"}
    believed = AnchorSet((*simulator_pki.anchors(), *simulator_pki.intermediates()))
    kds.mode = Mode(rate_limited=1, retry_after_seconds=0)
    with KdsServer(kds) as server:
        fetching = standard_fetcher(Cache(tmp_path), real_world(), bases={amd.KDS_BASE: server.base_url})
        context = Context(at=at, anchors=believed, fetcher=fetching, nonce=b"nonce", unsafe=frozenset({"simulated-root"}))
        verified = snp.verify(pieces, context)
        asked = len(kds.requests)
        assert snp.verify(pieces, context).revocation == verified.revocation == "good"
    assert verified.simulated
    assert kds.requests[0].startswith("/vcek/v1/Milan/")
    assert "snpSPL=24" in kds.requests[0], "REPORTED_TCB, not the committed one (AT-69)"
    assert len(kds.requests) == asked, "the second time everything comes from the cache"
