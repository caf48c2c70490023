"""No parser without a harness."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src" / "evident"
PARSER = re.compile(r"(parse|load|decode|from_|read|names)[a-z0-9_]*")
CALLED_BY_OTHERS = {"endorsements/signatures.py": "endorsements/x509.py", "evidence/uki.py": "reference_values/uki.py"}
"""Parsers of parts, reached through the harness of another module."""


def parsers() -> list[str]:
    """Modules of evidence and endorsements with a public function that reads bytes."""
    found = []
    for room in ("evidence", "endorsements"):
        for path in sorted((SOURCE / room).rglob("*.py")):
            functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
            if any(
                PARSER.fullmatch(function.name) and "bytes" in " ".join(ast.unparse(arg) for arg in function.args.args)
                for function in functions
            ):
                found.append(path.relative_to(SOURCE).as_posix())
    return found


def fuzzed() -> set[str]:
    """Modules that a harness imports."""
    modules = set()
    for path in HERE.glob("test_fuzz_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                modules |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {module.removeprefix("evident.").replace(".", "/") + ".py" for module in modules}


@pytest.mark.parametrize("module", parsers())
def test_every_parser_has_a_harness(module: str) -> None:
    assert CALLED_BY_OTHERS.get(module, module) in fuzzed(), f"{module} reads bytes and no harness in tests/fuzz imports it"


def test_there_are_parsers_to_find() -> None:
    assert {"evidence/snp_report.py", "evidence/importers/pcr_values.py", "endorsements/x509.py"} <= set(parsers())
