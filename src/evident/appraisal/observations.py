"""What a verified report shows of how the host is set up, beyond what the policy judges (EV-17).

Each observation says whether the customer can change it. Vendor words occur as data: names of settings and registers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from evident.appraisal.statement import Caveat
from evident.verification.facts import Tee
from evident.verification.remarks import NO_REMEDY

OPERATOR = "You cannot change this; the operator of the host can."
AT_LAUNCH = "Set it in the guest policy at launch, where the platform lets you."


@dataclass(frozen=True, slots=True)
class _Setting:
    """A named switch that is worth a word when it has the value `when`."""

    when: bool
    code: str
    text: str
    remedy: str


_SETTINGS: Mapping[str, _Setting] = MappingProxyType(
    {
        "policy.smt": _Setting(True, "host.smt-allowed", "Another guest may run on the same core (SMT is allowed).", AT_LAUNCH),
        "policy.single_socket": _Setting(False, "host.many-sockets", "The guest may span processor sockets.", AT_LAUNCH),
        "platform.ciphertext_hiding": _Setting(
            False, "host.ciphertext-visible", "The host may read the guest's memory as ciphertext, and watch it change.", OPERATOR
        ),
        "platform.rapl_dis": _Setting(False, "host.power-readable", "The host may measure the power that the guest draws.", OPERATOR),
        "platform.tsme": _Setting(False, "host.memory-not-encrypted", "Memory outside the guest is not encrypted (TSME is off).", OPERATOR),
        "platform.ecc": _Setting(False, "host.no-ecc", "Memory has no error correction: bit flips are easier to provoke.", OPERATOR),
        "platform.alias_check_complete": _Setting(
            False, "host.alias-check", "The platform did not check that no two addresses reach the same memory.", OPERATOR
        ),
    }
)
_ZERO_REGISTERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "id_key_digest": ("launch.no-id-block", "No ID block was given at launch: the owner signed nothing that the hardware enforces."),
        "author_key_digest": ("launch.no-author-key", "No author key stands behind an ID block."),
    }
)


def observations(tee: Tee) -> tuple[Caveat, ...]:
    """Remarks on the root of trust; none of them decides anything."""
    return (*_settings(tee), *_registers(tee), *_lag(tee))


def _settings(tee: Tee) -> Iterator[Caveat]:
    for name, setting in _SETTINGS.items():
        if tee.settings.get(name) is setting.when:
            yield Caveat(setting.code, setting.text, setting.remedy)


def _registers(tee: Tee) -> Iterator[Caveat]:
    for name, (code, text) in _ZERO_REGISTERS.items():
        if name in tee.registers and not any(tee.registers[name]):
            yield Caveat(code, text, "Give an ID block at launch, where the platform lets you.")


def _lag(tee: Tee) -> Iterator[Caveat]:
    """Versions that differ between the TCBs of one report: an update that is not committed, or came after the launch."""
    current = tee.tcb.get("current", {})
    for which, text, remedy in (
        ("committed", "The operator can roll the platform's firmware back: the current version is not committed.", OPERATOR),
        ("launch", "The platform's firmware was updated since the launch of this guest.", "Launch the guest again."),
        ("reported", "Keys are derived for an older version than the one that runs.", OPERATOR),
    ):
        behind = [name for name, number in tee.tcb.get(which, {}).items() if number < current.get(name, number)]
        if behind:
            yield Caveat(f"tcb.{which}-behind", f"{text} ({', '.join(behind)})", remedy)
    if not tee.tcb:
        yield Caveat("tcb.unknown", "The evidence states no version of the platform's firmware.", NO_REMEDY)
