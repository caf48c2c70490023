"""The import arrows of the architecture, the core's dependencies, and the budgets of the house."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src" / "evident"
MODULES = sorted(SOURCE.rglob("*.py"))

# A room may import itself and any room of a lower rank. `guest` is outside the order: see GUEST_MAY_IMPORT.
RANK = {
    "errors": -1,
    "codec": 0,
    "files": 0,
    "processes": 1,
    "evidence": 1,
    "endorsements": 2,
    "verification": 3,
    "reference_values": 3,
    "appraisal": 4,
    "identity": 5,
    "simulator": 5,
    "reports": 6,
    "audit": 6,
    "keys": 6,
    "platforms": 7,
    "image": 7,
    "lifecycle": 8,
    "service": 9,
    "cli": 9,
}
SAME_RANK_ARROWS = {("reference_values", "verification"), ("audit", "reports")}
CORE = {"errors", "codec", "evidence", "endorsements", "verification", "reference_values", "appraisal"}
CORE_LIBRARIES = {"cryptography", "cbor2"}
GUEST_MAY_IMPORT = {"errors", "codec", "evidence", "platforms", "guest"}
# One protocol, one module for both its ends.
GUEST_MAY_IMPORT_MODULES = {
    "evident.keys.exchange",
    "evident.keys.messages",
    "evident.keys.secrets",
    "evident.identity.attestation",
    "evident.identity.go_plugin",
    "evident.identity.spiffe_id",
    "evident.identity.workload_api",
}


def room(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            if node.module == "evident":
                names.update(f"evident.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    here = room(path)
    if here in {"__init__", "__main__"}:
        return
    for name in imports(path):
        if not name.startswith("evident."):
            continue
        there = name.split(".")[1]
        if there in {here, "__version__"}:
            continue
        if here == "guest":
            assert there in GUEST_MAY_IMPORT or name in GUEST_MAY_IMPORT_MODULES, f"guest imports {name}"
            continue
        assert there in RANK, f"{path}: unknown room {there}"
        allowed = RANK[there] < RANK[here] or (here, there) in SAME_RANK_ARROWS
        assert allowed, f"{path.relative_to(SOURCE)} imports {name}: the arrow from {here} to {there} points upwards"


@pytest.mark.parametrize("path", [path for path in MODULES if room(path) in CORE], ids=lambda path: str(path.relative_to(SOURCE)))
def test_core_imports_the_two_libraries_only(path: Path) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        assert top == "evident" or top in sys.stdlib_module_names or top in CORE_LIBRARIES, f"{path} imports {name}"


def test_only_the_registry_imports_every_platform() -> None:
    for path in MODULES:
        platforms = {name.split(".")[2] for name in imports(path) if name.startswith("evident.platforms.") and name.count(".") >= 2}
        platforms = {name for name in platforms if (SOURCE / "platforms" / name).is_dir()}  # modules beside the folders belong to all
        here = path.relative_to(SOURCE).parts
        if here[:2] == ("platforms", "registry.py"):
            continue
        own = {here[1]} if here[0] == "platforms" and len(here) > 2 else set()
        assert platforms <= own, f"{path.relative_to(SOURCE)} imports {platforms - own}; ask platforms.registry"


def test_budgets() -> None:
    """Rule 8 of the architecture, and the tail that separates good code bases from bad ones."""
    problems: list[str] = []
    lines = suppressions = 0
    for path in MODULES:
        text = path.read_text()
        count = text.count("\n") + 1
        lines += count
        suppressions += text.count("# type: ignore") + text.count("# noqa")
        name = str(path.relative_to(SOURCE))
        if count > 700:
            problems.append(f"{name}: {count} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 80:
                problems.append(f"{name}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
            if isinstance(node, ast.Global):
                problems.append(f"{name}:{node.lineno}: global")
            if isinstance(node, ast.Assert):
                problems.append(f"{name}:{node.lineno}: assert vanishes under -O; raise instead")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"sys.exit", "os._exit", "exit"} and room(path) != "cli":
                problems.append(f"{name}:{node.lineno}: exit outside cli")
    assert not problems, "\n".join(problems)
    assert suppressions <= max(4, 2 * lines / 1000), f"{suppressions} suppressions in {lines} lines"
