"""Replay of a firmware event log, and what may be believed of it.

Procedure (`replay`, then `authenticate`):
 1. every bank that every extending event has a digest for is replayed, register by register, from its initial value (PCR 0 from the
    startup locality); no-action events extend nothing;
 2. each event is *verified* (its digest follows from its own data, `log_rules`) or *asserted*;
 3. every deviation met is named (`Quirk`), none is passed over in silence;
 4. `authenticate` compares with registers that a signature covers. A register that the log has events for must be equal, or become
    equal by a *completion*: events of known digest that are extended but not logged. Anything else is `NotAuthentic`.

Nothing here is authentic before step 4. The order of events is authentic within one register only.

Sources: TCG PFP 1.06, sections 2.3.4 (PCR usage) and 10; UEFI 2.10, table 38.4.1 (PCR to CC register); systemd.io/TPM2_PCR_MEASUREMENTS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evident.errors import Finding, Indeterminate, Malformed, NotAuthentic, Unsupported
from evident.evidence import efi
from evident.evidence import tcg_events as events
from evident.evidence.pcr import DIGEST_SIZES, digest, extend, initial_pcr
from evident.evidence.tcg_log import EV_NO_ACTION, REPLAYABLE, LogEvent, RegisterKind, TcgLog
from evident.verification.log_rules import ASSERTED, Basis, basis

BANK_PREFERENCE = ("sha256", "sha384", "sha512", "sha1")
"""Which authentic bank a boot chain is told in; SHA-256 first because reference values mostly are."""


@dataclass(frozen=True, slots=True)
class Quirk:
    """One named deviation, and the events that showed it."""

    name: str
    statement: str
    events: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplayedEvent:
    """One event, decoded and judged."""

    event: LogEvent
    decoded: events.Decoded
    register: str
    """``pcr4``, ``rtmr1``; empty for an event that extends nothing."""
    basis: Basis

    @property
    def verified(self) -> bool:
        return self.basis.verified


@dataclass(frozen=True, slots=True)
class Replay:
    """A replayed log. `registers` has every register that the log extends; the rest still has its initial value."""

    log: TcgLog
    events: tuple[ReplayedEvent, ...]
    registers: Mapping[str, Mapping[int, bytes]]
    """Bank to register number (PCR, or RTMR 0 to 3) to value."""
    quirks: tuple[Quirk, ...]


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The replay after step 4: which registers it explains, in which bank."""

    replay: Replay
    bank: str
    registers: Mapping[str, bytes]
    """Every authentic register of `bank` by name, explained by the log or not."""
    explained: frozenset[str]
    """Registers that the log replays to."""
    quirks: tuple[Quirk, ...]
    """Those of the replay, the completions used, and the registers left out."""

    def events(self) -> tuple[ReplayedEvent, ...]:
        """The events of explained registers: what may be believed."""
        return tuple(event for event in self.replay.events if event.register in self.explained)


def register_name(kind: RegisterKind, number: int) -> str:
    """``pcr4`` or ``rtmr1``."""
    return f"{kind}{number}"


def _number(kind: RegisterKind, event: LogEvent) -> int | None:
    """The register that an event extends; None for none. CC index 0 is the launch measurement, which nobody extends at run time."""
    if event.type == EV_NO_ACTION:
        return None
    if kind == "pcr":
        return event.register
    return event.register - 1 if event.register else None


def initial_value(kind: RegisterKind, number: int, bank: str, locality: int = 0) -> bytes:
    """What a register holds after reset; `locality` is that of TPM2_Startup and concerns PCR 0 alone."""
    return initial_pcr(number, bank, locality) if kind == "pcr" else bytes(DIGEST_SIZES[bank])


def replay(log: TcgLog) -> Replay:
    """Steps 1 to 3 over a framed log.

    Raises `Unsupported` (``log.bank``) when no bank can be replayed over the whole log.
    """
    decoded, undecodable = _decode(log.events)
    extending = [event for event in log.events if _number(log.registers, event) is not None]
    banks = tuple(bank for bank in log.banks if bank in REPLAYABLE and all(bank in event.digests for event in extending))
    if not banks:
        raise Unsupported.of(
            "log.bank",
            expected="one bank with a digest in every event",
            found="banks " + ", ".join(log.banks),
            remedy="Collect the log again, from a machine with a SHA-256 bank.",
            layer="boot_chain",
        )
    judged = tuple(
        ReplayedEvent(
            event,
            form,
            "" if (number := _number(log.registers, event)) is None else register_name(log.registers, number),
            ASSERTED if number is None else basis(event, banks),
        )
        for event, form in zip(log.events, decoded, strict=True)
    )
    locality = next((form.locality for form in decoded if isinstance(form, events.StartupLocality)), 0)
    registers = {bank: _chain(log.registers, extending, bank, locality) for bank in banks}
    return Replay(log, judged, registers, tuple(_quirks(log, judged, banks, undecodable)))


def _chain(kind: RegisterKind, extending: list[LogEvent], bank: str, locality: int) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    for event in extending:
        number = _number(kind, event)
        if number is not None:
            values[number] = extend(bank, values.get(number) or initial_value(kind, number, bank, locality), event.digests[bank])
    return dict(sorted(values.items()))


def _decode(logged: tuple[LogEvent, ...]) -> tuple[list[events.Decoded], list[int]]:
    decoded: list[events.Decoded] = []
    undecodable: list[int] = []
    for event in logged:
        try:
            decoded.append(events.decode(event))
        except Malformed:  # one event's odd data does not undo its digest; it is named as a quirk
            decoded.append(events.Opaque(event.data))
            undecodable.append(event.number)
    return decoded, undecodable


def _quirks(log: TcgLog, judged: tuple[ReplayedEvent, ...], banks: tuple[str, ...], undecodable: list[int]) -> Iterable[Quirk]:
    unused = [bank for bank in log.banks if bank not in banks]
    if unused:
        yield Quirk("bank-not-replayed", "declared, but of an unknown algorithm or without a digest in every event: " + ", ".join(unused))
    if banks == ("sha1",):
        yield Quirk("sha1-only", "the log has no bank but SHA-1, for which collisions can be made")
    if undecodable:
        yield Quirk(
            "undecodable-event",
            "the data do not have the form of the event's type; the digest counts, the data say nothing",
            tuple(undecodable),
        )
    if log.registers == "rtmr" and any(event.event.register == 0 and event.event.type != EV_NO_ACTION for event in judged):
        yield Quirk("launch-register-event", "events for register 0, the launch measurement, which is never extended")
    by_rule: dict[str, tuple[str, list[int]]] = {}
    for event in judged:
        if event.basis.quirk:
            by_rule.setdefault(event.basis.rule, (event.basis.quirk, []))[1].append(event.event.number)
    for rule, (statement, numbers) in by_rule.items():
        yield Quirk(rule, statement, tuple(numbers))
    for name, (statement, numbers) in _form_quirks(judged).items():
        yield Quirk(name, statement, tuple(numbers))
    yield from _separator_quirks(judged)


_FORM_QUIRKS = {
    "startup-locality": "PCR 0 starts from the startup locality, not from zero",
    "image-trailing": "bytes behind the image load structure (older shims)",
    "variable-trailing": "bytes behind the variable's data (older shims)",
    "empty-secure-boot": "the SecureBoot variable has no data (it does not exist); read as off",
    "image-in-pcr2": "a boot application measured into PCR 2, as some firmware does with every image that it starts",
    "untagged-event": "a tagged event without its frame",
    "unknown-type": "an event type that no specification read here names",
}


def _form_quirks(judged: tuple[ReplayedEvent, ...]) -> dict[str, tuple[str, list[int]]]:
    found: dict[str, tuple[str, list[int]]] = {}

    def note(name: str, number: int) -> None:
        found.setdefault(name, (_FORM_QUIRKS[name], []))[1].append(number)

    for item in judged:
        number = item.event.number
        match item.decoded:
            case events.StartupLocality(locality) if locality:
                note("startup-locality", number)
            case events.ImageLoad(trailing=rest) if rest:
                note("image-trailing", number)
            case efi.Variable(trailing=rest) if rest:
                note("variable-trailing", number)
            case efi.Variable(vendor=efi.GLOBAL_VARIABLE, name="SecureBoot", data=b""):
                note("empty-secure-boot", number)
            case events.ImageLoad() if item.event.type == events.EV_EFI_BOOT_SERVICES_APPLICATION and item.register == "pcr2":
                note("image-in-pcr2", number)
            case events.Tagged(tag=None):
                note("untagged-event", number)
            case _ if item.event.type not in events.TYPE_NAMES:
                note("unknown-type", number)
    return found


def _separator_quirks(judged: tuple[ReplayedEvent, ...]) -> Iterable[Quirk]:
    seen: dict[str, list[int]] = {}
    failed: list[int] = []
    for item in judged:
        if isinstance(item.decoded, events.Separator):
            seen.setdefault(item.register, []).append(item.event.number)
            if item.decoded.error:
                failed.append(item.event.number)
    shared = any(register.startswith("rtmr") for register in seen)  # several PCRs share one RTMR, and so do their separators
    limits = {"rtmr0": 2, "rtmr1": 5, "rtmr2": 8} if shared else {}
    for register, numbers in seen.items():
        if len(numbers) > limits.get(register, 1):
            yield Quirk(
                "duplicate-separator",
                f"{register} has {len(numbers)} separators; what follows the first is not firmware's word",
                tuple(numbers),
            )
    if failed:
        yield Quirk("error-separator", "the firmware says that a measurement failed", tuple(failed))


@dataclass(frozen=True, slots=True)
class Completion:
    """Events of known content that are extended but not in the log, as a firmware or init system does."""

    name: str
    statement: str
    registers: Mapping[RegisterKind, int]
    contents: tuple[bytes, ...]
    partial: bool
    """True where any leading part of `contents` may have happened so far."""


_EXIT_BOOT_SERVICES = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
COMPLETIONS: tuple[Completion, ...] = (
    Completion(
        "exit-boot-services-unlogged",
        "the two Exit Boot Services events were extended after the log was handed over (Linux before 5.3, or no final events table)",
        {"pcr": 5, "rtmr": 1},
        _EXIT_BOOT_SERVICES,
        partial=False,
    ),
    Completion(
        "systemd-boot-phases",
        "systemd-pcrphase extends the phases of the boot without a firmware log entry",
        {"pcr": 11},
        (b"enter-initrd", b"leave-initrd", b"sysinit", b"ready", b"shutdown", b"final"),
        partial=True,
    ),
)


def _complete(replayed: Replay, number: int, bank: str, wanted: bytes) -> Quirk | None:
    """The completion that leads from the replayed value of a register to `wanted`, or None."""
    kind, value = replayed.log.registers, replayed.registers[bank][number]
    logged = {item.event.data for item in replayed.events}
    for completion in COMPLETIONS:
        if completion.registers.get(kind) != number or any(content in logged for content in completion.contents):
            continue
        current = value
        for count, content in enumerate(completion.contents, start=1):
            current = extend(bank, current, digest(bank, content))
            if current == wanted and (completion.partial or count == len(completion.contents)):
                added = ", ".join(item.decode() for item in completion.contents[:count])
                return Quirk(completion.name, f"{completion.statement}; added to {register_name(kind, number)}: {added}")
    return None


def authenticate(replayed: Replay, registers: Mapping[str, Mapping[int, bytes]], *, bank: str | None = None) -> Authenticated:
    """Step 4: `registers` are authentic values by bank and number (PCR, or RTMR 0 to 3).

    Every bank that is both given and replayed is compared; the result is told in `bank`, or the preferred one. Raises `NotAuthentic`
    (``log.replay``, naming every register that differs) and `Indeterminate` (``log.bank``: no bank in common; ``log.uncovered``: no
    register in common).
    """
    common = [name for name in BANK_PREFERENCE if registers.get(name) and name in replayed.registers]
    if not common or (bank is not None and bank not in common):
        raise Indeterminate.of(
            "log.bank",
            expected="a log with a bank of the signed registers: " + (bank or ", ".join(sorted(registers)) or "none"),
            found="banks " + ", ".join(replayed.registers),
            remedy="Ask for a quote over a bank that the firmware logs, or enable that bank.",
            layer="boot_chain",
        )
    kind = replayed.log.registers
    findings: list[Finding] = []
    used: dict[str, Quirk] = {}
    for name in common:
        for number, value in replayed.registers[name].items():
            wanted = registers[name].get(number)
            if wanted is None or wanted == value:
                continue
            completion = _complete(replayed, number, name, wanted)
            if completion:
                used[completion.name] = completion
            else:
                findings.append(_mismatch(register_name(kind, number), name, wanted, value))
    if findings:
        raise NotAuthentic(*findings)
    chosen = bank or common[0]
    explained = {register_name(kind, number) for number in replayed.registers[chosen] if number in registers[chosen]}
    if not explained:
        raise Indeterminate.of(
            "log.uncovered",
            expected="signed values of the registers that the log extends",
            found="values of " + ", ".join(register_name(kind, number) for number in registers[chosen]),
            remedy="Ask for a quote over PCR 0 to 9, 11, 12 and 14.",
            layer="boot_chain",
        )
    quirks = (*replayed.quirks, *used.values(), *_coverage(replayed, registers[chosen], chosen))
    named = {register_name(kind, number): value for number, value in sorted(registers[chosen].items())}
    return Authenticated(replayed, chosen, named, frozenset(explained), quirks)


def _mismatch(register: str, bank: str, wanted: bytes, value: bytes) -> Finding:
    return Finding(
        "log.replay",
        "boot_chain",
        f"{register} ({bank}) {wanted.hex()} as signed",
        f"{value.hex()} from the log",
        f"The log was edited, is incomplete, or belongs to another boot: collect both together, and look at the events of {register}.",
    )


def _coverage(replayed: Replay, signed: Mapping[int, bytes], bank: str) -> Iterable[Quirk]:
    kind = replayed.log.registers
    unsigned = [register_name(kind, number) for number in replayed.registers[bank] if number not in signed]
    if unsigned:
        yield Quirk(
            "register-unsigned", "the log has events for registers that no signature covers; they are ignored: " + ", ".join(unsigned)
        )
    elsewhere = [
        register_name(kind, number)
        for number, value in sorted(signed.items())
        if number not in replayed.registers[bank] and value.strip(b"\0") and value.strip(b"\xff")
    ]
    if elsewhere:
        yield Quirk("register-unexplained", "extended by something that this log does not record: " + ", ".join(elsewhere))
