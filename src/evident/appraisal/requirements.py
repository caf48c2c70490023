"""What the policy demands of the finished layers: degrees, levels, parties, command line and components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evident.appraisal.cmdline import forbidden
from evident.appraisal.degrees import LEVEL_LAYERS, YOU, Levels
from evident.appraisal.layers import Ground
from evident.appraisal.policy import Policy, least_degrees
from evident.appraisal.remarks import Remark, open_point, refusal
from evident.appraisal.statement import Layer
from evident.verification.facts import Facts


def demand(
    policy: Policy, facts: Facts, grounds: Mapping[str, Ground], layers: Sequence[Layer], levels: Levels, always: Sequence[str]
) -> tuple[Remark, ...]:
    """Everything that the policy demands and the statement does not give; `always` are parties that need no acceptance."""
    return (
        *_degrees(policy, grounds, layers),
        *_trustworthy(policy, levels),
        *_parties(policy, layers, always),
        *_command_lines(policy, facts, grounds),
        *_components(policy, facts, grounds),
        *_agents(policy, grounds),
    )


def _degrees(policy: Policy, grounds: Mapping[str, Ground], layers: Sequence[Layer]) -> Iterator[Remark]:
    least = least_degrees(policy)
    for layer in layers:
        wanted = least.get(layer.name, 0)
        ground = grounds.get(layer.name)
        own = ground.degree if ground else int(layer.verifiability)
        if own >= wanted:
            continue  # a layer that is only undone by one below it is not a failure of its own
        if ground is not None and ground.state in ("mismatch", "broken"):
            continue  # said already, with what differs
        if ground is not None and ground.state == "no-reference":
            yield open_point(
                "reference.missing",
                layer.name,
                expected=f"a reference value to compare with (degree {wanted})",
                found=f"none; degree {own} ({layer.verifiability.words})",
                remedy="Pass --reference FILE; `evident measure` makes one from your own image.",
            )
        elif ground is not None and ground.state == "not-covered":
            yield refusal(
                "layer.not-covered",
                layer.name,
                expected=f"evidence of the {layer.name.replace('_', ' ')} (degree {wanted})",
                found="nothing in this evidence measures it",
                remedy=layer.caveats[-1].remedy if layer.caveats else "Collect evidence that covers it, or demand less.",
            )
        else:
            yield refusal(
                "policy.verifiability",
                layer.name,
                expected=f"degree {wanted} or more",
                found=f"degree {own} ({layer.verifiability.words})",
                remedy="Obtain the binary or source and recompute the value, or demand less in levels.verifiability.",
            )


def _trustworthy(policy: Policy, levels: Levels) -> Iterator[Remark]:
    # Where both levels stop at the same layer, that layer does not hold at all, and has been reported.
    if levels.trustworthy < min(levels.nominal, policy.levels.trustworthy):
        layer = LEVEL_LAYERS[levels.trustworthy]
        yield refusal(
            "policy.trustworthy-level",
            layer,
            expected=f"level {policy.levels.trustworthy} without trusting the provider",
            found=f"level {levels.trustworthy}: the {layer.replace('_', ' ')} needs the provider's word",
            remedy="Choose a platform where `evident explain` shows this level, or lower levels.trustworthy knowingly.",
        )


def _parties(policy: Policy, layers: Sequence[Layer], always: Sequence[str]) -> Iterator[Remark]:
    accepted = {party.casefold() for party in (*policy.accepted_trust, *always, YOU)}
    least = least_degrees(policy)
    reported: set[str] = set()
    for layer in layers:
        if layer.verifiability < least.get(layer.name, 5):
            continue  # nothing is demanded of it, or what is demanded is not there and said so
        for party in layer.trusted_parties:
            if party.casefold() in accepted or party in reported:
                continue
            reported.add(party)
            yield refusal(
                "policy.party",
                layer.name,
                expected="only parties that the policy accepts: " + (", ".join(policy.accepted_trust) or "none beside the chip's maker"),
                found=f"the {layer.name.replace('_', ' ')} rests on the word of {party}",
                remedy=f"Add {party!r} to accepted_trust if you take its word, or use evidence that does not need it.",
            )


def _command_lines(policy: Policy, facts: Facts, grounds: Mapping[str, Ground]) -> Iterator[Remark]:
    known = [*grounds["boot_chain"].command_lines]
    for told in (facts.boot, facts.stated_launch):  # also where it is only somebody's word: a bad one is refused all the same
        if told is not None and told.command_line is not None:
            known.append(told.command_line)
    bad = dict.fromkeys(parameter for line in known for parameter in forbidden(line, policy.forbidden_command_line))
    for parameter in bad:
        yield refusal(
            "policy.command-line",
            "boot_chain",
            expected="no kernel parameter that undoes the boot chain",
            found=parameter,
            remedy="Remove it from the command line and measure again; or from forbidden_command_line, if you know why it is there.",
        )


def _components(policy: Policy, facts: Facts, grounds: Mapping[str, Ground]) -> Iterator[Remark]:
    for stage, accepted in policy.required_components.items():
        found = {component.digest for component in grounds["boot_chain"].components if component.name == stage}
        if facts.boot is not None:
            found |= {measured.digest.hex() for measured in facts.boot.stages if measured.name == stage}
        if found and found <= {digest.lower() for digest in accepted}:
            continue
        yield refusal(
            "policy.component",
            "boot_chain",
            expected=f"{stage} among the {len(accepted)} digests of the policy",
            found=", ".join(sorted(found)) or f"no measured {stage}",
            remedy="Boot the accepted build, or add this digest to required_components.",
        )


def agents_in_image(grounds: Mapping[str, Ground]) -> tuple[str, ...] | None:
    """Provisioning agents in what was measured, by the reference values that hold; None where none of them was made from the files."""
    known = [value.agents for ground in grounds.values() for value in ground.matched if value.agents is not None]
    return tuple(dict.fromkeys(agent for agents in known for agent in agents)) if known else None


def _agents(policy: Policy, grounds: Mapping[str, Ground]) -> Iterator[Remark]:
    """AT-26: whoever controls an agent's channel controls the guest, whatever was measured."""
    if policy.allowed_agents is None:
        return
    found = agents_in_image(grounds)
    allowed = ", ".join(policy.allowed_agents) or "none"
    if found is None:
        yield open_point(
            "provisioning.agents-unknown",
            "provisioning",
            expected=f"to know which provisioning agents are in the image (allowed: {allowed})",
            found="no matching reference value that was made from the image's files",
            remedy="Measure again with the list of the image's files: evident measure snp ... --files LIST.",
        )
        return
    for agent in found:
        if agent not in policy.allowed_agents:
            yield refusal(
                "policy.agent",
                "provisioning",
                expected=f"no provisioning agent in the image but: {allowed}",
                found=agent,
                remedy="Leave it out of the image, or name it in allowed_agents if you trust whoever gives it orders.",
            )
