"""A policy that is well formed may still be unwise: what it lets pass, and what in it can never match."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from evident.appraisal.identities import NAMES
from evident.appraisal.policy import STRICT, Policy
from evident.appraisal.statement import Caveat

TECHNOLOGIES = frozenset({"snp", "tdx"})


def lint(policy: Policy) -> tuple[Caveat, ...]:
    """Warnings; an empty tuple says that the policy is strict and consistent."""
    return (*_unsafe(policy), *_weak(policy), *_never(policy))


def _unsafe(policy: Policy) -> Iterator[Caveat]:
    if policy.allow_debug:
        yield Caveat("policy.allow-debug", "The host may read the memory of accepted guests.", "Remove allow_debug outside development.")
    if policy.allow_migration and not policy.migration_agents:
        yield Caveat("policy.allow-migration", "Any migration agent may export accepted guests.", "Name the agents in migration_agents.")
    if policy.allow_simulated:
        yield Caveat("policy.allow-simulated", "A simulator is accepted in place of hardware.", "Never use this policy for production.")
    if policy.revocation.unknown == "accept-unsafe":
        yield Caveat("policy.revocation-unknown", "A revoked key is accepted wherever no list can be had.", "Leave revocation.unknown out.")
    if not policy.freshness.require_challenge:
        yield Caveat("policy.no-challenge", "Old evidence is accepted as if it were new.", "Demand a challenge.")
    if policy.freshness.accept_per_boot:
        yield Caveat(
            "policy.per-boot",
            "Evidence made once per boot is accepted: whoever saw it can replay it.",
            "Ask for evidence of your own challenge.",
        )


def _weak(policy: Policy) -> Iterator[Caveat]:
    if policy.levels.nominal < STRICT.levels.nominal:
        yield Caveat("policy.low-level", f"Level {policy.levels.nominal} says little of what runs.", "Demand level 2 at least.")
    if policy.levels.verifiability.get("firmware", 0) < STRICT.levels.verifiability["firmware"]:
        yield Caveat("policy.first-sight", "Firmware is accepted on first sight.", "Demand levels.verifiability.firmware of 2 or more.")
    if policy.levels.nominal < 3:
        yield Caveat(
            "policy.kernel-not-demanded",
            "Any kernel under the right firmware is accepted; do not bind identities or keys to this policy.",
            "Demand level 3 before anything secret is given out.",
        )
    removed = [rule for rule in STRICT.forbidden_command_line if rule not in policy.forbidden_command_line]
    if removed:
        yield Caveat("policy.command-line", f"Allowed on the command line: {', '.join(removed)}.", "Forbid them again where you can.")
    if not any(rules.minimum_tcb or rules.tcb_status for rules in policy.technologies.values()):
        yield Caveat(
            "policy.no-minimum-tcb",
            "Any age of platform firmware is accepted.",
            "Set technologies.snp.minimum_tcb from the vendor's bulletins.",
        )


def _never(policy: Policy) -> Iterator[Caveat]:
    lists: list[tuple[str, Iterable[str]]] = [("migration_agents", policy.migration_agents)]
    lists += [(f"required_components.{name}", values) for name, values in policy.required_components.items()]
    for technology, rules in policy.technologies.items():
        lists += [(f"technologies.{technology}.registers.{name}", values) for name, values in rules.registers.items()]
    for name, values in lists:
        bad = [value for value in values if not _hex(value)]
        if bad:
            yield Caveat("policy.not-hex", f"{name}: {bad[0]!r} is no hex value and never matches.", "Write the digest in hex.")
    for name in sorted({*policy.deny.identities, *policy.allowed_identities} - NAMES.keys()):
        yield Caveat("policy.unknown-identity", f"No machine is told apart by {name!r}.", "Use one of " + ", ".join(sorted(NAMES)) + ".")
    for name in sorted(policy.technologies.keys() - TECHNOLOGIES):
        yield Caveat("policy.unknown-technology", f"No evidence is of technology {name!r}.", "Use snp or tdx.")
    for name, values in policy.allowed_identities.items():
        denied = {value.lower() for value in policy.deny.identities.get(name, ())}
        both = sorted(denied & {value.lower() for value in values})
        if both:
            yield Caveat("policy.allowed-and-denied", f"{name} {both[0]} is allowed and denied; it is refused.", "Keep one of the two.")
        if not values:
            yield Caveat("policy.nobody-allowed", f"No {name} is allowed at all.", "List values, or remove the name.")


def _hex(value: str) -> bool:
    try:
        return bool(bytes.fromhex(value)) and value.isalnum()
    except ValueError:
        return False
