"""VCEK and VLEK certificates, and where AMD publishes what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evident.endorsements import amd, anchors, x509
from evident.endorsements.x509 import Certificate, Extension
from evident.errors import Malformed, Unsupported, UsageError
from evident.evidence.snp_report import GENOA, MILAN, PRODUCTS, TURIN, SigningKey, Tcb

MILAN_HWID = bytes(range(64))
TURIN_HWID = bytes(range(1, 9))


def integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(content)]) + content


def text(value: str) -> bytes:
    return b"\x16" + bytes([len(value)]) + value.encode()


def amd_extensions(**changes: bytes | None) -> dict[str, bytes]:
    """A Milan VCEK's, changed by the names of `OIDS`; None leaves one out."""
    values: dict[str, bytes | None] = {
        "struct": integer(0),
        "name": text("Milan-B0"),
        "bootloader": integer(4),
        "tee": integer(0),
        "snp": integer(24),
        "microcode": integer(219),
        "reserved4": integer(0),
        "hwid": MILAN_HWID,
        **changes,
    }
    return {OIDS[name]: value for name, value in values.items() if value is not None}


ARC = "1.3.6.1.4.1.3704.1"
OIDS = {
    "struct": f"{ARC}.1",
    "name": f"{ARC}.2",
    "bootloader": f"{ARC}.3.1",
    "tee": f"{ARC}.3.2",
    "snp": f"{ARC}.3.3",
    "reserved4": f"{ARC}.3.4",
    "microcode": f"{ARC}.3.8",
    "fmc": f"{ARC}.3.9",
    "future": f"{ARC}.3.10",
    "hwid": f"{ARC}.4",
    "csp": f"{ARC}.5",
}


@pytest.fixture
def make(root: Any) -> Callable[..., Certificate]:
    template = x509.parse(root.der)

    def certificate(common_name: str = "SEV-VCEK", **changes: bytes | None) -> Certificate:
        extensions = {oid: Extension(False, value) for oid, value in amd_extensions(**changes).items()}
        return replace(template, subject_cn=common_name, extensions=extensions)

    return certificate


def real_keys(vectors: Any) -> list[tuple[str, str]]:
    cases = []
    for case, entry in vectors.cases.items():
        for file in entry["files"]:
            if file["role"] in {"VCEK", "VLEK"} and file["name"].endswith((".der", ".pem")):
                cases.append((case, file["name"]))
    return cases


def test_real_keys_say_what_the_manifest_says(vectors: Any) -> None:
    checked = 0
    for case, name in real_keys(vectors):
        key = amd.parse_endorsement_key(x509.load_all(vectors.read(case, name))[0])
        assert key.certificate.serial == 0
        facts = vectors.facts(case).get("endorsement_cert")
        if facts:
            checked += 1
            stated = facts["amd_extensions"]
            assert (key.struct_version, key.product_name) == (stated["structVersion"], stated["productName"])
            names = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL", "fmc": "fmcSPL"}
            assert all(stated[names[part]] == number for part, number in key.tcb.components().items())
    assert checked >= 10, json.dumps(real_keys(vectors))


def test_real_keys_chain_to_the_shipped_anchors(vectors: Any) -> None:
    trusted = anchors.production()
    for case, name in real_keys(vectors):
        key = amd.parse_endorsement_key(x509.load_all(vectors.read(case, name))[0])
        signer = anchors.amd_intermediates(trusted, key.product, key.kind)[0].certificate
        root = anchors.amd_roots(trusted, key.product)[0].certificate
        x509.verify_chain((key.certificate, signer, root), key.certificate.not_before)
        assert key.certificate.issuer_cn == amd.signer_name(key.product, key.kind)
        assert root.subject_cn == amd.ark_name(key.product)


def test_a_wrapped_hwid_is_read(make: Callable[..., Certificate]) -> None:
    assert amd.parse_endorsement_key(make()).hwid == MILAN_HWID
    assert amd.parse_endorsement_key(make(hwid=b"\x04\x40" + MILAN_HWID)).hwid == MILAN_HWID
    trap = b"\x04\x3e" + bytes(62)  # 64 raw bytes that look like a wrapping
    assert amd.parse_endorsement_key(make(hwid=trap)).hwid == trap


def test_numbers_above_127(make: Callable[..., Certificate]) -> None:
    key = amd.parse_endorsement_key(make(microcode=bytes.fromhex("020200db")))
    assert key.tcb == Tcb(bootloader=4, tee=0, snp=24, microcode=219)


def test_turin(make: Callable[..., Certificate]) -> None:
    key = amd.parse_endorsement_key(make(struct=integer(1), name=text("Turin-B1"), fmc=integer(2), hwid=TURIN_HWID, reserved4=None))
    assert (key.product, key.tcb.fmc, key.hwid) == (TURIN, 2, TURIN_HWID)


def test_vlek(make: Callable[..., Certificate]) -> None:
    key = amd.parse_endorsement_key(make("SEV-VLEK", name=text("Milan"), hwid=None, csp=text("CN=cloud.example")))
    assert (key.kind, key.hwid, key.csp_id) == (SigningKey.VLEK, None, "CN=cloud.example")


@pytest.mark.parametrize(("name", "product"), [("Genoa", GENOA), ("Bergamo-A2", GENOA), ("Siena-B1", GENOA), ("Milan-B1", MILAN)])
def test_names_of_products(make: Callable[..., Certificate], name: str, product: Any) -> None:
    assert amd.parse_endorsement_key(make(name=text(name))).product is product


@pytest.mark.parametrize(
    ("common_name", "changes", "error"),
    [
        ("SEV-Milan", {}, Malformed),
        ("SEV-VCEK", {"hwid": None}, Malformed),
        ("SEV-VCEK", {"hwid": MILAN_HWID[:63]}, Malformed),
        ("SEV-VCEK", {"hwid": b"\x04\x08" + TURIN_HWID}, Malformed),
        ("SEV-VCEK", {"hwid": TURIN_HWID}, Malformed),
        ("SEV-VCEK", {"csp": text("x")}, Malformed),
        ("SEV-VLEK", {}, Malformed),
        ("SEV-VLEK", {"csp": text("x")}, Malformed),
        ("SEV-VLEK", {"csp": text("x\n"), "hwid": None}, Malformed),
        ("SEV-VCEK", {"snp": None}, Malformed),
        ("SEV-VCEK", {"snp": b"\x02\x01\xdb"}, Malformed),
        ("SEV-VCEK", {"snp": b"\x02\x02\x01\x00"}, Malformed),
        ("SEV-VCEK", {"snp": b"\x02\x02\x00\x18"}, Malformed),
        ("SEV-VCEK", {"snp": b"\x02\x01\x18\x00"}, Malformed),
        ("SEV-VCEK", {"snp": b"\x04\x01\x18"}, Malformed),
        ("SEV-VCEK", {"name": text("Naples")}, Unsupported),
        ("SEV-VCEK", {"name": b"\x0c\x05Milan"}, Malformed),
        ("SEV-VCEK", {"struct": integer(2)}, Unsupported),
        ("SEV-VCEK", {"fmc": integer(1)}, Unsupported),
        ("SEV-VCEK", {"reserved4": integer(1)}, Unsupported),
        ("SEV-VCEK", {"future": integer(1)}, Unsupported),
    ],
)
def test_what_amd_would_not_issue(
    make: Callable[..., Certificate], common_name: str, changes: dict[str, bytes | None], error: type[Exception]
) -> None:
    with pytest.raises(error):
        amd.parse_endorsement_key(make(common_name, **changes))


def test_paths_of_the_key_distribution_service() -> None:
    tcb = Tcb(bootloader=4, tee=0, snp=24, microcode=219)
    assert amd.vcek_url(MILAN, MILAN_HWID, tcb) == (
        f"https://kdsintf.amd.com/vcek/v1/Milan/{MILAN_HWID.hex()}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
    )
    turin = Tcb(bootloader=1, tee=2, snp=3, microcode=74, fmc=5)
    expected = f"http://[::1]:1/vcek/v1/Turin/{TURIN_HWID.hex()}?fmcSPL=05&blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=74"
    for chip_id in (TURIN_HWID, TURIN_HWID.ljust(64, b"\0")):
        assert amd.vcek_url(TURIN, chip_id, turin, base="http://[::1]:1") == expected
    assert amd.chain_url(GENOA, SigningKey.VLEK) == "https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain"
    assert amd.crl_url(GENOA, SigningKey.VCEK) == "https://kdsintf.amd.com/vcek/v1/Genoa/crl"


@pytest.mark.parametrize(
    ("product", "chip_id", "fmc"),
    [(MILAN, bytes(64), None), (MILAN, TURIN_HWID, None), (TURIN, MILAN_HWID, 1), (MILAN, MILAN_HWID, 1), (TURIN, TURIN_HWID, None)],
)
def test_no_path_for_no_chip(product: Any, chip_id: bytes, fmc: int | None) -> None:
    with pytest.raises(UsageError):
        amd.vcek_url(product, chip_id, Tcb(bootloader=1, tee=0, snp=1, microcode=1, fmc=fmc))


def test_products_by_name() -> None:
    assert [amd.product_named(product.name.upper()) for product in PRODUCTS] == list(PRODUCTS)
    with pytest.raises(UsageError, match="Genoa"):
        amd.product_named("Siena")


def test_rubbish_is_told_from_what_a_path_names(root: Any) -> None:
    page = b"<html>Please log in</html>"
    for url in (amd.crl_url(MILAN, SigningKey.VCEK), amd.chain_url(MILAN, SigningKey.VCEK), f"{amd.KDS_BASE}/vcek/v1/Milan/00?blSPL=00"):
        with pytest.raises(Malformed):
            amd.refuse_implausible(url, page)
    amd.refuse_implausible(amd.crl_url(MILAN, SigningKey.VCEK), root.crl())
    amd.refuse_implausible(amd.chain_url(MILAN, SigningKey.VCEK), root.der)
    amd.refuse_implausible("https://elsewhere.example/file", page)


def test_floors_of_two_lists_of_one_root_are_apart(root: Any) -> None:
    ark = x509.parse(root.der)
    assert amd.crl_scope(ark, SigningKey.VCEK) != amd.crl_scope(ark, SigningKey.VLEK)
