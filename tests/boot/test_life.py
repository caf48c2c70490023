"""The life that ``tests/contract/lifecycle`` lives in three clouds, lived on this host: the very same test, with real boots."""

from __future__ import annotations

import pytest
from tests.contract.lifecycle import test_life

pytestmark = pytest.mark.life
test_a_whole_life = test_life.test_a_whole_life
