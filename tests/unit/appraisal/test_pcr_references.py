"""PCRs matched by reference values are the vTPM's word, and what nobody explains keeps the boot chain from holding."""

from __future__ import annotations

from dataclasses import replace

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


def test_every_bank_that_has_reference_values_must_match() -> None:
    """A kernel made to collide in SHA-1 equals the value of that bank; the other bank gives it away."""
    good = {"sha1": b"\1" * 20, "sha256": DIGEST}
    prediction = Prediction((Measurement(11, good, "kernel", "kernel"),))
    known = [value for bank in ("sha1", "sha256") for value in references(prediction, bank=bank)]
    collided = Vtpm("hypervisor", "certificate", "somebody", {"sha1": {11: known[0].value}, "sha256": {11: b"\7" * 32}})
    case = Facts("azure-snp", "snp", Freshness("challenge", "here"), vtpm=collided)
    for order in (known, known[::-1]):
        assert boot_chain(case, order, firmware(case, ())).state == "mismatch"
    assert boot_chain(case, known[:1], firmware(case, ())).state == "holds", "what just the one bank would have let pass"


def test_a_register_that_no_tpm_has_matches_nothing() -> None:
    for register in ("pcr" + "9" * 5000, "pcr\u0661\u0661", "pcr-1", "pcr"):
        known = [replace(value, register=register) for value in references(PREDICTED)]
        assert boot_chain(facts({11: VALUE}), known, firmware(facts({11: VALUE}), ())).state == "no-reference"
