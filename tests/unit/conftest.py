"""A real store of keys, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.keys import real_vault as real


@pytest.fixture(scope="session")
def real_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real.RealVault]:
    server = real.start(tmp_path_factory.mktemp("vault"))
    try:
        yield server
    finally:
        server.end()
