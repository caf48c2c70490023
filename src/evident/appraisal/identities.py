"""The names by which machines are told apart: what of verified evidence each is (`Facts.identities`), and what its values look like.

Sources: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT and the VCEK certificate's extensions (57230); Intel TDX module
ABI, TDREPORT, and Intel's PCK certificate profile; TPM 2.0 Library, part 1, section 16 (Names); for the instance: `endorsements.tpm_ca`
and the ``module_id`` of a NitroTPM document.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from evident.errors import Malformed


class Identity(NamedTuple):
    """One name."""

    of: Literal["snp", "tdx", "vtpm"]
    """What says it: the TEE of this technology, or a vTPM's certificate or proof."""
    sizes: tuple[int, ...] = ()
    """Bytes that its hex values may have; empty: text."""
    new: bool = False
    """Every machine that is made has another one, which nobody knows before."""


NAMES: Mapping[str, Identity] = MappingProxyType(
    {
        "chip_id": Identity("snp", (64,)),
        "hwid": Identity("snp", (8, 64)),
        "csp_id": Identity("snp"),
        "endorsement_key": Identity("snp", (32,)),
        "host_data": Identity("snp", (32,)),
        "id_key_digest": Identity("snp", (48,)),
        "author_key_digest": Identity("snp", (48,)),
        "family_id": Identity("snp", (16,)),
        "image_id": Identity("snp", (16,)),
        "report_id": Identity("snp", (32,), new=True),
        "fmspc": Identity("tdx", (6,)),
        "ppid": Identity("tdx", (16,)),
        "pck": Identity("tdx", (32,)),
        "platform_instance_id": Identity("tdx", (16,)),
        "mrconfigid": Identity("tdx", (48,)),
        "mrowner": Identity("tdx", (48,)),
        "mrownerconfig": Identity("tdx", (48,)),
        "ek_name": Identity("vtpm", (34, 50, 66), new=True),
        "zone": Identity("vtpm"),
        "project_id": Identity("vtpm"),
        "project_number": Identity("vtpm"),
        "instance_id": Identity("vtpm", new=True),
        "instance_name": Identity("vtpm", new=True),
        "module_id": Identity("vtpm", new=True),
    }
)

CHIPS = frozenset({"chip_id", "hwid", "ppid"})
"""Those that mean one chip, which a key held by a cloud never proves (AT-61)."""


def check(demanded: Mapping[str, tuple[str, ...]], what: str) -> None:
    """Raise `Malformed` ``<what>.unknown`` (with the nearest known name) or ``<what>.value`` for what no machine could ever show."""
    for name, values in demanded.items():
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
            raise Malformed.of(
                f"{what}.unknown",
                expected="identities among " + ", ".join(NAMES),
                found=repr(name)[:80],
                remedy=f"Did you mean {near[0]!r}?" if near else "Choose one of them.",
            )
        for value in values or ("",):
            _check_value(name, value, what)


def _check_value(name: str, value: str, what: str) -> None:
    sizes = NAMES[name].sizes
    if (_hex_bytes(value) in sizes) if sizes else value.strip():
        return
    raise Malformed.of(
        f"{what}.value",
        expected=f"{name}: " + (f"hex values of {' or '.join(map(str, sizes))} bytes, not all zeros" if sizes else "text"),
        found=repr(value)[:80] if value else "none",
        remedy="Take the value from the machine's own evidence: `evident attest NAME -o json`, or `evident show`.",
    )


def _hex_bytes(value: str) -> int:
    """How many bytes the hex text `value` is; 0 for anything else, and for zeros, which identify nobody."""
    try:
        return len(bytes.fromhex(value)) if value.isalnum() and value.strip("0") else 0
    except ValueError:
        return 0
