"""Filling the cache: only what the pinned roots vouch for is kept, and CRL numbers only rise (AT-27, AT-28)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evident.endorsements import amd, anchors
from evident.endorsements.anchors import Anchor, AnchorSet
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import CachedFetcher, Fetched, OfflineFetcher
from evident.endorsements.prefetch import Prefetch, asking_ages, remember_crls
from evident.errors import CollateralUnavailable, EvidentError, Indeterminate, NotAuthentic
from evident.evidence.snp_report import GENOA, MILAN, SigningKey, Tcb
from evident.simulator.kds import KdsFetcher, Mode, SimulatedKds
from evident.simulator.pki import SimulatorPki

NOW = datetime(2026, 6, 10, tzinfo=UTC)
VCEK = SigningKey.VCEK
HWID = bytes(range(64))
TCB = Tcb(bootloader=4, tee=0, snp=24, microcode=219)


class Setting:
    """A cache, a simulated service, and its TEST roots taken for AMD's (`simulated` unmarked, for this test only)."""

    def __init__(self, pki: SimulatorPki, root: Path) -> None:
        self.at = NOW
        self.pki = pki
        self.cache = Cache(root)
        self.kds = SimulatedKds(pki, clock=lambda: self.at)
        self.fetcher = CachedFetcher(self.cache, KdsFetcher(self.kds, clock=lambda: self.at), lambda: self.at, ages=asking_ages)
        ask = Anchor("TEST-SEV-Milan", "test", "snp:Milan:vcek", pki.certificate(MILAN, "ask"), "here", "by nobody", role="intermediate")
        self.trusted = AnchorSet([*(replace(anchor, simulated=False) for anchor in pki.anchors()), ask])
        self.scope = amd.crl_scope(anchors.amd_roots(self.trusted, MILAN)[0].certificate, VCEK)

    @property
    def prefetch(self) -> Prefetch:
        return Prefetch(self.cache, self.fetcher, self.trusted, self.at)


@pytest.fixture
def setting(simulator_pki: SimulatorPki, tmp_path: Path) -> Setting:
    return Setting(simulator_pki, tmp_path)


def test_what_is_kept_serves_offline(setting: Setting) -> None:
    setting.kds.mode = Mode(crl_number=5)
    kept = setting.prefetch.crl(MILAN, VCEK)
    assert "number 5, 0 revoked" in kept.what
    vcek = setting.prefetch.vcek(MILAN, HWID, TCB)
    offline = OfflineFetcher(setting.cache)
    for item in (kept, vcek):
        assert len(offline.fetch(item.url, limit=10**6).body) == item.size
        assert not item.from_cache
    assert setting.cache.crl_floors() == {setting.scope: 5}


def test_certificates_are_asked_for_once_and_lists_anew(setting: Setting) -> None:
    for _ in range(2):
        setting.prefetch.crl(MILAN, VCEK)
        setting.prefetch.vcek(MILAN, HWID, TCB)
    crls = [path for path in setting.kds.requests if path.endswith("/crl")]
    assert (len(crls), len(setting.kds.requests)) == (2, 3)
    assert setting.prefetch.vcek(MILAN, HWID, TCB).from_cache


@pytest.mark.parametrize(
    ("mode", "error", "code"),
    [
        (Mode(crl_signer="ask"), NotAuthentic, "crl.signature"),
        (Mode(crl_age=timedelta(days=60)), Indeterminate, "crl.stale"),
        (Mode(crl_number=3), Indeterminate, "crl.replayed"),
        (Mode(outage=True), CollateralUnavailable, "simulator.kds"),
        (Mode(corrupt=True), EvidentError, None),
    ],
    ids=["forged", "stale", "replayed", "outage", "corrupt"],
)
def test_bad_lists_do_not_pass(setting: Setting, mode: Mode, error: type[EvidentError], code: str | None) -> None:
    setting.kds.mode = Mode(crl_number=5)
    setting.prefetch.crl(MILAN, VCEK)
    setting.at += timedelta(hours=1)
    setting.kds.mode = mode if mode.crl_number == 3 else replace(mode, crl_number=6)
    with pytest.raises(error) as caught:
        setting.prefetch.crl(MILAN, VCEK)
    assert code in (None, caught.value.code)
    assert setting.cache.crl_floors() == {setting.scope: 5}
    setting.kds.mode = Mode(crl_number=6)
    setting.prefetch.crl(MILAN, VCEK)
    assert setting.cache.crl_floors() == {setting.scope: 6}


def test_what_is_not_authentic_is_not_kept(setting: Setting) -> None:
    setting.kds.mode = Mode(crl_signer="asvk")
    with pytest.raises(NotAuthentic):
        setting.prefetch.crl(MILAN, VCEK)
    assert setting.cache.lookup(amd.crl_url(MILAN, VCEK)) is None


def test_chains_are_compared_with_what_is_pinned(setting: Setting) -> None:
    assert "TEST-SEV-Milan as shipped" in setting.prefetch.chain(MILAN, VCEK).what
    assert "new: SHA-256" in setting.prefetch.chain(MILAN, SigningKey.VLEK).what  # this setting ships no ASVK
    other = Prefetch(setting.cache, setting.fetcher, anchors.production(), setting.at)
    with pytest.raises(NotAuthentic) as caught:
        other.chain(MILAN, VCEK)
    assert caught.value.code == "amd.chain"
    assert setting.cache.lookup(amd.chain_url(MILAN, VCEK)) is None


def test_production_trust_keeps_nothing_of_a_simulators(setting: Setting) -> None:
    prefetch = Prefetch(setting.cache, setting.fetcher, anchors.production(), setting.at)
    with pytest.raises(NotAuthentic) as caught:
        prefetch.crl(MILAN, VCEK)
    assert caught.value.code == "crl.issuer-name"
    with pytest.raises(NotAuthentic) as caught:
        prefetch.vcek(MILAN, HWID, TCB)
    assert caught.value.code == "x509.issuer-name"
    assert setting.cache.crl_floors() == {}


def test_numbers_of_fetched_lists_are_remembered_if_signed(setting: Setting) -> None:
    def recorded(**options: object) -> dict[str, Fetched]:
        url = amd.crl_url(MILAN, VCEK)
        return {url: Fetched(url, setting.pki.crl(MILAN, at=NOW, **options), NOW)}  # type: ignore[arg-type]  # options of the simulator

    remember_crls(setting.cache, recorded(number=9, signer="ask"), setting.trusted)
    assert setting.cache.crl_floors() == {}
    remember_crls(setting.cache, recorded(number=8), setting.trusted)
    assert setting.cache.crl_floors() == {setting.scope: 8}
    remember_crls(setting.cache, {amd.crl_url(GENOA, VCEK): Fetched("", b"rubbish", NOW)}, setting.trusted)
    remember_crls(setting.cache, recorded(number=9), AnchorSet(setting.pki.anchors()))  # marked as simulated
    assert setting.cache.crl_floors() == {setting.scope: 8}
