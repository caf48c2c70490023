"""Every rule of the policy: the same evidence passes with the rule off, and is refused by name with it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from evident import codec
from evident.appraisal.appraise import appraise
from evident.appraisal.policy import Deny, Freshness, Policy, RequiredLevels, TechnologyRules
from evident.errors import Malformed
from evident.verification.facts import Freshness as Fresh
from evident.verification.facts import StatedLaunch

Make = Callable[..., Any]

BASE = Policy(version=1, name="base")


def snp(**rules: Any) -> Policy:
    return replace(BASE, technologies={"snp": TechnologyRules(**rules)})


def tdx_like(make: SimpleNamespace, **changes: Any) -> Any:
    return make.verified(make.facts(tee=make.tee(**changes)))


PerRule = tuple[str, Callable[[SimpleNamespace], Any], Policy, Policy]

CASES: dict[str, PerRule] = {
    "AT-29 debug": ("policy.debug", lambda m: tdx_like(m, debug=True), replace(BASE, allow_debug=True), BASE),
    "AT-30 migration": ("policy.migration", lambda m: tdx_like(m, migratable=True), replace(BASE, allow_migration=True), BASE),
    "AT-30 another agent": (
        "policy.migration",
        lambda m: tdx_like(m, migratable=True),
        replace(BASE, migration_agents=("ff" * 32,)),
        replace(BASE, migration_agents=("ee" * 32,), allow_migration=True),
    ),
    "AT-31 smt": ("policy.setting", lambda m: m.verified(), snp(settings={"policy.smt": True}), snp(settings={"policy.smt": False})),
    "AT-31 tsme": ("policy.setting", lambda m: m.verified(), snp(settings={"platform.tsme": False}), snp(settings={"platform.tsme": True})),
    "AT-31 unstated": ("policy.setting", lambda m: m.verified(), BASE, snp(settings={"platform.unheard_of": True})),
    **{
        f"AT-32 {which}": (
            "policy.tcb-minimum",
            lambda m, which=which: tdx_like(m, tcb={**m.tee().tcb, which: {**m.tee().tcb[which], "snp": 19}}),
            snp(minimum_tcb={"Milan": {"snp": 19}}),
            snp(minimum_tcb={"Milan": {"snp": 20}}),
        )
        for which in ("reported", "committed", "launch", "current")
    },
    "AT-32 any product": (
        "policy.tcb-minimum",
        lambda m: m.verified(),
        snp(minimum_tcb={"Genoa": {"snp": 99}}),
        snp(minimum_tcb={"any": {"snp": 99}}),
    ),
    "AT-32 no such component": ("policy.tcb-minimum", lambda m: m.verified(), BASE, snp(minimum_tcb={"any": {"fmc": 1}})),
    "AT-32 component of one TCB alone": (
        "policy.tcb-minimum",
        lambda m: tdx_like(m, tcb={"platform": {"pcesvn": 11}, "module": {"tdx_01": 5}}),
        snp(minimum_tcb={"any": {"pcesvn": 11, "tdx_01": 5}}),
        snp(minimum_tcb={"any": {"pcesvn": 11, "tdx_01": 6}}),
    ),
    "AT-58 chip": ("policy.denied-identity", lambda m: m.verified(), BASE, replace(BASE, deny=Deny(identities={"hwid": ("c3" * 64,)}))),
    "AT-58 version": (
        "policy.denied-tcb",
        lambda m: m.verified(),
        replace(BASE, deny=Deny(tcb={"Genoa": ("snp=20",), "Milan": ("snp=19",)})),
        replace(BASE, deny=Deny(tcb={"any": ("snp=20",)})),
    ),
    "AT-58 own fleet": (
        "policy.identity",
        lambda m: m.verified(),
        replace(BASE, allowed_identities={"hwid": ("C3" * 64,)}),
        replace(BASE, allowed_identities={"hwid": ("c4" * 64,)}),
    ),
    "AT-53 machine, by a register": (
        "policy.identity",
        lambda m: m.verified(),
        replace(BASE, allowed_identities={"report_id_ma": ("FF" * 32,)}),
        replace(BASE, allowed_identities={"report_id_ma": ("fe" * 32,)}),
    ),
    "AT-53 machine, by its instance": (
        "policy.identity",
        lambda m: m.verified(m.facts(vtpm=m.vtpm(instance={"project_id": "shop"}))),
        replace(BASE, allowed_identities={"project_id": ("shop",)}),
        replace(BASE, allowed_identities={"project_id": ("another",)}),
    ),
    "AT-53 machine, by its TPM": (
        "policy.identity",
        lambda m: m.verified(m.facts(vtpm=m.vtpm(ek_name=b"\x00\x0b" + b"\xee" * 32))),
        replace(BASE, allowed_identities={"ek_name": ("000b" + "ee" * 32,)}),
        replace(BASE, allowed_identities={"ek_name": ("000b" + "ef" * 32,)}),
    ),
    "AT-61 cloud's key": (
        "policy.identity-not-a-chip",
        lambda m: tdx_like(m, key_holder="ExampleCloud", report_key="vlek"),
        BASE,
        replace(BASE, allowed_identities={"chip_id": ("c3" * 64,)}),
    ),
    "masked chip": (
        "policy.identity",
        lambda m: tdx_like(m, identities={"chip_id": "00" * 64}),
        BASE,
        replace(BASE, allowed_identities={"chip_id": ("00" * 64,)}),
    ),
    "kind of key": (
        "policy.report-key",
        lambda m: tdx_like(m, key_holder="ExampleCloud", report_key="vlek"),
        snp(report_keys=("vcek", "vlek")),
        snp(report_keys=("vcek",)),
    ),
    "AT-20 privilege": (
        "policy.privilege-level",
        lambda m: tdx_like(m, privilege_level=2),
        snp(maximum_privilege_level=2),
        snp(maximum_privilege_level=1),
    ),
    "guest svn": ("policy.guest-svn", lambda m: m.verified(), snp(minimum_guest_svn=2), snp(minimum_guest_svn=3)),
    "register": (
        "policy.register",
        lambda m: m.verified(),
        snp(registers={"host_data": ("00" * 32,)}),
        snp(registers={"host_data": ("01" * 32,)}),
    ),
    "status": (
        "policy.tcb-status",
        lambda m: tdx_like(m, tcb_status="OutOfDate"),
        snp(tcb_status=("UpToDate", "OutOfDate")),
        BASE,
    ),
    "advisory": (
        "policy.advisory",
        lambda m: tdx_like(m, tcb_status="SWHardeningNeeded", advisories=("SA-1", "SA-2")),
        snp(tcb_status=("SWHardeningNeeded",), accepted_advisories=("SA-1", "SA-2")),
        snp(tcb_status=("SWHardeningNeeded",), accepted_advisories=("SA-1",)),
    ),
    "AT-39 simulated": ("policy.simulated", lambda m: m.verified(simulated=True), replace(BASE, allow_simulated=True), BASE),
    "AT-04 per boot": (
        "freshness.per-boot",
        lambda m: m.verified(m.facts(freshness=Fresh("boot", "made at boot"))),
        replace(BASE, freshness=Freshness(accept_per_boot=True)),
        BASE,
    ),
    "no challenge": (
        "freshness.no-challenge",
        lambda m: m.verified(m.facts(freshness=Fresh("unknown", "none", "none"))),
        replace(BASE, freshness=Freshness(require_challenge=False)),
        BASE,
    ),
    "age": (
        "freshness.age",
        lambda m: m.verified(m.facts(freshness=Fresh("challenge", "quote", "tee", m.at - timedelta(seconds=61)))),
        replace(BASE, freshness=Freshness(maximum_age_seconds=61)),
        replace(BASE, freshness=Freshness(maximum_age_seconds=60)),
    ),
    "AT-09 parameter": (
        "policy.command-line",
        lambda m: m.verified(m.facts(stated_launch=StatedLaunch({}, 'console=ttyS0 "init=/bin/sh"'))),
        replace(BASE, forbidden_command_line=()),
        BASE,
    ),
    "AT-07 component": (
        "policy.component",
        lambda m: m.verified(),
        replace(BASE, required_components={"kernel": ("01" * 32,)}),
        replace(BASE, required_components={"kernel": ("02" * 32,)}),
    ),
    "component not measured": ("policy.component", lambda m: m.verified(), BASE, replace(BASE, required_components={"shim": ("02" * 32,)})),
    "degree": (
        "policy.verifiability",
        lambda m: m.verified(),
        replace(BASE, levels=RequiredLevels(verifiability={"identity": 0})),
        replace(BASE, levels=RequiredLevels(verifiability={"identity": 1})),
    ),
}


def in_index() -> list[Any]:
    """The cases as parameters; those of a numbered attack with their place in the index of attacks."""
    marks = {
        name: [pytest.mark.attack(name[:5], f"Rule of the policy: {name[6:]}.", CASES[name][0])] for name in CASES if name.startswith("AT-")
    }
    return [pytest.param(name, marks=marks.get(name, [])) for name in CASES]


def test_a_machine_that_shows_no_identity_is_not_the_one_that_is_meant(verified: Make, facts: Make, vtpm: Make) -> None:
    """Where a TPM alone speaks, too."""
    alone = verified(facts(tee=None, vtpm=vtpm()))
    for wanted in ({"chip_id": ("c3" * 64,)}, {"ek_name": ("",)}):
        stopped = appraise(alone, policy=replace(BASE, allowed_identities=wanted), references=())
        assert "policy.identity" in {finding.code for finding in stopped.findings}


@pytest.mark.parametrize("name", in_index())
def test_a_rule_alone_makes_the_difference(name: str, verified: Make, facts: Make, tee: Make, vtpm: Make, reference: Make) -> None:
    code, make, lenient, strict = CASES[name]
    evidence = make(SimpleNamespace(verified=verified, facts=facts, tee=tee, vtpm=vtpm, at=verified().at))
    passed = appraise(evidence, policy=lenient, references=(reference(),))
    assert passed.decision == "accepted", passed.findings
    stopped = appraise(evidence, policy=strict, references=(reference(),))
    assert stopped.decision == ("indeterminate" if code == "freshness.no-challenge" else "refused")
    assert {finding.code for finding in stopped.findings} == {code}
    finding = stopped.findings[0]
    assert finding.expected
    assert finding.found
    assert finding.remedy


def test_unsafe_choices_that_mattered_show_in_the_statement(verified: Make, facts: Make, tee: Make, reference: Make) -> None:
    evidence = verified(facts(tee=tee(debug=True, migratable=True)), simulated=True)
    lenient = replace(BASE, allow_debug=True, allow_migration=True, allow_simulated=True)
    shown = appraise(evidence, policy=lenient, references=(reference(),)).unsafe
    assert set(shown) == {"policy.allow-debug", "policy.allow-migration", "policy.allow-simulated"}
    assert appraise(verified(), policy=lenient, references=(reference(),)).unsafe == (), "what made no difference does not show"


def test_the_setup_of_the_host_is_remarked_on(verified: Make, facts: Make, tee: Make, reference: Make) -> None:
    """EV-17."""
    old = {"snp": 19}
    odd = tee(
        settings={"policy.smt": True, "policy.single_socket": False, "platform.ciphertext_hiding": False, "platform.tsme": False},
        registers={**tee().registers, "id_key_digest": bytes(48), "author_key_digest": bytes(48)},
        tcb={"current": {"snp": 20}, "committed": old, "launch": old, "reported": old},
    )
    statement = appraise(verified(facts(tee=odd)), policy=BASE, references=(reference(),))
    found = {caveat.code: caveat.remedy for caveat in statement.layers[0].caveats}
    assert {
        "host.smt-allowed",
        "host.many-sockets",
        "host.ciphertext-visible",
        "host.memory-not-encrypted",
        "launch.no-id-block",
        "launch.no-author-key",
        "tcb.committed-behind",
        "tcb.launch-behind",
        "tcb.reported-behind",
    } <= set(found)
    assert all(found.values())
    quiet = appraise(
        verified(facts(tee=replace(odd, settings={}, registers={"launch": tee().registers["launch"]}, tcb={"current": old}))), policy=BASE
    )
    assert not any(caveat.code.startswith(("host.", "launch.no", "tcb.c")) for caveat in quiet.layers[0].caveats)


@pytest.mark.parametrize("seconds", [-1, 10**15])
def test_ages_that_no_evidence_has_are_refused_where_they_are_written(seconds: int) -> None:
    with pytest.raises(Malformed) as refused:
        codec.decode(Policy, {"version": 1, "freshness": {"maximum_age_seconds": seconds}}, "policy")
    assert refused.value.code == "policy.freshness"


@pytest.mark.parametrize(
    "text", ["snp", "snp=", "snp=-1", "snp=1,snp=2", "snp=" + "9" * 5000, "snp=\u0661", "=1"], ids=lambda text: text[:9]
)
def test_a_denied_tcb_that_cannot_be_read_is_refused_where_it_is_written(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        codec.decode(Policy, {"version": 1, "deny": {"tcb": {"any": [text]}}}, "policy")
    assert refused.value.code == "policy.deny-tcb"
