"""What every rendering for people shows, and in which words: shared by terminal and page, so that the two cannot differ.

A `Screen` holds plain text only. Text that came out of evidence (command lines, instance names) has its control characters
made visible here, so that no evidence can move a terminal's cursor or reverse a line of a page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evident.appraisal.degrees import BESIDE_LAYERS, LEVEL_LAYERS, Verifiability
from evident.appraisal.statement import Caveat, Component, Layer, TrustStatement
from evident.errors import EvidentError, Finding
from evident.reports.json_report import Failure, Outcome, Recorded

Tone = Literal["good", "bad", "unsure"]

MISMATCHES = ("launch.", "reference.mismatch")
"""Beginnings of the codes that say: this layer was compared with a reference value, and differs."""

LAYER_TITLES = {
    "root_of_trust": ("Root of trust", "a genuine, up-to-date secure processor, fresh for this challenge"),
    "firmware": ("Firmware", "everything in the launch measurement: virtual firmware, paravisor or SVSM, vCPU state"),
    "boot_chain": ("Boot chain", "boot loader, kernel, initial RAM disk and command line, each by name"),
    "root_filesystem": ("Root file system", "the root file system as mounted"),
    "vtpm": ("Virtual TPM", "where it lives and what anchors it"),
    "userspace": ("User space", "programs as they are loaded"),
    "provisioning": ("Provisioning", "cloud-init, agents, metadata, ACPI and other host inputs"),
    "storage": ("Storage", "who holds the disk key, and whether old data can be put back"),
    "identity": ("Identity", "which key is bound, to which challenge"),
    "devices": ("Devices", "what else is attached to the machine"),
}
LEVEL_WORDS = ("a genuine secure processor", "the firmware", "the boot chain", "the root file system")
QUESTIONS = (("use", "May I use it?"), ("proven", "What is proven?"), ("trust", "Whom do I still trust?"), ("todo", "What should I do?"))
LEVELS = ("Linked to the secure processor", "Holds without the provider's word")
"""What the nominal and the trustworthy level say. The first is no proof yet: a link may lead to a value that nobody knows."""
LEFT_OPEN = "Left open: "
"""How the statement of a step begins that could not be decided (`verification.procedure`)."""
SIMULATED = "SIMULATED: no confidential hardware took part. This statement proves nothing about a real machine."
SOME_SIMULATED = "SIMULATED: no confidential hardware took part in what is marked so. It proves nothing about a real machine."

_VERDICTS: Mapping[str, tuple[str, Tone]] = {
    "accepted": ("ACCEPTED", "good"),
    "refused": ("REFUSED", "bad"),
    "indeterminate": ("UNDECIDED", "unsure"),
    "not_authentic": ("NOT AUTHENTIC", "bad"),
    "malformed": ("MALFORMED INPUT", "bad"),
    "unsupported": ("NOT SUPPORTED", "unsure"),
    "usage": ("WRONG USE", "unsure"),
}
_USE_WITHOUT_STATEMENT = {
    "not_authentic": "No. The evidence is not authentic: it is forged, damaged, revoked or meant for something else.",
    "malformed": "No. The input is not evidence that anybody could check.",
    "indeterminate": "Not yet. Whether the evidence is authentic could not be decided.",
    "unsupported": "No. Evident does not appraise this kind of evidence, so it can say nothing for it.",
    "refused": "No. The policy refuses it.",
}
_DIGEST = re.compile(r"\b[0-9a-f]{40,}\b")
_AUTHENTIC = {True: "authentic", False: "not authentic", None: "undecided"}
_REVOCATION = {
    "good": "nothing in the chain is revoked",
    "revoked": "something in the chain is REVOKED",
    "unknown": "whether something is revoked is not known",
}


@dataclass(frozen=True, slots=True)
class LayerView:
    """One layer in words; layers that the statement lacks are shown as not verifiable, never left out (AT-67)."""

    name: str
    title: str
    covers: str
    level: int | None
    degree: int
    degree_words: str
    summary: str
    endorsers: str
    residual: str
    provider: str
    needs_provider: bool
    freshness: str
    evidence: tuple[str, ...]
    components: tuple[Component, ...]
    caveats: tuple[Caveat, ...]
    findings: tuple[int, ...]
    """Numbers (from 1) of the findings that stand against this layer."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    question: str
    answer: str
    tone: Tone
    because: str
    residual: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Screen:
    verdict: str
    tone: Tone
    code: str
    simulated: bool
    first: tuple[tuple[str, str], ...]
    """The four questions of the first screen, each with its answer."""
    nominal: int
    trustworthy: int
    proof_ends: str
    """The first layer of the boot that is not verified, in words (AT-67)."""
    layers: tuple[LayerView, ...]
    beside: tuple[LayerView, ...]
    questions: tuple[AnswerView, ...]
    findings: tuple[Finding, ...]
    unsafe: tuple[str, ...]
    steps: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """How this came about: platform, time, policy, reference values."""
    claims: tuple[tuple[str, str], ...]
    """Flattened: dotted name, value."""

    @property
    def simulated_suffix(self) -> str:
        """What the verdict itself must add, so that it is never read alone."""
        if not self.simulated:
            return ""
        return ", but only simulated" if self.tone == "good" else " (simulated)"


def screen(outcome: Outcome | Recorded) -> Screen:
    """Everything that the renderings show of `outcome`, a statement or the error that prevented one, present or recorded."""
    return _of_statement(outcome) if isinstance(outcome, TrustStatement) else _of_error(outcome)


def clean(text: str) -> str:
    """`text` with control, format and unassigned characters spelled out, so that it can only be read."""
    return "".join(
        character if character == "\n" or unicodedata.category(character)[0] != "C" else f"\\u{ord(character):04x}" for character in text
    )


def degree_words(degree: int) -> str:
    """Number and words of a degree of verifiability, never one without the other (EV-04)."""
    return f"{degree} of 4, {Verifiability(degree).words}"


def level_words(level: int, *, simulated: bool = False) -> str:
    """Number and words of an attestation level."""
    covered = ("a simulated secure processor" if simulated else LEVEL_WORDS[0], *LEVEL_WORDS[1:])[:level]
    words = ", ".join(covered[:-1]) + " and " + covered[-1] if len(covered) > 1 else "".join(covered) or "nothing"
    return f"level {level} of 4, {words}"


def _of_statement(statement: TrustStatement) -> Screen:
    verdict, tone = _VERDICTS[statement.decision]
    known = {layer.name: layer for layer in statement.layers}
    layers = tuple(_layer(name, known.get(name), statement.findings, simulated=statement.simulated) for name in LEVEL_LAYERS)
    beside = tuple(
        _layer(name, known.get(name), statement.findings, simulated=statement.simulated) for name in BESIDE_LAYERS if name in known
    )
    beside += tuple(
        _layer(name, known[name], statement.findings, simulated=statement.simulated)
        for name in known
        if name not in LEVEL_LAYERS + BESIDE_LAYERS
    )
    return Screen(
        verdict=verdict,
        tone=tone,
        code=clean(statement.code),
        simulated=statement.simulated,
        first=tuple((question, _short_digests(clean(statement.headline.get(key, "Not said.")))) for key, question in QUESTIONS),
        nominal=statement.levels.nominal,
        trustworthy=statement.levels.trustworthy,
        proof_ends=_proof_ends(layers),
        layers=layers,
        beside=beside,
        questions=tuple(
            AnswerView(
                clean(answer.question),
                {"yes": "Yes", "no": "No", "unknown": "Not known"}[answer.answer],
                {"yes": "good", "no": "bad", "unknown": "unsure"}[answer.answer],  # type: ignore[arg-type]  # the three tones
                _sentences((answer.because,)),
                _sentences(answer.residual_trust),
                _all_clean(answer.evidence),
            )
            for answer in statement.questions
        ),
        findings=_clean_findings(statement.findings),
        unsafe=_all_clean(statement.unsafe),
        steps=_all_clean(statement.steps),
        facts=_facts(statement),
        claims=tuple(flatten(statement.claims)),
    )


def _facts(statement: TrustStatement) -> tuple[tuple[str, str], ...]:
    rows = (
        ("Platform", statement.profile or f"{statement.platform} (no platform profile was appraised against)"),
        ("Technology", statement.technology or "none"),
        ("Kind of evidence", statement.kind or "not recorded"),
        ("Judged at", statement.at.isoformat().replace("+00:00", "Z")),
        ("Signatures and chain", _AUTHENTIC[statement.authentic]),
        ("Revocation", _REVOCATION[statement.revocation]),
        ("Vouched for by", ", then ".join(statement.endorsers) or "nobody"),
        ("Policy", f"{statement.policy_name} (SHA-256 {statement.policy_sha256})"),
        ("Reference values", f"SHA-256 {statement.reference_sha256}" if statement.reference_sha256 else "none were given"),
    )
    return tuple((name, clean(value)) for name, value in rows)


def _of_error(error: EvidentError | Failure) -> Screen:
    verdict, tone = _VERDICTS.get(error.decision, ("ERROR", "unsure"))
    layers = tuple(_layer(name, None, error.findings) for name in LEVEL_LAYERS)
    findings = _clean_findings(error.findings)
    answers = (
        _USE_WITHOUT_STATEMENT.get(error.decision, "Nothing can be said."),
        "Nothing.",
        "Everybody who could have made or changed this input: nothing about it could be established.",
        findings[0].remedy,
    )
    return Screen(
        verdict=verdict,
        tone=tone,
        code=clean(error.code),
        simulated=False,
        first=tuple((question, answer) for (_, question), answer in zip(QUESTIONS, answers, strict=True)),
        nominal=0,
        trustworthy=0,
        proof_ends=_proof_ends(layers),
        layers=layers,
        beside=(),
        questions=(),
        findings=findings,
        unsafe=(),
        steps=(),
        facts=(),
        claims=(),
    )


def _layer(name: str, layer: Layer | None, findings: Sequence[Finding], *, simulated: bool = False) -> LayerView:
    title, covers = LAYER_TITLES.get(name, (name.replace("_", " ").capitalize(), ""))
    if layer is None:
        level = LEVEL_LAYERS.index(name) + 1 if name in LEVEL_LAYERS else None
        layer = Layer(
            name, level, Verifiability.NONE, "No evidence speaks of this layer.", (), ("Anybody who can change it",), (), True, "", ()
        )
    if simulated:
        provider = "Whoever runs the simulator can fake this layer."
    elif layer.needs_provider:
        provider = "The provider alone could fake this layer unnoticed."
    else:
        provider = "The provider alone cannot fake this layer."
    degree = degree_words(layer.verifiability)
    if layer.verifiability <= Verifiability.LINK and differs(layer, name, findings):
        degree = f"{int(layer.verifiability)} of 4, not what was expected"
    return LayerView(
        name=name,
        title=title,
        covers=covers,
        level=layer.level,
        degree=int(layer.verifiability),
        degree_words=degree,
        summary=clean(layer.summary),
        endorsers=", then ".join(_all_clean(layer.endorsers)) or "nobody",
        residual=_sentences(layer.residual_trust) or _nobody(layer),
        provider=provider,
        needs_provider=layer.needs_provider,
        freshness=clean(layer.freshness) or "not known",
        evidence=_all_clean(layer.evidence),
        components=tuple(
            Component(clean(part.name), clean(part.digest), clean(part.algorithm), part.status, clean(part.description))
            for part in layer.components
        ),
        caveats=tuple(Caveat(clean(caveat.code), clean(caveat.text), clean(caveat.remedy)) for caveat in layer.caveats),
        findings=tuple(number for number, finding in enumerate(findings, 1) if finding.layer == name),
    )


def differs(layer: Layer | None, name: str, findings: Iterable[Finding]) -> bool:
    """Something in this layer was compared with what it should be, and is not."""
    if layer is not None and any(part.status == "differs" for part in layer.components):
        return True
    return any(finding.layer == name and finding.code.startswith(MISMATCHES) for finding in findings)


def _proof_ends(layers: tuple[LayerView, ...]) -> str:
    for layer in layers:
        # The root of trust has nothing to be compared with but its chain: an authentic link is all there is.
        if layer.degree < (Verifiability.LINK if layer.level == 1 else Verifiability.REFERENCE):
            missing = "verified" if layer.degree < Verifiability.LINK else "compared with a known value"
            return f"First layer that is not {missing}: {layer.title.lower()} ({layer.degree_words})."
    return "Every layer up to the root file system matches a known value."


def _clean_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(Finding(clean(one.code), clean(one.layer), clean(one.expected), clean(one.found), clean(one.remedy)) for one in findings)


def _all_clean(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(clean(text) for text in texts)


def _sentences(texts: Iterable[str]) -> str:
    """The texts as sentences, one after the other."""
    trimmed = [text.strip().rstrip(".") for text in _all_clean(texts)]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in trimmed if text)


def _short_digests(text: str) -> str:
    """Digests cut to a recognisable length, for the first screen; the findings show them whole."""
    return _DIGEST.sub(lambda match: f"{match[0][:16]}…", text)


def _nobody(layer: Layer) -> str:
    if layer.endorsers:
        return "Nobody beyond those who vouch for it."
    return "Nothing is claimed of this layer, so nobody is trusted for it."


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from flatten(member, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and value:
        for index, member in enumerate(value):
            yield from flatten(member, f"{name}[{index}]")
    else:
        words = {True: "true", False: "false", None: "null"}
        yield clean(name), words[value] if value is None or isinstance(value, bool) else clean(str(value))
