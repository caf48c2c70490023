"""Policy rules over the facts of verified evidence: each looks at one thing and says what is wrong with it.

Rules that concern a layer's reference values live in `layers`, those that concern the finished statement in `requirements`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from evident.appraisal.identities import CHIPS
from evident.appraisal.policy import Policy, TechnologyRules, parse_tcb
from evident.appraisal.profile import Profile
from evident.appraisal.remarks import Remark, open_point, refusal
from evident.codec import format_time
from evident.reference_values.model import ReferenceValue
from evident.verification.facts import Facts, Tee
from evident.verification.verified import Verified

ROOT = "root_of_trust"

MIGRATION_AGENT_REGISTERS = ("report_id_ma",)
"""Registers that name the migration agent (SEV-SNP ABI, REPORT_ID_MA)."""

BEST_TCB_STATUS = "UpToDate"
"""The one status that needs no excuse, where a vendor publishes statuses at all."""

OF_A_PROVIDER = frozenset({"hypervisor", "paravisor"})
"""Where a vTPM is (`Vtpm.location`) that the form of its evidence makes a provider's."""

SERVICE_MODULE = "svsm"
"""Name of the service module's image among the artifacts of a launch reference value."""

BREAKS_ROOT = frozenset(
    {
        "policy.simulated",
        "revocation.revoked",
        "policy.debug",
        "policy.migration",
        "policy.tcb-minimum",
        "policy.tcb-status",
        "policy.denied-identity",
        "policy.denied-tcb",
    }
)
"""Findings after which there is no genuine, up-to-date TEE that excludes the host: level 0."""


def judge(verified: Verified[Any], policy: Policy) -> tuple[Remark, ...]:
    """Everything that the policy holds against the evidence itself."""
    remarks = [*_simulated(verified, policy), *_revocation(verified, policy), *_freshness(verified, policy)]
    remarks += [*_denied_identity(verified.facts, policy), *_identity(verified.facts, policy)]
    tee = verified.facts.tee
    if tee is not None:
        rules = policy.technologies.get(tee.technology, TechnologyRules())
        for rule in (_debug, _migration, _denied_tcb):
            remarks.extend(rule(tee, policy))
        for technical in (_tcb, _tcb_status, _settings, _registers, _report_key, _privilege, _guest_svn):
            remarks.extend(technical(tee, rules))
        remarks.extend(_vtpm_privilege(verified, tee))
    return tuple(remarks)


def overruled(code: str, policy: Policy) -> bool:
    """Has the policy taken the decision on an open point of the verification away from the default?"""
    words = code.replace("-", ".").split(".")
    if "revocation" in words or "crl" in words:
        return policy.revocation.unknown == "accept-unsafe"
    if "challenge" in words or "nonce" in words or "freshness" in words:
        return not policy.freshness.require_challenge
    return False


def _simulated(verified: Verified[Any], policy: Policy) -> Iterator[Remark]:
    if verified.simulated and not policy.allow_simulated:
        yield refusal(
            "policy.simulated",
            ROOT,
            expected="evidence signed by real hardware",
            found="evidence of a simulator, under its own TEST root",
            remedy="Attest a real machine; for tests only, set allow_simulated in the policy.",
        )


def _revocation(verified: Verified[Any], policy: Policy) -> Iterator[Remark]:
    if verified.revocation == "revoked":
        yield refusal(
            "revocation.revoked",
            ROOT,
            expected="keys that nobody has revoked",
            found="a certificate in the chain is revoked",
            remedy="Do not use this machine; ask its operator for one with current keys.",
        )
    waived = policy.revocation.unknown == "accept-unsafe" or "revocation-unknown" in verified.unsafe
    said = any("revocation" in point.code or "crl" in point.code for point in verified.open_points)
    if verified.revocation == "unknown" and not waived and not said:
        yield open_point(
            "revocation.unknown",
            ROOT,
            expected="a current revocation list of the vendor",
            found="none, or one that does not cover this time",
            remedy="Run `evident trust fetch` where there is a network, or pass crl=PATH.",
        )


def _freshness(verified: Verified[Any], policy: Policy) -> Iterator[Remark]:
    freshness, rule = verified.facts.freshness, policy.freshness
    if freshness.scope == "boot" and rule.require_challenge and not rule.accept_per_boot:
        yield refusal(
            "freshness.per-boot",
            ROOT,
            expected="evidence bound to your own challenge",
            found=f"evidence made once per boot ({freshness.how}), which anyone who saw it can replay",
            remedy="Ask for a quote over your own nonce; or accept the risk with freshness.accept_per_boot.",
        )
    waived = not rule.require_challenge or "no-challenge" in verified.unsafe
    said = any("nonce" in point.code or "challenge" in point.code or "freshness" in point.code for point in verified.open_points)
    if freshness.scope == "unknown" and not waived and not said:
        yield open_point(
            "freshness.no-challenge",
            ROOT,
            expected="the challenge that you sent, to compare with",
            found="none",
            remedy="Pass nonce=PATH (or report-data=PATH) with what you sent.",
        )
    if rule.maximum_age_seconds is None:
        return
    limit = timedelta(seconds=rule.maximum_age_seconds)
    if freshness.made_at is not None and verified.at - freshness.made_at > limit:
        yield refusal(
            "freshness.age",
            ROOT,
            expected=f"evidence at most {rule.maximum_age_seconds} s old",
            found=f"evidence of {format_time(freshness.made_at)}, judged at {format_time(verified.at)}",
            remedy="Collect new evidence.",
        )
    elif freshness.made_at is None and freshness.scope != "challenge":
        yield open_point(
            "freshness.age-unknown",
            ROOT,
            expected=f"evidence at most {rule.maximum_age_seconds} s old",
            found="evidence that carries no time and no challenge of yours",
            remedy="Send a challenge: what answers it is younger than the challenge.",
        )


def _debug(tee: Tee, policy: Policy) -> Iterator[Remark]:
    if tee.debug and not policy.allow_debug:
        yield refusal(
            "policy.debug",
            ROOT,
            expected="a guest whose memory the host cannot read",
            found="debugging by the host is allowed by the guest's launch policy",
            remedy="Launch the guest again with debugging off.",
        )


def _migration(tee: Tee, policy: Policy) -> Iterator[Remark]:
    if not tee.migratable:
        return
    agent = next((tee.registers[name].hex() for name in MIGRATION_AGENT_REGISTERS if name in tee.registers), "")
    named = bool(agent) and agent in policy.migration_agents
    if named or (policy.allow_migration and not policy.migration_agents):
        return
    yield refusal(
        "policy.migration",
        ROOT,
        expected="a guest that no migration agent may export, or an agent that the policy names",
        found=f"migration allowed, agent {agent or 'unknown'}",
        remedy="Launch the guest without migration, or list the agent's report id in migration_agents.",
    )


def _denied_identity(facts: Facts, policy: Policy) -> Iterator[Remark]:
    known = facts.identities if policy.deny.identities else {}
    for name, values in policy.deny.identities.items():
        value = known.get(name, "").lower()
        if value and value in {denied.lower() for denied in values}:
            yield refusal(
                "policy.denied-identity",
                ROOT,
                expected=f"a machine that is not on the deny list ({name})",
                found=value,
                remedy="Do not use this machine: the policy knows it as bad.",
            )


def _denied_tcb(tee: Tee, policy: Policy) -> Iterator[Remark]:
    for product in (tee.product, "any"):
        for denied in policy.deny.tcb.get(product, ()):
            wanted = parse_tcb(denied)
            for which, numbers in tee.tcb.items():
                if all(numbers.get(component) == number for component, number in wanted.items()):
                    yield refusal(
                        "policy.denied-tcb",
                        ROOT,
                        expected=f"no TCB of {product} that the policy denies ({denied})",
                        found=f"the {which} TCB is that one",
                        remedy="Ask the operator to update the platform firmware; keys of this version are known to have leaked.",
                    )


def _identity(facts: Facts, policy: Policy) -> Iterator[Remark]:
    """Whoever is to be a certain machine must show it: what evidence does not carry is on nobody's list."""
    tee, known = facts.tee, facts.identities if policy.allowed_identities else {}
    for name, values in policy.allowed_identities.items():
        if tee is not None and tee.key_holder is not None and name in CHIPS:
            yield refusal(
                "policy.identity-not-a-chip",
                ROOT,
                expected=f"a key of the chip itself, to hold {name} against your list",
                found=f"a {tee.report_key.upper()}, which identifies {tee.key_holder} and not a chip",
                remedy="Use a machine whose reports the chip's own key signs, or drop this list for this cloud.",
            )
            continue
        value = known.get(name, "").lower()
        if not value or value not in {allowed.lower() for allowed in values}:
            yield refusal(
                "policy.identity",
                ROOT,
                expected=f"{name} on your own list of {len(values)}",
                found=value or "no such identity in the evidence",
                remedy="Check that this is your machine; if it is, add it to allowed_identities.",
            )


def _tcb(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    """Every TCB that has the component must reach the minimum (AT-32); a component that none has is not reached."""
    minimum = rules.minimum_tcb.get(tee.product, rules.minimum_tcb.get("any", {}))
    for component, least in minimum.items():
        found = {which: numbers[component] for which, numbers in tee.tcb.items() if component in numbers}
        for which, number in found.items() or [("whole", None)]:
            if number is None or number < least:
                yield refusal(
                    "policy.tcb-minimum",
                    ROOT,
                    expected=f"{component} of the {which} TCB at least {least} ({tee.product})",
                    found="no such component" if number is None else str(number),
                    remedy="Ask the operator to update the platform firmware, and to commit the update.",
                )


def _tcb_status(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    if tee.tcb_status is None:
        return
    accepted = rules.tcb_status or (BEST_TCB_STATUS,)
    if tee.tcb_status not in accepted:
        advisories = f" (advisories: {', '.join(tee.advisories)})" if tee.advisories else ""
        yield refusal(
            "policy.tcb-status",
            ROOT,
            expected="TCB status " + " or ".join(accepted),
            found=tee.tcb_status + advisories,
            remedy="Ask the operator to update the platform; or accept this status and its advisories in the policy.",
        )
    elif tee.tcb_status != BEST_TCB_STATUS:
        standing = [advisory for advisory in tee.advisories if advisory not in rules.accepted_advisories]
        if standing:
            yield refusal(
                "policy.advisory",
                ROOT,
                expected="only advisories that the policy accepts",
                found=", ".join(standing),
                remedy="Read the advisories; list in accepted_advisories those that do not concern you.",
            )


def _settings(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    for name, wanted in rules.settings.items():
        found = tee.settings.get(name)
        if found is not wanted:
            yield refusal(
                "policy.setting",
                ROOT,
                expected=f"{name} {'on' if wanted else 'off'}",
                found="not stated by this evidence" if found is None else "on" if found else "off",
                remedy="Guest policy is set at launch; platform settings are the operator's: ask for a machine that has them.",
            )


def _registers(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    for name, accepted in rules.registers.items():
        value = tee.registers.get(name)
        if value is None or value.hex() not in {entry.lower() for entry in accepted}:
            yield refusal(
                "policy.register",
                "firmware",
                expected=f"{name} among the {len(accepted)} values of the policy",
                found="no such register" if value is None else value.hex(),
                remedy="Check what was launched; if it is meant, add the value to registers.",
            )


def _report_key(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    if rules.report_keys and tee.report_key not in rules.report_keys:
        yield refusal(
            "policy.report-key",
            ROOT,
            expected="a report signed by " + " or ".join(rules.report_keys),
            found=tee.report_key,
            remedy="Use a machine that offers this kind of key.",
        )


def _privilege(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    highest = rules.maximum_privilege_level
    if highest is not None and (tee.privilege_level is None or tee.privilege_level > highest):
        yield refusal(
            "policy.privilege-level",
            ROOT,
            expected=f"a report asked for at privilege level {highest} or below",
            found="no level stated" if tee.privilege_level is None else str(tee.privilege_level),
            remedy="Ask for the report from the more privileged layer.",
        )


def _guest_svn(tee: Tee, rules: TechnologyRules) -> Iterator[Remark]:
    least = rules.minimum_guest_svn
    if least is not None and (tee.guest_svn is None or tee.guest_svn < least):
        yield refusal(
            "policy.guest-svn",
            "firmware",
            expected=f"guest security version at least {least}",
            found="none stated" if tee.guest_svn is None else str(tee.guest_svn),
            remedy="Launch the current image, with an ID block that states its version.",
        )


def _vtpm_privilege(verified: Verified[Any], tee: Tee) -> Iterator[Remark]:
    """A report that binds a vTPM's key must come from where only the vTPM's code can ask (AT-20)."""
    vtpm = verified.facts.vtpm
    if vtpm is None or vtpm.anchor != "tee" or vtpm.location != "svsm":
        return
    if tee.privilege_level != 0:
        yield refusal(
            "vtpm.privilege-level",
            "vtpm",
            expected="the vTPM's key bound by a report of privilege level 0",
            found=f"level {tee.privilege_level}: the guest's own kernel could have asked for it",
            remedy="Do not believe this vTPM; launch with a service module that holds level 0.",
        )


def vtpm_code(verified: Verified[Any], references: Sequence[ReferenceValue]) -> tuple[Remark, ...]:
    """AT-20, AT-21: at level 0 of a guest without service module the guest's kernel itself asks for reports, so the launch must be
    known to be of a service module; a launch value without one among its artifacts does not show that."""
    vtpm, tee = verified.facts.vtpm, verified.facts.tee
    if vtpm is None or vtpm.location != "svsm" or tee is None:
        return ()
    launch = tee.registers["launch"]
    if any(value.register == "launch" and value.value == launch and SERVICE_MODULE in value.provenance.artifacts for value in references):
        return ()
    found = refusal(
        "vtpm.service-module-unknown",
        "vtpm",
        expected="a launch measurement of a known service module, which holds the vTPM",
        found=launch.hex(),
        remedy="Measure the SVSM image that you launched (evident measure snp --svsm) and pass the reference value.",
    )
    return (found,)


def vtpm_elsewhere(verified: Verified[Any], profile: Profile | None) -> tuple[Remark, ...]:
    """AT-22: whoever answers chooses the form of the evidence. A guest's own kernel can ask for a report as another provider's paravisor
    would, over a key of its making; or send the quotes of a vTPM that it has elsewhere.
    """
    vtpm = verified.facts.vtpm
    if vtpm is None or profile is None or vtpm.location not in OF_A_PROVIDER or vtpm.operator == profile.provider:
        return ()
    found = refusal(
        "vtpm.elsewhere",
        "vtpm",
        expected=f"evidence of a machine of {profile.provider}'s",
        found=f"evidence in a form that says of its vTPM that {vtpm.operator} runs it",
        remedy="No such machine sends this: take it for somebody else's answer. If the machine is elsewhere, name the right platform.",
    )
    return (found,)


def unquoted(verified: Verified[Any], references: Sequence[ReferenceValue]) -> tuple[Remark, ...]:
    """A PCR that is left out of the quote could hold anything: whoever booted something else would leave out the one that tells."""
    vtpm = verified.facts.vtpm
    if vtpm is None:
        return ()
    quoted = {f"pcr{index}" for values in vtpm.pcrs.values() for index in values}
    missing = {value.register: value.layers[0] for value in references if value.register.startswith("pcr") and value.register not in quoted}
    return tuple(
        open_point(
            "reference.unquoted",
            layer,
            expected=f"a quote that covers {register}, for which there are reference values",
            found="one that leaves it out",
            remedy="Have the machine quote all PCRs (0 to 23).",
        )
        for register, layer in missing.items()
    )
