"""AT-55, AT-64: bytes that a careless parser takes for an SNP report. Each is signed by a (simulated) genuine chip.

Every forgery is verified twice: by the code as it is, and by the same code with exactly one of its refusals taken out.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from evident.errors import EvidentError
from evident.evidence import snp_report
from evident.simulator.id_block import signature_field
from evident.simulator.pki import SimulatorPki
from evident.simulator.scenario import Scenario, good
from evident.simulator.secure_processor import Chip
from evident.verification import snp

NONCE = bytes(range(32))


@dataclass(frozen=True)
class Forgery:
    at: str
    name: str
    make: Callable[[bytes, Callable[[bytes], bytes]], bytes]
    """From a good report and the chip's signature over a changed one."""
    code: str
    function: types.FunctionType
    """Where the refusal is; the statement whose text has `marker` is taken out."""
    marker: str


def put(report: bytes, offset: int, value: bytes) -> bytes:
    return report[:offset] + value + report[offset + len(value) :]


def function(value: object) -> types.FunctionType:
    assert isinstance(value, types.FunctionType)
    return value


PARSE = function(snp_report.parse)
FORGERIES = (
    Forgery(
        "AT-55",
        "A report of a version before SNP's.",
        lambda r, s: s(put(put(r, 0, b"\1"), 0x188, bytes(3))),
        "snp.report.version",
        PARSE,
        "WHAT + '.version'",
    ),
    Forgery("AT-64", "An unknown version.", lambda r, s: s(put(r, 0, b"\x09")), "snp.report.version", PARSE, "WHAT + '.version'"),
    Forgery("AT-64", "A reserved byte.", lambda r, s: s(put(r, 0x4C, b"\1")), "snp.report.reserved", PARSE, "76: zeros_4c"),
    Forgery(
        "AT-64",
        "An unknown policy bit.",
        lambda r, s: s(put(r, 0x0B, b"\4")),
        "snp.report.reserved",
        function(snp_report._check_policy),
        "_known_bits",
    ),
    Forgery("AT-64", "A level that does not exist.", lambda r, s: s(put(r, 0x30, b"\4")), "snp.report.vmpl", PARSE, "'.vmpl'"),
    Forgery("AT-64", "One byte behind the report.", lambda r, _: r + b"\0", "snp.report.length", PARSE, "exact_length"),
)


@contextmanager
def without(function: types.FunctionType, marker: str) -> Iterator[None]:
    """`function` with its one innermost statement that has `marker` in it replaced by nothing."""
    path = Path(function.__code__.co_filename)
    tree = ast.parse(path.read_text())
    target = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function.__name__)
    holders = [(node, block) for node in ast.walk(target) for block in ("body", "orelse") if isinstance(getattr(node, block, None), list)]
    found = [
        (getattr(node, block), statement)
        for node, block in holders
        for statement in getattr(node, block)
        if isinstance(statement, ast.Raise | ast.Expr)
        and marker in ast.unparse(statement)
        and not isinstance(statement.value if isinstance(statement, ast.Expr) else None, ast.Constant)
    ]
    assert len(found) == 1, f"{marker} is {len(found)} times in {function.__name__}"
    block, statement = found[0]
    block[block.index(statement)] = ast.Pass()
    compiled = compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)
    original = function.__code__
    function.__code__ = next(part for part in compiled.co_consts if isinstance(part, types.CodeType) and part.co_name == function.__name__)
    try:
        yield
    finally:
        function.__code__ = original


@pytest.fixture(scope="module")
def honest(simulator_pki: SimulatorPki) -> Scenario:
    return good(simulator_pki)


def forged(honest: Scenario, forgery: Forgery) -> Any:
    chip = Chip()
    key = honest.pki.vcek_key(chip.product, chip.hwid, chip.tcb("reported"))

    def signed(report: bytes) -> bytes:
        body = report[:0x2A0]
        return body + signature_field(key.sign(body, ec.ECDSA(hashes.SHA384())))

    evidence = honest.collect(NONCE)
    return {**evidence, "report": (forgery.make(evidence["report"][0], signed),)}


@pytest.mark.parametrize("forgery", [pytest.param(f, marks=pytest.mark.attack(f.at, f.name, f.code), id=f.name) for f in FORGERIES])
def test_each_refusal_alone_stops_it(honest: Scenario, forgery: Forgery, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, context = forged(honest, forgery), honest.context(NONCE)
    with pytest.raises(EvidentError) as refusal:
        snp.verify(evidence, context)
    assert refusal.value.code == forgery.code
    if forgery.code == "snp.report.length":  # the layout would notice too: the careless reader cuts off what is too long
        monkeypatch.setattr(snp_report, "_LAYOUT", Cutting(snp_report._LAYOUT))
    with without(forgery.function, forgery.marker):
        assert snp.verify(evidence, context).revocation == "good"


class Cutting:
    """A struct that takes as much as it needs."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def unpack(self, raw: bytes) -> Any:
        return self.inner.unpack(raw[: self.inner.size])
