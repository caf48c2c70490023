"""What the simulator and the lifecycle read: on any bytes only errors of the one tree come out, and the service answers any path.

A longer run: ``EVIDENT_FUZZ_EXAMPLES=200000 pytest tests/fuzz/test_fuzz_simulator.py``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from evident.errors import EvidentError, Malformed, NotAuthentic, Unsupported
from evident.lifecycle.journal import Journal
from evident.simulator.id_block import AUTH_BYTES, BLOCK_BYTES, IdAuth, IdBlock
from evident.simulator.kds import SimulatedKds
from evident.simulator.pki import SimulatorPki
from evident.verification.snp import _stated_launch

KEY = ec.derive_private_key(77, ec.SECP384R1())
BLOCK = IdBlock(bytes(48), 0x30000)
AUTH = IdAuth.sign(BLOCK, KEY, KEY).serialize()


@given(raw=st.binary(max_size=200) | st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES))
def test_id_block(raw: bytes) -> None:
    with contextlib.suppress(Malformed, Unsupported):
        assert IdBlock.parse(raw).serialize() == raw


@given(at=st.integers(0, AUTH_BYTES - 1), flip=st.integers(1, 255))
def test_id_auth_changed_in_one_byte_authenticates_nothing(at: int, flip: int) -> None:
    raw = AUTH[:at] + bytes((AUTH[at] ^ flip,)) + AUTH[at + 1 :]
    with contextlib.suppress(Malformed, Unsupported, NotAuthentic):
        auth = IdAuth.parse(raw)
        assert auth.serialize() == raw
        auth.check(BLOCK)
        # Only what no signature covers may change unnoticed: the unused upper bytes of keys and signatures are covered or zero.
        assert auth.author_algorithm == 0 or raw[0x040:0x0D0] == AUTH[0x040:0x0D0]


@given(raw=st.binary(max_size=300))
def test_journal(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(raw)
    with contextlib.suppress(EvidentError):
        Journal(path).events()


@given(raw=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_stated_launch(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        _stated_launch(raw)


PARTS = st.sampled_from(
    ["", "vcek", "vlek", "v1", "Milan", "Turin", "crl", "cert_chain", "00" * 64, "00" * 8, "?blSPL=1", "&teeSPL=%00", "..", "//", "[", "ä"]
)


@example(target="//[")
@given(target=st.lists(PARTS, max_size=6).map("/".join) | st.text(max_size=60))
def test_key_distribution_service(simulator_pki: SimulatorPki, target: str) -> None:
    response = SimulatedKds(simulator_pki, clock=lambda: simulator_pki.made_at).respond(target)
    assert response.status in (200, 404)
