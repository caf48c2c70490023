"""One folder per platform: launch, collector, profile. `registry` alone imports them all."""

from __future__ import annotations

import importlib.util
import pkgutil


def names(module: str) -> list[str]:
    """The platforms whose folder has `module`, without importing any of them."""
    folders = sorted(folder.name for folder in pkgutil.iter_modules(__path__) if folder.ispkg)
    return [name for name in folders if importlib.util.find_spec(f"{__name__}.{name}.{module}")]
