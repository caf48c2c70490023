"""The attack matrix of SNP authenticity, and the proof that it would notice any check that goes missing.

Each row forges evidence. A row with a step is shown twice: it gets through when exactly that step is left out of the
procedure, and is refused with its code when it is in. Rows without a step are refused before any step, or stay undecided.

The mutation test at the end takes every refusal, open point and finding out of the code, one at a time and in process, and
demands that some row then ends differently (AT-68).
"""

from __future__ import annotations

import ast
import dataclasses
import struct
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from tests.mutation import Guarded, Mutant, mutants

from evident.endorsements import amd, crl, pem, x509
from evident.errors import EvidentError
from evident.evidence import binding, content, snp_report
from evident.evidence.snp_report import GENOA, MILAN, SigningKey, Tcb
from evident.simulator.pki import SimulatorPki
from evident.simulator.secure_processor import Chip, certificate_table
from evident.verification import challenge, kinds, memory, pieces, procedure, snp
from evident.verification.verified import Verified

VLEK = Chip(vlek_csp="CN=cc-test.invalid")
BEHIND = Chip(reported_tcb=Tcb(bootloader=3, tee=0, snp=20, microcode=200))
"""A chip whose host reports less than it has committed."""
ANY_CHALLENGE = frozenset({"simulated-root", "no-challenge"})
NO_CRL = frozenset({"simulated-root", "revocation-unknown"})
DAY = timedelta(days=1)
BOUND = b"the key that the guest binds"


@dataclasses.dataclass(frozen=True)
class Row:
    """One forgery, the requirement it stems from, and how it must end."""

    name: str
    at: str
    forge: Callable[[Any], Any]
    """From a `World` to `Evidence`, or to a function that is the attack itself."""
    codes: tuple[str, ...]
    step: str | None = None
    open: tuple[str, ...] = ()
    """For evidence that is authentic with something left open."""


def _signed(world: Any, chip: Chip, edits: dict[int, bytes], **changes: Any) -> Any:
    return world.honest(chip).but(report=(world.report(chip, edits),), **changes)


def _forged_crl_signer(world: Any) -> Any:
    return world.honest().but(crl=(world.pki.crl(MILAN, at=world.context().at, number=7, revoked=("ask",), signer="asvk"),))


def _scope(world: Any) -> str:
    return amd.crl_scope(x509.load(world.pki.certificate(MILAN, "ark")), SigningKey.VCEK)


def _crl(world: Any, *, age: timedelta = timedelta(), **changes: Any) -> bytes:
    made: bytes = world.pki.crl(MILAN, at=world.context().at - age, **{"number": 7, **changes})
    return made


def _under(world: Any, ask: bytes, **leaf: Any) -> Any:
    return world.honest().but(vcek=(world.leaf(**leaf),), chain=(ask, world.pki.certificate(MILAN, "ark")))


def _weak_ask(world: Any) -> Any:
    key = rsa.generate_private_key(65537, 2048)
    return _under(world, world.authority("TEST-SEV-Milan", key=key), signed_by=key)


def _elliptic_leaf(world: Any, curve: ec.EllipticCurve) -> Any:
    key = ec.generate_private_key(curve)
    return world.honest().but(vcek=(world.leaf(public=key.public_key()),), report=(world.report(Chip(), key=key),))


def _ark_that_may_not_sign_crls(world: Any) -> Any:
    ark = world.authority("TEST-ARK-Milan", key=world.rsa("ark"), crl_sign=False)
    chain = (world.pki.certificate(MILAN, "ask"), ark)
    return world.honest().but(chain=chain, anchors=world.production.plus(world.anchor(ark)))


def _wrong_kds(world: Any, body: bytes) -> Any:
    honest = world.honest(BEHIND)
    url = amd.vcek_url(MILAN, BEHIND.chip_id, BEHIND.tcb("reported"))
    return honest.but(vcek=(), fetcher=type(honest.context.fetcher)({url: body}))


def _ended_crl(world: Any) -> Any:
    """A CRL without nextUpdate, which X.509 allows and RFC 5280 does not."""
    original = crl.load(_crl(world))
    return lambda: crl.check_window(dataclasses.replace(original, next_update=None), original.this_update)


def _younger_ask(world: Any, *, signed_by: Any = None) -> Any:
    """AMD has a new ASK, which only its service knows yet (or somebody says so in its place)."""
    ark = world.pki.certificate(MILAN, "ark")
    ask = world.authority("TEST-SEV-Milan", key=world.rsa("asvk"), signed_by=signed_by)
    honest = world.honest()
    fetcher = type(honest.context.fetcher)(
        {amd.chain_url(MILAN, SigningKey.VCEK): b"".join(pem.encode(der, "CERTIFICATE") for der in (ask, ark))}
    )
    return honest.but(vcek=(world.leaf(signed_by=world.rsa("asvk")),), chain=(ark,), fetcher=fetcher)


ROWS: tuple[Row, ...] = (
    # What the report says of itself
    Row(
        "another signature algorithm",
        "AT-64",
        lambda w: _signed(w, Chip(), {0x34: b"\2"}),
        ("snp.signature-algorithm",),
        "snp.signature-algorithm",
    ),
    Row("signed by nobody", "AT-39", lambda w: _signed(w, Chip(), {0x48: bytes([7 << 2])}), ("snp.signing-key",), "snp.signing-key"),
    Row(
        "a byte of the measurement changed",
        "AT-06",
        lambda w: w.honest().but(report=(_flip(w.honest().pieces["report"][0], 0x90),)),
        ("snp.signature",),
        "snp.signature",
    ),
    Row(
        "signed by another chip",
        "AT-54",
        lambda w: w.honest().but(report=(w.report(Chip(), key=w.key(VLEK)),)),
        ("snp.signature",),
        "snp.signature",
    ),
    # The chain
    Row(
        "emulated SNP with a chain of its own",
        "AT-39",
        lambda w: w.honest().but(anchors=w.production),
        ("snp.root.unknown", "snp.steps-not-run"),
        "snp.root",
    ),
    Row(
        "simulated evidence in production",
        "AT-39",
        lambda w: w.honest().but(unsafe=frozenset()),
        ("snp.root.simulated", "snp.steps-not-run"),
        "snp.root",
    ),
    Row(
        "a VCEK that the ASK did not sign",
        "AT-39",
        lambda w: w.honest().but(vcek=(w.leaf(signed_by=w.rsa("asvk")),)),
        ("x509.signature",),
        "snp.chain",
    ),
    Row(
        "an ASK that the ARK did not sign",
        "AT-39",
        lambda w: _under(w, w.authority("TEST-SEV-Milan", key=w.rsa("asvk"), signed_by=w.rsa("ask")), signed_by=w.rsa("asvk")),
        ("x509.signature",),
        "snp.chain",
    ),
    Row(
        "an ASK that is no authority",
        "AT-39",
        lambda w: _under(w, w.authority("TEST-SEV-Milan", key=w.rsa("ask"), is_ca=False)),
        ("x509.issuer-not-ca",),
        "snp.chain",
    ),
    Row(
        "an ASK that may not sign certificates",
        "AT-39",
        lambda w: _under(w, w.authority("TEST-SEV-Milan", key=w.rsa("ask"), cert_sign=False)),
        ("x509.issuer-key-usage",),
        "snp.chain",
    ),
    Row(
        "an unknown critical extension",
        "AT-64",
        lambda w: w.honest().but(vcek=(w.leaf(unknown=True),)),
        ("x509.critical-extension",),
        "snp.chain",
    ),
    Row(
        "an issuer that nobody knows",
        "AT-39",
        lambda w: w.honest().but(vcek=(w.leaf(issuer="TEST-SEV-Venice"),)),
        ("snp.issuer-unknown", "snp.steps-not-run"),
    ),
    Row(
        "a certificate that names another issuer",
        "AT-39",
        lambda w: lambda: x509.verify_issued_by(x509.load(w.leaf(issuer="TEST-SEV-Venice")), x509.load(w.pki.certificate(MILAN, "ask"))),
        ("x509.issuer-name",),
    ),
    Row(
        "a chain signed with PKCS #1 v1.5",
        "AT-39",
        lambda w: w.honest().but(vcek=(w.leaf(scheme=padding.PKCS1v15()),)),
        ("snp.chain-algorithms.certificate",),
        "snp.chain-algorithms",
    ),
    Row("an ASK of 2048 bits", "AT-39", _weak_ask, ("snp.chain-algorithms.certificate",), "snp.chain-algorithms"),
    Row(
        "a report key on P-256", "AT-39", lambda w: _elliptic_leaf(w, ec.SECP256R1()), ("snp.chain-algorithms.key",), "snp.chain-algorithms"
    ),
    Row(
        "a report key that is RSA",
        "AT-39",
        lambda w: w.honest().but(vcek=(w.leaf(public=w.rsa("asvk").public_key()),)),
        ("snp.chain-algorithms.key", "snp.signature"),
    ),
    Row(
        "an expired VLEK",
        "AT-05",
        lambda w: w.honest(VLEK).but(at=w.context().at + 360 * DAY, unsafe=NO_CRL),
        ("x509.expired",),
        "snp.validity",
    ),
    Row(
        "a certificate from the future",
        "AT-05",
        lambda w: w.honest().but(at=w.context().at - 20 * DAY, unsafe=NO_CRL),
        ("x509.not-yet-valid",),
        "snp.validity",
    ),
    # Which certificate for which report
    Row(
        "a VLEK for a report that says VCEK",
        "AT-40",
        lambda w: _signed(w, VLEK, {0x48: b"\0", 0x1A0: bytes(64)}),
        ("snp.certificate-kind.signing-key",),
        "snp.certificate-kind",
    ),
    Row(
        "a VCEK under the ASVK",
        "AT-40",
        lambda w: w.honest().but(
            vcek=(w.leaf(issuer="TEST-SEV-VLEK-Milan", signed_by=w.rsa("asvk")),), chain=(w.pki.chain_pem(MILAN, "vlek"),)
        ),
        ("snp.certificate-kind.issuer",),
        "snp.certificate-kind",
    ),
    Row(
        "a VCEK that is itself an authority",
        "AT-40",
        lambda w: w.honest().but(vcek=(w.leaf(authority=True),)),
        ("snp.certificate-kind.issuer",),
        "snp.certificate-kind",
    ),
    Row(
        "a Milan certificate for a Genoa report",
        "AT-40",
        lambda w: _signed(w, Chip(), {0x188: bytes((0x19, 0x11, 1))}),
        ("snp.product.report",),
        "snp.product",
    ),
    Row(
        "a root that may vouch for Genoa only",
        "AT-40",
        lambda w: w.honest().but(anchors=w.production.plus(w.anchor(w.pki.certificate(MILAN, "ark"), GENOA))),
        ("snp.product.root",),
        "snp.product",
    ),
    Row(
        "the VCEK of the committed TCB",
        "AT-69",
        lambda w: w.honest(BEHIND).but(vcek=(w.leaf(public=w.key(BEHIND).public_key(), tcb=BEHIND.tcb("committed")),)),
        ("snp.tcb",),
        "snp.tcb",
    ),
    Row(
        "the VCEK of another chip",
        "AT-54",
        lambda w: _signed(w, Chip(), {0x1A0: bytes(range(200, 136, -1))}),
        ("snp.chip-id.mismatch",),
        "snp.chip-id",
    ),
    Row(
        "a VLEK that claims a chip", "AT-61", lambda w: _signed(w, VLEK, {0x1A0: bytes(range(1, 65))}), ("snp.chip-id.vlek",), "snp.chip-id"
    ),
    Row("a masked key beside a chip id", "AT-40", lambda w: _signed(w, Chip(), {0x48: b"\2"}), ("snp.chip-id.mask",), "snp.chip-id"),
    # Revocation
    Row("a revoked ASK", "AT-27", lambda w: w.honest().but(crl=(_crl(w, revoked=("ask",)),)), ("crl.revoked",), "snp.revocation"),
    Row("a revoked ASVK", "AT-27", lambda w: w.honest(VLEK).but(crl=(_crl(w, revoked=("asvk",)),)), ("crl.revoked",), "snp.revocation"),
    Row(
        "a revoked ASK on a list long out of date",
        "AT-27",
        lambda w: w.honest().but(crl=(_crl(w, age=90 * DAY, revoked=("ask",)),)),
        ("crl.revoked",),
        "snp.revocation",
    ),
    Row("a revoked root", "AT-27", lambda w: w.honest().but(crl=(_crl(w, revoked=("ark",)),)), ("crl.revoked",), "snp.revocation"),
    Row("a forged CRL", "AT-28", _forged_crl_signer, ("crl.signature",), "snp.revocation"),
    Row("a replayed CRL", "AT-28", lambda w: w.honest().but(crl_floor={_scope(w): 8}), ("crl.replayed",), "snp.revocation"),
    Row("a CRL by a root that may sign none", "AT-28", _ark_that_may_not_sign_crls, ("crl.issuer-key-usage",), "snp.revocation"),
    Row(
        "a CRL of somebody else",
        "AT-28",
        lambda w: lambda: crl.verify_issued_by(crl.load(_crl(w)), x509.load(w.pki.certificate(GENOA, "ark"))),
        ("crl.issuer-name",),
    ),
    Row("a CRL without end", "AT-28", _ended_crl, ("crl.no-window",)),
    Row("an expired CRL", "AT-28", lambda w: w.honest().but(crl=(_crl(w, age=90 * DAY),)), (), open=("snp.revocation.unknown",)),
    Row("a CRL from the future", "AT-28", lambda w: w.honest().but(crl=(_crl(w, age=-5 * DAY),)), (), open=("snp.revocation.unknown",)),
    Row("no CRL to be had", "AT-28", lambda w: w.honest().but(crl=()), (), open=("snp.revocation.unknown",)),
    # Freshness
    Row("a report for an old nonce", "AT-05", lambda w: w.honest().but(nonce=b"another nonce"), ("snp.challenge.nonce",), "snp.challenge"),
    Row(
        "a report over other data",
        "AT-05",
        lambda w: w.honest().but(nonce=None, report_data=bytes(64)),
        ("snp.challenge.report-data",),
        "snp.challenge",
    ),
    Row("no challenge at all", "AT-05", lambda w: w.honest().but(nonce=None), (), open=("snp.challenge.missing",)),
    # Nothing to verify with
    Row(
        "a VLEK that nobody handed out",
        "AT-61",
        lambda w: w.honest(VLEK).but(vlek=()),
        ("snp.endorsement-key.missing", "snp.steps-not-run"),
    ),
    Row(
        "a masked chip without its VCEK",
        "AT-61",
        lambda w: w.honest(Chip(mask_chip_id=True)).but(vcek=()),
        ("snp.endorsement-key.missing", "snp.steps-not-run"),
    ),
    Row(
        "a VCEK that cannot be fetched",
        "AT-62",
        lambda w: w.honest().but(vcek=()),
        ("snp.endorsement-key.unavailable", "fetch.unreachable", "snp.steps-not-run"),
    ),
    Row(
        "a key service that serves something else",
        "AT-62",
        lambda w: _wrong_kds(w, b"<html>"),
        ("snp.endorsement-key.unavailable", "x509.truncated", "snp.steps-not-run"),
    ),
    Row(
        "a key service that serves the committed TCB's VCEK",
        "AT-69",
        lambda w: _wrong_kds(w, w.leaf(public=w.key(BEHIND).public_key(), tcb=BEHIND.tcb("committed"))),
        ("snp.tcb",),
        "snp.tcb",
    ),
    # Two faults at once, both told
    Row(
        "a wrong TCB and an old nonce",
        "AT-05",
        lambda w: w.honest(BEHIND).but(nonce=b"another", vcek=(w.leaf(public=w.key(BEHIND).public_key(), tcb=BEHIND.tcb("committed")),)),
        ("snp.tcb", "snp.challenge.nonce"),
    ),
    # Not SNP at all, and misuse
    Row("an SEV report", "AT-55", lambda w: w.honest().but(report=(bytes(0xD0),)), ("snp.report.relative",)),
    Row("a TDX quote", "AT-55", lambda w: w.honest().but(report=(b"\4\0\2\0\x81" + bytes(5000),)), ("snp.report.relative",)),
    Row("a report of version 1", "AT-55", lambda w: _signed(w, Chip(), {0: b"\1"}), ("snp.report.version",)),
    Row(
        "a report behind its message head",
        "AT-64",
        lambda w: w.honest().but(report=(bytes.fromhex("00000000a0040000") + bytes(24 + 1184),)),
        ("snp.report.header",),
    ),
    Row(
        "a signature with high bytes",
        "AT-64",
        lambda w: w.honest().but(report=(_flip(w.report(Chip()), 0x2A0 + 48),)),
        ("snp.report.signature",),
    ),
    Row("a report with one byte more", "AT-64", lambda w: w.honest().but(report=(w.report(Chip()) + b"\0",)), ("snp.report.length",)),
    Row("an empty nonce", "AT-05", lambda w: w.honest().but(nonce=b""), ("snp.challenge.size",)),
    Row("report data of the wrong size", "AT-05", lambda w: w.honest().but(report_data=b"short"), ("snp.challenge.size",)),
    Row("an unsafe option that does not exist", "AT-28", lambda w: w.honest().but(unsafe=frozenset({"insecure"})), ("unsafe.unknown",)),
    Row("two reports", "AT-64", lambda w: w.honest().but(report=(w.report(Chip()),) * 2), ("pieces.count",)),
    Row("two certificates", "AT-64", lambda w: w.honest().but(vcek=w.honest().pieces["vcek"] * 2), ("pieces.count",)),
    Row("no report", "AT-64", lambda w: w.honest().but(report=()), ("pieces.count",)),
    Row(
        "a piece that must be there",
        "AT-64",
        lambda _: lambda: pieces.check({}, {"quote": pieces.Role("one", 9, "a quote")}, "tdx"),
        ("pieces.count",),
    ),
    Row("an empty report", "AT-64", lambda w: w.honest().but(report=(b"",)), ("pieces.size",)),
    Row(
        "a role that snp does not have",
        "AT-64",
        lambda _: lambda: pieces.check({"quote": (b"x",)}, snp.ROLES, "snp"),
        ("pieces.unknown-role",),
    ),
    Row("a kind that is none", "AT-55", lambda w: lambda: kinds.verify("sev-es", {}, w.context()), ("kind.unknown",)),
    Row(
        "report data for evidence without a report",
        "AT-05",
        lambda w: lambda: kinds.verify("tpm", {}, dataclasses.replace(w.context(), report_data=bytes(64))),
        ("pieces.challenge",),
    ),
    Row("a key that is none", "AT-64", lambda w: lambda: kinds.verify("tpm", {"key": (bytes(5000),)}, w.context()), ("pieces.size",)),
    Row("a challenge given twice", "AT-05", lambda w: lambda: kinds.verify("snp", {"nonce": (b"1",)}, w.context()), ("pieces.challenge",)),
    Row(
        "a report over another key",
        "AT-02",
        lambda w: _with_key(w, key=b"another key"),
        ("snp.challenge.key",),
        "snp.challenge",
    ),
    Row(
        "a chain that somebody serves in AMD's place",
        "AT-39",
        lambda w: _younger_ask(w, signed_by=w.rsa("ask")),
        ("x509.signature",),
        "snp.chain",
    ),
    # And what must pass, or a check that refuses everything would go unnoticed
    Row("an honest report", "AT-68", lambda w: w.honest(), ()),
    Row("an honest report and the key it binds", "AT-02", lambda w: _with_key(w, key=BOUND), ()),
    Row("an honest report with its certificate table", "AT-68", lambda w: w.honest().but(vcek=(), chain=(), auxblob=(_table(w),)), ()),
    Row(
        "a namesake of the ASK before the right one",
        "AT-68",
        lambda w: w.honest().but(chain=(_namesake(w), *w.honest().pieces["chain"])),
        (),
    ),
    Row("an honest report under an ASK that only AMD's service knows yet", "AT-68", _younger_ask, ()),
    Row("an honest VLEK report", "AT-61", lambda w: w.honest(VLEK), ()),
    Row("unsafe options that were needed", "AT-28", lambda w: w.honest().but(crl=(), nonce=None, unsafe=NO_CRL | ANY_CHALLENGE), ()),
)


def _with_key(world: Any, key: bytes) -> Any:
    bound = binding.report_data(world.context().nonce, BOUND)
    return _signed(world, Chip(), {0x50: bound}, key=(key,))


def _table(world: Any) -> bytes:
    """The extended report's certificate table as a host fills it."""
    chip = Chip()
    leaf = world.pki.vcek(MILAN, chip.hwid, chip.tcb("reported"))
    return certificate_table({"ark": world.pki.certificate(MILAN, "ark"), "ask": world.pki.certificate(MILAN, "ask"), "vcek": leaf})


def _namesake(world: Any) -> bytes:
    """Another certificate under the ASK's name."""
    made: bytes = world.authority("TEST-SEV-Milan", key=world.rsa("asvk"))
    return made


def _flip(content: bytes, offset: int) -> bytes:
    changed = bytearray(content)
    changed[offset] ^= 1
    return bytes(changed)


PARSED = (  # name, chip, offset, byte, code: reserved parts and unknown values, each in a report that is signed with it
    ("a VMPL that does not exist", Chip(), 0x30, 4, "snp.report.vmpl"),
    ("an unknown policy bit", Chip(), 0x0B, 4, "snp.report.reserved"),
    ("a policy without its constant bit", Chip(), 0x0A, 1, "snp.report.reserved"),
    ("an unknown platform bit", Chip(), 0x40, 0x40, "snp.report.reserved"),
    ("an unknown key information bit", Chip(), 0x48, 1 << 5, "snp.report.reserved"),
    ("an unknown signing key", Chip(), 0x48, 2 << 2, "snp.report.signing-key"),
    ("a reserved byte behind the key information", Chip(), 0x4C, 1, "snp.report.reserved"),
    ("a reserved byte behind the CPUID", Chip(), 0x18B, 1, "snp.report.reserved"),
    ("a reserved byte before the signature", Chip(), 0x29F, 1, "snp.report.reserved"),
    ("a CPUID in version 2", Chip(report_version=2), 0x188, 0x19, "snp.report.reserved"),
    ("a mitigation vector in version 4", Chip(report_version=4), 0x1F8, 1, "snp.report.reserved"),
    ("an unknown processor", Chip(), 0x188, 0x17, "snp.report.product"),
    ("a reserved TCB byte", Chip(), 0x3A, 1, "snp.report.reserved"),
    ("a reserved byte behind a version", Chip(), 0x1EB, 1, "snp.report.reserved"),
)
ROWS += tuple(
    Row(name, "AT-64", lambda w, chip=chip, edits={offset: bytes([byte])}: _signed(w, chip, edits), (code,))
    for name, chip, offset, byte, code in PARSED
)


def _act(evidence: Any, steps: procedure.Procedure[Any] = snp.PROCEDURE) -> Any:
    return evidence() if callable(evidence) else snp.verify(evidence.pieces, evidence.context, steps)


def _without(step: str) -> procedure.Procedure[Any]:
    left = tuple(kept for kept in snp.PROCEDURE.steps if kept.id != step)
    assert len(left) == len(snp.PROCEDURE.steps) - 1
    return dataclasses.replace(snp.PROCEDURE, steps=left)


@pytest.fixture(scope="module")
def forged(world: Any) -> dict[str, Any]:
    return {row.name: row.forge(world) for row in ROWS}


def in_index(rows: Iterable[Row], shows: str) -> list[Any]:
    """`rows` as parameters; those that are an attack with their place in the index of attacks."""
    found = []
    for row in rows:
        codes = ", ".join(row.codes or row.open)
        marks = [pytest.mark.attack(row.at, f"{row.name[0].upper()}{row.name[1:]}.", codes, shows)] if codes else []
        found.append(pytest.param(row, marks=marks, id=row.name))
    return found


@pytest.mark.parametrize("row", in_index(ROWS, "refused"))
def test_refused_with_every_step_in(row: Row, forged: dict[str, Any]) -> None:
    if not row.codes:
        verified = _act(forged[row.name])
        assert tuple(point.code for point in verified.open_points) == row.open
        assert {record.id for record in verified.steps} == verified.required
        return
    with pytest.raises(EvidentError) as refusal:
        _act(forged[row.name])
    assert tuple(finding.code for finding in refusal.value.findings) == row.codes
    assert all(finding.remedy and finding.expected and finding.found for finding in refusal.value.findings)


@pytest.mark.parametrize("row", in_index((row for row in ROWS if row.step), "succeeds"))
def test_succeeds_with_just_that_step_left_out(row: Row, forged: dict[str, Any]) -> None:
    verified = _act(forged[row.name], _without(str(row.step)))
    assert isinstance(verified, Verified)
    assert row.step in verified.required - {record.id for record in verified.steps}, "and appraisal sees that it is missing"


def test_every_step_has_an_attack_that_only_it_stops() -> None:
    assert {step.id for step in snp.PROCEDURE.steps} - {row.step for row in ROWS} == {"snp.endorsement-key"}


def test_steps_of_docstring_and_procedure_agree() -> None:
    assert snp.__doc__ is not None
    listed = [line.split()[1] for line in snp.__doc__.splitlines() if line.strip().startswith("(") and ") snp." in line]
    assert listed == [step.id for step in snp.PROCEDURE.steps]


def test_the_same_chain_passes_under_an_older_crl(world: Any) -> None:
    """AT-27: the list that knows of the revocation decides, and nothing else."""
    assert snp.verify(world.honest().pieces, world.honest().context).revocation == "good"


def test_unsafe_options_show(forged: dict[str, Any]) -> None:
    verified = _act(forged["unsafe options that were needed"])
    assert verified.unsafe == ("revocation-unknown", "no-challenge", "simulated-root")
    assert verified.revocation == "unknown"
    assert verified.simulated
    assert [record.id for record in verified.steps if record.open] == ["snp.revocation", "snp.challenge"]


def test_a_vlek_names_a_cloud_and_no_chip(forged: dict[str, Any]) -> None:
    facts = _act(forged["an honest VLEK report"]).facts
    assert facts.tee.key_holder == "CN=cc-test.invalid"
    assert "vlek.cloud-not-chip" in facts.caveats
    assert not {"chip_id", "hwid"} & set(facts.tee.identities)


def test_a_masked_chip_is_known_by_its_certificate(world: Any) -> None:
    facts = snp.verify(world.honest(Chip(mask_chip_id=True)).pieces, world.context()).facts
    assert facts.tee is not None
    assert "snp.chip-id.masked" in facts.caveats
    assert set(facts.tee.identities) == {"hwid", "endorsement_key"}


def test_a_report_signed_by_nobody_comes_from_a_masked_key(world: Any) -> None:
    chip = Chip(mask_chip_key=True)
    guest_report = world.honest().but(report=(world.report(chip),))
    with pytest.raises(EvidentError) as refusal:
        _act(guest_report)
    assert "snp.signing-key" in {finding.code for finding in refusal.value.findings}


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("csp", [None, "CN=cc-test.invalid"])
def test_every_product_version_and_key_verifies(world: Any, product: str, version: int, csp: str | None) -> None:
    if (product, version, csp) == ("Turin", 2, "CN=cc-test.invalid"):
        pytest.skip("a version 2 report without chip id does not say that it is Turin's; no such firmware is known")
    chip = Chip(amd.product_named(product), report_version=version, vlek_csp=csp)
    evidence = world.honest(chip).but(crl=(world.pki.crl(chip.product, at=world.context().at),))
    verified = snp.verify(evidence.pieces, evidence.context)
    assert verified.facts.tee is not None
    assert verified.facts.tee.product == product
    assert verified.revocation == "good"
    assert not verified.open_points


def test_the_vcek_is_fetched_by_reported_tcb(world: Any) -> None:
    evidence = _wrong_kds(world, world.pki.vcek(MILAN, BEHIND.hwid, BEHIND.tcb("reported")))
    assert snp.verify(evidence.pieces, evidence.context).facts.claims["reported_tcb"]["snp"] == 20
    assert evidence.context.fetcher.asked[0].endswith("?blSPL=03&teeSPL=00&snpSPL=20&ucodeSPL=200")


def test_a_version_2_report_is_looked_up_as_either_product(world: Any) -> None:
    chip = Chip(GENOA, report_version=2)
    honest = world.honest(chip).but(crl=(world.pki.crl(GENOA, at=world.context().at),))
    url = amd.vcek_url(GENOA, chip.chip_id, chip.tcb("reported"))
    evidence = honest.but(vcek=(), fetcher=type(honest.context.fetcher)({url: honest.pieces["vcek"][0]}))
    assert snp.verify(evidence.pieces, evidence.context).facts.claims["signing_key"] == "VCEK"


# --- Mutation -------------------------------------------------------------------------------------------------------------

GUARDED: Guarded = (
    (snp, None),
    (procedure, None),
    (pieces, None),
    (kinds, None),
    (memory, None),
    (challenge, None),
    (content, frozenset({"snp_report", "_refuse_relatives"})),
    (
        snp_report,
        frozenset({"parse", "_product", "_check_policy", "_known_bits", "_signing_key", "_firmware_version", "_signature_component"}),
    ),
    (x509, frozenset({"verify_issued_by", "check_validity", "check_critical"})),
    (crl, frozenset({"verify_issued_by", "check_window", "check_floor", "check_not_revoked"})),
)
"""What SNP verification relies on."""
EQUIVALENT: dict[str, str] = {}
"""Mutants that change nothing, with the reason. There are none, and there should be none."""


def _removable(statement: ast.stmt) -> ast.stmt | None:
    """What is left of a statement that raises, opens a point or collects a finding; None for any other statement."""
    if isinstance(statement, ast.Raise):
        return ast.Pass()
    if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Call) and ast.unparse(statement.value.func) == "Open":
        return ast.Return(ast.Constant(None))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return None if ast.unparse(statement.value.func) == "cache.put" else ast.Pass()  # remembering changes the speed alone
    if isinstance(statement, ast.AugAssign):
        return ast.Pass()
    return None


def _outcome(evidence: Any) -> object:
    try:
        verified = _act(evidence)
    except EvidentError as refusal:
        return type(refusal).__name__, tuple(finding.code for finding in refusal.findings), dict(refusal.claims)
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, NameError, struct.error) as crash:
        return type(crash).__name__
    if not isinstance(verified, Verified):
        return "passed"
    records = tuple((record.id, record.open) for record in verified.steps)
    return verified.open_points, records, verified.unsafe, verified.facts.caveats, verified.facts.freshness, verified.revocation


def _survives(mutant: Mutant, expected: dict[str, object], forged: dict[str, Any]) -> bool:
    """Whether every row still ends as `expected`; those whose code the removed statement names are tried first."""
    likely = sorted(ROWS, key=lambda row: not any(code.split(".")[-1] in mutant.removed for code in (*row.codes, *row.open)))
    with mutant.in_force():
        return all(_outcome(forged[row.name]) == expected[row.name] for row in likely)


@pytest.mark.attack("AT-68", "Any one check is deleted from the code of the verifier.", "the mutation test fails")
def test_no_refusal_can_be_deleted_unnoticed(forged: dict[str, Any], simulator_pki: SimulatorPki) -> None:
    expected = {row.name: _outcome(forged[row.name]) for row in ROWS}
    tried = list(mutants(GUARDED, _removable))
    survivors = [mutant.name for mutant in tried if _survives(mutant, expected, forged)]
    assert len(tried) > 50
    assert "\n".join(survivors) == "\n".join(EQUIVALENT)
    assert expected == {row.name: _outcome(forged[row.name]) for row in ROWS}, "every function is whole again"
