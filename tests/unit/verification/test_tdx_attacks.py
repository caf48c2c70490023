"""The attack matrix of TDX authenticity: each row gets through when exactly its step is left out, and is refused by name with it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.mutation import Guarded, mutants

from evident.endorsements import anchors, intel, pem, x509
from evident.endorsements.fetcher import Fetched, StaticFetcher
from evident.errors import EvidentError, Malformed, Unsupported, UsageError
from evident.evidence import binding
from evident.simulator.tdx import Forgery, Platform, TdxPki, TrustDomain, qe_identity, sgx_extension, tcb_info
from evident.verification import challenge, kinds, tdx, tdx_case, tdx_collateral, tdx_signatures, tdx_tcb
from evident.verification.composite import leave_out
from evident.verification.context import ChainCache, Context
from evident.verification.verified import Verified

AT = datetime(2026, 6, 10, tzinfo=UTC)
NONCE = bytes(range(100, 132))
REPORT_DATA = NONCE.ljust(64, b"\0")
PLATFORM, GUEST = Platform(), TrustDomain()
PKI = TdxPki(b"attack matrix", AT)
EVIL = TdxPki(b"somebody else", AT)
ANCHORS = anchors.production().plus(*PKI.anchors())
DAY = timedelta(days=1)
LIFE = timedelta(days=365)
BOUND = b"the key that the guest binds"


@dataclasses.dataclass(frozen=True)
class Evidence:
    pieces: Mapping[str, tuple[bytes, ...]]
    context: Context

    def but(self, **changes: Any) -> Evidence:
        roles = {name.replace("_", "-"): value for name, value in changes.items()}
        pieces = {role: value for role, value in roles.items() if role in tdx.ROLES}
        fields = {name: value for name, value in changes.items() if name.replace("_", "-") not in pieces}
        merged = {**self.pieces, **{role: (value,) if isinstance(value, bytes) else value for role, value in pieces.items()}}
        return Evidence({role: value for role, value in merged.items() if value}, dataclasses.replace(self.context, **fields))


def honest(platform: Platform = PLATFORM, guest: TrustDomain = GUEST, *, pki: TdxPki = PKI, version: int = 4) -> Evidence:
    pieces = {"quote": (pki.quote(platform, guest, REPORT_DATA, version=version),)}
    pieces |= {role: (content,) for role, content in pki.collateral(platform, AT).items()}
    return Evidence(pieces, Context(AT, ANCHORS, StaticFetcher({}), nonce=NONCE, unsafe=frozenset({"simulated-root"})))


def forged(platform: Platform = PLATFORM, **parts: Any) -> bytes:
    return PKI.quote(platform, GUEST, REPORT_DATA, forgery=Forgery(**parts))


def chain(*ders: bytes) -> bytes:
    return b"".join(pem.encode(der, "CERTIFICATE") for der in ders)


def info(platform: Platform = PLATFORM, *, at: datetime = AT, **changes: Any) -> bytes:
    return PKI.document("tcbInfo", {**tcb_info(platform, at), **changes})


def identity(*, at: datetime = AT, **changes: Any) -> bytes:
    return PKI.document("enclaveIdentity", {**qe_identity(PLATFORM, at), **changes})


def under_forged_ca() -> Evidence:
    """Somebody's own PCK CA under Intel's name and root, with everything below it in order."""
    key, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = PKI.issue("Intel SGX PCK Platform CA", key, "root", 2, LIFE, ca_depth=0, signed_by=key)
    pck = PKI.issue(intel.PCK_NAME, leaf, "platform-ca", 77, LIFE, extension=sgx_extension(PLATFORM), signed_by=key)
    quote = forged(pck_chain=chain(pck, ca, PKI.certificate("root")), pck_key=leaf)
    return honest().but(quote=quote, pck_crl=PKI.crl("platform-ca", at=AT, signed_by=key))


def with_leaf(*, name: str = intel.PCK_NAME, life: timedelta = LIFE, **changes: Any) -> Evidence:
    """A PCK certificate that the PCK CA really signed, and that is odd."""
    key = PKI.key(f"pck:{PLATFORM.name}")
    pck = PKI.issue(name, key, "platform-ca", 78, life, extension=sgx_extension(PLATFORM), **changes)
    return honest().but(quote=forged(pck_chain=chain(pck, PKI.certificate("platform-ca"), PKI.certificate("root"))))


def p384_ca() -> Evidence:
    key = ec.generate_private_key(ec.SECP384R1())
    ca = PKI.issue("Intel SGX PCK Platform CA", key, "root", 2, LIFE, ca_depth=0)
    leaf = PKI.key(f"pck:{PLATFORM.name}")
    pck = PKI.issue(intel.PCK_NAME, leaf, "platform-ca", 79, LIFE, extension=sgx_extension(PLATFORM), signed_by=key)
    crl = PKI.crl("platform-ca", at=AT, signed_by=key)
    return honest().but(quote=forged(pck_chain=chain(pck, ca, PKI.certificate("root"))), pck_crl=crl)


LOGGED = ((1, b"first"), (1, b"second"), (2, b"kernel"), (2, b"command line"))
"""RTMR and text of each event."""


def logged(extended: tuple[tuple[int, bytes], ...], *, log: tuple[tuple[int, bytes], ...]) -> Evidence:
    """A guest that extended its registers by the events of `extended`, and hands out `log`."""
    guest = GUEST
    for register, text in extended:
        guest = guest.extend(register, hashlib.sha384(text).digest())
    listed = [
        {"imr": register, "event_type": 13, "digest": hashlib.sha384(text).hexdigest(), "event": "", "event_payload": text.hex()}
        for register, text in log
    ]
    return honest(guest=guest).but(log=json.dumps(listed).encode())


def signer(**changes: Any) -> bytes:
    """A TCB signing certificate over the right key."""
    return chain(PKI.issue(intel.TCB_SIGNING_NAME, PKI.key("tcb-signing"), "root", 3, LIFE, **changes))


def shelf(bodies: Mapping[str, bytes]) -> StaticFetcher:
    return StaticFetcher({url: Fetched(url, body, AT) for url, body in bodies.items()})


def flipped(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes((content[offset] ^ 1,)) + content[offset + 1 :]


def pck_serial() -> int:
    return x509.parse(PKI.pck(PLATFORM)).serial


def floor(role: str, seen: datetime) -> dict[str, int]:
    return {intel.crl_scope(x509.parse(PKI.certificate(role))): int(seen.timestamp())}


ROOTLESS = ("tdx.root.unknown", "tdx.steps-not-run")
ALL_ZERO = Platform(component_svns=(0,) * 16, pce_svn=1, tee_tcb_svn=bytes((4, 1, *(0,) * 14)))
BELOW_ALL = Platform(component_svns=(0,) * 16, pce_svn=0)


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    forge: Callable[[], Evidence]
    codes: tuple[str, ...] = ()
    step: str | None = None
    open: tuple[str, ...] = ()


ROWS = (
    Row("a chain under nobody's root", lambda: honest(pki=EVIL), ROOTLESS, "tdx.root"),
    Row(
        "a simulator's root, not asked for",
        lambda: honest().but(unsafe=frozenset()),
        ("tdx.root.simulated", "tdx.steps-not-run"),
        "tdx.root",
    ),
    Row("a PCK CA that the root did not sign", under_forged_ca, ("x509.signature",), "tdx.chain"),
    Row(
        "a PCK certificate that the PCK CA did not sign",
        lambda: with_leaf(signed_by=EVIL.key("platform-ca")),
        ("x509.signature",),
        "tdx.chain",
    ),
    Row("a leaf of another kind", lambda: with_leaf(name="Intel SGX TCB Signing"), ("tdx.chain-profile.names",), "tdx.chain-profile"),
    Row("a leaf that is an authority", lambda: with_leaf(ca_depth=0), ("tdx.chain-profile.names",), "tdx.chain-profile"),
    Row("a PCK CA on P-384", p384_ca, ("tdx.chain-profile.key",), "tdx.chain-profile"),
    Row("an expired PCK certificate", lambda: with_leaf(life=timedelta(hours=1)), ("x509.expired",), "tdx.validity"),
    Row(
        "a revoked PCK certificate",
        lambda: honest().but(pck_crl=PKI.crl("platform-ca", at=AT, revoked=[pck_serial()])),
        ("crl.revoked",),
        "tdx.revocation",
    ),
    Row("a revoked PCK CA", lambda: honest().but(root_crl=PKI.crl("root", at=AT, revoked=[2])), ("crl.revoked",), "tdx.revocation"),
    Row(
        "a forged CRL",
        lambda: honest().but(pck_crl=PKI.crl("platform-ca", at=AT, signed_by=EVIL.key("platform-ca"))),
        ("crl.signature",),
        "tdx.revocation",
    ),
    Row("a replayed CRL", lambda: honest().but(crl_floor=floor("platform-ca", AT)), ("crl.replayed",), "tdx.revocation"),
    Row("a replayed root CRL", lambda: honest().but(crl_floor=floor("root", AT)), ("crl.replayed",), "tdx.revocation"),
    Row("no CRL of the PCK CA", lambda: honest().but(pck_crl=()), open=("tdx.revocation.unknown",)),
    Row("no CRL of the root", lambda: honest().but(root_crl=()), open=("tdx.revocation.unknown",)),
    Row("a stale CRL", lambda: honest().but(pck_crl=PKI.crl("platform-ca", at=AT - 40 * DAY)), open=("tdx.revocation.unknown",)),
    Row("a CRL of the future", lambda: honest().but(root_crl=PKI.crl("root", at=AT + 3 * DAY)), open=("tdx.revocation.unknown",)),
    Row(
        "a stale CRL that knows of the revocation",
        lambda: honest().but(pck_crl=PKI.crl("platform-ca", at=AT - 40 * DAY, revoked=[pck_serial()])),
        ("crl.revoked",),
        "tdx.revocation",
    ),
    Row(
        "a QE report of another platform",
        lambda: honest().but(quote=forged(pck_key=EVIL.key("pck:platform-1"))),
        ("tdx.qe-report.signature",),
        "tdx.qe-report",
    ),
    Row(
        "an attestation key that no enclave reports",
        lambda: honest().but(quote=forged(attestation_key=EVIL.key("attestation"))),
        ("tdx.attestation-key",),
        "tdx.attestation-key",
    ),
    Row("a changed body", lambda: honest().but(quote=flipped(honest().pieces["quote"][0], 48 + 136)), ("tdx.signature",), "tdx.signature"),
    Row("a changed header", lambda: honest().but(quote=flipped(honest().pieces["quote"][0], 30)), ("tdx.signature",), "tdx.signature"),
    Row(
        "a TCB signing certificate that the root did not sign",
        lambda: honest().but(tcb_chain=signer(signed_by=EVIL.key("root"))),
        ("x509.signature", "tdx.steps-not-run"),
        "tdx.tcb-signer",
    ),
    Row(
        "a TCB signing certificate that is an authority",
        lambda: honest().but(tcb_chain=signer(ca_depth=0)),
        ("tdx.tcb-signer.profile", "tdx.steps-not-run"),
        "tdx.tcb-signer",
    ),
    Row(
        "a revoked TCB signing certificate",
        lambda: honest().but(root_crl=PKI.crl("root", at=AT, revoked=[3])),
        ("crl.revoked", "tdx.steps-not-run"),
        "tdx.tcb-signer",
    ),
    Row(
        "a TCB signing certificate that the fetched CRL revokes",
        lambda: honest().but(root_crl=(), fetcher=shelf({intel.ROOT_CRL_URL: PKI.crl("root", at=AT, revoked=[3])})),
        ("crl.revoked", "tdx.steps-not-run"),
        "tdx.tcb-signer",
    ),
    Row("no TCB signing certificate", lambda: honest().but(tcb_chain=()), open=("tdx.collateral.missing",)),
    Row("no TCB info", lambda: honest().but(tcb_info=()), open=("tdx.collateral.missing",)),
    Row("no QE identity", lambda: honest().but(qe_identity=()), open=("tdx.collateral.missing",)),
    Row(
        "a forged TCB info",
        lambda: honest().but(tcb_info=PKI.document("tcbInfo", tcb_info(PLATFORM, AT), key=EVIL.key("tcb-signing"))),
        ("tdx.tcb-info.signature", "tdx.steps-not-run"),
        "tdx.tcb-info",
    ),
    Row("a stale TCB info", lambda: honest().but(tcb_info=info(at=AT - 40 * DAY)), open=("tdx.tcb-info.stale",)),
    Row("a TCB info of the future", lambda: honest().but(tcb_info=info(at=AT + 3 * DAY)), open=("tdx.tcb-info.stale",)),
    Row(
        "TCB info of another FMSPC", lambda: honest().but(tcb_info=info(fmspc="00" * 6)), ("tdx.tcb-info-subject",), "tdx.tcb-info-subject"
    ),
    Row("TCB info of another PCE", lambda: honest().but(tcb_info=info(pceId="0001")), ("tdx.tcb-info-subject",), "tdx.tcb-info-subject"),
    Row(
        "a forged QE identity",
        lambda: honest().but(qe_identity=PKI.document("enclaveIdentity", qe_identity(PLATFORM, AT), key=EVIL.key("tcb-signing"))),
        ("tdx.qe-identity.signature", "tdx.steps-not-run"),
        "tdx.qe-identity",
    ),
    Row("a stale QE identity", lambda: honest().but(qe_identity=identity(at=AT - 40 * DAY)), open=("tdx.qe-identity.stale",)),
    Row("a QE identity of the future", lambda: honest().but(qe_identity=identity(at=AT + 3 * DAY)), open=("tdx.qe-identity.stale",)),
    *(
        Row(
            f"a quoting enclave with another {name}",
            lambda offset=offset: honest().but(quote=forged(qe_report={offset: b"\x03"})),
            ("tdx.quoting-enclave",),
            "tdx.quoting-enclave",
        )
        for name, offset in (("MISCSELECT", 16), ("ATTRIBUTES (debug)", 48), ("MRSIGNER", 130), ("ISVPRODID", 256))
    ),
    Row("a module of another signer", lambda: honest(Platform(mrsignerseam=b"\x01" * 48)), ("tdx.module",), "tdx.module"),
    Row("a debug module", lambda: honest(Platform(seamattributes=b"\x01" + bytes(7))), ("tdx.module",), "tdx.module"),
    Row(
        "a debug module that the mask leaves free",
        lambda: honest(Platform(seamattributes=b"\x01" + bytes(7))).but(
            tcb_info=info(tdxModuleIdentities=[{**tcb_info(PLATFORM, AT)["tdxModuleIdentities"][0], "attributesMask": "00" * 8}])
        ),
        ("tdx.module",),
        "tdx.module",
    ),
    Row("a revoked TCB level", lambda: honest(ALL_ZERO).but(tcb_info=info()), ("tdx.tcb-level.revoked",), "tdx.tcb-level"),
    Row("no TCB level", lambda: honest(BELOW_ALL).but(tcb_info=info()), open=("tdx.tcb-level.none",)),
    Row(
        "no TCB level, and every unsafe option",
        lambda: honest(BELOW_ALL).but(
            tcb_info=info(), unsafe=frozenset({"simulated-root", "tcb-unknown", "revocation-unknown", "no-challenge"})
        ),
        open=("tdx.tcb-level.none",),
    ),
    Row("a module version without identity", lambda: honest(Platform(tee_tcb_svn=bytes((6, 2, *(0,) * 14)))), open=("tdx.tcb-level.none",)),
    Row("another challenge", lambda: honest().but(nonce=b"other"), ("tdx.challenge.nonce",), "tdx.challenge"),
    Row("other report data", lambda: honest().but(nonce=None, report_data=bytes(64)), ("tdx.challenge.report-data",), "tdx.challenge"),
    Row("a key that is not bound", lambda: honest().but(key=BOUND), ("tdx.challenge.key",), "tdx.challenge"),
    Row("no challenge", lambda: honest().but(nonce=None), open=("tdx.challenge.missing",)),
    Row("a log of another boot", lambda: logged(LOGGED, log=LOGGED[:-1]), ("log.replay",), "tdx.log"),
    Row("a log with an event put in", lambda: logged(LOGGED[:-1], log=LOGGED), ("log.replay",), "tdx.log"),
    Row("a log in another order", lambda: logged(LOGGED, log=LOGGED[::-1]), ("log.replay", "log.replay"), "tdx.log"),
    # And what must pass, or a check that refuses everything would go unnoticed
    Row("an honest quote", honest),
    Row("an honest quote and its log", lambda: logged(LOGGED, log=LOGGED)),
    Row("an honest quote of version 5", lambda: honest(version=5)),
    Row("an honest quote with trailing bytes", lambda: honest().but(quote=forged(trailing=b"\x01" * 39))),
    Row(
        "unsafe options that were needed",
        lambda: honest().but(
            pck_crl=(), tcb_info=(), nonce=None, unsafe=frozenset({"simulated-root", "tcb-unknown", "revocation-unknown", "no-challenge"})
        ),
    ),
    Row(
        "an honest quote and the key it binds",
        lambda: honest().but(quote=PKI.quote(PLATFORM, GUEST, binding.report_data(NONCE, BOUND)), key=BOUND),
    ),
)


def act(evidence: Evidence, *without: str) -> Verified[Any]:
    return tdx.verify(evidence.pieces, evidence.context, leave_out(tdx.PROCEDURE, frozenset(without)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_with_every_step_in(row: Row) -> None:
    if not row.codes:
        verified = act(row.forge())
        assert tuple(point.code for point in verified.open_points) == row.open
        assert {record.id for record in verified.steps} == verified.required
        return
    with pytest.raises(EvidentError) as refusal:
        act(row.forge())
    assert tuple(finding.code for finding in refusal.value.findings) == row.codes
    assert all(finding.remedy and finding.expected and finding.found for finding in refusal.value.findings)


@pytest.mark.parametrize("row", [row for row in ROWS if row.step], ids=lambda row: row.name)
def test_succeeds_with_just_that_step_left_out(row: Row) -> None:
    verified = act(row.forge(), str(row.step))
    assert row.step in verified.required - {record.id for record in verified.steps}, "and appraisal sees that it is missing"


def test_every_step_has_an_attack_that_only_it_stops() -> None:
    assert {step.id for step in tdx.PROCEDURE.steps} - {row.step for row in ROWS} == {"tdx.pck-chain"}


def test_steps_of_docstring_and_procedure_agree() -> None:
    assert tdx.__doc__ is not None
    listed = [line.split()[1] for line in tdx.__doc__.splitlines() if line.strip().startswith("(") and ") tdx." in line]
    assert listed == [step.id for step in tdx.PROCEDURE.steps]


def test_the_page_lists_every_step_in_order_and_every_role() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "platforms" / "tdx.md").read_text()
    rows = re.findall(r"^\| (\d+) \| `(tdx\.[a-z-]+)`", page, re.MULTILINE)
    assert rows == [(str(number), step.id) for number, step in enumerate(tdx.PROCEDURE.steps, 1)]
    assert {role for role in tdx.ROLES if f"`{role}`" not in page} == set()
    assert {code for row in ROWS for code in row.open if f"`{code}`" not in page} == set()


def test_a_chain_without_its_authority() -> None:
    with pytest.raises(EvidentError) as refusal:
        act(honest().but(quote=forged(pck_chain=chain(PKI.pck(PLATFORM)))))
    assert refusal.value.code == "tdx.pck-chain.issuer"


@pytest.mark.parametrize("content", [b"", b"no PEM", PKI.pck(PLATFORM) * 2])
def test_a_chain_that_is_none(content: bytes) -> None:
    with pytest.raises(Malformed):
        act(honest().but(quote=forged(pck_chain=content)))


def test_unsafe_options_show() -> None:
    verified = act(next(row for row in ROWS if row.name == "unsafe options that were needed").forge())
    assert sorted(verified.unsafe) == ["no-challenge", "revocation-unknown", "simulated-root", "tcb-unknown"]
    assert verified.simulated
    assert "tdx.collateral.missing" in verified.facts.caveats
    assert verified.facts.tee is not None
    assert verified.facts.tee.tcb_status is None


def test_facts() -> None:
    guest = TrustDomain(attributes=1 << 28 | 1 << 29 | 1, mrservicetd=b"\x05" * 48).extend(1, b"\x07" * 48)
    verified = act(honest(guest=guest, version=5))
    tee = verified.facts.tee
    assert tee is not None
    assert (tee.technology, tee.vendor, tee.product, tee.tcb_status) == ("tdx", "Evident simulator", "00e5d0000000", "UpToDate")
    assert tee.debug
    assert tee.migratable
    assert tee.registers["launch"] == tee.registers["mrtd"] == guest.mrtd
    assert tee.registers["rtmr1"] == guest.rtmrs[1]
    assert tee.settings["attributes.sept_ve_disable"]
    assert tee.settings["platform.smt_enabled"]
    assert "tdx.service-td" in verified.facts.caveats
    assert verified.facts.freshness.scope == "challenge"
    json.dumps(verified.facts.claims)


def test_trailing_bytes_are_told() -> None:
    verified = act(honest().but(quote=forged(trailing=b"\x01" * 39)))
    assert "tdx.trailing-bytes" in verified.facts.caveats
    assert verified.facts.claims["bytes_after_signature_data"] == 39


@pytest.mark.parametrize(
    ("platform", "status", "advisories"),
    [
        (Platform(pce_svn=12), "OutOfDate", ("INTEL-SA-00001",)),
        (Platform(tee_tcb_svn=bytes((3, 1, 3, *(0,) * 13))), "OutOfDate", ("INTEL-SA-00002",)),
        (Platform(qe_isv_svn=2), "OutOfDate", ("INTEL-SA-00003",)),
    ],
)
def test_out_of_date_is_a_fact_for_the_policy(platform: Platform, status: str, advisories: tuple[str, ...]) -> None:
    verified = act(honest(platform).but(tcb_info=info(), qe_identity=identity()))
    assert verified.facts.tee is not None
    assert verified.facts.tee.tcb_status == status
    assert verified.facts.tee.advisories == advisories
    assert not verified.open_points


def test_collateral_is_fetched() -> None:
    given = honest()
    urls = {
        intel.tcb_info_url(PLATFORM.fmspc): "tcb-info",
        intel.qe_identity_url(): "qe-identity",
        intel.pck_crl_url("platform"): "pck-crl",
        intel.ROOT_CRL_URL: "root-crl",
    }
    bodies = {url: given.pieces[role][0] for url, role in urls.items()}
    verified = act(given.but(tcb_info=(), qe_identity=(), pck_crl=(), root_crl=(), fetcher=shelf(bodies)))
    assert not verified.open_points
    assert verified.revocation == "good"


def test_a_portals_page_is_no_collateral() -> None:
    bodies = dict.fromkeys((intel.tcb_info_url(PLATFORM.fmspc), intel.pck_crl_url("platform")), b"<html>")
    verified = act(honest().but(tcb_info=(), pck_crl=(), fetcher=shelf(bodies)))
    assert {point.code for point in verified.open_points} == {"tdx.revocation.unknown", "tdx.collateral.missing"}


def test_collateral_in_one_object() -> None:
    pieces = {role: content[0] for role, content in honest().pieces.items()}
    documents = {
        role: intel.signed_document(pieces[role], member, "test")
        for role, member in (("tcb-info", "tcbInfo"), ("qe-identity", "enclaveIdentity"))
    }
    bundle = {
        "tcb_info": documents["tcb-info"].body.decode(),
        "tcb_info_signature": documents["tcb-info"].signature.hex(),
        "tcb_info_issuer_chain": pieces["tcb-chain"].decode(),
        "qe_identity": documents["qe-identity"].body.decode(),
        "qe_identity_signature": documents["qe-identity"].signature.hex(),
        "qe_identity_issuer_chain": pieces["tcb-chain"].decode(),
        "pck_crl": pieces["pck-crl"].hex(),
        "root_ca_crl": pieces["root-crl"].hex(),
    }
    evidence = Evidence({"quote": (pieces["quote"],), "collateral": (json.dumps(bundle).encode(),)}, honest().context)
    assert not act(evidence).open_points


def test_a_warm_cache_changes_nothing_but_speed() -> None:
    cache = ChainCache()
    for _ in range(2):
        assert not act(honest().but(chain_cache=cache)).open_points
        for row in ROWS:
            if row.codes:
                with pytest.raises(EvidentError) as refusal:
                    act(row.forge().but(chain_cache=cache))
                assert tuple(finding.code for finding in refusal.value.findings) == row.codes


def test_expired_collateral_is_noticed_from_a_warm_cache() -> None:
    cache = ChainCache()
    act(honest().but(chain_cache=cache))
    later = act(honest().but(chain_cache=cache, at=AT + 60 * DAY))
    assert {point.code for point in later.open_points} == {"tdx.revocation.unknown", "tdx.tcb-info.stale", "tdx.qe-identity.stale"}


@pytest.mark.parametrize("roles", [{}, {"evidence": honest().pieces["quote"]}, {"quote": (b"1", b"2")}])
def test_one_quote(roles: dict[str, tuple[bytes, ...]]) -> None:
    pieces = {**honest().pieces, **roles} if roles else {}
    with pytest.raises(UsageError):
        act(Evidence(pieces, honest().context))


def test_a_quote_inside_json() -> None:
    pieces = dict(honest().pieces)
    pieces["evidence"] = (b'{"quote": "' + pieces.pop("quote")[0].hex().encode() + b'"}',)
    assert not act(Evidence(pieces, honest().context)).open_points


@pytest.mark.parametrize("challenge", [{"nonce": b""}, {"report_data": b"short"}])
def test_a_challenge_that_is_none(challenge: dict[str, bytes]) -> None:
    with pytest.raises(UsageError):
        act(honest().but(**challenge))


def test_kinds_table_knows_tdx() -> None:
    evidence = honest()
    pieces = {**evidence.pieces, "nonce": (NONCE,)}
    assert not kinds.verify("tdx", pieces, dataclasses.replace(evidence.context, nonce=None)).open_points


def sha384_leaf() -> Evidence:
    """A PCK certificate that the PCK CA signed with another hash than Intel uses."""
    template = cx509.load_der_x509_certificate(PKI.pck(PLATFORM))
    builder = cx509.CertificateBuilder().subject_name(template.subject).issuer_name(template.issuer)
    builder = builder.public_key(PKI.key(f"pck:{PLATFORM.name}").public_key()).serial_number(9)
    builder = builder.not_valid_before(AT - DAY).not_valid_after(AT + LIFE)
    extension = cx509.UnrecognizedExtension(cx509.ObjectIdentifier("1.2.840.113741.1.13.1"), sgx_extension(PLATFORM))
    pck = builder.add_extension(extension, critical=False).sign(PKI.key("platform-ca"), hashes.SHA384()).public_bytes(Encoding.DER)
    return honest().but(quote=forged(pck_chain=chain(pck, PKI.certificate("platform-ca"), PKI.certificate("root"))))


def odd_signer(*, role: str = "tcb-signing", critical: bool = True, algorithm: hashes.HashAlgorithm | None = None) -> Evidence:
    """A TCB signing certificate that says something critical nobody understands, or is signed with another hash."""
    template = cx509.load_der_x509_certificate(PKI.certificate(role))
    builder = cx509.CertificateBuilder().subject_name(template.subject).issuer_name(template.issuer)
    builder = builder.public_key(PKI.key(role).public_key()).serial_number(9).not_valid_before(AT - DAY).not_valid_after(AT + LIFE)
    odd = cx509.UnrecognizedExtension(cx509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    made = builder.add_extension(odd, critical=critical).sign(PKI.key("root"), algorithm or hashes.SHA256()).public_bytes(Encoding.DER)
    return honest().but(tcb_chain=chain(made))


def odd_ca() -> Evidence:
    """The same of the PCK CA."""
    made = pem.decode(odd_signer(role="platform-ca").pieces["tcb-chain"][0], ("CERTIFICATE",), "t")[0]
    return honest().but(quote=forged(pck_chain=chain(PKI.pck(PLATFORM), made, PKI.certificate("root"))))


def test_another_signature_algorithm_in_the_chain() -> None:
    with pytest.raises(EvidentError) as refusal:
        act(sha384_leaf())
    assert refusal.value.code == "tdx.chain-profile.algorithm"


@pytest.mark.parametrize("evidence", [odd_signer, odd_ca])
def test_critical_extensions_that_nobody_understands(evidence: Callable[[], Evidence]) -> None:
    with pytest.raises(Unsupported) as refusal:
        act(evidence())
    assert refusal.value.code == "x509.critical-extension"


def test_the_tcb_signing_certificate_may_come_in_der_too() -> None:
    (text,) = honest().pieces["tcb-chain"]
    ders = pem.decode(text, ("CERTIFICATE",), "t")
    assert act(honest().but(tcb_chain=ders)).open_points == act(honest()).open_points == ()
    assert act(honest().but(tcb_chain=tuple(der.hex().encode() for der in ders))).open_points == ()


def test_sgx_documents_are_another_technology() -> None:
    with pytest.raises(Unsupported):
        act(honest().but(tcb_info=info(id="SGX")))
    with pytest.raises(Unsupported):
        act(honest().but(qe_identity=identity(id="QE")))


# --- Mutation: every refusal and open point taken out of the code, one at a time; some row must then end differently (AT-68) ---

GUARDED: Guarded = (
    (tdx, None),
    (tdx_signatures, None),
    (tdx_collateral, None),
    (tdx_case, frozenset({"issued_by", "check_algorithm"})),
    (challenge, None),
    (tdx_tcb, None),
)
EQUIVALENT = frozenset(
    {
        "evident.verification.tdx._log: raise AssertionError('a step ran without the piece that it is about')",  # the same
        # a defect of ours, which no evidence reaches
        "evident.verification.tdx_collateral._authentic: raise AssertionError('called without a signer')",
    }
)


def _removable(statement: ast.stmt) -> ast.stmt | None:
    """What is left of a raise, an `Open`, a finding collected, a result recorded; None for any other statement."""
    if isinstance(statement, ast.Raise | ast.AugAssign):
        return ast.Pass()
    if isinstance(statement, ast.Expr):
        return ast.Pass() if isinstance(statement.value, ast.Call) else None
    if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call):
        opens = ast.unparse(statement.value.func) in ("Open", "case.collateral_open", "_window")
        return ast.Return(ast.Constant(None)) if opens else None
    return None


def _outcome(evidence: Evidence) -> object:
    try:
        verified = act(evidence)
    except EvidentError as refusal:
        return tuple(finding.code for finding in refusal.findings)
    except (AttributeError, TypeError, ValueError, LookupError, AssertionError, NameError) as crash:
        return type(crash).__name__
    return verified.open_points, tuple((record.id, record.open) for record in verified.steps), verified.facts, verified.unsafe


@pytest.mark.slow
def test_no_check_can_go_missing_unnoticed() -> None:
    forgeries = [row.forge() for row in ROWS]
    forgeries += [
        honest().but(quote=forged(pck_chain=chain(PKI.pck(PLATFORM)))),
        honest().but(nonce=b""),
        honest(Platform(tee_tcb_svn=bytes((3, 1, 3, *(0,) * 13)), tee_tcb_svn2=PLATFORM.tee_tcb_svn), version=5),
        sha384_leaf(),
        odd_signer(),
        odd_ca(),
        odd_signer(critical=False, algorithm=hashes.SHA384()),
        honest(Platform(qe_isv_svn=0)).but(qe_identity=identity()),
        Evidence({**honest().pieces, "report": (b"x",)}, honest().context),
        Evidence({}, honest().context),
    ]
    expected = [(_outcome(evidence), evidence) for evidence in forgeries]
    survivors = []
    for mutant in list(mutants(GUARDED, _removable)):
        likely = sorted(expected, key=lambda known, removed=mutant.removed: not _names(known[0], removed))
        with mutant.in_force():
            if all(_outcome(evidence) == wanted for wanted, evidence in likely):
                survivors.append(f"{mutant.name.rpartition(':')[0]}: {mutant.removed}")
    assert set(survivors) <= EQUIVALENT


def _names(outcome: object, removed: str) -> bool:
    """Whether the removed statement names a code of this outcome: such evidence is tried first."""
    codes = outcome if isinstance(outcome, tuple) and all(isinstance(code, str) for code in outcome) else ()
    return any(str(code).rpartition(".")[2] in removed for code in codes)
