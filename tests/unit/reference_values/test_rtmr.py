"""RTMR1 and RTMR2 of what is booted: event by event as in the logs of real TDs, and refused nothing but the assumptions that they state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from tests.conftest import Vectors
from tests.unit.evidence.test_disk import a_disk, a_fat12
from tests.unit.evidence.test_pe import a_pe
from tests.unit.evidence.test_uki import a_uki

from evident.errors import Unsupported
from evident.evidence import disk, efi, pe
from evident.evidence import tcg_events as events
from evident.evidence.importers import event_log
from evident.evidence.tcg_log import LogEvent
from evident.reference_values import pcr, tdx_reference
from evident.reference_values.model import Strength
from evident.reference_values.pcr import Measurement, Prediction
from evident.reference_values.tdx_reference import MACHINES, Machine, direct_boot, references, unified_image, value_of

ROOT_HASH = "cd" * 32
KERNEL = a_pe({".text": b"kernel"})
LOGS = {
    "gcp/go-tdx-guest-cos113-tdx-ccel": "ccel.bin",
    "tdx/attestation-rs-live-ccel": "ccel.bin",
    "tdx/attestation-rs-live-ccel-other-boot": "ccel.bin",
    "tdx/dstack-quote-report": "quote-report.json",
    "eventlog/cmc-ccel": "ccel.bin",
    "eventlog/dstack-ccel": "ccel.bin",
    "eventlog/go-eventlog-ccel-27-events": "ccel.bin",
    "eventlog/go-eventlog-ccel-unpadded": "ccel.bin",
    "eventlog/trustee-ccel-data": "ccel.bin",
    "eventlog/trustee-ccel-data-gcp": "ccel.bin",
    "eventlog/trustee-ccel-data-grub": "ccel.bin",
    "eventlog/trustee-ccel-data-ovmf": "ccel.bin",
}
"""Every event log of a TD among the vectors."""
DIRECT = {
    "tdx/attestation-rs-live-ccel": Machine("rtmr1"),
    "tdx/attestation-rs-live-ccel-other-boot": Machine("rtmr1"),
    "tdx/dstack-quote-report": Machine("rtmr1"),
    "eventlog/trustee-ccel-data-ovmf": Machine("rtmr0"),
    "eventlog/cmc-ccel": Machine("rtmr0"),
    "eventlog/go-eventlog-ccel-unpadded": Machine("rtmr0"),
}
"""Logs of direct boots that EDK2 measured into RTMR1 and Linux into RTMR2, and which kind of machine each is."""
SIGNED = ("tdx/attestation-rs-live-ccel", "tdx/dstack-quote-report", "gcp/go-tdx-guest-cos113-tdx-ccel")


def logged(vectors: Vectors, case: str) -> tuple[LogEvent, ...]:
    return event_log.read(vectors.read(case, LOGS[case]), registers="rtmr").events


def digests(found: Iterable[LogEvent], register: int) -> list[bytes]:
    return [event.digests["sha384"] for event in found if event.register == register + 1]


def with_theirs(prediction: Prediction, register: int, theirs: Sequence[bytes]) -> list[Measurement]:
    """The predicted events, in those places that hold somebody's kernel, command line or initrd with their digest."""
    items = [item for item in prediction.measurements if item.pcr == register]
    assert len(items) == len(theirs)
    return [replace(item, digests={"sha384": their}) if item.stage else item for item, their in zip(items, theirs, strict=True)]


@pytest.mark.parametrize("case", sorted(LOGS))
def test_what_firmware_measures_of_its_own_is_in_real_logs(vectors: Vectors, case: str) -> None:
    """The four texts and the separator have the digests that the prediction gives them, in every log that has them."""
    known = (pcr.BOOT_OPTION, pcr.SEPARATOR, *tdx_reference.LEAVING)
    found = [event for event in logged(vectors, case) if event.register == 2 and event.data in known]
    assert found
    for event in found:
        assert event.digests["sha384"] == Measurement.of(1, event.data, ("sha384",), "").digests["sha384"]


@pytest.mark.parametrize("case", sorted(DIRECT))
def test_a_direct_boot_is_as_real_machines_log_it(vectors: Vectors, case: str) -> None:
    found = logged(vectors, case)
    initrd = b"initrd" if len(digests(found, 2)) > 1 else None
    (predicted,) = direct_boot(KERNEL, initrd, "quiet", [DIRECT[case]])
    for register in (1, 2):
        theirs = digests(found, register)
        if case.startswith("tdx/dstack") and register == 2:
            theirs = theirs[:2]  # dstack's own system extends two events more
        placed = with_theirs(predicted, register, theirs)
        assert [item.digests["sha384"] for item in placed] == theirs
        if case in SIGNED and register == 1:
            assert value_of(placed).hex() == vectors.facts(case)[f"rtmr{register}"]


def test_the_signed_registers_of_a_direct_boot(vectors: Vectors) -> None:
    case = "tdx/attestation-rs-live-ccel"
    found = logged(vectors, case)
    (predicted,) = direct_boot(KERNEL, b"initrd", "quiet", [DIRECT[case]])
    for register in (1, 2):
        assert value_of(with_theirs(predicted, register, digests(found, register))).hex() == vectors.facts(case)[f"rtmr{register}"]


@pytest.mark.parametrize("case", [case for case in sorted(LOGS) if case.endswith(("cos113-tdx-ccel", "-gcp", "-grub"))])
def test_the_partition_table_is_measured_as_real_firmware_does(vectors: Vectors, case: str) -> None:
    """A disk with the very table of that machine gives the event that its firmware logged, byte for byte, and its digest."""
    (event,) = (event for event in logged(vectors, case) if event.type == events.EV_EFI_GPT_EVENT)
    header, count, entries = event.data[:92], int.from_bytes(event.data[92:100], "little"), event.data[100:]
    start = int.from_bytes(header[72:80], "little") * 512
    image = (bytes(512) + header).ljust(start, b"\0") + entries.ljust(int.from_bytes(header[80:84], "little") * 128, b"\0")
    assert len(entries) == count * 128
    assert disk.gpt_event(image) == event.data
    assert hashlib.sha384(disk.gpt_event(image)).digest() == event.digests["sha384"]


def test_a_uki_from_a_disk_is_as_a_machine_of_googles_logs_it(vectors: Vectors) -> None:
    """RTMR1 of a real boot by UKI. Its stub is older than 256 and a TPM is there, so RTMR2 stays zero: that is no proof of a boot."""
    found = logged(vectors, "eventlog/trustee-ccel-data-gcp")
    (table,) = (event.data for event in found if event.type == events.EV_EFI_GPT_EVENT)
    booted = a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": b""}))
    (predicted,) = unified_image(a_uki(255, initrd=b"i", cmdline=b"c"), [Machine(tpm=True)], booted_from=booted)
    items = [item for item in predicted.measurements if item.pcr == 1]
    items = [Measurement.of(1, table, ("sha384",), item.what) if item.what == "partition table" else item for item in items]
    placed = with_theirs(replace(predicted, measurements=tuple(items)), 1, digests(found, 1))
    assert [item.digests["sha384"] for item in placed] == digests(found, 1)
    assert digests(found, 2) == []
    with pytest.raises(Unsupported, match=r"tdx\.command-line-unmeasured"):
        references([predicted], origin="x")


@pytest.mark.parametrize("case", [case for case in sorted(LOGS) if case.endswith(("cos113-tdx-ccel", "-grub"))])
def test_other_loaders_begin_like_a_uki(vectors: Vectors, case: str) -> None:
    """What shim and GRUB measure is not predicted; what firmware measures before it starts them is."""
    found = logged(vectors, case)
    (table,) = (event.data for event in found if event.type == events.EV_EFI_GPT_EVENT)
    separator = Measurement.of(1, pcr.SEPARATOR, ("sha384",), "").digests["sha384"]
    machine = Machine("rtmr1" if separator in digests(found, 1) else "rtmr0")
    (predicted,) = unified_image(a_uki(257), [machine], booted_from=a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": b""})))
    first = [item for item in predicted.measurements if item.pcr == 1]
    upto = next(index for index, item in enumerate(first) if item.what == "partition table")
    wanted = [*(item.digests["sha384"] for item in first[:upto]), hashlib.sha384(table).digest()]
    assert digests(found, 1)[: upto + 1] == wanted
    assert digests(found, 1)[-2:] == [item.digests["sha384"] for item in first[-2:]]


def test_a_second_attempt_to_leave_the_boot_services_is_as_google_logs_it(vectors: Vectors) -> None:
    """A TPM's log of a real machine has the failed attempt before the two events of the good one: what goes into PCR 5 goes into RTMR1."""
    log = event_log.read(vectors.read("eventlog/go-tpm-tools-ubuntu-2404-amd-sevsnp", "binary_bios_measurements"), registers="pcr")
    found = [event for event in log.events if event.register == 5 and event.data.startswith(b"Exit Boot Services")]
    texts = (tdx_reference.NOT_LEFT, *tdx_reference.LEAVING)
    assert tuple(event.data for event in found) == texts
    assert [event.digests["sha384"] for event in found] == [hashlib.sha384(text).digest() for text in texts]
    (predicted,) = direct_boot(KERNEL, None, "quiet", [Machine(second_attempt=True)])
    last = [item.digests["sha384"] for item in predicted.measurements if item.pcr == 1][-3:]
    assert last == [event.digests["sha384"] for event in found]


def test_direct_boot() -> None:
    predicted = direct_boot(KERNEL, b"initrd", f"quiet roothash={ROOT_HASH}")
    values = references(predicted, origin="a test")
    assert [value.register for value in values] == ["rtmr1"] * 4 + ["rtmr2"] * 2, "separator and attempts; initrd= after and before"
    one, two = values[0], values[4]
    assert one.components["kernel"] == pe.authenticode(pe.parse(KERNEL), "sha384")
    text = f"quiet roothash={ROOT_HASH} initrd=initrd".encode("utf-16-le") + b"\0\0"
    assert two.components["cmdline"] == hashlib.sha384(text).digest()
    assert two.components["verity_root_hash"].hex() == ROOT_HASH
    assert {value.layers for value in values[4:]} == {("boot_chain", "root_filesystem")}
    assert {(value.strength, value.endorser) for value in values} == {(Strength.RECOMPUTED, "you")}
    assert all(any("RTMR0 is not predicted" in text for text in each.assumptions) for each in predicted)
    (alone,) = direct_boot(KERNEL, None, "quiet", [Machine()])
    assert [item.what for item in alone.measurements if item.pcr == 2] == ["load options"]


def test_a_unified_image_from_the_vmm_and_from_a_disk() -> None:
    image = a_uki(257, cmdline=b"quiet", initrd=b"initrd")
    booted = a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": image}))
    (handed,) = unified_image(image, [Machine()])
    (started,) = unified_image(image, [Machine()], booted_from=booted)
    first = [[item.what for item in prediction.measurements if item.pcr == 1] for prediction in (handed, started)]
    end = ["kernel inside the image", "leaving the boot services", "leaving the boot services"]
    assert first[0] == ["unified kernel image", "boot attempt", "separator", *end]
    assert first[1] == ["boot attempt", "separator", "partition table", "unified kernel image", *end]
    second = [item.what for item in started.measurements if item.pcr == 2]
    assert second[0] == "name of .linux"
    assert second[-2:] == ["load options", "initrd"]
    assert references([handed], origin="x")[1].value == references([started], origin="x")[1].value
    assert references([handed], origin="x")[0].value != references([started], origin="x")[0].value
    table, _ = disk.read_partition_table(booted)
    assert efi.parse_gpt(disk.gpt_event(booted)) == table


def test_a_tpm_takes_what_linux_measures_and_leaves_what_the_stub_does() -> None:
    image = a_uki(257, cmdline=b"quiet", initrd=b"initrd")
    without, beside = (unified_image(image, [Machine(tpm=tpm)])[0] for tpm in (False, True))
    second = [[item.what for item in prediction.measurements if item.pcr == 2] for prediction in (without, beside)]
    assert second[0] == [*second[1], "load options", "initrd"]
    stages = {item.stage for item in beside.measurements if item.pcr == 2}
    assert {"kernel", "cmdline", "initrd"} <= stages, "and so the command line and all else is in the register all the same"


@pytest.mark.parametrize(("version", "measures"), [(252, False), (255, False), (256, True), (257, True), (258, True)])
def test_stubs_before_256_leave_the_run_time_registers_alone(version: int, measures: bool) -> None:
    image = a_uki(version, cmdline=b"quiet", initrd=b"initrd")
    without, beside = (unified_image(image, [Machine(tpm=tpm)])[0] for tpm in (False, True))
    assert any(item.stage == "cmdline" for item in beside.measurements) is measures
    assert len(references([without, beside], origin="x")) == (3 if measures else 2)
    assert "load-options" in references([without], origin="x")[1].components
    if not measures:
        with pytest.raises(Unsupported, match=r"tdx\.command-line-unmeasured"):
            references([beside], origin="x")


def test_every_machine_has_its_value_and_no_value_is_there_twice() -> None:
    image = a_uki(257, cmdline=f"roothash={ROOT_HASH}".encode(), initrd=b"initrd")
    values = references(unified_image(image, MACHINES, booted_from=a_disk(a_fat12({"EFI/BOOT/BOOTX64.EFI": image}))), origin="x")
    assert [value.register for value in values] == ["rtmr1"] * 4 + ["rtmr2"] * 2
    assert len({value.value for value in values}) == 6
    assert {value.layers for value in values[4:]} == {("boot_chain", "root_filesystem")}
    assert bytes(48) not in {value.value for value in values}
    assumed = [value.provenance.how for value in values]
    assert ["TPM is there" in how for how in assumed] == [False] * 4 + [True] * 2, "RTMR1 is the same with a TPM and without"
    assert ["separator" in how and "attempt" in how for how in assumed] == [True] * 4 + [False] * 2
