"""Replaying a bundle: the whole decision made again, offline, and held against what was recorded.

1. The envelope is canonical, and its one signature is that of a verifier the reader trusts.
2. The content is complete, canonical and consistent with itself (digests of pieces and endorsements).
3. Verification and appraisal run anew over the recorded evidence, endorsements (failed fetches included), reference values,
   policy, profile and clock, under the *reader's* trust anchors. No network exists here: the only fetcher is the record.
4. The outcome equals the recorded one: byte for byte under the very code of Evident that made it; under other code, whose
   wording may differ, in everything that decides (`_essence`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from evident.appraisal.policy import Policy
from evident.audit import canonical
from evident.audit.build import THIS_TOOL
from evident.audit.bundle import Bundle, open_bundle
from evident.audit.case import decide
from evident.audit.keys import VerifyingKey
from evident.endorsements.anchors import AnchorSet
from evident.endorsements.fetcher import StaticFetcher
from evident.errors import EvidentError, Finding, NotAuthentic
from evident.reports.json_report import Outcome, document


@dataclass(frozen=True, slots=True)
class Replay:
    """A bundle that held."""

    bundle: Bundle
    outcome: Outcome
    """The decision as it was made again; an error where there was none to appraise."""
    same_code: bool
    """False: made by other code of Evident, compared in everything that decides but not in wording."""


def replay(data: bytes, *, trusted: Iterable[VerifyingKey], anchors: AnchorSet) -> Replay:
    """Replay the bundle `data` under the reader's own trust.

    Raises `Malformed` or `Unsupported` (not a bundle), `NotAuthentic`: ``bundle.signer-untrusted``, ``bundle.signature``,
    ``bundle.replay-differs``.
    """
    bundle = open_bundle(data, trusted)
    outcome = decide(bundle.case, anchors=anchors, fetcher=StaticFetcher(bundle.fetched, bundle.failed))
    same_code = bundle.tool == THIS_TOOL
    view = _whole if same_code else _essence
    recorded, again = view(bundle.result), view(document(outcome))
    if canonical.dumps(recorded) != canonical.dumps(again):
        raise _differs(recorded, again, outcome)
    return Replay(bundle, outcome, same_code)


def reappraise(held: Replay, policy: Policy, *, anchors: AnchorSet) -> Outcome:
    """Appraise the evidence of a bundle that held under another `policy`; time and endorsements stay the recorded ones."""
    bundle = held.bundle
    return decide(replace(bundle.case, policy=policy), anchors=anchors, fetcher=StaticFetcher(bundle.fetched, bundle.failed))


def _whole(result: Mapping[str, Any]) -> Mapping[str, Any]:
    return result


def _essence(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a result decides, leaving out every sentence."""
    kept = {name: result.get(name) for name in ("decision", "code", "authentic", "revocation", "levels", "simulated", "claims")}
    kept["layers"] = [_pick(layer, "name", "verifiability", "needs_provider") for layer in result.get("layers", ())]
    kept["findings"] = [_pick(finding, "code", "layer") for finding in result.get("findings", ())]
    return kept


def _pick(item: Any, *names: str) -> list[Any]:
    return [item.get(name) for name in names] if isinstance(item, Mapping) else [item]


def _differs(recorded: Any, again: Any, outcome: Outcome) -> NotAuthentic:
    path, was, now = _first_difference(recorded, again, "")
    finding = Finding(
        "bundle.replay-differs",
        "input",
        f"the recorded result, {path} = {_short(was)}",
        f"{path} = {_short(now)} when the decision is made again",
        "Do not rely on the recorded result. Either it was never the outcome of this evidence, or you trust other roots than its verifier.",
    )
    return NotAuthentic(finding, *(outcome.findings if isinstance(outcome, EvidentError) else ()))


def _first_difference(one: Any, other: Any, path: str) -> tuple[str, Any, Any]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted(one.keys() | other.keys(), key=lambda key: (key != "decision", key != "code", key)):
            if key not in one or key not in other or canonical.dumps(one[key]) != canonical.dumps(other[key]):
                return _first_difference(one.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            if canonical.dumps(left) != canonical.dumps(right):
                return _first_difference(left, right, f"{path}[{index}]")
    return path, one, other


def _short(value: Any) -> str:
    text = canonical.dumps(value).decode()
    return text if len(text) <= 120 else text[:117] + "..."
