"""The TEST hierarchy looks like AMD's to a parser, like nobody's to a person, and stands for no hardware."""

from __future__ import annotations

import stat
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from evident.endorsements import amd, anchors, crl, x509
from evident.errors import Malformed, NotAuthentic, UsageError
from evident.evidence.snp_report import GENOA, MILAN, PRODUCTS, TURIN, Product, SigningKey, Tcb
from evident.simulator.pki import PKI_FILE, ROLES, ROOTS_FILE, SimulatorPki

TCB = Tcb(4, 0, 24, 219)
TURIN_TCB = Tcb(1, 2, 3, 200, fmc=5)
HWID = bytes(range(64))


def tcb(product: Product) -> Tcb:
    return TURIN_TCB if product is TURIN else TCB


def hwid(product: Product) -> bytes:
    return HWID[:8] if product is TURIN else HWID


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_chain_holds_by_our_own_rules(simulator_pki: SimulatorPki, product: Product) -> None:
    vcek = x509.load(simulator_pki.vcek(product, hwid(product), tcb(product)))
    vlek = x509.load(simulator_pki.vlek(product, "CN=cc-test.invalid", tcb(product)))
    ark, ask, asvk = (x509.load(simulator_pki.certificate(product, role)) for role in ROLES)
    for certificate, issuer in ((vcek, ask), (vlek, asvk), (ask, ark), (asvk, ark), (ark, ark)):
        x509.verify_issued_by(certificate, issuer)
    for certificate, stranger in ((vcek, asvk), (vlek, ask)):
        with pytest.raises(NotAuthentic):
            x509.verify_issued_by(certificate, stranger)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_every_name_starts_with_test(simulator_pki: SimulatorPki, product: Product) -> None:
    names = [x509.load(simulator_pki.certificate(product, role)).subject_cn for role in ROLES]
    names += [x509.load(der).subject_cn for der in (simulator_pki.vcek(product, hwid(product), tcb(product)),)]
    names += [x509.load(der).subject_cn for der in (simulator_pki.vlek(product, "CN=x", tcb(product)),)]
    assert all(name is not None and name.startswith("TEST-") for name in names)
    for anchor in simulator_pki.anchors():
        assert anchor.simulated
        assert anchor.name.startswith("TEST-")


def test_authorities_are_of_amds_kind(simulator_pki: SimulatorPki) -> None:
    for role in ROLES:
        certificate = reference.load_der_x509_certificate(simulator_pki.certificate(MILAN, role))
        key, parameters = certificate.public_key(), certificate.signature_algorithm_parameters
        assert isinstance(key, rsa.RSAPublicKey)
        assert key.key_size == 4096
        assert isinstance(parameters, padding.PSS)
        assert parameters._salt_length == 48
        assert certificate.signature_hash_algorithm is not None
        assert certificate.signature_hash_algorithm.name == "sha384"
        usage = certificate.extensions.get_extension_for_class(reference.KeyUsage).value
        assert (usage.key_cert_sign, usage.crl_sign) == (True, role == "ark")


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_leaves_say_what_amds_say(simulator_pki: SimulatorPki, product: Product) -> None:
    vcek = amd.load_endorsement_key(simulator_pki.vcek(product, hwid(product), tcb(product)))
    assert (vcek.kind, vcek.product, vcek.tcb, vcek.hwid, vcek.csp_id) == (SigningKey.VCEK, product, tcb(product), hwid(product), None)
    assert vcek.certificate.serial == 0
    assert isinstance(vcek.certificate.public_key, ec.EllipticCurvePublicKey)
    assert vcek.certificate.public_key.curve.name == "secp384r1"
    vlek = amd.load_endorsement_key(simulator_pki.vlek(product, "CN=cc-test.invalid", tcb(product)))
    assert (vlek.kind, vlek.product, vlek.hwid, vlek.csp_id) == (SigningKey.VLEK, product, None, "CN=cc-test.invalid")
    assert vlek.certificate.not_after - vlek.certificate.not_before == timedelta(days=365)


def test_extensions_stand_in_amds_order(simulator_pki: SimulatorPki, vectors) -> None:  # type: ignore[no-untyped-def]
    for case, product, ours in (
        ("snp/virtee-milan-v2", MILAN, simulator_pki.vcek(MILAN, HWID, TCB)),
        ("snp/attestation-rs-genoa-v5", GENOA, simulator_pki.vcek(GENOA, HWID, TCB)),
        ("snp/virtee-turin-vcek", TURIN, simulator_pki.vcek(TURIN, HWID[:8], TURIN_TCB)),
    ):
        real, test = x509.load(vectors.read(case, "vcek.der")), x509.load(ours)
        assert list(real.extensions) == list(test.extensions), product.name
        assert amd.parse_endorsement_key(real).struct_version == amd.parse_endorsement_key(test).struct_version
        assert real.not_after - real.not_before == pytest.approx(test.not_after - test.not_before, abs=timedelta(days=3))


def test_keys_differ_by_chip_tcb_product_kind_and_cloud(simulator_pki: SimulatorPki) -> None:
    other = Tcb(4, 0, 23, 219)
    keys = [
        simulator_pki.vcek_key(MILAN, HWID, TCB),
        simulator_pki.vcek_key(MILAN, HWID, other),
        simulator_pki.vcek_key(MILAN, HWID[::-1], TCB),
        simulator_pki.vcek_key(GENOA, HWID, TCB),
        simulator_pki.vlek_key(MILAN, "CN=a", TCB),
        simulator_pki.vlek_key(MILAN, "CN=b", TCB),
    ]
    assert len({key.private_numbers().private_value for key in keys}) == len(keys)
    again = simulator_pki.vcek_key(MILAN, HWID, TCB)
    assert again.private_numbers() == keys[0].private_numbers()


def test_stored_privately_and_loaded_the_same(simulator_pki: SimulatorPki, tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    simulator_pki.save(directory)
    assert stat.S_IMODE((directory / PKI_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    loaded = SimulatorPki.load_or_generate(directory, made_at=simulator_pki.made_at)
    assert loaded.anchors() == simulator_pki.anchors()
    assert loaded.vcek_key(MILAN, HWID, TCB).private_numbers() == simulator_pki.vcek_key(MILAN, HWID, TCB).private_numbers()
    x509.verify_issued_by(x509.load(loaded.vcek(MILAN, HWID, TCB)), x509.load(simulator_pki.certificate(MILAN, "ask")))
    assert {certificate.fingerprint for certificate in x509.load_all((directory / ROOTS_FILE).read_bytes())} == {
        anchor.fingerprint for anchor in simulator_pki.anchors()
    }


def test_a_damaged_store_says_so(tmp_path: Path, simulator_pki: SimulatorPki) -> None:
    simulator_pki.save(tmp_path)
    path = tmp_path / PKI_FILE
    good = path.read_bytes()
    altered = [good.replace(old, new) for old, new in ((b'"ask"', b'"oops"'), (b"3082", b"3182"), (b"asvk:Turin", b"asvk:Rome"))]
    for damaged in (b"", b"{}", b"\xff\xfe", good[:-20], *altered):
        path.write_bytes(damaged)
        with pytest.raises(Malformed):
            SimulatorPki.load(tmp_path)
    with pytest.raises(UsageError):
        SimulatorPki.load(tmp_path / "nowhere")


def test_two_processes_that_need_keys_at_once_share_them(
    simulator_pki: SimulatorPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def generate(**_: object) -> SimulatorPki:
        nonlocal made
        made += 1
        time.sleep(0.05)
        return simulator_pki

    monkeypatch.setattr(SimulatorPki, "generate", generate)
    found: list[SimulatorPki] = []

    def need() -> None:
        found.append(SimulatorPki.load_or_generate(tmp_path, made_at=simulator_pki.made_at))

    threads = [threading.Thread(target=need) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == 1
    assert all(pki.anchors() == simulator_pki.anchors() for pki in found)
    assert len(found) == 3


def test_the_crl_is_good_revoked_stale_or_forged_as_asked(simulator_pki: SimulatorPki) -> None:
    at = simulator_pki.made_at
    ark = x509.load(simulator_pki.certificate(MILAN, "ark"))
    good = crl.parse(simulator_pki.crl(MILAN, at=at, number=7))
    assert (good.number, good.revoked) == (7, {})
    assert good.this_update <= at <= good.next_update
    revoked = crl.parse(simulator_pki.crl(MILAN, at=at, revoked=("ask", "asvk")))
    assert set(revoked.revoked) == {x509.load(simulator_pki.certificate(MILAN, role)).serial for role in ("ask", "asvk")}
    stale = crl.parse(simulator_pki.crl(MILAN, at=at - timedelta(days=60)))
    assert stale.next_update < at
    assert ark.subject == crl.parse(simulator_pki.crl(MILAN, at=at, signer="asvk")).issuer


def test_no_production_anchor_is_simulated() -> None:
    assert not any(anchor.simulated or anchor.name.startswith("TEST") for anchor in anchors.production())
