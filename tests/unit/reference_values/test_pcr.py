"""Predicted PCRs: equal to systemd-measure and to real logs, and the files they are kept in."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.conftest import Vectors
from tests.unit.evidence.test_disk import a_disk, a_fat12
from tests.unit.evidence.test_pe import a_pe
from tests.unit.evidence.test_uki import a_uki
from tests.unit.verification.test_log import raw_log

from evident.errors import Malformed, Unsupported
from evident.evidence import efi, pe, tcg_events, tcg_log, uki
from evident.evidence.pcr import extend
from evident.reference_values import documents
from evident.reference_values.model import Strength
from evident.reference_values.pcr import (
    Measurement,
    Prediction,
    SecureBootVariables,
    from_pcrlock,
    references,
    secure_boot_policy,
    to_pcrlock,
    values,
)
from evident.reference_values.uki import (
    PHASES,
    _initrd,
    phase_measurements,
    predict_direct,
    predict_disk,
    predict_uki,
    section_measurements,
)
from evident.verification.log import replay

MEASURE = Path("/usr/lib/systemd/systemd-measure")
ROOT_HASH = "ab" * 32
LOADER = a_pe({".sdmagic": b"#### LoaderInfo: systemd-boot 255 ####", ".text": b"loader"})


@pytest.mark.parametrize("phases", [(), ("enter-initrd",), ("enter-initrd", "leave-initrd", "sysinit", "ready"), PHASES])
def test_pcr_11_equals_systemd_measure(tmp_path: Path, phases: tuple[str, ...]) -> None:
    if not MEASURE.exists():
        pytest.skip(f"no {MEASURE} (Debian: systemd)")
    contents = {"linux": a_pe({".text": b"k"}), "osrel": b"ID=x\n", "cmdline": b"quiet", "initrd": b"i" * 999, "pcrpkey": b"key"}
    options = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        options.append(f"--{name}={tmp_path / name}")
    banks = ("sha1", "sha256", "sha384", "sha512")
    words = [f"--phase={':'.join(phases)}", *(f"--bank={bank}" for bank in banks), "--json=short"]
    out = subprocess.run([str(MEASURE), "calculate", *options, *words], check=True, capture_output=True).stdout
    theirs = {bank: json.loads(out)[bank][0]["hash"] for bank in banks}
    sections = [(f".{name}", contents[name]) for name in ("linux", "osrel", "cmdline", "initrd", "pcrpkey")]
    ours = [*section_measurements(sections, banks), *phase_measurements(phases, banks)]
    assert {bank: values(ours, bank)[11].hex() for bank in banks} == theirs


FIRMWARES = ("go-tpm-tools-rhel8-uefi", "go-tpm-tools-ubuntu-1804-amd-sev", "go-attestation-coreos36", "dstack-gcp-tpm-log")


@pytest.mark.parametrize("case", FIRMWARES)
def test_pcr_7_equals_real_logs(vectors: Vectors, case: str) -> None:
    replayed = replay(tcg_log.parse(raw_log(vectors, f"eventlog/{case}")))
    used = [
        item.decoded.data[16:]
        for item in replayed.events
        if isinstance(item.decoded, efi.Variable) and item.event.type == tcg_events.EV_EFI_VARIABLE_AUTHORITY and item.decoded.name == "db"
    ]
    configured = [item.decoded for item in replayed.events if item.event.type == tcg_events.EV_EFI_VARIABLE_DRIVER_CONFIG]
    contents = {item.name.lower(): item.data for item in configured if isinstance(item, efi.Variable)}
    enabled = contents.pop("secureboot") == b"\x01"
    state = SecureBootVariables(enabled, authorities=tuple(used), **contents)
    predicted = values(secure_boot_policy(state, ("sha256",)), "sha256")[7]
    # What shim adds behind the firmware (its own certificate, SbatLevel) is not part of the firmware's policy.
    for item in replayed.events:
        if item.register == "pcr7" and isinstance(item.decoded, efi.Variable) and item.decoded.vendor == efi.SHIM_LOCK:
            predicted = extend("sha256", predicted, item.event.digests["sha256"])
    assert predicted == replayed.registers["sha256"][7]


def test_an_authority_that_db_does_not_hold_is_refused() -> None:
    with pytest.raises(Malformed) as caught:
        secure_boot_policy(SecureBootVariables(enabled=True, authorities=(b"cert",)), ("sha256",))
    assert caught.value.code == "pcr7.authority"


def test_pcr_4_is_boot_attempt_separator_image_and_inner_kernel() -> None:
    raw = a_uki(255, cmdline=b"quiet")
    digests = [hashlib.sha256(b"Calling EFI Application from Boot Option").digest(), hashlib.sha256(bytes(4)).digest()]
    digests += [pe.authenticode(pe.parse(image), "sha256") for image in (raw, a_pe({".text": b"kernel"}))]
    for version, count in ((257, 4), (258, 3)):
        value = bytes(32)
        for digest in digests[:count]:
            value = extend("sha256", value, digest)
        assert predict_uki(raw, stub_version=version).values("sha256")[4] == value
    under_secure_boot = predict_uki(raw, stub_version=257, secure_boot=True)
    assert under_secure_boot.values("sha256")[4] == value
    assert "Secure Boot on" in under_secure_boot.assumptions


def test_an_edited_command_line_changes_pcr_4_9_and_11_and_no_other() -> None:
    before, after = (predict_uki(a_uki(cmdline=text, initrd=b"i")).values("sha256") for text in (b"ro quiet", b"rw quiet"))
    assert {index for index in before if before[index] != after[index]} == {4, 9, 11}
    assert before[12] == bytes(32)


def test_newer_stubs_trim_the_command_line_and_put_microcode_first() -> None:
    raw = a_uki(256, cmdline=b" quiet\n", ucode=b"u", initrd=b"i")
    measured = {item.stage: item.digests["sha256"] for item in predict_uki(raw).measurements}
    assert measured["load-options"] == hashlib.sha256("quiet\0".encode("utf-16-le")).digest()
    assert measured["initrd-as-loaded"] == hashlib.sha256(b"u\0\0\0i\0\0\0").digest()
    old = {item.stage: item.digests["sha256"] for item in predict_uki(raw, stub_version=252).measurements}
    assert old["load-options"] == hashlib.sha256(" quiet\n\0".encode("utf-16-le")).digest()


def test_a_signed_images_signature_and_key_follow_its_initrd() -> None:
    """Seen through what reads archives: the files of /.extra, in the stub's order, behind the initrd."""
    raw = a_uki(257, initrd=b"i", osrel=b"ID=x\n", pcrsig=b"{}", pcrpkey=b"key", profile=b"ID=main\n")
    loaded = _initrd(uki.parse(raw), 257)
    assert loaded[:4] == b"i\0\0\0"
    assert re.findall(rb"\.extra/([a-z0-9.-]+)\0", loaded) == [
        b"tpm2-pcr-signature.json",
        b"tpm2-pcr-public-key.pem",
        b"os-release",
        b"profile",
    ]
    assert len(loaded) % 4 == 0
    assert re.findall(rb"\.extra/([a-z0-9.-]+)\0", _initrd(uki.parse(raw), 255)) == [b"tpm2-pcr-signature.json", b"tpm2-pcr-public-key.pem"]
    assert _initrd(uki.parse(a_uki(255, initrd=b"i")), 255) == b"i"


def test_a_disk_is_predicted_by_what_it_starts() -> None:
    image = a_uki(255, cmdline=b"quiet")
    plain = predict_disk(a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": image})))
    assert plain.measurements == predict_uki(image).measurements
    through = predict_disk(a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": LOADER, "EFI/LINUX/ONE.EFI": image})))
    assert [item.stage for item in through.measurements if item.pcr == 4][2:] == ["bootloader", "uki", "kernel-image"]
    assert 12 not in through.values("sha256")


@pytest.mark.parametrize(
    "files",
    [
        {"EFI/BOOT/BOOTX64.EFI": a_pe({".text": b"grub"})},
        {"EFI/BOOT/BOOTX64.EFI": LOADER},
        {"EFI/BOOT/BOOTX64.EFI": LOADER, "EFI/LINUX/ONE.EFI": a_uki(), "EFI/LINUX/TWO.EFI": a_uki()},
    ],
)
def test_a_disk_whose_boot_is_a_choice_is_unsupported(files: dict[str, bytes]) -> None:
    with pytest.raises(Unsupported) as caught:
        predict_disk(a_disk(a_fat12(files)))
    assert caught.value.code == "disk.boot"


def test_direct_boot_predicts_pcr_4_only_of_an_untouched_kernel() -> None:
    kernel = a_pe({".text": b"kernel"})
    assert 4 not in predict_direct(kernel, b"i", "quiet").values("sha256")
    with_initrd, without = (predict_direct(kernel, initrd, "quiet", kernel_as_is=True) for initrd in (b"i", None))
    assert with_initrd.values("sha256")[4] == without.values("sha256")[4]
    assert with_initrd.measurements[3].digests["sha256"] == hashlib.sha256("quiet initrd=initrd\0".encode("utf-16-le")).digest()
    assert without.measurements[3].digests["sha256"] == hashlib.sha256("quiet\0".encode("utf-16-le")).digest()


def test_pcrlock_files_round_trip() -> None:
    prediction = predict_uki(a_uki(cmdline=b"quiet"), banks=("sha256", "sha384"))
    read = from_pcrlock(to_pcrlock(prediction.measurements))
    assert [(item.pcr, item.digests) for item in read] == [(item.pcr, item.digests) for item in prediction.measurements]
    assert values(read, "sha384") == values(prediction.measurements, "sha384")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"records": [{"pcr": 4, "digests": []}]}, "pcrlock.record"),
        ({"records": [{"pcr": 24, "digests": [{"hashAlg": "sha256", "digest": "00" * 32}]}]}, "pcrlock.record"),
        ({"records": [{"pcr": 4, "digests": [{"hashAlg": "sha256", "digest": "00" * 20}]}]}, "pcrlock.record"),
        ({"records": [{"pcr": 4, "digests": [{"hashAlg": "sha256", "digest": "00" * 32}] * 2}]}, "pcrlock.record"),
        ({"records": [{"pcr": 4, "digests": [{"hashAlg": "md5", "digest": "00" * 16}]}]}, "pcrlock.record"),
        ({"records": [{"pcr": 4}]}, "pcrlock.missing-key"),
        ({"record": []}, "pcrlock.unknown-key"),
        ({"records": [{"pcr": 1, "digests": [{"hashAlg": "sha256", "digest": "00" * 32}]}] * 4097}, "pcrlock.records"),
    ],
)
def test_broken_pcrlock_files_are_malformed(document: object, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        from_pcrlock(json.dumps(document).encode())
    assert caught.value.code == code


def test_a_bank_that_was_not_predicted_has_no_value() -> None:
    with pytest.raises(Malformed) as caught:
        values([Measurement.of(4, b"x", ("sha256",), "x")], "sha384")
    assert caught.value.code == "pcrlock.bank"


def test_references_name_registers_components_and_what_they_settle() -> None:
    raw = a_uki(cmdline=f"roothash={ROOT_HASH} ro".encode(), initrd=b"i")
    prediction = predict_uki(raw, name="image.efi")
    found = {value.register: value for value in references(prediction)}
    assert set(found) == {"pcr4", "pcr9", "pcr11", "pcr12", "pcr13"}
    assert found["pcr11"].layers == ("boot_chain", "root_filesystem")
    assert found["pcr11"].components["verity_root_hash"].hex() == ROOT_HASH
    assert {"kernel", "initrd", "cmdline"} <= set(found["pcr11"].components)
    assert found["pcr4"].layers == ("boot_chain",)
    assert found["pcr4"].command_line is None
    assert found["pcr4"].provenance.artifacts == {"image.efi": hashlib.sha256(raw).digest()}
    assert found["pcr12"].value == bytes(32)
    assert all(value.algorithm == "sha256" for value in found.values())


def test_values_of_an_empty_prediction_are_initial_ones() -> None:
    assert Prediction((), unextended=(12, 17)).values("sha256") == {12: bytes(32), 17: b"\xff" * 32}


def test_a_pcrlock_file_is_a_file_of_reference_values() -> None:
    prediction = predict_uki(a_uki(cmdline=b"quiet"), banks=("sha256", "sha384"))
    found = documents.load(to_pcrlock(prediction.measurements))
    assert {value.algorithm for value in found.values} == {"sha256", "sha384"}
    values_by_register = {value.register: value.value for value in found.values if value.algorithm == "sha256"}
    assert values_by_register == {f"pcr{index}": value for index, value in values(prediction.measurements, "sha256").items()}
    assert {value.strength for value in found.values} == {Strength.ENDORSED}
    assert documents.load(b'{"records": []}').values == ()
