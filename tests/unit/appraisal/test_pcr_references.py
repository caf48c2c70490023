"""PCRs matched by reference values are the vTPM's word, and what nobody explains keeps the boot chain from holding."""

from __future__ import annotations

from evident.appraisal.layers import boot_chain, firmware
from evident.evidence.pcr import extend
from evident.reference_values.pcr import Measurement, Prediction, references
from evident.verification.facts import BootChain, Facts, Freshness, Stage, Vtpm

DIGEST = b"\1" * 32
PREDICTED = Prediction((Measurement(11, {"sha256": DIGEST}, "kernel", "kernel"),))
VALUE = extend("sha256", bytes(32), DIGEST)


def facts(pcrs: dict[int, bytes], *stages: Stage) -> Facts:
    vtpm = Vtpm("hypervisor", "certificate", "somebody", {"sha256": pcrs})
    boot = BootChain("vtpm", stages, {f"pcr{index}": value for index, value in pcrs.items()}) if stages else None
    return Facts("azure-snp", "snp", Freshness("challenge", "here"), vtpm=vtpm, boot=boot)


def test_a_matching_pcr_is_carried_by_the_vtpm_with_a_log_or_without() -> None:
    kernel = Stage("kernel", DIGEST, "sha256", "", recomputable=True, register="pcr11")
    for case in (facts({11: VALUE}), facts({11: VALUE}, kernel)):
        ground = boot_chain(case, references(PREDICTED), firmware(case, ()))
        assert (ground.state, ground.degree, ground.carrier) == ("holds", 3, "vtpm")


def test_a_loader_that_nobody_names_could_have_made_up_the_other_registers() -> None:
    kernel = Stage("kernel", DIGEST, "sha256", "", recomputable=True, register="pcr11")
    hidden = Stage("unexplained", b"\5" * 32, "sha256", "", recomputable=False, register="pcr4")
    for case in (facts({4: b"\5" * 32, 11: VALUE}), facts({4: b"\5" * 32, 11: VALUE}, kernel, hidden)):
        ground = boot_chain(case, references(PREDICTED), firmware(case, ()))
        assert (ground.state, ground.degree) == ("no-reference", 1)
        assert "boot.stage-unreferenced" in {caveat.code for caveat in ground.caveats}
