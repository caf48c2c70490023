"""Write docs/codes.md, the table of every code that the source can raise or report; with --check, say whether it is current.

python tools/codes.py [--check]

Read from the source: first arguments of ``SomeError.of``, ``Finding``, ``refusal`` and ``open_point``, and of the helpers that build
codes from parts. A part that only the caller knows is followed to the callers; what stays open is printed as ``…``.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "evident"
PAGE = REPOSITORY / "docs" / "codes.md"
OPEN = "…"
EXITS = {
    "UsageError": "2",
    "NotAuthentic": "10",
    "PolicyRefused": "11",
    "refusal": "11",
    "Indeterminate": "12",
    "CollateralUnavailable": "12",
    "open_point": "12",
    "Unsupported": "20",
    "Malformed": "30",
}
HEAD = """# Codes

Every code that Evident can raise or report, the exit code of a command that ends with it, and where it is decided. Codes are stable;
every finding with one says what was expected, what was found and what to do. `…` stands for a part that depends on the input's format.
Made from the source by `python tools/codes.py`; do not edit. An exit of *as found* is that of the findings it stands beside.

| code | exit | decided in |
|---|---|---|
"""
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One file: its string constants, functions, and calls with the function that they are in."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(SOURCE).as_posix()
        tree = ast.parse(path.read_text())
        self.constants = {
            target.id: value.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(value := node.value, ast.Constant)
            and isinstance(value.value, str)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        self.calls: list[tuple[ast.Call, Function | None]] = []
        self._walk(tree, None)

    def _walk(self, node: ast.AST, inside: Function | None) -> None:
        for child in ast.iter_child_nodes(node):
            here = child if isinstance(child, Function) else inside
            if isinstance(child, ast.Call):
                self.calls.append((child, inside))
            self._walk(child, here)


MODULES = [Module(path) for path in sorted(SOURCE.rglob("*.py"))]


def called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""


def names(call: ast.Call, function: str, module: Module) -> bool:
    """Is it a call of this function, and not of a method that has the same name?"""
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        owner = call.func.value.id
        return call.func.attr == function and owner in {"self", "cls", Path(module.name).stem}
    return called(call) == function and isinstance(call.func, ast.Name)


def kind(call: ast.Call) -> str | None:
    """What a call builds, by the word in ``EXITS``; None when it builds no finding."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "of":
        owner = ast.unparse(call.func.value)
        return owner if owner in EXITS else "kind" if owner in {"kind", "cls"} else None
    name = called(call)
    return name if name in {"refusal", "open_point", "Finding"} else None


def texts(expression: ast.expr, module: Module, inside: Function | None, depth: int = 0) -> set[str]:
    """Every text that `expression` may be; ``…`` for what cannot be told."""
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return {expression.value}
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        return joined([texts(expression.left, module, inside, depth), texts(expression.right, module, inside, depth)])
    if isinstance(expression, ast.IfExp):
        return texts(expression.body, module, inside, depth) | texts(expression.orelse, module, inside, depth)
    if isinstance(expression, ast.JoinedStr):
        parts = [texts(part.value if isinstance(part, ast.FormattedValue) else part, module, inside, depth) for part in expression.values]
        return joined(parts)
    if isinstance(expression, ast.Name) and expression.id in module.constants:
        return {module.constants[expression.id]}
    if isinstance(expression, ast.Name) and inside is not None and depth < 4:
        return from_callers(expression.id, module, inside, depth) or {OPEN}
    return {OPEN}


def joined(parts: list[set[str]]) -> set[str]:
    found = {""}
    for part in parts:
        found = {before + text for before in found for text in part}
    return found


def from_callers(name: str, module: Module, function: Function, depth: int) -> set[str]:
    """The values of parameter `name` of `function` in every call of it."""
    arguments = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    if name not in arguments:
        return set()
    position = arguments.index(name) - (1 if arguments[0] in {"self", "cls"} else 0)
    found: set[str] = set()
    for where in [module] if function.name.startswith("_") else MODULES:
        for call, inside in where.calls:
            if not names(call, function.name, module):
                continue
            given = next((word.value for word in call.keywords if word.arg == name), None)
            if given is None and 0 <= position < len(call.args):
                given = call.args[position]
            if given is not None:
                found |= texts(given, where, inside, depth + 1)
    return found


def codes() -> Iterator[tuple[str, str, str]]:
    """Code, exit and module."""
    for module in MODULES:
        if module.name == "errors.py":
            continue  # the constructors themselves
        for call, inside in module.calls:
            built = kind(call)
            if built is None:
                continue
            first = call.args[0] if call.args else next((word.value for word in call.keywords if word.arg == "code"), None)
            if first is None or isinstance(first, ast.Starred):
                continue
            for text in texts(first, module, inside):
                if text.strip(OPEN + "."):
                    yield text, EXITS.get(built, "as found"), module.name


def page() -> str:
    exits: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    for code, number, place in codes():
        exits[code].add(number)
        places[code].add(place)
    rows = []
    for code in sorted(exits):
        numbers = sorted(exits[code] - {"as found"}, key=int) or ["as found"]
        rows.append(f"| `{code}` | {', '.join(numbers)} | {', '.join(f'`{place}`' for place in sorted(places[code]))} |\n")
    return HEAD + "".join(rows)


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        current = PAGE.is_file() and PAGE.read_text() == text
        sys.stdout.write("" if current else "docs/codes.md is stale: run tools/codes.py\n")
        return 0 if current else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
