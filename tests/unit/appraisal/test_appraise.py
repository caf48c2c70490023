"""Evidence that is accepted, and what each layer loses when something is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from evident.appraisal.appraise import appraise
from evident.appraisal.degrees import BESIDE_LAYERS, LEVEL_LAYERS
from evident.appraisal.policy import STRICT, Deny, Policy, RequiredLevels, TechnologyRules
from evident.appraisal.profile import Profile
from evident.appraisal.statement import TrustStatement
from evident.errors import Finding, NotAuthentic
from evident.platforms import registry
from evident.reference_values.model import ReferenceValue, Strength
from evident.verification.facts import Freshness, Runtime
from evident.verification.verified import Verified

Make = Callable[..., Any]

FOUR = Policy(version=1, name="four", levels=RequiredLevels(nominal=4, trustworthy=4))


def layer(statement: TrustStatement, name: str) -> Any:
    return next(candidate for candidate in statement.layers if candidate.name == name)


def codes(statement: TrustStatement) -> list[str]:
    return [finding.code for finding in statement.findings]


def test_a_good_direct_boot_reaches_level_four_without_anybody_else(verified: Make, reference: Make) -> None:
    statement = appraise(verified(), policy=FOUR, references=(reference(),))
    assert statement.decision == "accepted", statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 4)
    assert [candidate.name for candidate in statement.layers] == [*LEVEL_LAYERS, *BESIDE_LAYERS]
    assert statement.headline["use"].startswith("Yes")
    assert all(candidate.endorsers and candidate.residual_trust for candidate in statement.layers[:4])


@pytest.mark.parametrize("evidence", [object(), None, {"facts": 1}])
def test_nothing_unverified_is_appraised(evidence: Any) -> None:
    with pytest.raises(TypeError):
        appraise(evidence, policy=STRICT)


def test_a_verified_cannot_be_made_elsewhere(verified: Make) -> None:
    with pytest.raises(TypeError):
        replace(verified(), _token=object())


@pytest.mark.parametrize("missing", ["snp.chain", "snp.signature"])
def test_a_step_left_out_is_refused(verified: Make, reference: Make, missing: str) -> None:
    """AT-68."""
    good = verified()
    crippled = replace(good, steps=tuple(step for step in good.steps if step.id != missing))
    assert appraise(replace(crippled, required=frozenset()), policy=FOUR, references=(reference(),)).decision == "accepted"
    with pytest.raises(NotAuthentic, match=missing):
        appraise(crippled, policy=FOUR, references=(reference(),))


BREAKS: dict[str, tuple[int, Callable[[SimpleNamespace], tuple[Verified[object], tuple[ReferenceValue, ...]]]]] = {
    "debug": (0, lambda m: (m.verified(m.facts(tee=m.tee(debug=True))), (m.reference(),))),
    "old tcb": (0, lambda m: (m.verified(m.facts(tee=m.tee(tcb={"reported": {"snp": 1}}))), (m.reference(),))),
    "revoked": (0, lambda m: (m.verified(revocation="revoked"), (m.reference(),))),
    "simulated": (0, lambda m: (m.verified(simulated=True), (m.reference(),))),
    "firmware": (1, lambda m: (m.verified(), (m.reference(value=b"\x99" * 48),))),
    "kernel": (
        2,
        lambda m: (
            m.verified(),
            (m.reference(layers=("firmware",)), m.reference(layers=("boot_chain", "root_filesystem"), value=b"\x98" * 48)),
        ),
    ),
    "root": (
        3,
        lambda m: (
            m.verified(),
            (m.reference(layers=("firmware", "boot_chain")), m.reference(layers=("root_filesystem",), value=b"\x97" * 48)),
        ),
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_breaking_one_layer_lowers_the_level_exactly_below_it(name: str, verified: Make, facts: Make, tee: Make, reference: Make) -> None:
    level, make = BREAKS[name]
    policy = replace(FOUR, technologies={"snp": TechnologyRules(minimum_tcb={"any": {"snp": 5}})})
    evidence, references = make(SimpleNamespace(verified=verified, facts=facts, tee=tee, reference=reference))
    statement = appraise(evidence, policy=policy, references=references)
    assert statement.decision == "refused"
    assert (statement.levels.nominal, statement.levels.trustworthy) == (level, level)
    assert LEVEL_LAYERS[level] in {finding.layer for finding in statement.findings}
    assert all(layer(statement, above).verifiability == 0 for above in LEVEL_LAYERS[level:])


def test_no_reference_value_is_not_a_pass(verified: Make) -> None:
    statement = appraise(verified(), policy=STRICT)
    assert statement.decision == "indeterminate"
    assert codes(statement) == ["reference.missing"]
    assert statement.levels.nominal == 2
    assert statement.levels.trustworthy == 1
    assert layer(statement, "firmware").verifiability == 1
    assert layer(statement, "boot_chain").verifiability == 0


def test_every_independent_failure_is_reported(verified: Make, facts: Make, tee: Make, reference: Make) -> None:
    evidence = verified(facts(tee=tee(debug=True, migratable=True)), revocation="unknown", simulated=True)
    found = codes(appraise(evidence, policy=STRICT, references=(reference(value=b"\x99" * 48),)))
    assert {"policy.debug", "policy.migration", "policy.simulated", "revocation.unknown"} <= set(found)
    assert "launch.firmware" in found
    assert found.index("policy.debug") < found.index("revocation.unknown"), "refusals lead"


def test_a_refusal_outweighs_an_open_point(verified: Make, facts: Make, tee: Make) -> None:
    open_point = Finding("snp.revocation", "root_of_trust", "a CRL", "none", "Fetch it.")
    evidence = verified(facts(tee=tee(debug=True)), revocation="unknown", open_points=(open_point,))
    statement = appraise(evidence, policy=STRICT)
    assert statement.decision == "refused"
    assert "snp.revocation" in codes(statement)
    assert "revocation.unknown" not in codes(statement), "said once, by whoever looked"


def test_unknown_revocation_is_indeterminate_unless_unsafe_and_then_shows(verified: Make, reference: Make) -> None:
    evidence = verified(revocation="unknown")
    assert appraise(evidence, policy=FOUR, references=(reference(),)).decision == "indeterminate"
    lenient = replace(FOUR, revocation=replace(FOUR.revocation, unknown="accept-unsafe"))
    statement = appraise(evidence, policy=lenient, references=(reference(),))
    assert statement.decision == "accepted"
    assert "policy.revocation-unknown" in statement.unsafe


@pytest.mark.parametrize(
    ("freshness", "decision", "trustworthy"),
    [
        (Freshness("challenge", "report data"), "accepted", 4),
        (Freshness("challenge", "quote", "vtpm"), "refused", 0),
        (Freshness("boot", "made at boot"), "refused", 0),
        (Freshness("unknown", "no challenge given"), "refused", 0),
    ],
)
def test_only_a_challenge_in_the_vendors_report_stands_without_the_provider(
    verified: Make, facts: Make, reference: Make, freshness: Freshness, decision: str, trustworthy: int
) -> None:
    statement = appraise(verified(facts(freshness=freshness)), policy=FOUR, references=(reference(),))
    assert statement.decision == decision
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, trustworthy)


def test_a_weaker_match_holds_its_own_degree_and_shows_both_digests(verified: Make, reference: Make) -> None:
    """AT-60: the published build is not the one that runs."""
    endorsed = reference(layers=("firmware",), strength=Strength.ENDORSED, endorser="ExampleCloud")
    rebuilt = reference(layers=("firmware",), value=b"\x99" * 48)
    statement = appraise(verified(), policy=replace(STRICT, accepted_trust=("ExampleCloud",)), references=(endorsed, rebuilt))
    assert statement.decision == "accepted"
    found = layer(statement, "firmware")
    assert found.verifiability == 2
    assert found.needs_provider
    caveat = next(caveat for caveat in found.caveats if caveat.code == "reference.stronger-value-differs")
    assert "99" * 48 in caveat.text
    assert "11" * 48 in caveat.text


def test_an_unaccepted_endorser_is_refused_by_name(verified: Make, reference: Make) -> None:
    endorsed = reference(strength=Strength.ENDORSED, endorser="ExampleCloud")
    refused = appraise(verified(), policy=STRICT, references=(endorsed,))
    assert codes(refused) == ["policy.party"]
    assert "ExampleCloud" in refused.findings[0].found
    assert appraise(verified(), policy=replace(STRICT, accepted_trust=("ExampleCloud",)), references=(endorsed,)).decision == "accepted"


def test_a_launch_without_kernel_hashes_does_not_cover_the_kernel(verified: Make, reference: Make) -> None:
    """AT-01, AT-10: an AL2 policy is fooled by any kernel under genuine firmware; an AL3 policy is not."""
    firmware_only = reference(layers=("firmware",), components={}, command_line=None)
    assert appraise(verified(), policy=STRICT, references=(firmware_only,)).decision == "accepted"
    three = replace(STRICT, levels=RequiredLevels(nominal=3))
    statement = appraise(verified(), policy=three, references=(firmware_only,))
    assert statement.decision == "refused"
    assert [(finding.code, finding.layer) for finding in statement.findings] == [("layer.not-covered", "boot_chain")]
    assert statement.levels.nominal == 2


def test_a_plain_launch_is_said_to_protect_neither_programs_nor_disks(verified: Make, reference: Make) -> None:
    """BW-01: genuine hardware and firmware, and the host could have started anything and put any disk there."""
    statement = appraise(verified(), policy=STRICT, references=(reference(layers=("firmware",), components={}, command_line=None),))
    said = {name: {caveat.code for caveat in layer(statement, name).caveats} for name in ("boot_chain", "root_filesystem", "storage")}
    assert "boot.not-covered" in said["boot_chain"]
    assert "rootfs.no-root-hash" in said["root_filesystem"]
    assert {"storage.rollback", "storage.key-holder"} <= said["storage"]
    assert layer(statement, "storage").summary == "Nothing shows that disks are protected from the host."
    assert statement.headline["proven"].startswith("Level 2 of 4.")


def test_a_root_filesystem_is_only_credited_with_a_root_hash(verified: Make, reference: Make) -> None:
    bare = reference(command_line="console=ttyS0", components={"kernel": b"\x01" * 32})
    statement = appraise(verified(), policy=STRICT, references=(bare,))
    assert statement.levels.nominal == 3
    assert layer(statement, "root_filesystem").verifiability == 0


def test_a_root_filesystem_that_is_the_measured_initrd_is_credited(verified: Make, reference: Make) -> None:
    parts = {"kernel": b"\x01" * 32, "initrd": b"\x02" * 32}
    whole = reference(command_line="ro evident.mode=microcvm", components=parts)
    statement = appraise(verified(), policy=STRICT, references=(whole,))
    assert statement.levels.nominal == 4
    assert "the measured initrd" in " ".join(layer(statement, "root_filesystem").evidence)
    for changes in ({"components": {"kernel": b"\x01" * 32}}, {"command_line": "ro evident.mode=microcvm evident.mode=encrypted"}):
        statement = appraise(verified(), policy=STRICT, references=(replace(whole, **changes),))
        assert layer(statement, "root_filesystem").verifiability == 0


def cloud(facts: Make, vtpm: Make, boot: Make, **changes: Any) -> Any:
    return facts(kind="tpm", vtpm=vtpm(**changes), boot=boot())


def pcrs(reference: Make) -> tuple[ReferenceValue, ...]:
    return (
        reference(layers=("firmware",), components={}, command_line=None),
        reference(layers=("boot_chain",), register="pcr4", value=b"\x04" * 32, algorithm="sha256", components={}),
        reference(layers=("boot_chain", "root_filesystem"), register="pcr11", value=b"\x0b" * 32, algorithm="sha256", components={}),
    )


def test_a_kernel_measured_by_the_hypervisors_vtpm_needs_the_provider(
    verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make
) -> None:
    """AT-18: the quote is perfect, and the provider could have made it up."""
    policy = replace(STRICT, levels=RequiredLevels(nominal=4), accepted_trust=("ExampleCloud",))
    statement = appraise(verified(cloud(facts, vtpm, boot)), policy=policy, references=pcrs(reference))
    assert statement.decision == "accepted", statement.findings
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 2)
    assert layer(statement, "vtpm").needs_provider
    assert "ExampleCloud" in layer(statement, "boot_chain").trusted_parties
    strict = appraise(verified(cloud(facts, vtpm, boot)), policy=replace(policy, accepted_trust=()), references=pcrs(reference))
    assert "policy.party" in codes(strict)


def test_a_vtpm_inside_rests_on_the_hardware_alone(verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make) -> None:
    """ST-03, EV-21: bound by a report of privilege level 0, with its code rebuilt from source."""
    inside = cloud(facts, vtpm, boot, location="svsm", anchor="tee", operator="ServiceModule")
    policy = replace(STRICT, levels=RequiredLevels(nominal=4, trustworthy=4), accepted_trust=("ServiceModule",))
    statement = appraise(verified(inside), policy=policy, references=with_service_module(pcrs(reference)))
    assert statement.decision == "accepted", statement.findings
    assert statement.levels.trustworthy == 4


def with_service_module(references: tuple[ReferenceValue, ...]) -> tuple[ReferenceValue, ...]:
    """The launch value, measured over a service module's image."""
    launch, *rest = references
    return (replace(launch, provenance=replace(launch.provenance, artifacts={"svsm": b"\x05" * 32})), *rest)


@pytest.mark.attack("AT-21", "Another service module, or none, holds the vTPM.", "vtpm.service-module-unknown")
def test_a_launch_without_service_module_holds_no_vtpm(
    verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AT-20, AT-21: a known firmware whose kernel runs at level 0 could have asked for the report that names the key."""
    inside = cloud(facts, vtpm, boot, location="svsm", anchor="tee", operator="ServiceModule")
    policy = replace(STRICT, levels=RequiredLevels(nominal=4), accepted_trust=("ServiceModule",))
    statement = appraise(verified(inside), policy=policy, references=pcrs(reference))
    assert "vtpm.service-module-unknown" in codes(statement)
    assert statement.decision == "refused"
    assert layer(statement, "vtpm").needs_provider
    monkeypatch.setattr("evident.appraisal.rules.vtpm_code", lambda *_: ())
    assert appraise(verified(inside), policy=policy, references=pcrs(reference)).decision == "accepted"


@pytest.mark.attack("AT-22", "A machine answers in the form of another provider's, with a vTPM of its own making.", "vtpm.elsewhere")
def test_a_vtpm_of_another_provider_is_refused(
    verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both providers are believed: a report of level 0 binds the key, as a paravisor's would, and the guest's kernel asked for it."""
    posing = cloud(facts, vtpm, boot, location="paravisor", anchor="tee", operator="Microsoft")
    policy = replace(STRICT, levels=RequiredLevels(nominal=4), accepted_trust=("Google", "Microsoft"))
    where = registry.profile("gcp-snp", date(2026, 11, 22))

    def judged(platform: Profile) -> TrustStatement:
        return appraise(verified(posing), policy=policy, references=pcrs(reference), profile=platform)

    statement = judged(where)
    assert (statement.decision, "vtpm.elsewhere" in codes(statement)) == ("refused", True)
    assert layer(statement, "boot_chain").needs_provider
    assert "vtpm.elsewhere" not in codes(judged(registry.profile("azure-snp", date(2026, 11, 22))))
    monkeypatch.setattr("evident.appraisal.rules.vtpm_elsewhere", lambda *_: ())
    believed = judged(where)
    assert (believed.decision, believed.levels.trustworthy) == ("accepted", 4), "and nobody but the chip's maker would vouch for it"


def test_a_vtpm_bound_from_the_kernels_own_level_is_refused(
    verified: Make, facts: Make, tee: Make, vtpm: Make, boot: Make, reference: Make
) -> None:
    """AT-20."""
    inside = replace(cloud(facts, vtpm, boot, location="svsm", anchor="tee", operator="you"), tee=tee(privilege_level=1))
    statement = appraise(verified(inside), policy=STRICT, references=pcrs(reference))
    assert "vtpm.privilege-level" in codes(statement)
    assert statement.levels.trustworthy == 2


def test_a_stage_that_no_reference_covers_keeps_the_chain_at_one(
    verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make
) -> None:
    statement = appraise(verified(cloud(facts, vtpm, boot)), policy=STRICT, references=pcrs(reference)[:2])
    found = layer(statement, "boot_chain")
    assert found.verifiability == 1
    assert any(caveat.code == "boot.stage-unreferenced" and "kernel" in caveat.text for caveat in found.caveats)


def test_a_stage_by_its_own_digest(verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make) -> None:
    kernel = reference(layers=("boot_chain",), register="stage.kernel", value=b"\x66" * 32, algorithm="sha256", components={})
    evidence = verified(cloud(facts, vtpm, boot))
    assert appraise(evidence, policy=STRICT, references=(*pcrs(reference), kernel)).levels.nominal == 4
    other = replace(kernel, value=b"\x67" * 32)
    statement = appraise(evidence, policy=STRICT, references=(*pcrs(reference), other))
    assert statement.decision == "refused"
    assert statement.levels.nominal == 2


def test_no_tee_is_level_zero(verified: Make, facts: Make, vtpm: Make, boot: Make) -> None:
    """AL-01: a shielded VM without a TEE."""
    evidence = verified(facts(technology=None, tee=None, vtpm=vtpm(), boot=boot(), freshness=Freshness("challenge", "quote", "vtpm")))
    statement = appraise(evidence, policy=STRICT)
    assert statement.decision == "refused"
    assert (statement.levels.nominal, statement.levels.trustworthy) == (0, 0)


def test_a_key_of_the_cloud_is_named_and_never_stands_for_a_chip(verified: Make, facts: Make, tee: Make, reference: Make) -> None:
    """AT-61."""
    evidence = verified(facts(tee=tee(report_key="vlek", key_holder="ExampleCloud", identities={"chip_id": "00" * 64})))
    statement = appraise(evidence, policy=FOUR, references=(reference(),))
    assert statement.decision == "accepted"
    assert any(caveat.code == "vlek.cloud-not-chip" for caveat in layer(statement, "root_of_trust").caveats)
    pinned = replace(FOUR, allowed_identities={"chip_id": ("00" * 64,)})
    assert codes(appraise(evidence, policy=pinned, references=(reference(),))) == ["policy.identity-not-a-chip"]


def test_denied_chips_are_refused(verified: Make, reference: Make) -> None:
    """AT-58: accepted without the deny list, refused with it."""
    assert appraise(verified(), policy=FOUR, references=(reference(),)).decision == "accepted"
    denied = replace(FOUR, deny=Deny(identities={"hwid": ("C3" * 64,)}, tcb={"Milan": ("snp=20,microcode=210",)}))
    found = codes(appraise(verified(), policy=denied, references=(reference(),)))
    assert found.count("policy.denied-identity") == 1
    assert found.count("policy.denied-tcb") == 4


@pytest.mark.attack("AT-33", "A script runs that no measurement list can show.", "userspace.gap, a caveat that is always said")
@pytest.mark.attack("AT-34", "A file is changed while it is measured.", "userspace.violations")
def test_violations_of_user_space_count_for_whoever_demands_it(verified: Make, facts: Make, vtpm: Make, reference: Make) -> None:
    """AT-33, AT-34."""
    runtime = Runtime(entries=10, violations=1, gaps=("Interpreted scripts are not measured.",))
    evidence = verified(facts(runtime=runtime, vtpm=vtpm()))
    relaxed = appraise(evidence, policy=FOUR, references=(reference(),))
    assert relaxed.decision == "accepted"
    assert layer(relaxed, "userspace").verifiability == 0
    assert any(caveat.code == "userspace.gap" for caveat in layer(relaxed, "userspace").caveats)
    strict = replace(FOUR, levels=RequiredLevels(nominal=4, verifiability={"userspace": 1}))
    assert "userspace.violations" in codes(appraise(evidence, policy=strict, references=(reference(),)))


def test_residual_trust_and_threat_model_are_always_there(verified: Make, reference: Make) -> None:
    """AL-05, AL-19, AT-56, AT-59."""
    statement = appraise(verified(), policy=FOUR, references=(reference(),))
    found = {caveat.code for caveat in layer(statement, "root_of_trust").caveats}
    assert {"threat.side-channels", "threat.physical", "threat.memory-integrity", "threat.software-inside"} <= found
    assert statement.extra["threat_model"]["version"] == 1


@pytest.mark.parametrize("strength", Strength)
def test_what_others_say_to_have_rebuilt_is_their_word(verified: Make, reference: Make, strength: Strength) -> None:
    """CL-07: a third party's value, however it says to have made it, is an endorsement."""
    token = reference(strength=strength, endorser="a trust authority")
    policy = replace(STRICT, accepted_trust=("a trust authority",))
    statement = appraise(verified(), policy=policy, references=(token,))
    assert statement.decision == "accepted"
    assert (statement.levels.nominal, statement.levels.trustworthy) == (4, 1)
    assert layer(statement, "firmware").verifiability == 2
    with_own = appraise(verified(), policy=STRICT, references=(token, reference()))
    without = appraise(verified(), policy=STRICT, references=(reference(),))
    assert with_own.levels == without.levels
    assert with_own.decision == "accepted", "one's own value needs nobody's word"


def test_a_match_that_names_no_stage_says_so(verified: Make, reference: Make) -> None:
    """AL-08."""
    found = layer(appraise(verified(), policy=STRICT, references=(reference(components={}),)), "boot_chain")
    assert "boot.stages-unnamed" in {caveat.code for caveat in found.caveats}
    named = layer(appraise(verified(), policy=STRICT, references=(reference(),)), "boot_chain")
    assert "boot.stages-unnamed" not in {caveat.code for caveat in named.caveats}
    assert {component.name for component in named.components} == {"kernel", "initrd", "cmdline"}


def test_secure_boot_is_a_claim_until_its_keys_are_compared(verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make) -> None:
    """AT-47, CL-21: a store with foreign keys says "on" as well."""
    log = boot(secure_boot=True, registers={**boot().registers, "pcr7": b"\x07" * 32})
    tpm = vtpm(pcrs={"sha256": {**vtpm().pcrs["sha256"], 7: b"\x07" * 32}})
    evidence = verified(facts(vtpm=tpm, boot=log))
    statement = appraise(evidence, policy=STRICT, references=pcrs(reference))
    assert "boot.secure-boot-unreferenced" in {caveat.code for caveat in layer(statement, "boot_chain").caveats}
    keys = reference(layers=("boot_chain",), register="pcr7", value=b"\x07" * 32, algorithm="sha256", components={})
    compared = appraise(evidence, policy=STRICT, references=(*pcrs(reference), keys))
    assert "boot.secure-boot-unreferenced" not in {caveat.code for caveat in layer(compared, "boot_chain").caveats}
    foreign = appraise(evidence, policy=STRICT, references=(*pcrs(reference), replace(keys, value=b"\x08" * 32)))
    assert foreign.decision == "refused"
    assert foreign.levels.nominal == 2


def test_a_log_whose_command_line_is_not_proved_gives_no_root_hash(
    verified: Make, facts: Make, vtpm: Make, boot: Make, reference: Make
) -> None:
    log = boot(caveats=("log.command-line-unproven",))
    bare = tuple(replace(value, command_line=None, layers=tuple(set(value.layers) - {"root_filesystem"})) for value in pcrs(reference))
    believed = appraise(verified(facts(vtpm=vtpm(), boot=boot())), policy=STRICT, references=bare)
    assert layer(believed, "root_filesystem").verifiability == 1
    unproven = appraise(verified(facts(vtpm=vtpm(), boot=log)), policy=STRICT, references=bare)
    assert layer(unproven, "root_filesystem").verifiability == 0
    assert "log.command-line-unproven" in {caveat.code for caveat in layer(unproven, "boot_chain").caveats}
