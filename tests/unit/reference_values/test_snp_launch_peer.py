"""sev-snp-measure on random launches: firmware of random pages before a real table, any kernel, command line, vCPUs and VMM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evident.errors import UsageError
from evident.reference_values import vmsa
from evident.reference_values.kernel_hashes import KernelHashes
from evident.reference_values.snp_launch import SnpLaunch, Svsm, predict

OVMF_CASES, SVSM_CASES = "launch/sev-snp-measure-ovmf", "launch/sev-snp-measure-svsm"

peer = pytest.importorskip("sevsnpmeasure.guest", reason="sev-snp-measure is not installed")


def digest_of_peer(folder: Path, launch: SnpLaunch, inputs: tuple[bytes, bytes, str] | None) -> bytes:
    from sevsnpmeasure.sev_mode import SevMode
    from sevsnpmeasure.vmm_types import VMMType

    files = {"firmware": launch.firmware, "kernel": inputs[0] if inputs else b"", "initrd": inputs[1] if inputs else b""}
    if launch.svsm:
        files["svsm"] = launch.svsm.image
    paths = {}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        paths[name] = str(folder / name)
    digest: bytes = peer.calc_launch_digest(
        mode=SevMode.SEV_SNP_SVSM if launch.svsm else SevMode.SEV_SNP,
        vcpus=launch.vcpus,
        vcpu_sig=launch.vcpu_signature,
        ovmf_file=paths["firmware"],
        kernel=paths["kernel"] if inputs else "",
        initrd=paths["initrd"] if inputs and inputs[1] else "",
        append=inputs[2] if inputs else "",
        guest_features=launch.guest_features,
        vmm_type={"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}[launch.vmm],
        svsm_file=paths.get("svsm", ""),
        ovmf_vars_size=launch.svsm.variable_store_bytes if launch.svsm else 0,
    )
    return digest


@settings(max_examples=100)
@given(data=st.data())
def test_random_launches(vectors: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    suffix = vectors.read(OVMF_CASES, data.draw(st.sampled_from(("ovmf_AmdSev_suffix.bin", "ovmf_OvmfX64_suffix.bin"))))
    pages = data.draw(st.lists(st.binary(min_size=1, max_size=16), max_size=6))
    firmware = b"".join(page.ljust(4096, page[:1]) for page in pages) + suffix
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
    inputs = data.draw(st.none() | st.tuples(st.binary(max_size=64), st.binary(max_size=64), text))
    launch = SnpLaunch(
        firmware,
        vcpus=data.draw(st.integers(1, 40)),
        vcpu_signature=data.draw(st.sampled_from(sorted(set(vmsa.VCPU_TYPES.values())))),
        guest_features=data.draw(st.sampled_from((0x1, 0x21, 0x201, 0xFFFF))),
        vmm=data.draw(st.sampled_from(("qemu", "ec2", "gce"))),
        hashes=KernelHashes.of(*inputs) if inputs else None,
    )
    try:
        expected = digest_of_peer(folder, launch, inputs)
    except RuntimeError:  # the peer's refusal of a kernel without a table
        with pytest.raises(UsageError):
            predict(launch)
        return
    assert predict(launch) == expected


def test_svsm(vectors: Any, tmp_path: Path) -> None:
    firmware, image = vectors.read(SVSM_CASES, "svsm_ovmf.fd"), vectors.read(SVSM_CASES, "svsm.bin")
    for vcpus, store in ((1, 0), (3, 540672)):
        launch = SnpLaunch(firmware, vcpus, vmsa.VCPU_TYPES["EPYC-Milan"], svsm=Svsm(image, store))
        assert predict(launch) == digest_of_peer(tmp_path, launch, None)


def test_vcpu_types() -> None:
    from sevsnpmeasure.vcpu_types import CPU_SIGS

    assert {name: vmsa.VCPU_TYPES[name] for name in CPU_SIGS} == CPU_SIGS
