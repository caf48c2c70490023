"""SNP reports: every field of real reports, and everything a parser must not let through (AT-64)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import EvidentError, Malformed, Unsupported
from evident.evidence import snp_report
from evident.evidence.snp_report import GENOA, MILAN, TURIN, Cpuid, FirmwareVersion, SigningKey, SnpReport, Tcb

MILAN_TCB = Tcb(bootloader=4, tee=0, snp=24, microcode=219)
TURIN_TCB = Tcb(bootloader=1, tee=2, snp=3, microcode=74, fmc=5)
CPUIDS = {"Milan": Cpuid(0x19, 0x01, 1), "Genoa": Cpuid(0x19, 0x11, 1), "Turin": Cpuid(0x1A, 0x02, 1)}


def a_report(version: int = 3, product: snp_report.Product = MILAN) -> SnpReport:
    tcb = TURIN_TCB if product.turin_layout else MILAN_TCB
    chip_id = bytes(range(1, 9)) + bytes(56) if product.turin_layout else bytes(range(64))
    known = product if version >= 3 or product is TURIN else None
    report = SnpReport(
        version=version,
        guest_svn=7,
        policy=0x30000,
        family_id=b"F" * 16,
        image_id=b"I" * 16,
        vmpl=0,
        signature_algo=1,
        current_tcb=tcb,
        platform_info=0x25,
        author_key_en=True,
        mask_chip_key=False,
        signing_key=SigningKey.VCEK,
        report_data=b"D" * 64,
        measurement=b"M" * 48,
        host_data=b"H" * 32,
        id_key_digest=b"K" * 48,
        author_key_digest=b"A" * 48,
        report_id=b"R" * 32,
        report_id_ma=b"\xff" * 32,
        reported_tcb=tcb,
        cpuid=CPUIDS[product.name] if version >= 3 else None,
        chip_id=chip_id,
        committed_tcb=tcb,
        current_version=FirmwareVersion(1, 55, 40),
        committed_version=FirmwareVersion(1, 55, 39),
        launch_tcb=tcb,
        launch_mit_vector=3 if version >= 5 else None,
        current_mit_vector=9 if version >= 5 else None,
        signature_r=1 << 383,
        signature_s=2,
        product=known,
        raw=b"",
    )
    return replace(report, raw=snp_report.serialize(report))


@pytest.mark.parametrize("version", snp_report.VERSIONS)
@pytest.mark.parametrize("product", snp_report.PRODUCTS, ids=lambda product: product.name)
def test_every_version_of_every_product_round_trips(version: int, product: snp_report.Product) -> None:
    report = a_report(version, product)
    assert snp_report.parse(report.raw) == report
    assert len(report.signed) == 0x2A0


def refused(raw: bytes) -> EvidentError:
    with pytest.raises((Malformed, Unsupported)) as caught:
        snp_report.parse(raw)
    return caught.value


def with_byte(offset: int, value: int, version: int = 3, product: snp_report.Product = MILAN) -> bytes:
    raw = bytearray(a_report(version, product).raw)
    raw[offset] = value
    return bytes(raw)


@pytest.mark.parametrize(
    ("name", "offset", "value", "version", "code"),
    [
        ("policy bit 26", 0x08 + 3, 0x04, 3, "snp.report.reserved"),
        ("policy bit 17 clear", 0x08 + 2, 0x01, 3, "snp.report.reserved"),
        ("vmpl 4", 0x30, 4, 3, "snp.report.vmpl"),
        ("tcb reserved", 0x38 + 3, 1, 3, "snp.report.reserved"),
        ("platform bit 6", 0x40, 0x40, 3, "snp.report.reserved"),
        ("signing key 2", 0x48, 2 << 2, 3, "snp.report.signing-key"),
        ("key information bit 5", 0x48, 1 << 5, 3, "snp.report.reserved"),
        ("reserved 0x4c", 0x4C, 1, 3, "snp.report.reserved"),
        ("reported tcb reserved", 0x180 + 2, 1, 3, "snp.report.reserved"),
        ("cpuid in version 2", 0x188, 0x19, 2, "snp.report.reserved"),
        ("reserved 0x18b", 0x18B, 1, 3, "snp.report.reserved"),
        ("reserved 0x19f", 0x19F, 1, 3, "snp.report.reserved"),
        ("after the current version", 0x1EB, 1, 3, "snp.report.reserved"),
        ("after the committed version", 0x1EF, 1, 3, "snp.report.reserved"),
        ("mitigation vector before version 5", 0x1F8, 1, 4, "snp.report.reserved"),
        ("reserved 0x208", 0x208, 1, 5, "snp.report.reserved"),
        ("reserved 0x29f", 0x29F, 1, 5, "snp.report.reserved"),
        ("high bytes of R", 0x2A0 + 48, 1, 3, "snp.report.signature"),
        ("high bytes of S", 0x2A0 + 72 + 71, 1, 3, "snp.report.signature"),
        ("after the signature", 0x4A0 - 1, 1, 3, "snp.report.reserved"),
        ("version 1", 0, 1, 3, "snp.report.version"),
        ("version 6", 0, 6, 3, "snp.report.version"),
        ("unknown processor", 0x188, 0x17, 3, "snp.report.product"),
    ],
)
def test_reserved_and_unknown_are_refused(name: str, offset: int, value: int, version: int, code: str) -> None:
    assert refused(with_byte(offset, value, version)).code == code


def test_turin_reserves_other_tcb_bytes() -> None:
    assert refused(with_byte(0x38 + 5, 1, 3, TURIN)).code == "snp.report.reserved"
    assert snp_report.parse(with_byte(0x38 + 3, 1, 3, TURIN)).current_tcb.snp == 1


@pytest.mark.parametrize("length", [0, 1, 0x188, 0x2A0, 0x49F, 0x4A1, 2 * 0x4A0])
def test_any_other_length_is_refused(length: int) -> None:
    raw = (a_report().raw * 2)[:length]
    assert refused(raw).code == "snp.report.length"


def test_switches_are_named() -> None:
    report = replace(a_report(), policy=0xB0000 | 1 << 25, platform_info=0b1010_0101)
    assert {name for name, on in report.policy_flags.items() if on} == {"smt", "debug", "page_swap_disable"}
    assert {name for name, on in report.platform_flags.items() if on} == {"smt", "ecc", "alias_check_complete", "tio"}
    assert replace(report, policy=0x30137).policy_abi == (1, 0x37)


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, MILAN),
        (0x19, 0x0F, MILAN),
        (0x19, 0x10, GENOA),
        (0x19, 0xA0, GENOA),
        (0x19, 0xAF, GENOA),
        (0x1A, 0x00, TURIN),
        (0x1A, 0x11, TURIN),
        (0x19, 0x20, None),
        (0x1A, 0x12, None),
        (0x17, 0x01, None),
    ],
)
def test_products_by_cpuid(family: int, model: int, product: snp_report.Product | None) -> None:
    assert snp_report.product_from_cpuid(family, model) is product


def real_reports(vectors: Any) -> dict[str, bytes]:
    cases = {case: vectors.root / case / "report.bin" for case in vectors.cases if case.startswith(("snp/", "aws/", "launch/"))}
    return {case: path.read_bytes() for case, path in cases.items() if path.is_file() and "malformed" not in case}


def test_real_reports_have_the_stated_fields(vectors: Any) -> None:
    reports = real_reports(vectors)
    assert len(reports) >= 13
    for case, raw in reports.items():
        report, facts = snp_report.parse(raw), vectors.facts(case)
        assert snp_report.serialize(report) == raw, case
        for name in ("report_data", "measurement", "host_data", "id_key_digest", "report_id", "chip_id"):
            if facts.get(name):
                assert getattr(report, name).hex() == facts[name], (case, name)
        for name in ("guest_svn", "vmpl"):
            if name in facts:
                assert getattr(report, name) == facts[name], (case, name)
        if "reported_tcb" in facts and isinstance(facts["reported_tcb"], dict):
            assert report.reported_tcb.components() == facts["reported_tcb"], case
        if "current_fw" in facts:
            assert str(report.current_version) == facts["current_fw"], case


def test_a_response_header_is_not_a_report(vectors: Any) -> None:
    assert refused(vectors.read("snp/cmc-milan-v2-malformed", "report.bin")).code == "snp.report.length"


@given(st.integers(0, 0x4A0 - 1), st.integers(0, 255), st.sampled_from(snp_report.VERSIONS))
def test_what_is_accepted_is_canonical(offset: int, value: int, version: int) -> None:
    raw = with_byte(offset, value, version)
    try:
        report = snp_report.parse(raw)
    except (Malformed, Unsupported):
        return
    assert snp_report.serialize(report) == raw


@given(st.binary(min_size=0x4A0, max_size=0x4A0))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    for prefix in (b"", b"\x02\0\0\0", b"\x03\0\0\0", b"\x05\0\0\0"):
        with contextlib.suppress(Malformed, Unsupported):
            snp_report.parse(prefix + raw[len(prefix) :])
