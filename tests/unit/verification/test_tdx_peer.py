"""Agreement with dcap-qvl: on real quotes, on mutations of quote, collateral and clock, and on random platforms under a TEST root.

EVIDENT_FUZZ_EXAMPLES raises the number of mutations (10,000 for the long run). A disagreement fails unless `docs/platforms/tdx.md` explains
its kind, and the explained kinds are those that `_explained` knows.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evident.endorsements import anchors, intel
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError
from evident.simulator.tdx import Platform, TdxPki, TrustDomain, qe_identity, tcb_info
from evident.verification import tdx
from evident.verification.context import ChainCache, Context
from evident.verification.verified import Verified

dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")

EXAMPLES = int(os.environ.get("EVIDENT_FUZZ_EXAMPLES", "60"))
CASES = ("tdx/dcap-qvl-uptodate", "tdx/dcap-qvl-near")
AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI = TdxPki(b"peer", AT)
PRODUCTION = anchors.production()
TRUSTED = PRODUCTION.plus(*PKI.anchors())
CACHE = ChainCache(100_000)
SETTLED = {"tdx.challenge.missing"}
FRAMING = frozenset((*range(632, 636), *range(764, 770), *range(1252, 1258)))
"""Where a version 4 quote has the type and lengths around its signature data, which nobody signs. The peer does not look at the outer
type and lets lengths be off; we have them add up exactly. What is inside is signed, and read alike."""


def peer(quote: bytes, collateral: bytes, at: datetime, root: bytes | None = None) -> tuple[str, tuple[str, ...]] | None:
    """Status and advisories, or None where the peer refuses."""
    try:
        given = dcap_qvl.QuoteCollateralV3.from_json(collateral.decode())
        seconds = int(at.timestamp())
        result = dcap_qvl.verify(quote, given, seconds) if root is None else dcap_qvl.verify_with_root_ca(quote, given, root, seconds)
    except (ValueError, UnicodeDecodeError):
        return None
    return result.status, tuple(result.advisory_ids)


def ours(quote: bytes, collateral: bytes, at: datetime, *, simulated: bool = False) -> Verified[Any] | None:
    unsafe = frozenset({"simulated-root"}) if simulated else frozenset()
    context = Context(at, TRUSTED if simulated else PRODUCTION, StaticFetcher({}), unsafe=unsafe, chain_cache=CACHE)
    try:
        return tdx.verify({"quote": (quote,), "collateral": (collateral,)}, context)
    except EvidentError:
        return None


def _settled(verified: Verified[Any] | None) -> bool:
    return verified is not None and {point.code for point in verified.open_points} <= SETTLED


def _explained(verified: Verified[Any] | None, expected: tuple[str, tuple[str, ...]] | None) -> bool:
    """The kinds of disagreement that are on purpose."""
    if verified is None:
        return False
    if expected is None:  # what the peer refuses while verifying is the policy's question here
        report, settings = verified.evidence.report, verified.facts.tee.settings if verified.facts.tee else {}
        policy = report.under_debug or settings["attributes.migratable"] or not settings["attributes.sept_ve_disable"]
        service = settings["attributes.servtd_ext"] or (report.mrservicetd or b"").strip(b"\0")
        return bool(policy or service or len(verified.evidence.qe_authentication_data) != 32)
    # the peer does not look at thisUpdate of a CRL
    left = [point for point in verified.open_points if point.code not in SETTLED]
    return all(
        point.code == "tdx.revocation.unknown" and all("not-yet-valid" in reason for reason in point.found.split("; ")) for point in left
    )


def agree(quote: bytes, collateral: bytes, at: datetime, root: bytes | None = None, *, chains_changed: bool = False) -> str | None:
    """The status on which both agree, None where both refuse; fails on a disagreement that nothing explains.

    Issuer chains in the collateral are read differently on purpose: we need one TCB signing certificate, given or shipped, and refuse
    damaged ones even where they are not needed.
    """
    expected = peer(quote, collateral, at, root)
    verified = ours(quote, collateral, at, simulated=root is not None)
    if _settled(verified) != (expected is not None):
        if not chains_changed:
            assert _explained(verified, expected), f"peer: {expected}, ours: {verified and verified.open_points}"
        return None
    if verified is None or expected is None:
        return None
    tee = verified.facts.tee
    assert tee is not None
    assert tee.tcb_status == expected[0]
    assert sorted(tee.advisories) == sorted(expected[1])
    return expected[0]


@pytest.mark.parametrize("case", CASES)
def test_real_quotes(vectors: Any, case: str) -> None:
    at = datetime.fromisoformat(vectors.facts(case)["evaluate_at"])
    assert agree(vectors.read(case, "quote.bin"), vectors.read(case, "collateral.json"), at) == "UpToDate"


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_mutations_of_quote_collateral_and_clock(vectors: Any, data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(CASES))
    quote, collateral = vectors.read(case, "quote.bin"), vectors.read(case, "collateral.json")
    at = datetime.fromisoformat(vectors.facts(case)["evaluate_at"])
    chains_changed = framing_changed = False
    what = data.draw(st.sampled_from(("quote", "cut", "member", "clock", "swap", "none")))
    if what == "quote":
        for _ in range(data.draw(st.integers(1, 3))):
            offset, value = data.draw(st.integers(0, len(quote) - 71)), data.draw(st.integers(0, 255))
            assume(offset < quote.rindex(b"-----BEGIN"))  # the root below is not read by either
            framing_changed = framing_changed or offset in FRAMING
            quote = quote[:offset] + bytes((value,)) + quote[offset + 1 :]
    elif what == "cut":
        quote = quote[: data.draw(st.integers(0, len(quote)))]
    elif what == "member":
        members = json.loads(collateral)
        name = data.draw(st.sampled_from(sorted(members)))
        chains_changed = name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain")
        text = members[name]
        offset = data.draw(st.integers(0, len(text) - 1))
        members[name] = text[:offset] + data.draw(st.sampled_from('0aF1z}"')) + text[offset + 1 :]
        collateral = json.dumps(members).encode()
    elif what == "clock":
        at += timedelta(hours=data.draw(st.integers(-24 * 400, 24 * 400)))
    elif what == "swap":
        other = json.loads(vectors.read(CASES[1 - CASES.index(case)], "collateral.json"))
        members = json.loads(collateral)
        for name in data.draw(st.lists(st.sampled_from(sorted(members)), max_size=4)):
            members[name] = other[name]
        collateral = json.dumps(members).encode()
    if framing_changed and peer(quote, collateral, at) is not None and ours(quote, collateral, at) is None:
        return
    agree(quote, collateral, at, chains_changed=chains_changed)


STATUSES = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
            "OutOfDateConfigurationNeeded", "Revoked")  # fmt: skip
SVNS = st.lists(st.integers(0, 2), min_size=16, max_size=16)


def _bundle(info: dict[str, Any], identity: dict[str, Any]) -> bytes:
    documents = {"tcb_info": ("tcbInfo", info), "qe_identity": ("enclaveIdentity", identity)}
    members: dict[str, str] = {}
    for name, (member, body) in documents.items():
        document = intel.signed_document(PKI.document(member, body), member, "test")
        members |= {name: document.body.decode(), f"{name}_signature": document.signature.hex()}
        members[f"{name}_issuer_chain"] = PKI.tcb_chain().decode()
    members |= {"pck_crl": PKI.crl("platform-ca", at=AT).hex(), "root_ca_crl": PKI.crl("root", at=AT).hex()}
    members["pck_crl_issuer_chain"] = PKI.tcb_chain().decode()
    return json.dumps(members).encode()


def _levels(data: st.DataObject) -> list[dict[str, Any]]:
    return [
        {
            "tcb": {
                "sgxtcbcomponents": [{"svn": svn} for svn in data.draw(SVNS)],
                "pcesvn": data.draw(st.integers(0, 2)),
                "tdxtcbcomponents": [{"svn": svn} for svn in data.draw(SVNS)],
            },
            "tcbDate": "2025-01-01T00:00:00Z",
            "tcbStatus": data.draw(st.sampled_from(STATUSES)),
            "advisoryIDs": data.draw(st.lists(st.sampled_from(("INTEL-SA-1", "INTEL-SA-2")), unique=True)),
        }
        for _ in range(data.draw(st.integers(1, 4)))
    ]


def _isv_levels(data: st.DataObject) -> list[dict[str, Any]]:
    statuses = st.sampled_from(("UpToDate", "OutOfDate", "Revoked"))
    return [
        {"tcb": {"isvsvn": svn}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": data.draw(statuses), "advisoryIDs": ["INTEL-SA-3"]}
        for svn in data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True).map(lambda svns: sorted(svns, reverse=True)))
    ]


@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_random_platforms_and_levels(data: st.DataObject) -> None:
    """Platforms that often reach a level, over random TCB info, QE identity and modules, in both quote versions."""
    svns = st.lists(st.integers(1, 3), min_size=16, max_size=16)
    module, module2 = (bytes((data.draw(st.integers(0, 4)), data.draw(st.integers(0, 2)), *data.draw(svns)[2:])) for _ in range(2))
    platform = Platform(
        component_svns=tuple(data.draw(svns)), pce_svn=data.draw(st.integers(0, 3)), tee_tcb_svn=module, tee_tcb_svn2=module2,
        qe_isv_svn=data.draw(st.integers(0, 4)),
    )  # fmt: skip
    info = tcb_info(platform, AT)
    info["tcbLevels"] = _levels(data)
    info["tdxModuleIdentities"] = [{**item, "tcbLevels": _isv_levels(data)} for item in info["tdxModuleIdentities"][:1]]
    identity = {**qe_identity(platform, AT), "tcbLevels": _isv_levels(data)}
    quote = PKI.quote(platform, TrustDomain(), bytes(64), version=data.draw(st.sampled_from((4, 5))))
    agree(quote, _bundle(info, identity), AT, PKI.certificate("root"))


def test_an_honest_simulated_quote_passes_the_peer() -> None:
    """Otherwise the random platforms above would agree on refusals only."""
    for version in (4, 5):
        quote = PKI.quote(Platform(), TrustDomain(), bytes(64), version=version)
        assert agree(quote, _bundle(tcb_info(Platform(), AT), qe_identity(Platform(), AT)), AT, PKI.certificate("root")) == "UpToDate"


def test_policy_is_the_policys() -> None:
    """What the peer refuses while verifying, we report as facts (debug, migration, EPT violations)."""
    for guest in (TrustDomain(attributes=1 << 28 | 1), TrustDomain(attributes=1 << 28 | 1 << 29), TrustDomain(attributes=0)):
        quote = PKI.quote(Platform(), guest, bytes(64))
        bundle = _bundle(tcb_info(Platform(), AT), qe_identity(Platform(), AT))
        assert peer(quote, bundle, AT, PKI.certificate("root")) is None
        assert ours(quote, bundle, AT, simulated=True) is not None
