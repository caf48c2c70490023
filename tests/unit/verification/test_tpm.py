"""TPM quotes: real ones verify and say what the manifest says; every attack is refused by its own step, and passes without it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evident.endorsements import anchors, tpm_ca, x509
from evident.errors import Malformed, NotAuthentic, UsageError
from evident.evidence import tcg_log, tpm
from evident.evidence import tpm_algorithms as alg
from evident.evidence.importers import containers
from evident.evidence.tpm_public import Scheme
from evident.simulator.vtpm import UNRESTRICTED_ATTRIBUTES, SimulatedTpm
from evident.verification import kinds
from evident.verification import tpm as procedure
from evident.verification.context import Context

AT = datetime(2026, 6, 20, tzinfo=UTC)
NONCE = bytes(range(32))


def context(nonce: bytes | None = NONCE, **changes: object) -> Context:
    fields = {"at": AT, "anchors": anchors.production(), "fetcher": None, "nonce": nonce} | changes
    return Context(**fields)


def pieces_of(machine: SimulatedTpm, nonce: bytes = NONCE, **changes: bytes) -> dict[str, tuple[bytes, ...]]:
    quote, signature = machine.quote(nonce)
    values = {"sha256": {str(index): value.hex() for index, value in machine.pcrs["sha256"].items()}}
    pieces = {"quote": quote, "signature": signature, "ak": machine.ak.tpm2b, "pcrs": json.dumps(values).encode()}
    return {role: (content,) for role, content in (pieces | changes).items()}


def refused_code(pieces: dict[str, tuple[bytes, ...]], step: str, **options: object) -> str:
    """The code with which `pieces` are refused; without `step` they pass, and appraisal can see that it is missing."""
    with pytest.raises(NotAuthentic) as refused:
        procedure.verify(pieces, context(**options))
    passed = procedure.verify(pieces, context(**options), without=frozenset({step}))
    assert step in passed.required - {record.id for record in passed.steps}
    assert {finding.layer for finding in refused.value.findings} <= {"vtpm", "input", "boot_chain"}
    return refused.value.code


def test_a_good_quote_is_authentic_and_nobody_vouches_for_its_key():
    machine = SimulatedTpm()
    machine.extend(4, {"sha256": bytes(32), "sha384": bytes(48)})
    verified = procedure.verify(pieces_of(machine), context())
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.pcrs["sha256"][4] == machine.pcrs["sha256"][4]
    assert (verified.facts.vtpm.anchor, verified.facts.vtpm.location) == ("none", "unknown")
    assert verified.facts.freshness.scope == "challenge"
    assert verified.facts.freshness.carried_by == "vtpm"
    assert [finding.code for finding in verified.open_points] == ["tpm.ak-certificate.missing"]
    assert "tpm.ak-parent-unknown" not in verified.facts.caveats


def test_a_nonce_may_come_as_its_sha256():
    verified = procedure.verify(pieces_of(SimulatedTpm(), hashlib.sha256(NONCE * 4).digest()), context(NONCE * 4))
    assert verified.facts.freshness.scope == "challenge"


@pytest.mark.parametrize(
    ("key", "scheme"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), Scheme(alg.ALG_ECDSA, alg.ALG_SHA384)),
        (lambda: rsa.generate_private_key(65537, 2048), Scheme(alg.ALG_RSASSA, alg.ALG_SHA256)),
        (lambda: rsa.generate_private_key(65537, 2048), Scheme(alg.ALG_RSAPSS, alg.ALG_SHA256)),
    ],
    ids=["ecdsa-p384", "rsassa", "rsapss"],
)
def test_every_scheme_verifies(key, scheme):
    assert procedure.verify(pieces_of(SimulatedTpm(ak_key=key(), ak_scheme=scheme)), context()).facts.vtpm is not None


@pytest.mark.attack(
    "AT-18", "The host of a vTPM quotes PCR values of its own choosing.", "nothing: the facts say whose vTPM it is", "succeeds"
)
def test_at18_a_lying_host_passes_and_the_facts_do_not_vouch_for_it():
    """AT-18: the host of a vTPM sets PCRs to whatever the verifier expects; only the anchor in the facts tells."""
    host = SimulatedTpm()
    host.set_pcr("sha256", 4, b"\xaa" * 32)
    verified = procedure.verify(pieces_of(host), context())
    assert verified.facts.vtpm is not None
    assert verified.facts.vtpm.pcrs["sha256"][4] == b"\xaa" * 32
    assert verified.facts.tee is None
    assert verified.facts.vtpm.anchor != "tee"


@pytest.mark.attack("AT-22", "A key that signs anything is passed off as attestation key.", "tpm.ak-attributes")
def test_at22_an_unrestricted_key_signs_a_forged_quote():
    """AT-22: such a key signs a quote that no TPM made; the attributes in its public area give it away."""
    forger = SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)
    forger.set_pcr("sha256", 7, b"\x77" * 32)
    assert refused_code(pieces_of(forger), "tpm.ak-attributes") == "tpm.ak-attributes"


@pytest.mark.attack("AT-22", "A key that somebody may have outside the TPM is passed off as attestation key.", "tpm.ak-attributes")
@pytest.mark.parametrize("bit", [1, 4, 5], ids=["fixedTPM", "fixedParent", "sensitiveDataOrigin"])
def test_at22_keys_that_may_be_known_outside_are_refused(bit):
    machine = SimulatedTpm(ak_attributes=0x00050072 & ~(1 << bit))
    assert refused_code(pieces_of(machine), "tpm.ak-attributes") == "tpm.ak-attributes"


@pytest.mark.attack("AT-23", "The quote is of another TPM than the key.", "tpm.signature")
def test_at23_the_quote_of_another_machine_is_refused():
    genuine, other = SimulatedTpm(), SimulatedTpm()
    quote, signature = other.quote(NONCE)
    mixed = pieces_of(genuine) | {"quote": (quote,), "signature": (signature,)}
    assert refused_code(mixed, "tpm.signature") == "tpm.signature"


@pytest.mark.attack("AT-63", "Bytes that no TPM made are signed as a quote.", "tpm.magic")
def test_at63_outside_data_is_not_a_quote():
    forger = SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)
    body = tpm.parse_attest(forger.quote(NONCE)[0]).attested
    quote, signature = forger.attest(NONCE, body, magic=0x41414141)
    forged = pieces_of(forger) | {"quote": (quote,), "signature": (signature,)}
    with pytest.raises(NotAuthentic) as refused:
        procedure.verify(forged, context())
    assert [finding.code for finding in refused.value.findings] == ["tpm.magic", "tpm.ak-attributes"]
    procedure.verify(forged, context(), without=frozenset({"tpm.magic", "tpm.ak-attributes"}))


@pytest.mark.attack("AT-63", "Another kind of attestation is passed off as a quote.", "tpm.type")
def test_at63_another_kind_of_attestation_is_not_a_quote():
    machine = SimulatedTpm()
    body = tpm.parse_attest(machine.quote(NONCE)[0]).attested
    quote, signature = machine.attest(NONCE, body, kind=0x8014)  # TPM_ST_ATTEST_NV
    assert refused_code(pieces_of(machine) | {"quote": (quote,), "signature": (signature,)}, "tpm.type") == "tpm.type"


@pytest.mark.attack("AT-63", "PCR values other than the quoted ones are sent along.", "tpm.pcr-digest")
def test_at63_values_that_the_digest_does_not_cover_are_refused():
    machine = SimulatedTpm()
    altered = {str(index): value.hex() for index, value in machine.pcrs["sha256"].items()} | {"4": "aa" * 32}
    pieces = pieces_of(machine, pcrs=json.dumps({"sha256": altered}).encode())
    assert refused_code(pieces, "tpm.pcr-digest") == "tpm.pcr-digest"


def test_at63_values_beyond_the_selection_are_left_aside():
    machine = SimulatedTpm()
    quote, signature = machine.quote(NONCE, indices=(0, 1))
    pieces = pieces_of(machine) | {"quote": (quote,), "signature": (signature,)}
    verified = procedure.verify(pieces, context())
    assert verified.facts.vtpm is not None
    assert sorted(verified.facts.vtpm.pcrs["sha256"]) == [0, 1]


@pytest.mark.attack("AT-63", "A quote that selects no PCR.", "tpm.selection.empty")
def test_a_quote_of_no_pcr_is_refused():
    machine = SimulatedTpm()
    quote, signature = machine.quote(NONCE, indices=())
    pieces = pieces_of(machine) | {"quote": (quote,), "signature": (signature,)}
    assert refused_code(pieces, "tpm.selection") == "tpm.selection.empty"


def test_values_of_another_selection_are_refused():
    machine = SimulatedTpm()
    pieces = pieces_of(machine, pcrs=json.dumps({"sha256": {"0": "00" * 32}}).encode())
    with pytest.raises(NotAuthentic) as refused:
        procedure.verify(pieces, context())
    assert refused.value.code == "tpm.selection.values"


@pytest.mark.attack("AT-05", "An old quote is sent again.", "tpm.challenge")
def test_an_old_quote_is_refused():
    assert refused_code(pieces_of(SimulatedTpm(), b"of yesterday"), "tpm.challenge") == "tpm.challenge"


@pytest.mark.attack("AT-54", "Banks of two boots are put together.", "tpm.same-boot")
def test_banks_of_two_boots_are_refused():
    machine = SimulatedTpm()
    first = pieces_of(machine)
    machine.reset_count += 1
    quote, signature = machine.quote(NONCE)
    both = first | {"quote": (*first["quote"], quote), "signature": (*first["signature"], signature)}
    assert refused_code(both, "tpm.same-boot") == "tpm.same-boot"


@pytest.mark.attack("AT-23", "The certificate of another machine's attestation key is sent along.", "tpm.ak-key")
def test_a_certificate_for_another_key_is_refused(vectors):
    pieces = pieces_of(SimulatedTpm()) | {"ak-cert": (vectors.read("gcp/reclaim-snp-vtpm-combined", "ak_cert.der"),)}
    assert refused_code(pieces, "tpm.ak-key") == "tpm.ak-key"


def test_a_signer_of_another_form_is_refused():
    machine = SimulatedTpm()
    quote, signature = machine.attest(NONCE, tpm.parse_attest(machine.quote(NONCE)[0]).attested, signer=b"\0\x0c" + bytes(48))
    assert refused_code(pieces_of(machine) | {"quote": (quote,), "signature": (signature,)}, "tpm.ak-name") == "tpm.ak-name"


def test_a_scheme_that_the_key_is_not_bound_to_is_refused():
    machine = SimulatedTpm(ak_key=rsa.generate_private_key(65537, 2048), ak_scheme=Scheme(alg.ALG_RSAPSS, alg.ALG_SHA256))
    pieces = pieces_of(machine)
    claimed = dataclasses.replace(machine, ak_scheme=Scheme(alg.ALG_RSASSA, alg.ALG_SHA256)).ak.tpm2b
    with pytest.raises(NotAuthentic) as refused:
        procedure.verify(pieces | {"ak": (claimed,)}, context())
    assert refused.value.code == "tpm.signature.scheme"


def test_all_failures_are_reported_at_once():
    machine = SimulatedTpm(ak_attributes=UNRESTRICTED_ATTRIBUTES)
    pieces = pieces_of(machine, b"old", pcrs=json.dumps({"sha256": {str(index): "bb" * 32 for index in range(24)}}).encode())
    with pytest.raises(NotAuthentic) as refused:
        procedure.verify(pieces, context())
    assert [finding.code for finding in refused.value.findings] == ["tpm.challenge", "tpm.pcr-digest", "tpm.ak-attributes"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"quote": ()}, UsageError),
        ({"signature": ()}, UsageError),
        ({"ak": ()}, UsageError),
        ({"pcrs": (b"{}",)}, Malformed),
        ({"pcrs": (b"[]",)}, Malformed),
        ({"ak": (b"\x30\x03\x02\x01\x01",)}, Malformed),
        ({"pcrs": (b'{"sha256":{"0":"zz"}}',)}, Malformed),
        ({"pcrs": (b"\0" * 31,)}, Malformed),
        ({"surprise": (b"x",)}, UsageError),
    ],
)
def test_pieces_that_do_not_come_together_are_refused(changes, kind):
    pieces = {role: contents for role, contents in (pieces_of(SimulatedTpm()) | changes).items() if contents}
    with pytest.raises(kind):
        procedure.verify(pieces, context())


VECTORS = {
    "tpm/keylime-swtpm-quote": {"quote": "quote.bin", "signature": "signature.bin", "pcrs": "pcrs.bin", "ak": "ak.pub", "ek": "ek.pub"},
    "tpm/cmc-quote": {"quote": "quote.bin", "signature": "signature.bin", "ak-cert": "ak_cert.pem", "chain": "ca.pem"},
    "tpm/go-attestation-windows-gcp": {"evidence": "dump.json"},
    "tpm/kinvolk-azure-vtpm-quote": {"evidence": "quote.bin", "ak": "ak.pem"},
    "gcp/go-tpm-tools-cos85-no-nonce": {"evidence": "attestation.pb"},
    "gcp/reclaim-snp-vtpm-combined": {"evidence": "attestation.pb"},
}
OPEN = {
    "tpm/keylime-swtpm-quote": {"tpm.ak-certificate.missing"},
    "tpm/cmc-quote": {"tpm.pcrs.missing", "tpm.ak-attributes.unknown", "tpm.ak-certificate.root", "challenge.short"},
    "tpm/go-attestation-windows-gcp": {"tpm.hash.sha1", "tpm.challenge.missing", "tpm.ak-certificate.missing"},
    "tpm/kinvolk-azure-vtpm-quote": {"tpm.ak-attributes.unknown", "tpm.ak-certificate.missing", "challenge.short"},
    "gcp/go-tpm-tools-cos85-no-nonce": {"tpm.challenge.missing"},
    "gcp/reclaim-snp-vtpm-combined": set(),
}


def _nonce(facts: dict) -> bytes | None:
    text = facts.get("nonce") or facts.get("extra_data") or facts.get("commitment_sha256")
    return bytes.fromhex(text) if text else None


def _verify_vector(vectors, case, **changes):
    pieces = {role: (vectors.read(case, name),) for role, name in VECTORS[case].items()} | changes
    return kinds.verify("tpm", pieces, context(_nonce(vectors.facts(case))))


@pytest.mark.parametrize("case", VECTORS)
def test_real_quotes_are_authentic(vectors, case):
    verified = _verify_vector(vectors, case)
    assert {finding.code for finding in verified.open_points} == OPEN[case]
    facts = vectors.facts(case)
    stated = {bank: facts[f"pcrs_{bank}"] for bank in ("sha1", "sha256") if f"pcrs_{bank}" in facts}
    stated |= {entry["bank"]: entry["pcrs"] for entry in facts.get("banks", facts.get("quotes", ()))}
    if "tpm.pcrs.missing" not in OPEN[case]:
        for bank, registers in stated.items():
            assert verified.facts.claims["pcrs"][bank] == registers
    for name in ("extra_data", "pcr_selection", "pcr_digest", "firmware_version", "clock", "reset_count", "qualified_signer"):
        if name in facts and case != "tpm/kinvolk-azure-vtpm-quote":
            assert verified.facts.claims[name] == facts[name]


def test_values_in_json_open_the_quote_too(vectors):
    case = "tpm/cmc-quote"
    stated = json.dumps({"sha256": vectors.facts(case)["pcrs_sha256"]}).encode()
    verified = _verify_vector(vectors, case, pcrs=(stated,))
    assert verified.facts.claims["pcrs"]["sha256"] == vectors.facts(case)["pcrs_sha256"]


def test_google_vouches_for_its_hypervisors_vtpm(vectors):
    verified = _verify_vector(vectors, "gcp/go-tpm-tools-cos85-no-nonce")
    vtpm = verified.facts.vtpm
    assert vtpm is not None
    assert (vtpm.location, vtpm.anchor, vtpm.operator) == ("hypervisor", "certificate", "Google")
    assert vtpm.instance["instance_name"] == "cos-test"
    assert verified.facts.boot is not None
    assert [stage.name for stage in verified.facts.boot.stages][:3] == ["firmware", "shim", "bootloader"]


@pytest.mark.attack("AT-54", "The log of another boot is sent along.", "log.replay")
def test_a_log_of_another_boot_is_refused(vectors):
    pieces = containers.read(vectors.read("gcp/go-tpm-tools-cos85-no-nonce", "attestation.pb"))
    pieces["quote"] = pieces.pop("tpm-quote")
    raw = pieces["log"][0]
    digest = next(iter(tcg_log.parse(raw).events[5].digests.values()))
    # One digest differs: still a log, of a boot that never was.
    altered = raw.replace(digest, bytes([digest[0] ^ 1]) + digest[1:], 1)
    assert refused_code({**pieces, "log": (altered,)}, "tpm.log", nonce=None).startswith("log.")


def test_a_certificate_out_of_date_is_refused(vectors):
    case = "tpm/cmc-quote"
    pieces = {role: (vectors.read(case, name),) for role, name in VECTORS[case].items()}
    late = context(_nonce(vectors.facts(case)), at=datetime(2028, 1, 1, tzinfo=UTC))
    with pytest.raises(NotAuthentic) as refused:
        kinds.verify("tpm", pieces, late)
    assert refused.value.code == "x509.expired"


def test_an_issuer_that_did_not_sign_is_refused(vectors):
    leaf = x509.load(vectors.read("tpm/cmc-quote", "ak_cert.pem"))
    altered = x509.parse(leaf.der.replace(b"device0", b"device1"))
    with pytest.raises(NotAuthentic) as refused:
        tpm_ca.find_path(altered, x509.load_all(vectors.read("tpm/cmc-quote", "ca.pem")), anchors.production())
    assert refused.value.code == "x509.signature"


@pytest.mark.parametrize("case", ["tpm/go-tpm-tools-gce-pca-certs", "tpm/go-tpm-tools-gce-uca-certs"])
def test_certificates_of_both_google_hierarchies_reach_a_pinned_root(vectors, case):
    for name, stated in vectors.facts(case).items():
        if not name.endswith("_cert.pem"):
            continue
        leaf = x509.load(vectors.read(case, name))
        path = tpm_ca.find_path(leaf, (), anchors.production())
        x509.verify_chain(path.chain, AT, understood=tpm_ca.UNDERSTOOD)
        assert (path.anchor is not None) is stated["issuer_verified"]
        assert tpm_ca.instance_identity(leaf)["project_id"] == "google.com:wuale-gcp-testing"
