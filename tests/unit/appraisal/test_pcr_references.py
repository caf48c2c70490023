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


BOOT = Prediction(
    (
        Measurement(11, {"sha256": DIGEST}, "kernel", "kernel"),
        Measurement(11, {"sha256": b"\2" * 32}, "command line", "cmdline"),
        Measurement(4, {"sha256": b"\3" * 32}, "image", "uki"),
    ),
    command_line="ro roothash=" + "ab" * 32,
)


def told(kernel: bytes = DIGEST, cmdline: bytes = b"\2" * 32, line: str | None = BOOT.command_line) -> Facts:
    """A boot whose log replays to its PCRs."""
    stages = (
        Stage("kernel", kernel, "sha256", register="pcr11"),
        Stage("cmdline", cmdline, "sha256", register="pcr11"),
        Stage("uki", b"\3" * 32, "sha256", register="pcr4"),
    )
    pcrs = {11: extend("sha256", extend("sha256", bytes(32), kernel), cmdline), 4: extend("sha256", bytes(32), b"\3" * 32)}
    found = facts(pcrs, *stages)
    assert found.boot is not None
    return replace(found, boot=replace(found.boot, command_line=line))


def test_a_mismatch_names_the_stage_that_the_log_tells_apart() -> None:
    known = references(BOOT)
    assert boot_chain(told(), known, firmware(told(), ())).state == "holds"
    for case, codes, found in (
        (told(kernel=b"\7" * 32), ["boot.kernel"], "07" * 32),
        (told(cmdline=b"\7" * 32, line=f"{BOOT.command_line} debug"), ["boot.cmdline"], "debug"),
        (told(b"\7" * 32, b"\7" * 32), ["boot.kernel", "boot.cmdline"], "07" * 32),
    ):
        ground = boot_chain(case, known, firmware(case, ()))
        assert (ground.state, ground.degree) == ("mismatch", 0)
        assert [remark.finding.code for remark in ground.remarks] == codes
        assert ground.remarks[0].finding.found == found
        assert all(remark.refuses for remark in ground.remarks)


def test_a_mismatch_that_no_stage_tells_is_one_of_the_register() -> None:
    case = told()
    assert case.vtpm is not None
    for pcrs in ({11: b"\7" * 32, 4: b"\7" * 32}, {11: b"\7" * 32, 4: case.vtpm.pcrs["sha256"][4]}):
        odd = replace(case, vtpm=replace(case.vtpm, pcrs={"sha256": pcrs}))
        ground = boot_chain(odd, references(BOOT), firmware(odd, ()))
        assert {remark.finding.code for remark in ground.remarks} == {"reference.mismatch"}
        assert len(ground.remarks) == sum(value == b"\7" * 32 for value in pcrs.values())
