"""Published tables come out of the facts, and change when a fact does; no provider is known by name elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from evident import codec
from evident.appraisal.changes import difference
from evident.appraisal.profile import Fact, LayerProfile, Profile
from evident.appraisal.prospect import current, profile_levels, prospect
from evident.appraisal.tables import TABLES, Table
from evident.errors import UsageError
from evident.platforms.registry import PROFILES, platform_ids, profile

PRINTED = date(2024, 3, 26)
TODAY = date(2026, 11, 22)
SOURCE = Path(__file__).resolve().parents[3] / "src" / "evident"


def values(table: Table, row: str) -> dict[str, str]:
    cells = next(candidate.cells for candidate in table.rows if candidate.name == row)
    return {column: cell.ours for column, cell in cells.items()}


def test_table_1_of_scopelliti_is_computed() -> None:
    """CL-10 to CL-14."""
    table = TABLES["scopelliti"](PROFILES, PRINTED)
    assert table.columns == ("AWS", "Azure", "GCP")
    rows = {row.name: "".join(cell.ours for cell in row.cells.values()) for row in table.rows}
    assert rows == {"TEE": "●◐●", "Firmware": "●◐◐", "Kernel": "◐◐◐", "Root FS": "◐◐◐", "Nominal AL": "444", "Trustworthy AL": "201"}
    assert all(cell.agrees and cell.because for row in table.rows for cell in row.cells.values())


def test_table_1_of_pontes_is_computed() -> None:
    """PT-07 to PT-11."""
    for at in (PRINTED, TODAY):
        table = TABLES["pontes"](PROFILES, at)
        assert table.columns == ("AWS", "Azure", "GCP", "on-prem A", "on-prem B")
        assert list(values(table, "Components in the launch measurement").values()) == [
            "VMF",
            "VMF, SVSM",
            "VMF",
            "VMF, initrd, kernel",
            "VMF, SVSM",
        ]
        assert "".join(values(table, "Measurement reproducible").values()) == "✓✗✗✓✓"
        assert "".join(values(table, "vTPM in the measurement").values()) == "✗✓✗✗✓"
        assert all(cell.agrees for row in table.rows for cell in row.cells.values())


def test_the_poster_is_computed_and_every_difference_has_a_reason() -> None:
    """TB-01 to TB-12, requirements 5.1."""
    table = TABLES["poster"](PROFILES, TODAY)
    assert table.columns == ("AWS", "Azure", "GCP", "SNPGuard", "microCVM", "e-vTPM")
    differences = {
        (row.name, column): (cell.published, cell.ours) for row in table.rows for column, cell in row.cells.items() if not cell.agrees
    }
    assert differences == {
        ("Root of trust authenticity: AMD-SP", "Azure"): ("✗", "✓ AMD"),
        ("Firmware", "AWS"): ("4, AMD-SP", "3, AMD-SP"),
        ("Firmware", "Azure"): ("1, AMD-SP", "2, AMD-SP"),
        ("Firmware", "microCVM"): ("4, AMD-SP", "3, AMD-SP"),
        ("Userspace: root file system at rest", "SNPGuard"): ("○ 0", "4, AMD-SP"),
        ("Userspace: root file system at rest", "microCVM"): ("○ 0", "4, AMD-SP"),
    }
    assert all(cell.because for row in table.rows for cell in row.cells.values())
    early = TABLES["poster"](PROFILES, PRINTED)
    assert values(early, "Root of trust authenticity: AMD-SP")["Azure"] == "✗"
    assert values(early, "Firmware")["AWS"] == "4, AMD-SP"


def changed(id_: str, **changes: object) -> tuple[Profile, ...]:
    return tuple(replace(p, **changes) if p.id == id_ else p for p in PROFILES)  # type: ignore[arg-type]  # any field may be varied


def test_a_changed_fact_changes_the_table() -> None:
    stale = TABLES["scopelliti"](changed("aws-snp", report_fresh=Fact(False, "a test")), PRINTED)
    assert values(stale, "TEE")["AWS"] == "◐"
    assert values(stale, "Trustworthy AL")["AWS"] == "0"
    gcp = profile("gcp-snp", PRINTED)
    opened = {**gcp.layers, "firmware": LayerProfile(Fact(4, "a test"), Fact("you", "a test"), Fact("tee", "a test"))}
    assert values(TABLES["scopelliti"](changed("gcp-snp", layers=opened), PRINTED), "Trustworthy AL")["GCP"] == "2"
    blind = {**gcp.layers, "boot_chain": LayerProfile(Fact(0, "a test"), Fact("nobody", "a test"), Fact("none", "a test"))}
    table = TABLES["scopelliti"](changed("gcp-snp", layers=blind), PRINTED)
    assert values(table, "Kernel")["GCP"] == "○"
    assert values(table, "Nominal AL")["GCP"] == "2"
    bare = TABLES["pontes"](changed("qemu-snp", launch_covers=Fact(("firmware",), "a test")), PRINTED)
    assert values(bare, "Components in the launch measurement")["on-prem A"] == "VMF"


@pytest.mark.parametrize("candidate", PROFILES, ids=lambda p: f"{p.id}-{p.as_of}")
def test_every_fact_names_a_primary_source(candidate: Profile) -> None:
    def sources(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["source"]] if "source" in value and "value" in value else []
            return own + [found for member in value.values() for found in sources(member)]
        return [found for member in value for found in sources(member)] if isinstance(value, list) else []

    found = sources(codec.encode(candidate))
    assert len(found) > 15
    assert all(len(source) > 8 and ".md" not in source.replace("INSTALL.md", "") for source in found)


@pytest.mark.parametrize("candidate", PROFILES, ids=lambda p: f"{p.id}-{p.as_of}")
def test_profiles_travel_as_json(candidate: Profile) -> None:
    assert codec.decode(Profile, codec.encode(candidate), "profile") == candidate


@pytest.mark.parametrize("candidate", PROFILES, ids=lambda p: f"{p.id}-{p.as_of}")
def test_a_third_partys_token_never_raises_the_trustworthy_level(candidate: Profile) -> None:
    """CL-07, CL-29: somebody's word for a layer is an endorsement (degree 2), and an endorsement stands on trust."""
    before = profile_levels(candidate)
    for name, facts in candidate.layers.items():
        vouched = replace(facts, best=Fact(max(facts.best.value, 2), "a token"), endorser=Fact("a third party", "a token"))
        after = profile_levels(replace(candidate, layers={**candidate.layers, name: vouched}))
        assert after.trustworthy <= before.trustworthy


def test_the_conclusions_of_pontes_are_derived() -> None:
    """PT-15, PT-16."""
    assert any("if user-controlled disk encryption is not mandatory" in line for line in prospect(profile("aws-snp", TODAY)).conclusions)
    for own in ("qemu-snp", "qemu-svsm"):
        assert "Fully verifiable by remote parties, without the provider." in prospect(profile(own, TODAY)).conclusions
    assert any("No disk key" in line for line in prospect(profile("azure-snp", PRINTED)).conclusions)


def test_the_two_root_causes_of_required_trust() -> None:
    """CL-33: the provider's code inside the TEE without review; the provider's components in the path."""
    causes = {
        name: {
            layer.layer: (layer.unreviewable_inside, layer.provider_in_path)
            for layer in prospect(profile(name, PRINTED)).layers
            if layer.layer in ("firmware", "boot_chain")
        }
        for name in ("aws-snp", "azure-snp", "gcp-snp", "qemu-snp")
    }
    assert causes == {
        "aws-snp": {"firmware": (False, False), "boot_chain": (False, True)},
        "azure-snp": {"firmware": (True, False), "boot_chain": (True, False)},
        "gcp-snp": {"firmware": (True, False), "boot_chain": (False, True)},
        "qemu-snp": {"firmware": (False, False), "boot_chain": (False, False)},
    }


def test_the_difference_between_two_dates_names_fact_and_source() -> None:
    """CL-15."""
    found = {(change.platform, change.what): (change.before, change.after) for change in difference(PROFILES, PRINTED, TODAY)}
    assert found["azure-snp", "trustworthy level"] == ("0", "1")
    assert found["gcp-snp", "trustworthy level"] == ("1", "2")
    assert found["aws-snp", "layers.firmware.best"] == ("4", "3")
    assert difference(PROFILES, TODAY, TODAY) == ()


def test_dates_choose_the_newest_fact_not_younger() -> None:
    assert profile("aws-snp", date(2025, 1, 1)).as_of == PRINTED
    assert current(PROFILES, date(2020, 1, 1)) == ()
    with pytest.raises(UsageError, match="Did you mean 'gcp-snp'"):
        profile("gpc-snp", TODAY)
    with pytest.raises(UsageError, match="no-facts-yet"):
        profile("azure-tdx", PRINTED)
    assert {"aws-snp", "azure-snp", "gcp-snp", "qemu-snp", "qemu-svsm", "snpguard", "microcvm", "evtpm", "simulated"} <= set(platform_ids())


@pytest.mark.parametrize("room", ["appraisal", "reports", "lifecycle", "audit"])
def test_no_provider_is_known_by_name_outside_its_folder(room: str) -> None:
    """EV-13. (Formats that carry a vendor's name live in evidence and verification.)"""
    names = re.compile(r"\b(aws|amazon|azure|microsoft|gcp|google|nitro)\b", re.IGNORECASE)
    for path in sorted((SOURCE / room).rglob("*.py")):
        found = [line for line in path.read_text().splitlines() if names.search(line)]
        assert not found, f"{path.relative_to(SOURCE)}: {found[:3]}"


def test_the_manual_prints_the_computed_table() -> None:
    manual = (SOURCE.parents[1] / "docs" / "explain.md").read_text()
    for row in TABLES["scopelliti"](PROFILES, PRINTED).rows:
        assert f"| {row.name} | {' | '.join(cell.ours for cell in row.cells.values())} |" in manual
    for column, ours in values(TABLES["poster"](PROFILES, TODAY), "Firmware").items():
        if f"| firmware, {column} |" in manual:
            assert re.search(rf"\| firmware, {column} \| \d \| {ours[0]} \|", manual)
