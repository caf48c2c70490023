"""What a TD booted, by RTMR1, RTMR2 and its log: the predicted boot is accepted; every other is refused, and the log names what differs.

The boots are played (`evident.simulator.td_boot`) under TEST roots; their form is that of real logs (``reference_values/test_rtmr.py``).
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.image.test_disk import a_stub

from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Policy, RequiredLevels
from evident.appraisal.prospect import prospect
from evident.appraisal.statement import TrustStatement
from evident.endorsements import anchors
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import NotAuthentic
from evident.image import build, disk, uki
from evident.platforms import registry
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.reference_values.tdx_reference import references, unified_image
from evident.simulator.td_boot import Booted, boot
from evident.simulator.tdx import Platform, TdxPki, TrustDomain
from evident.verification import gcp_tdx
from evident.verification.context import Context

AT = datetime(2026, 11, 22, tzinfo=UTC)
NONCE = bytes(range(64))
INTEL = TdxPki(b"boots of a TD", AT)
LINE = "ro roothash=" + "cd" * 32
SECTIONS = {".linux": a_stub(), ".cmdline": LINE.encode(), ".initrd": b"initrd", ".osrel": b"ID=evident\n"}
FIRMWARE = ReferenceValue(
    ("firmware",), "launch", TrustDomain().mrtd, Strength.RECOMPUTED, "you", "firmware", Provenance("a test", "stated")
)
POLICY = Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=4, trustworthy=4))
ANYTHING = dataclasses.replace(POLICY, levels=RequiredLevels(nominal=2, trustworthy=2))
"""Demands nothing of what boots."""


@functools.cache
def a_disk(*, behind: bytes = b"", **changes: bytes) -> bytes:
    """A disk that boots a UKI with sections changed, and a partition of data behind it."""
    unified = uki.write(a_stub(), {**SECTIONS, **{f".{name}": content for name, content in changes.items()}})
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "disk.raw"
        data = (disk.Partition("data", disk.LINUX_DATA, uuid.UUID(int=1), behind),) if behind else ()
        build.write_disk(target, unified, data)
        return target.read_bytes()


@functools.cache
def expected() -> tuple[ReferenceValue, ...]:
    predicted = unified_image(uki.write(a_stub(), SECTIONS), booted_from=a_disk())
    return (FIRMWARE, *references(predicted, origin="a test"))


def judged(booted: Booted, *, log: bytes | None = None, values: tuple[ReferenceValue, ...] | None = None, **how: Any) -> TrustStatement:
    pieces = {
        "quote": (INTEL.quote(Platform(), booted.guest, NONCE),),
        **({"log": (booted.log if log is None else log,)} if log != b"" else {}),
        **{role: (content,) for role, content in INTEL.collateral(Platform(), AT).items()},
    }
    trusted = anchors.production().plus(*INTEL.anchors())
    context = Context(AT, trusted, StaticFetcher({}), nonce=NONCE, unsafe=frozenset({"simulated-root"}))
    verified = gcp_tdx.verify(pieces, context)
    profile = registry.profile("gcp-tdx", AT.date())
    return appraise(verified, policy=how.get("policy", POLICY), references=values or expected(), profile=profile)


def test_the_predicted_boot_is_accepted_without_the_providers_word() -> None:
    found = judged(boot(a_disk()))
    assert found.decision == "accepted", found.findings
    assert (found.levels.nominal, found.levels.trustworthy) == (4, 4)
    layers = {layer.name: layer for layer in found.layers}
    assert [layers[name].verifiability for name in ("firmware", "boot_chain", "root_filesystem")] == [3, 3, 3]
    matched = {component.name for component in layers["boot_chain"].components if component.status == "matched"}
    assert {"uki", "kernel-image", "kernel", "initrd", "cmdline"} <= matched


def test_values_rebuilt_from_source_give_what_the_profile_promises() -> None:
    """The table of clouds (``docs/clouds.md``) is not above what an evaluation of such evidence gives."""
    rebuilt = tuple(dataclasses.replace(value, strength=Strength.REBUILT) if value is not FIRMWARE else value for value in expected())
    found = judged(boot(a_disk()), values=rebuilt)
    promised = prospect(registry.profile("gcp-tdx", AT.date()))
    assert found.levels == promised.levels
    layers = {layer.name: layer for layer in found.layers}
    for each in promised.layers:
        if each.layer in ("firmware", "boot_chain", "root_filesystem"):
            assert (layers[each.layer].verifiability, layers[each.layer].needs_provider) == (each.verifiability, each.needs_provider)


def test_it_is_without_a_log_as_well() -> None:
    found = judged(boot(a_disk()), log=b"")
    assert found.decision == "accepted", found.findings
    assert (found.levels.nominal, found.levels.trustworthy) == (4, 4)


def test_without_reference_values_the_boot_is_authentic_and_no_more() -> None:
    found = judged(boot(a_disk()), values=(FIRMWARE,), policy=ANYTHING)
    assert found.decision == "accepted"
    assert next(layer for layer in found.layers if layer.name == "boot_chain").verifiability == 1


OTHER_KERNEL = a_stub()[:-1] + bytes((a_stub()[-1] ^ 1,))
ATTACKS = {
    "kernel": ("AT-07", "Another kernel in the UKI on the disk of a TD.", {"linux": OTHER_KERNEL}, "boot.kernel"),
    "initrd": ("AT-08", "Another initial RAM disk in the UKI on the disk of a TD.", {"initrd": b"another"}, "boot.initrd"),
    "command line": ("AT-09", "A parameter more in the UKI on the disk of a TD.", {"cmdline": f"{LINE} quiet".encode()}, "boot.cmdline"),
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [pytest.param(changes, code, marks=pytest.mark.attack(at, what, code), id=name) for name, (at, what, changes, code) in ATTACKS.items()],
)
def test_another_uki_is_refused_by_name(changes: dict[str, bytes], code: str) -> None:
    booted = boot(a_disk(**changes))
    found = judged(booted)
    assert found.decision == "refused"
    codes = {finding.code for finding in found.findings}
    assert code in codes
    assert not {row[-1] for row in ATTACKS.values()} - {code} & codes
    assert judged(booted, values=(FIRMWARE,), policy=ANYTHING).decision == "accepted", "on the same evidence, with nothing compared"


@pytest.mark.attack("AT-09", "The host's boot option hands the UKI of a TD another command line.", "boot.cmdline")
def test_a_command_line_from_a_boot_option_is_refused() -> None:
    """It names another root file system. The UKI is the very same, and so is RTMR1; the stub's event in RTMR2 tells."""
    booted, honest = boot(a_disk(), load_options="ro roothash=" + "ef" * 32), boot(a_disk())
    assert booted.guest.rtmrs[1] == honest.guest.rtmrs[1]
    found = judged(booted)
    assert found.decision == "refused"
    assert "boot.cmdline" in {finding.code for finding in found.findings}
    only_images = tuple(value for value in expected() if value.register != "rtmr2")
    assert judged(booted, values=only_images, policy=ANYTHING).decision == "accepted", "with RTMR2 compared with nothing"


def test_another_partition_table_is_refused() -> None:
    """The same UKI on another disk."""
    found = judged(boot(a_disk(behind=b"data")))
    assert found.decision == "refused"
    assert any("rtmr1" in finding.expected for finding in found.findings if finding.code == "reference.mismatch")


@pytest.mark.parametrize("register", [1, 2])
def test_registers_of_which_nothing_was_measured_are_refused(register: int) -> None:
    """Zeros are no boot: a firmware or stub that measures nothing is not taken for one that does."""
    booted = boot(a_disk())
    rtmrs = tuple(bytes(48) if number == register else value for number, value in enumerate(booted.guest.rtmrs))
    silent = Booted(dataclasses.replace(booted.guest, rtmrs=rtmrs), b"")
    found = judged(silent, log=b"")
    assert found.decision == "refused"
    assert "reference.mismatch" in {finding.code for finding in found.findings}


def test_a_log_of_the_expected_boot_does_not_hide_another() -> None:
    booted = boot(a_disk(initrd=b"another"))
    with pytest.raises(NotAuthentic) as caught:
        judged(booted, log=boot(a_disk()).log)
    assert caught.value.code == "log.replay"
