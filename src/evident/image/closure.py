"""Run by the locked Python of the toolbox, never imported: which modules a program reaches, and their byte code.

Reads ``{"roots": [module], "packages": [whole package], "path": [folder], "exclude": [module]}`` from standard input and writes
``{"modules": [{"name", "file", "package"}]}``; with ``"compile": [[file, name inside the image]]`` it writes ``{"code": [hex]}`` instead.
The byte code carries the hash of its source and is not checked against it (PEP 552, unchecked-hash): the image is read-only.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import modulefinder
import pkgutil
import sys
from pathlib import Path
from typing import Any


def closure(asked: dict[str, Any]) -> list[dict[str, Any]]:
    finder = modulefinder.ModuleFinder(path=asked["path"], excludes=asked["exclude"])
    names = list(asked["roots"])
    for package in asked["packages"]:
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec else []
        names += [package, *(item.name for item in pkgutil.walk_packages(places, package + ".", onerror=lambda _: None))]
    for name in names:
        finder.import_hook(name, None, ["*"]) if name in asked["packages"] else finder.import_hook(name)
    found = []
    for name, module in sorted(finder.modules.items()):
        file, places = vars(module)["__file__"], vars(module)["__path__"]
        if file:
            found.append({"name": name, "file": file, "package": bool(places)})
    return found


def compiled(file: str, name: str) -> str:
    source = Path(file).read_bytes()
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    digest = importlib.util.source_hash(source)
    return (importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + digest + marshal.dumps(code)).hex()


def main() -> None:
    asked = json.load(sys.stdin)
    sys.path[:0] = [folder for folder in asked.get("path", ()) if folder not in sys.path]
    if "compile" in asked:
        answer: dict[str, Any] = {"code": [compiled(file, name) for file, name in asked["compile"]]}
    else:
        answer = {"modules": closure(asked)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
