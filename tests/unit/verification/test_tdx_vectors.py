"""Real TDX quotes: the right answer, equal facts, equal TCB status; and every byte of a quote counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from evident.endorsements import anchors, crl, intel
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported
from evident.verification import kinds, tdx
from evident.verification.composite import leave_out
from evident.verification.context import ChainCache, Context

ROLES = {
    "quote.bin": "quote",
    "td-quote.bin": "quote",
    "quote-report.json": "quote",
    "collateral.json": "collateral",
    "tcb_info.json": "tcb-info",
    "qe_identity.json": "qe-identity",
    "pck_crl": "pck-crl",
    "root_crl.der": "root-crl",
}
SHARED = "tdx/attestation-rs-collateral-2026-03"
SHARED_ROLES = {
    "td_qe_identity.json": "qe-identity",
    "pck_crl_platform.der": "pck-crl",
    "root_ca_crl.der": "root-crl",
    "tcb_signing_chain.pem": "tcb-chain",
}
OPEN_WITHOUT = {"tdx.challenge.missing"}
MISSING = OPEN_WITHOUT | {"tdx.revocation.unknown", "tdx.collateral.missing"}
CASES = {  # path: TCB status and what stays open
    "tdx/trustee-v4-debug": (None, MISSING),
    "tdx/trustee-v4-tdx-module3": ("OutOfDate", OPEN_WITHOUT | {"tdx.revocation.unknown"}),
    "tdx/attestation-rs-live-ccel": (None, MISSING),
    "tdx/go-tdx-guest-spr-v4": ("NoMatchingLevel", OPEN_WITHOUT | {"tdx.tcb-level.none"}),
    "tdx/go-tdx-guest-v5": (None, MISSING),
    "tdx/dcap-qvl-uptodate": ("UpToDate", OPEN_WITHOUT),
    "tdx/dcap-qvl-near": ("UpToDate", OPEN_WITHOUT),
    "tdx/dcap-qvl-tappd": (None, MISSING),
    "tdx/dstack-quote-report": (None, MISSING),
    "gcp/go-tdx-guest-cos113-tdx-ccel": (None, MISSING),
    "azure/trustee-tdx-v1": (None, MISSING),
}
TOLD_ELSEWHERE = {
    "evaluate_at",
    "expect_with_collateral",
    "expect_under_no_debug_policy",
    "collateral_case",
    "tcb_status_computed_by_collector",
    "note",
    "peer_stated",
    "report_data_in_quote",
    "event_log",
    "quote_decode",
    "report_data_prefix",
    "runtime_event_digest",
    "vm_config",
}


def pieces(vectors: Any, case: str) -> dict[str, tuple[bytes, ...]]:
    files = [file["name"] for file in vectors.cases[case]["files"]]
    return {ROLES[name]: (vectors.read(case, name),) for name in files if name in ROLES}


def context(at: str, **changes: Any) -> Context:
    return Context(datetime.fromisoformat(at), anchors.production(), StaticFetcher({}), **changes)


def at(vectors: Any, case: str) -> str:
    time: str = vectors.facts(case).get("evaluate_at", "2025-01-01T00:00:00Z")  # the Azure case states no time
    return time


@pytest.mark.parametrize("case", CASES)
def test_authentic_with_equal_facts(vectors: Any, case: str) -> None:
    verified = kinds.verify("tdx", pieces(vectors, case), context(at(vectors, case)))
    status, left_open = CASES[case]
    assert {point.code for point in verified.open_points} == left_open
    assert verified.facts.tee is not None
    assert verified.facts.tee.tcb_status == status
    assert not verified.simulated
    facts = vectors.facts(case)
    facts = dict(facts.get("tdx", facts))
    computed = facts.get("tcb_status_computed_by_collector", {}) if status or case == "tdx/go-tdx-guest-v5" else {}
    expected = {name: value for name, value in {**facts, **computed}.items() if name not in TOLD_ELSEWHERE | {"fmspc_match"}}
    windows = expected.pop("collateral_windows", {})
    assert {name: verified.facts.claims[name] for name in expected} == expected
    assert windows.items() <= verified.facts.claims.get("collateral_windows", {}).items()


@pytest.mark.parametrize("form", ["hex", "json"])
def test_other_forms_of_the_same_quote(vectors: Any, form: str) -> None:
    given = pieces(vectors, "tdx/dcap-qvl-near")
    text = given["quote"][0].hex().encode()
    given["quote"] = (text if form == "hex" else b'{"quote": "%s"}' % text,)
    assert tdx.verify(given, context(at(vectors, "tdx/dcap-qvl-near"))).facts.tee is not None


def test_collateral_of_another_capture(vectors: Any) -> None:
    """The debug quote has no collateral of its own; that of 2026-03 says out of date, with these advisories."""
    given = pieces(vectors, "tdx/trustee-v4-debug")
    given |= {role: (vectors.read(SHARED, name),) for name, role in SHARED_ROLES.items()}
    given["tcb-info"] = (vectors.read(SHARED, "tcb_info_50806f000000.json"),)
    facts = vectors.facts("tdx/trustee-v4-debug")
    verified = tdx.verify(given, context(facts["evaluate_at"]))
    tee = verified.facts.tee
    assert tee is not None
    assert tee.debug
    assert tee.tcb_status == facts["tcb_status_computed_by_collector"]["platform_status"]
    assert list(tee.advisories) == facts["tcb_status_computed_by_collector"]["advisories"]
    assert verified.revocation == "good"
    assert {point.code for point in verified.open_points} == OPEN_WITHOUT


def test_version_5_reaches_up_to_date(vectors: Any) -> None:
    given = pieces(vectors, "tdx/go-tdx-guest-v5")
    given |= {role: (vectors.read(SHARED, name),) for name, role in SHARED_ROLES.items()}
    given["tcb-info"] = (vectors.read(SHARED, "tcb_info_90c06f000000.json"),)
    verified = tdx.verify(given, context("2026-03-20T00:00:00Z"))
    assert verified.facts.tee is not None
    assert verified.facts.tee.tcb_status == "UpToDate"
    assert {point.code for point in verified.open_points} == OPEN_WITHOUT


def test_on_the_clock_of_november_2026_all_collateral_is_stale(vectors: Any) -> None:
    verified = tdx.verify(pieces(vectors, "tdx/dcap-qvl-uptodate"), context("2026-11-22T00:00:00Z"))
    expected = {"tdx.challenge.missing", "tdx.revocation.unknown", "tdx.tcb-info.stale", "tdx.qe-identity.stale"}
    assert {point.code for point in verified.open_points} == expected


def test_a_broken_signature(vectors: Any) -> None:
    with pytest.raises(NotAuthentic) as refusal:
        tdx.verify(pieces(vectors, "tdx/cmc-v4-bad-signature"), context(at(vectors, "tdx/cmc-v4-bad-signature")))
    assert refusal.value.code == "tdx.signature"


def test_sgx_is_another_technology(vectors: Any) -> None:
    with pytest.raises(Unsupported) as refusal:
        tdx.verify(pieces(vectors, "tdx/dcap-qvl-sgx"), context(at(vectors, "tdx/dcap-qvl-sgx")))
    assert refusal.value.code == "tdx.quote.sgx"


def test_intels_test_root_is_no_root(vectors: Any) -> None:
    """Its chain is concatenated DER where the type says PEM, so it does not even come to the root."""
    given = {"quote": (vectors.read("tdx/intel-qvl-test-pki", "quote.dat"),)}
    with pytest.raises(Malformed):
        tdx.verify(given, context("2025-01-01T00:00:00Z"))


def test_altered_tcb_info(vectors: Any) -> None:
    """The peer's altered TCB info, with the quote of its FMSPC at a time inside its window."""
    given = pieces(vectors, "tdx/go-tdx-guest-v5")
    given |= {role: (vectors.read(SHARED, name),) for name, role in SHARED_ROLES.items()}
    given["tcb-info"] = (vectors.read("tdx/cmc-tcbinfo-altered", "tcb_info.json"),)
    with pytest.raises(NotAuthentic) as refusal:
        tdx.verify(given, context("2026-03-20T00:00:00Z"))
    assert "tdx.tcb-info.signature" in {finding.code for finding in refusal.value.findings}


def _refused(given: Mapping[str, tuple[bytes, ...]], where: Context) -> bool:
    try:
        verified = tdx.verify(given, where)
    except EvidentError:
        return True
    return {point.code for point in verified.open_points} != OPEN_WITHOUT


@pytest.mark.parametrize("case", ["tdx/dcap-qvl-uptodate", "tdx/go-tdx-guest-v5"])
def test_every_signed_byte_counts(vectors: Any, case: str) -> None:
    given = pieces(vectors, case)
    quote = given["quote"][0]
    signed = 48 + 584 if quote[0] == 4 else 54 + 648
    where = context(at(vectors, case), chain_cache=ChainCache())
    tdx.verify(given, where)
    for offset in range(signed):
        changed = quote[:offset] + bytes((quote[offset] ^ 0x10,)) + quote[offset + 1 :]
        with pytest.raises(EvidentError):
            tdx.verify({**given, "quote": (changed,)}, where)


def test_every_part_of_the_signature_data_counts(vectors: Any) -> None:
    """Signatures, keys, reports, and every 31st byte of the two certificates below the root, which is pinned anyway."""
    given = pieces(vectors, "tdx/dcap-qvl-uptodate")
    quote, where = given["quote"][0], context(at(vectors, "tdx/dcap-qvl-uptodate"), chain_cache=ChainCache())
    tdx.verify(given, where)
    start, fixed, end = 48 + 584, 4 + 64 + 64 + 6 + 384 + 64 + 2 + 32 + 6, quote.rindex(b"-----BEGIN")
    offsets = [*range(start, start + fixed), *range(start + fixed, end - 1, 31)]
    survivors = [offset for offset in offsets if not _refused({**given, "quote": (_flip(quote, offset),)}, where)]
    assert {quote[offset : offset + 1] for offset in survivors} <= {b"\n"}, "line ends are no part of a certificate"


def _flip(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes((content[offset] ^ 1,)) + content[offset + 1 :]


def test_every_part_of_the_collateral_counts(vectors: Any) -> None:
    given = pieces(vectors, "tdx/dcap-qvl-uptodate")
    where = context(at(vectors, "tdx/dcap-qvl-uptodate"), chain_cache=ChainCache())
    collateral = given["collateral"][0]
    tdx.verify(given, where)
    start = collateral.index(b'"tcb_info":')
    for offset in range(start + 40, start + 2000, 17):
        if collateral[offset : offset + 1].isalnum():
            assert _refused({**given, "collateral": (_flip(collateral, offset),)}, where), offset


LOGS = {  # path: file of the log, stages named from it
    "tdx/attestation-rs-live-ccel": ("ccel.bin", ["firmware", "kernel", "cmdline", "initrd"]),
    "tdx/dstack-quote-report": ("quote-report.json", ["firmware", "kernel", "cmdline", "initrd"]),
    "gcp/go-tdx-guest-cos113-tdx-ccel": ("ccel.bin", ["firmware", "shim", "bootloader", "bootloader-file", "kernel", "cmdline"]),
}


@pytest.mark.parametrize("case", LOGS)
def test_a_log_replays_and_names_the_boot(vectors: Any, case: str) -> None:
    name, stages = LOGS[case]
    verified = tdx.verify({**pieces(vectors, case), "log": (vectors.read(case, name),)}, context(at(vectors, case)))
    boot = verified.facts.boot
    assert boot is not None
    assert boot.measured_by == "tee"
    assert [stage.name for stage in boot.stages] == stages
    assert {f"rtmr{number}": value.hex() for number, value in enumerate(verified.evidence.report.rtmrs)} == {
        name: value.hex() for name, value in boot.registers.items()
    }
    assert "tdx.log" in {record.id for record in verified.steps}


@pytest.mark.parametrize("case", LOGS)
def test_what_only_the_guest_asserts_is_marked(vectors: Any, case: str) -> None:
    """dstack issue 1051: ACPI digests in a log are what the host chose, and match the register that they were read from."""
    verified = tdx.verify({**pieces(vectors, case), "log": (vectors.read(case, LOGS[case][0]),)}, context(at(vectors, case)))
    asserted = verified.facts.claims["log"]["guest_asserted"]
    assert sum(event["says"] == "ACPI DATA" and event["register"] == "rtmr0" for event in asserted) == 3
    assert {"tdx.log.guest-asserted", "tdx.log.acpi-asserted"} <= set(verified.facts.caveats)
    assert verified.facts.boot is not None
    kernel = next(stage for stage in verified.facts.boot.stages if stage.name == "kernel")
    assert not kernel.recomputable
    assert kernel.digest.hex() in {event["digest"] for event in asserted}


def test_a_log_of_another_boot_is_refused_and_its_register_named(vectors: Any) -> None:
    case = "tdx/attestation-rs-live-ccel-other-boot"
    given = {**pieces(vectors, case), "log": (vectors.read(case, "ccel.bin"),)}
    where = context(at(vectors, "tdx/attestation-rs-live-ccel"))
    with pytest.raises(NotAuthentic) as refusal:
        tdx.verify(given, where)
    assert [finding.code for finding in refusal.value.findings] == ["log.replay"]
    assert "rtmr2" in refusal.value.findings[0].expected
    assert vectors.facts(case)["quote_rtmr2"] in refusal.value.findings[0].expected
    passed = tdx.verify(given, where, leave_out(tdx.PROCEDURE, frozenset({"tdx.log"})))
    assert passed.facts.boot is None
    assert "tdx.log" in passed.required, "so appraisal refuses"


def test_without_a_log_no_boot_is_told(vectors: Any) -> None:
    case = "tdx/attestation-rs-live-ccel"
    verified = tdx.verify(pieces(vectors, case), context(at(vectors, case)))
    assert verified.facts.boot is None
    assert "tdx.log" not in verified.required


def test_the_captured_collateral_says_what_its_capture_says(vectors: Any) -> None:
    facts = vectors.facts(SHARED)
    windows = {name: [datetime.fromisoformat(text) for text in window] for name, window in facts["windows"].items()}
    info = intel.parse_tcb_info(intel.signed_document(vectors.read(SHARED, "tcb_info_90c06f000000.json"), "tcbInfo", "t").body)
    identity = intel.parse_qe_identity(intel.signed_document(vectors.read(SHARED, "td_qe_identity.json"), "enclaveIdentity", "t").body)
    lists = {
        name: crl.load(vectors.read(SHARED, file)) for name, file in (("pck_crl", "pck_crl_platform.der"), ("root_crl", "root_ca_crl.der"))
    }
    assert info.evaluation_number == facts["tcb_evaluation_data_number"]
    assert len(lists["pck_crl"].revoked) == facts["pck_crl_revoked_entries"]
    assert [info.issue_date, info.next_update] == windows["tcb_info"]
    assert [identity.issue_date, identity.next_update] == windows["td_qe_identity"]
    assert {name: [found.this_update, found.next_update] for name, found in lists.items()} == {name: windows[name] for name in lists}
