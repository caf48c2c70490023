"""Control paragraphs, signed or not; what is none is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evident.errors import Malformed
from evident.image import stanza

DSC = b"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Format: 3.0 (quilt)
Source: tool
Build-Depends: debhelper-compat (= 13),
 libx-dev [amd64],
\tpython3:native
Files:
 00 1 tool.tar.xz
-----BEGIN PGP SIGNATURE-----

iQI=
-----END PGP SIGNATURE-----
"""


def test_reads_a_signed_description() -> None:
    fields = stanza.parse(DSC, "tool.dsc")
    assert fields["build-depends"] == "debhelper-compat (= 13),\nlibx-dev [amd64],\npython3:native"
    assert (fields["source"], fields["files"]) == ("tool", "\n00 1 tool.tar.xz")


@pytest.mark.parametrize("raw", [b"", b"no field", b"A: 1\nA: 2", b" continued", b"A: 1\n\nB: 2", b"\xff: 1"])
def test_refuses_what_is_not_one_paragraph(raw: bytes) -> None:
    with pytest.raises(Malformed, match=r"image\.control"):
        stanza.parse(raw, "tool")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        stanza.parse(raw, "tool")
