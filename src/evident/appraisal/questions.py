"""The five questions of "Why do you trust your CVM?" (V. Kuznetsov, FOSDEM 2025), answered from the layers.

An answer is *yes* only with evidence, *no* only when something was found wrong, and *unknown* otherwise; unknown never reads as a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from evident.appraisal.degrees import Verifiability
from evident.appraisal.layers import Ground
from evident.appraisal.statement import Answer, Layer

QUESTIONS = (
    "It is a genuine CVM on the right hardware, not an emulation",
    "The initial state is trustworthy",
    "All boot-chain artifacts are trustworthy (bootloader(s), kernel, initramfs, ...)",
    "The storage was not tampered with",
    "No untrusted data was injected by provisioning agents",
)

Verdict = Literal["yes", "no", "unknown"]


def answers(grounds: Mapping[str, Ground], layers: Sequence[Layer], *, simulated: bool, fresh: bool) -> tuple[Answer, ...]:
    """The five answers, in the order of `QUESTIONS`."""
    named = {layer.name: layer for layer in layers}
    root = _hardware(grounds["root_of_trust"], simulated=simulated, fresh=fresh)
    verdicts = [
        root,
        _compared(grounds["firmware"], named["firmware"]),
        _compared(grounds["boot_chain"], named["boot_chain"]),
        _compared(grounds["root_filesystem"], named["root_filesystem"]),
        _provisioning(named["provisioning"]),
    ]
    sources = ("root_of_trust", "firmware", "boot_chain", "root_filesystem", "provisioning")
    return tuple(
        Answer(question, verdict, because, named[source].evidence, named[source].residual_trust)
        for question, (verdict, because), source in zip(QUESTIONS, verdicts, sources, strict=True)
    )


def _hardware(ground: Ground, *, simulated: bool, fresh: bool) -> tuple[Verdict, str]:
    if simulated:
        return "no", "the evidence is a simulator's: it is an emulation, and says so"
    if ground.state == "broken":
        return "no", "the policy does not take this for a genuine, up-to-date TEE; see the findings"
    if ground.degree < Verifiability.LINK:
        return "no", "no trusted execution environment has signed anything"
    if not fresh:
        return "unknown", "the report is genuine, but does not answer a challenge of yours: it could be old"
    return "yes", "a report signed under the vendor's root answers your challenge"


def _compared(ground: Ground, layer: Layer) -> tuple[Verdict, str]:
    if ground.state == "mismatch":
        return "no", "what was measured differs from what was expected; see the findings"
    if ground.degree > layer.verifiability:
        return "unknown", "its own measurements match, but a layer below it does not hold"
    if layer.verifiability >= Verifiability.REFERENCE:
        caveat = ", with the provider's word" if layer.needs_provider else ", without the provider's word"
        return "yes", layer.verifiability.words + caveat
    if layer.verifiability == Verifiability.LINK:
        return "unknown", "it was measured, but nobody has compared the measurement with anything"
    return "unknown", "nothing in this evidence measures it"


def _provisioning(layer: Layer) -> tuple[Verdict, str]:
    if layer.verifiability >= Verifiability.REFERENCE:
        return "unknown", "your launch configuration is bound into the report; what agents did later is not measured"
    return "unknown", "no evidence covers metadata, agents or the host's tables"
