"""Code with one statement gone, in process: what AT-68 is shown with. Which statements, and what is left of each, the caller says."""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Rest = Callable[[ast.stmt], ast.stmt | None]
"""What is left of a statement that is taken out; None for one that stays."""
Guarded = tuple[tuple[types.ModuleType, frozenset[str] | None], ...]
"""Modules, and the functions in them that count (None: all)."""


@dataclass(frozen=True)
class Mutant:
    name: str
    """Module, function and line."""
    removed: str
    """The statement."""
    function: types.FunctionType
    code: types.CodeType

    @contextmanager
    def in_force(self) -> Iterator[None]:
        original = self.function.__code__
        self.function.__code__ = self.code
        try:
            yield
        finally:
            self.function.__code__ = original


def mutants(guarded: Guarded, rest: Rest) -> Iterator[Mutant]:
    """Every function of `guarded` with one statement replaced by its `rest`, one at a time."""
    for module, only in guarded:
        source = Path(str(module.__file__)).read_text()
        for position, function in enumerate(ast.parse(source).body):
            if not isinstance(function, ast.FunctionDef) or (only is not None and function.name not in only):
                continue
            original: types.FunctionType = getattr(module, function.name)
            for index, statement in enumerate(_statements(function)):
                if rest(statement) is None:
                    continue
                tree = ast.parse(source)
                changed = tree.body[position]
                _replace(changed, _statements(changed)[index], rest)
                compiled = compile(ast.fix_missing_locations(tree), str(module.__file__), "exec")
                code = next(part for part in compiled.co_consts if isinstance(part, types.CodeType) and part.co_name == function.name)
                if code.co_freevars == original.__code__.co_freevars:
                    yield Mutant(f"{module.__name__}.{function.name}:{statement.lineno}", ast.unparse(statement), original, code)


def _statements(function: ast.stmt) -> list[ast.stmt]:
    return [node for node in ast.walk(function) if isinstance(node, ast.stmt)]


def _replace(function: ast.stmt, target: ast.stmt, rest: Rest) -> None:
    for node in ast.walk(function):
        for _, block in ast.iter_fields(node):
            if isinstance(block, list) and target in block:
                block[block.index(target)] = rest(target)
                return
    raise AssertionError("the statement is in no block")
