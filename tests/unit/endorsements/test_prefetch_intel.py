"""Taking Intel's collateral along: real documents are kept and serve offline, forged and foreign ones are not kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evident.endorsements import anchors, crl, intel, x509
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import CachedFetcher, Fetched, OfflineFetcher, StaticFetcher
from evident.endorsements.http import refuse_implausible
from evident.endorsements.prefetch import Prefetch, asking_ages, remember_crls
from evident.errors import CollateralUnavailable, EvidentError, Indeterminate, NotAuthentic
from evident.evidence import tdx_quote
from evident.verification import tdx
from evident.verification.context import Context

CASE = "tdx/dcap-qvl-uptodate"
AT = datetime(2025, 7, 1, tzinfo=UTC)


def served(member: str, body: str, signature: str) -> bytes:
    return f'{{"{member}":{body},"signature":"{signature}"}}'.encode()


class Setting:
    def __init__(self, vectors: Any, root: Path) -> None:
        self.quote = vectors.read(CASE, "quote.bin")
        chain = x509.load_all(tdx_quote.parse(self.quote).pck_chain.removesuffix(b"\0"))
        self.fmspc, self.ca, self.root = intel.parse_pck(chain[0]).fmspc, chain[1], chain[2]
        given = json.loads(vectors.read(CASE, "collateral.json"))
        self.bodies = {
            intel.tcb_info_url(self.fmspc): served("tcbInfo", given["tcb_info"], given["tcb_info_signature"]),
            intel.qe_identity_url(): served("enclaveIdentity", given["qe_identity"], given["qe_identity_signature"]),
            intel.pck_crl_url("platform"): bytes.fromhex(given["pck_crl"]),
            intel.ROOT_CRL_URL: given["root_ca_crl"].encode(),  # hex, as a PCCS sends it
        }
        self.cache = Cache(root)

    def prefetch(self, at: datetime = AT) -> Prefetch:
        inner = StaticFetcher({url: Fetched(url, body, at) for url, body in self.bodies.items()})
        fetcher = CachedFetcher(self.cache, inner, lambda: at, ages=asking_ages, plausible=refuse_implausible)
        return Prefetch(self.cache, fetcher, anchors.production(), at)

    def jobs(self, at: datetime = AT) -> list[Callable[[], Any]]:
        prefetch = self.prefetch(at)
        return [
            lambda: prefetch.tcb_info(self.fmspc),
            prefetch.qe_identity,
            lambda: prefetch.intel_crl(self.ca),
            lambda: prefetch.intel_crl(self.root),
        ]


@pytest.fixture
def setting(vectors: Any, tmp_path: Path) -> Setting:
    return Setting(vectors, tmp_path)


def test_what_is_kept_verifies_the_quote_offline(setting: Setting) -> None:
    kept = [job() for job in setting.jobs()]
    assert [item.url for item in kept] == list(setting.bodies)
    context = Context(AT, anchors.production(), OfflineFetcher(setting.cache))
    verified = tdx.verify({"quote": (setting.quote,)}, context)
    assert verified.facts.tee is not None
    assert verified.facts.tee.tcb_status == "UpToDate"
    assert verified.revocation == "good"
    assert {point.code for point in verified.open_points} == {"tdx.challenge.missing"}


@pytest.mark.parametrize("number", range(4))
def test_a_forgery_is_not_kept(setting: Setting, number: int) -> None:
    url = list(setting.bodies)[number]
    body = setting.bodies[url]
    last = len(body) - (3 if number < 2 else 1)  # of the signature: before the closing quote in a document
    digit = body[last : last + 1]
    setting.bodies[url] = body[:last] + (b"0" if digit == b"1" else b"1") + body[last + 1 :]
    with pytest.raises(NotAuthentic):
        setting.jobs()[number]()
    assert setting.cache.lookup(url) is None


@pytest.mark.parametrize("number", range(4))
def test_a_portals_page_is_not_kept(setting: Setting, number: int) -> None:
    url = list(setting.bodies)[number]
    setting.bodies[url] = b"<html>please log in</html>"
    with pytest.raises(CollateralUnavailable) as refusal:
        setting.jobs()[number]()
    assert refusal.value.code == "endorsement.implausible"
    assert setting.cache.lookup(url) is None


def test_a_stale_list_is_told(setting: Setting) -> None:
    with pytest.raises(Indeterminate):
        setting.jobs(datetime(2025, 12, 1, tzinfo=UTC))[2]()


def test_a_ca_that_the_root_did_not_sign(setting: Setting) -> None:
    forged = x509.parse(setting.ca.der[:-1] + bytes((setting.ca.der[-1] ^ 1,)))
    with pytest.raises(EvidentError):
        setting.prefetch().intel_crl(forged)


def test_an_older_list_than_one_seen_is_a_replay(vectors: Any, setting: Setting) -> None:
    """All of Intel's lists have the number 1; two real ones of the platform CA, of June and of September 2025."""
    newer = crl.load(bytes.fromhex(json.loads(vectors.read("tdx/dcap-qvl-near", "collateral.json"))["pck_crl"]))
    older = crl.load(setting.bodies[intel.pck_crl_url("platform")])
    assert (older.number, newer.number) == (1, 1)
    url = intel.pck_crl_url("platform")
    production = anchors.production()
    remember_crls(setting.cache, {url: Fetched(url, older.der, AT)}, production, {"quote": (setting.quote,)})
    assert setting.cache.crl_floors() == {intel.crl_scope(setting.ca): int(older.this_update.timestamp())}
    remember_crls(setting.cache, {url: Fetched(url, newer.der[:-1] + b"x", AT)}, production, {"quote": (setting.quote,)})  # not Intel's
    remember_crls(setting.cache, {url: Fetched(url, newer.der, AT)}, production)  # whose it is cannot be told
    setting.prefetch().intel_crl(setting.ca)
    remember_crls(setting.cache, {url: Fetched(url, newer.der, AT)}, production, {"quote": (setting.quote,)})
    with pytest.raises(Indeterminate) as replayed:
        setting.prefetch().intel_crl(setting.ca)
    assert replayed.value.code == "crl.replayed"
    collateral = {"quote": (setting.quote,), "collateral": (vectors.read(CASE, "collateral.json"),)}
    with pytest.raises(NotAuthentic) as refused:
        tdx.verify(collateral, Context(AT, production, OfflineFetcher(setting.cache), crl_floor=setting.cache.crl_floors()))
    assert refused.value.code == "crl.replayed"
