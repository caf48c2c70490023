"""Parameters of a kernel command line that undo what the boot chain is worth.

Kernel documentation, admin-guide/kernel-parameters: dashes and underscores in parameter names are the same, and what follows ``--`` goes to
init (which acts on ``single`` and ``emergency`` all the same).
"""

from __future__ import annotations

from collections.abc import Iterable

from evident.evidence.cmdline import parameters
from evident.reference_values.snp_reference import verity_root_hash


def _canonical(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return name.replace("-", "_") + equals + value


def forbidden(command_line: str, rules: Iterable[str]) -> tuple[str, ...]:
    """The parameters that a rule names: ``init=`` any value of it, ``rd.break`` with or without one, ``ima=off`` exactly."""
    wanted = [_canonical(rule) for rule in rules]
    found = ((parameter, _canonical(parameter)) for parameter in parameters(command_line))
    return tuple(parameter for parameter, canonical in found if any(_named(canonical, rule) for rule in wanted))


def _named(parameter: str, rule: str) -> bool:
    if rule.endswith("="):
        return parameter.startswith(rule)
    return parameter == rule or ("=" not in rule and parameter.startswith(rule + "="))


def without_root_hash(command_line: str) -> tuple[str, ...]:
    """The parameters other than the root hash, to tell a changed file system from a changed command line."""
    return tuple(parameter for parameter in parameters(command_line) if verity_root_hash(parameter) is None)
