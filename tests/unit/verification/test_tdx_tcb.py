"""TCB level matching and convergence: the rules as properties, and the published table of convergence."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.endorsements.intel import IsvLevel, ModuleIdentity, Pck, QeIdentity, TcbInfo, TcbLevel, TcbStatus, parse_pck
from evident.endorsements.x509 import parse
from evident.evidence import tdx_quote
from evident.evidence.tdx_quote import TdReport
from evident.simulator.tdx import Platform, TdxPki, TrustDomain
from evident.verification import tdx_tcb

S = TcbStatus
AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI = TdxPki(b"tcb", AT)
PCK = parse_pck(parse(PKI.pck(Platform())))
REPORT = tdx_quote.parse(PKI.quote(Platform(), TrustDomain(), bytes(64))).report
SVNS = st.lists(st.integers(0, 3), min_size=16, max_size=16).map(tuple)
PLATFORM_STATUS = st.sampled_from([status for status in S if "Relaunch" not in status])
COMPONENT_STATUS = st.sampled_from([S.UP_TO_DATE, S.OUT_OF_DATE, S.REVOKED])


def level(sgx: tuple[int, ...], tdx: tuple[int, ...], pce: int, status: S = S.UP_TO_DATE) -> TcbLevel:
    return TcbLevel(sgx, tdx, pce, status, AT)


def info(*levels: TcbLevel, modules: tuple[ModuleIdentity, ...] = ()) -> TcbInfo:
    module = ModuleIdentity("", bytes(48), bytes(8), b"\xff" * 8)
    ordered = tuple(sorted(levels, key=lambda item: (item.sgx, item.pce_svn, item.tdx), reverse=True))
    return TcbInfo(AT, AT, b"\0" * 6, b"\0\0", 1, module, modules, ordered)


def pck(sgx: tuple[int, ...], pce: int) -> Pck:
    return dataclasses.replace(PCK, component_svns=sgx, pce_svn=pce)


def report(svn: tuple[int, ...], svn2: tuple[int, ...] | None = None) -> TdReport:
    return dataclasses.replace(REPORT, tee_tcb_svn=bytes(svn), tee_tcb_svn2=None if svn2 is None else bytes(svn2))


def qe(*levels: IsvLevel) -> QeIdentity:
    return QeIdentity(AT, AT, 1, bytes(4), bytes(4), bytes(16), bytes(16), bytes(32), 2, levels)


def module(version: int, *levels: IsvLevel) -> ModuleIdentity:
    return ModuleIdentity(f"TDX_{version:02X}", bytes(48), bytes(8), b"\xff" * 8, levels)


CURRENT = IsvLevel(0, S.UP_TO_DATE, AT)


@given(SVNS, SVNS, st.integers(0, 3), st.lists(st.tuples(SVNS, SVNS, st.integers(0, 3)), max_size=5))
def test_a_matched_level_is_reached_in_every_component(
    sgx: tuple[int, ...], tdx: tuple[int, ...], pce: int, levels: list[tuple[tuple[int, ...], tuple[int, ...], int]]
) -> None:
    known = info(*(level(*values) for values in levels))
    first = 2 if tdx[1] else 0

    def reached(item: TcbLevel) -> bool:
        return all(map(int.__ge__, sgx, item.sgx)) and all(map(int.__ge__, tdx[first:], item.tdx[first:])) and pce >= item.pce_svn

    found = tdx_tcb.match_platform(known, pck(sgx, pce), bytes(tdx))
    assert found == next((item for item in known.levels if reached(item)), None)


@given(SVNS, SVNS, st.integers(0, 3), st.integers(0, 15), st.sampled_from(("sgx", "tdx", "pce")))
def test_one_component_below_is_below(sgx: tuple[int, ...], tdx: tuple[int, ...], pce: int, index: int, which: str) -> None:
    """The comparison is per component, not lexicographic: a higher first component makes up for nothing."""
    tdx = (tdx[0], 0, *tdx[2:])
    raised = level(
        tuple(svn + (which == "sgx" and at == index) for at, svn in enumerate(sgx)),
        tuple(svn + (which == "tdx" and at == index) for at, svn in enumerate(tdx)),
        pce + (which == "pce"),
    )
    high = tuple(svn + 5 if at != index else svn for at, svn in enumerate(sgx))
    assert tdx_tcb.match_platform(info(raised), pck(high if which == "sgx" else sgx, pce), bytes(tdx)) is None
    assert tdx_tcb.match_platform(info(level(sgx, tdx, pce)), pck(sgx, pce), bytes(tdx)) is not None


@given(SVNS, st.integers(1, 3))
def test_with_a_module_version_its_own_identity_judges_the_first_two(tdx: tuple[int, ...], version: int) -> None:
    required = (255, 255, *tdx[2:])
    assert tdx_tcb.match_platform(info(level((0,) * 16, required, 0)), pck((0,) * 16, 0), bytes((tdx[0], version, *tdx[2:]))) is not None


CONVERGENCE = [
    (S.UP_TO_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE),
    (S.SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE),
    (S.CONFIGURATION_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
    (S.CONFIGURATION_AND_SW_HARDENING_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
    (S.OUT_OF_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE),
    (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED),
    (S.REVOKED, S.OUT_OF_DATE, S.REVOKED),
]


@pytest.mark.parametrize(("platform", "component", "expected"), CONVERGENCE)
def test_convergence(platform: S, component: S, expected: S) -> None:
    assert tdx_tcb.converge(platform, component) is expected


@given(PLATFORM_STATUS)
def test_a_current_component_changes_nothing_and_a_revoked_one_everything(platform: S) -> None:
    assert tdx_tcb.converge(platform, S.UP_TO_DATE) is platform
    assert tdx_tcb.converge(platform, S.REVOKED) is S.REVOKED


RELAUNCH = [
    (S.OUT_OF_DATE, S.UP_TO_DATE, S.TD_RELAUNCH_ADVISED),
    (S.OUT_OF_DATE, S.SW_HARDENING_NEEDED, S.TD_RELAUNCH_ADVISED),
    (S.OUT_OF_DATE, S.CONFIGURATION_NEEDED, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
    (S.OUT_OF_DATE_CONFIGURATION_NEEDED, S.UP_TO_DATE, S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED),
    (S.OUT_OF_DATE, S.OUT_OF_DATE, S.OUT_OF_DATE),
    (S.UP_TO_DATE, S.OUT_OF_DATE, S.UP_TO_DATE),
    (S.CONFIGURATION_NEEDED, S.UP_TO_DATE, S.CONFIGURATION_NEEDED),
]


@pytest.mark.parametrize(("launched", "running", "expected"), RELAUNCH)
def test_relaunch(launched: S, running: S, expected: S) -> None:
    assert tdx_tcb.relaunch(launched, running) is expected


def test_relaunch_through_evaluation() -> None:
    """The module was updated under the TD: launched with ISVSVN 2, running with 4."""
    known = info(
        level((0,) * 16, (0,) * 16, 0), modules=(module(1, IsvLevel(4, S.UP_TO_DATE, AT), IsvLevel(2, S.OUT_OF_DATE, AT, ("INTEL-SA-2",))),)
    )
    old, new = (2, 1, *(0,) * 14), (4, 1, *(0,) * 14)
    verdict = tdx_tcb.evaluate(known, qe(CURRENT), pck((0,) * 16, 0), report(old, new), 1)
    assert (verdict.status, verdict.advisories) == (S.TD_RELAUNCH_ADVISED, ("INTEL-SA-2",))
    assert tdx_tcb.evaluate(known, qe(CURRENT), pck((0,) * 16, 0), report(old, old), 1).status is S.OUT_OF_DATE
    assert tdx_tcb.evaluate(known, qe(CURRENT), pck((0,) * 16, 0), report(new, (1, 1, *(0,) * 14)), 1).status is None
    assert tdx_tcb.evaluate(known, qe(CURRENT), pck((0,) * 16, 0), report(new, (4, 9, *(0,) * 14)), 1).status is None


@given(PLATFORM_STATUS, COMPONENT_STATUS, COMPONENT_STATUS)
def test_the_whole_is_no_better_than_any_part(platform: S, of_module: S, of_qe: S) -> None:
    known = info(level((0,) * 16, (0,) * 16, 0, platform), modules=(module(1, IsvLevel(0, of_module, AT)),))
    verdict = tdx_tcb.evaluate(known, qe(IsvLevel(0, of_qe, AT)), pck((0,) * 16, 0), report((0, 1, *(0,) * 14)), 0)
    parts = {platform, of_module, of_qe}
    assert (verdict.status is S.REVOKED) == (S.REVOKED in parts)
    assert (verdict.status is S.UP_TO_DATE) == (parts == {S.UP_TO_DATE})
    assert S.OUT_OF_DATE not in parts or verdict.status in {S.REVOKED, S.OUT_OF_DATE, S.OUT_OF_DATE_CONFIGURATION_NEEDED}


@pytest.mark.parametrize(
    ("known", "identity", "isv_svn", "what"),
    [
        (info(), qe(CURRENT), 0, "platform"),
        (info(level((0,) * 16, (0,) * 16, 0)), qe(), 0, "quoting enclave"),
        (info(level((0,) * 16, (0,) * 16, 0)), qe(IsvLevel(5, S.UP_TO_DATE, AT)), 4, "quoting enclave"),
    ],
)
def test_what_has_no_level_is_named(known: TcbInfo, identity: QeIdentity, isv_svn: int, what: str) -> None:
    verdict = tdx_tcb.evaluate(known, identity, pck((0,) * 16, 0), report((0,) * 16), isv_svn)
    assert verdict.status is None
    assert what in verdict.unmatched


@pytest.mark.parametrize("version", [2, 255])
def test_an_unknown_module_version_has_no_level(version: int) -> None:
    known = info(level((0,) * 16, (0,) * 16, 0), modules=(module(1, CURRENT),))
    verdict = tdx_tcb.evaluate(known, qe(CURRENT), pck((0,) * 16, 0), report((9, version, *(0,) * 14)), 0)
    assert verdict.status is None
    assert "TDX module" in verdict.unmatched


def test_without_qe_identity_no_status_follows() -> None:
    verdict = tdx_tcb.evaluate(info(level((0,) * 16, (0,) * 16, 0)), None, pck((0,) * 16, 0), report((0,) * 16), 0)
    assert verdict.status is None
    assert verdict.platform is not None
