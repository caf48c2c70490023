"""The first screen: may I use it, what is proven, whom do I still trust, what should I do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evident.appraisal.degrees import LEVEL_LAYERS, Levels, Verifiability
from evident.appraisal.statement import Layer
from evident.errors import Finding

_PROVEN = (
    "Nothing.",
    "Genuine confidential hardware keeps its memory from the host and from other tenants.",
    "Genuine hardware started this firmware.",
    "Genuine hardware started this firmware, boot loader and kernel.",
    "Genuine hardware started this firmware and kernel, on this root file system.",
)


def headline(decision: str, levels: Levels, layers: Sequence[Layer], findings: Sequence[Finding], *, simulated: bool) -> Mapping[str, str]:
    """Keys ``use``, ``proven``, ``trust``, ``todo``; whole sentences, no symbols."""
    mark = "SIMULATED, no hardware involved. " if simulated else ""
    return {
        "use": mark + _use(decision, findings, simulated=simulated),
        "proven": mark + _proven(levels, layers, simulated=simulated),
        "trust": _trust(levels, layers),
        "todo": _todo(findings, layers, levels, simulated=simulated),
    }


def _use(decision: str, findings: Sequence[Finding], *, simulated: bool) -> str:
    if decision == "accepted":
        if simulated:
            return "For trials only: everything that the policy demands holds, of a simulator."
        return "Yes: everything that the policy demands is proven."
    first = findings[0]
    if decision == "refused":
        return f"No: {first.layer.replace('_', ' ')}: expected {first.expected}, found {first.found}."
    return f"Not yet: it cannot be decided. Missing: {first.expected}."


def _proven(levels: Levels, layers: Sequence[Layer], *, simulated: bool) -> str:
    what = _PROVEN[levels.nominal]
    text = f"Level {levels.nominal} of 4. {what.replace('Genuine', 'Simulated', 1) if simulated else what}"
    unnamed = [
        layer.name.replace("_", " ")
        for layer in layers
        if layer.level in range(2, levels.nominal + 1) and layer.verifiability == Verifiability.LINK
    ]
    if unnamed:
        text += f" Known by digest only, and compared with nothing: {', '.join(unnamed)}."
    if levels.trustworthy < levels.nominal:
        text += f" Of this, level {levels.trustworthy} holds without the provider's word."
    if levels.nominal < len(LEVEL_LAYERS):
        first = LEVEL_LAYERS[levels.nominal]
        summary = next(layer.summary for layer in layers if layer.name == first)
        text += f" The first layer not proven is the {first.replace('_', ' ')}: {summary}"
    return text


def _trust(levels: Levels, layers: Sequence[Layer]) -> str:
    counted = [layer for layer in layers if layer.level is not None and layer.level <= max(levels.nominal, 1)]
    sentences = dict.fromkeys(sentence for layer in counted for sentence in layer.residual_trust)
    return " ".join(sentences) or "Nobody can be named, because nothing is proven."


def _todo(findings: Sequence[Finding], layers: Sequence[Layer], levels: Levels, *, simulated: bool) -> str:
    if findings:
        return " ".join(dict.fromkeys(finding.remedy for finding in findings))
    if simulated:
        return "Nothing for this trial. For real work, choose hardware: `evident explain` says what each platform can prove."
    caveats = [caveat for layer in layers for caveat in layer.caveats if layer.level is not None and layer.level == levels.nominal + 1]
    if caveats:
        return "Nothing is required. To prove more: " + caveats[0].remedy
    return "Nothing is required. Attest again when the machine restarts, and regularly while it runs."
