"""Launch digest of a 2 MiB firmware: against sev-snp-measure, and against the page-hash chain alone (aim: at most 1.1 x the chain).

    python benchmarks/launch_digest.py [rounds]

The firmware is random pages before the tables of the vectors' AmdSev build, so that all three do the same hashing.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
import tempfile
from pathlib import Path

from sevsnpmeasure.guest import calc_launch_digest
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS

from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.snp_launch import FOUR_GIB, SnpLaunch, predict
from ratio import compare

SIZE = 2 * 1024 * 1024
VECTORS = Path(os.environ.get("EVIDENT_VECTORS", Path(__file__).resolve().parents[2] / "shared" / "vectors"))
VCPUS = 4


def chain(firmware: bytes) -> bytes:
    """The irreducible work: two SHA-384 per page, over page and PAGE_INFO."""
    digest, base, tail = bytes(48), FOUR_GIB - len(firmware), struct.Struct("<HB5xQ").pack
    for offset in range(0, len(firmware), 4096):
        page = hashlib.sha384(firmware[offset : offset + 4096]).digest()
        digest = hashlib.sha384(digest + page + tail(0x70, 1, base + offset)).digest()
    return digest


def main() -> None:
    suffix = (VECTORS / "launch/sev-snp-measure-ovmf/ovmf_AmdSev_suffix.bin").read_bytes()
    firmware = random.Random(1).randbytes(SIZE - len(suffix)) + suffix
    kernel, initrd, line = b"kernel" * 1000, b"initrd" * 1000, "console=ttyS0"
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder) / name) for name in ("firmware", "kernel", "initrd")}
        for name, data in (("firmware", firmware), ("kernel", kernel), ("initrd", initrd)):
            Path(paths[name]).write_bytes(data)
        launch = SnpLaunch(firmware, VCPUS, CPU_SIGS["EPYC-v4"], hashes=KernelHashes.of(kernel, initrd, line))

        def peer() -> bytes:
            digest: bytes = calc_launch_digest(
                SevMode.SEV_SNP, VCPUS, CPU_SIGS["EPYC-v4"], paths["firmware"], paths["kernel"], paths["initrd"], line, 0x1
            )
            return digest

        assert predict(launch) == peer(), "the two disagree"
        rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
        compare(
            {"page-hash chain": lambda: chain(firmware), "evident": lambda: predict(launch), "sev-snp-measure": peer},
            "page-hash chain",
            rounds=rounds,
        )


if __name__ == "__main__":
    main()
