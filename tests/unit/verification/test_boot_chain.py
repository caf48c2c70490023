"""The boot chain of real logs: stages by name, Secure Boot, command line; and what a log may not make us believe."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.conftest import Vectors, vector_cases
from tests.unit.evidence.test_tcg_log import a_header
from tests.unit.verification.test_log import measured, raw_log

from evident.errors import NotAuthentic
from evident.evidence import tcg_log
from evident.verification.boot_chain import boot_chain, secure_boot
from evident.verification.facts import BootChain
from evident.verification.log import replay

AS_LOADED = ("kernel-image", "load-options", "initrd-as-loaded")


def told(raw: bytes, **options: Any) -> BootChain:
    replayed = replay(tcg_log.parse(raw))
    return boot_chain(replayed, replayed.registers, measured_by="vtpm", **options)


def stage_names(chain: BootChain) -> list[str]:
    return [stage.name for stage in chain.stages if stage.name not in ("firmware", "option-rom", "bootloader-file")]


@pytest.mark.parametrize(
    ("case", "names", "enabled"),
    [
        ("go-tpm-tools-rhel8-uefi", ["shim", "bootloader", "kernel", "kernel-image", "cmdline", "initrd"], True),
        ("go-tpm-tools-ubuntu-2404-amd-sevsnp", ["shim", "bootloader", "kernel", "cmdline", "load-options"], False),
        ("go-tpm-tools-cos-93-amd-sev", ["shim", "bootloader", "kernel", "kernel-image", "cmdline"], True),
        ("go-tpm-tools-arch-linux-workstation", ["bootloader", "kernel", "cmdline"], False),
        ("trustee-ccel-data-ovmf", ["kernel", "cmdline", "initrd"], False),
        ("trustee-ccel-data-grub", ["shim", "fallback", "shim", "bootloader", "kernel", "cmdline", "initrd"], True),
        ("trustee-ccel-data-gcp", ["uki", "kernel"], False),
        ("trustee-ccel-data", ["payload", "cmdline"], None),
        ("keylime-mb-policy", ["firmware-application", "shim", "bootloader", "kernel", "cmdline", "initrd"], False),
        ("tcglog-parser-ubuntu", ["shim", "bootloader", "kernel", "kernel-image", "cmdline", "initrd"], True),
        ("dstack-gcp-tpm-log", ["uki", "kernel", "uki.osrel", "cmdline", "initrd", "uki.uname", "uki.sbat", *AS_LOADED], False),
    ],
)
def test_stages_of_real_boots_are_named(vectors: Vectors, case: str, names: list[str], enabled: bool | None) -> None:
    chain = told(raw_log(vectors, f"eventlog/{case}"))
    assert stage_names(chain) == names
    assert chain.secure_boot is enabled


@pytest.mark.parametrize("case", vector_cases("eventlog/go-tpm-tools"))
def test_command_line_and_image_digests_equal_what_a_peer_states(vectors: Vectors, case: str) -> None:
    facts, raw = vectors.facts(case), raw_log(vectors, case)
    if "peer_kernel_cmdline" in facts:
        assert told(raw).command_line == facts["peer_kernel_cmdline"].rstrip("\0")
    for bank, digests in facts.get("peer_efi_application_digests", {}).items():
        chain = told(raw, bank=bank)
        assert [stage.digest.hex() for stage in chain.stages if stage.register == "pcr4"] == digests


def test_verified_and_asserted_stages_are_told_apart(vectors: Vectors) -> None:
    stages = {stage.name: stage for stage in told(raw_log(vectors, "eventlog/go-tpm-tools-rhel8-uefi")).stages}
    assert stages["cmdline"].recomputable
    assert not stages["kernel"].recomputable
    assert stages["kernel"].register == "pcr9"


def test_secure_boot_databases_are_read_with_their_certificates(vectors: Vectors) -> None:
    state = secure_boot(replay(tcg_log.parse(raw_log(vectors, "eventlog/go-tpm-tools-rhel8-uefi"))).events)
    assert state.enabled
    assert [entry.kind for entry in state.entries("PK")] == ["x509"]
    assert {len(state.entries("KEK")), len(state.entries("db"))} == {1, 2}
    assert {entry.kind for entry in state.entries("dbx")} <= {"x509", "sha256"}
    assert [variable.name for variable in state.authorities] == ["db", "Shim"]


def a_variable(name: str, data: bytes) -> bytes:
    vendor = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
    encoded = name.encode("utf-16-le")
    return vendor + len(name).to_bytes(8, "little") + len(data).to_bytes(8, "little") + encoded + data


def test_secure_boot_measured_after_the_separator_is_not_believed() -> None:
    on, off = (measured(7, 0x80000001, a_variable("SecureBoot", value)) for value in (b"\1", b"\0"))
    separator = measured(7, 4, bytes(4))
    assert told(a_header() + off + separator).secure_boot is False
    assert told(a_header() + on + separator).secure_boot is True
    assert told(a_header() + off + separator + on).secure_boot is False
    assert told(a_header() + separator + on).secure_boot is None


def test_a_second_command_line_makes_both_worthless() -> None:
    first, second = (
        hashlib_event(8, f"kernel_cmdline: {text}".encode(), text.encode()) for text in ("root=/dev/dm-0", "root=/dev/dm-0 init=/bin/sh")
    )
    assert told(a_header() + first).command_line == "root=/dev/dm-0"
    assert told(a_header() + first + first).command_line == "root=/dev/dm-0"
    chain = told(a_header() + first + second)
    assert chain.command_line is None
    assert "log.command-line-ambiguous" in chain.caveats


def test_relabelling_grub_commands_does_not_make_another_command_line() -> None:
    good, evil = "/vmlinuz root=/dev/dm-0", "/vmlinuz root=/dev/dm-0 init=/bin/sh"

    def command(text: str, label: str = "grub_cmd: ") -> bytes:
        return hashlib_event(8, (label + text).encode(), text.encode())

    honest = command(f"linux {evil}") + command(evil, "kernel_cmdline: ")
    assert told(a_header() + honest).command_line == evil
    # The attacker's grub.cfg names the good line in a harmless command; the log then swaps the labels, and every digest still replays.
    ran = replay(tcg_log.parse(a_header() + command(good) + honest)).registers
    swapped = a_header() + command(good, "kernel_cmdline: ") + command(f"linux {evil}") + command(evil)
    chain = boot_chain(replay(tcg_log.parse(swapped)), ran, measured_by="vtpm")
    assert chain.command_line is None
    assert "log.command-line-ambiguous" in chain.caveats
    # Hiding the text of the evil command as well leaves a hole that shows.
    hidden = a_header() + command(good, "kernel_cmdline: ") + command(f"linux {evil}").replace(b"linux", b"xinux") + command(evil)
    assert "log.command-line-unproven" in boot_chain(replay(tcg_log.parse(hidden)), ran, measured_by="vtpm").caveats


def test_a_command_line_whose_digest_does_not_follow_is_not_told() -> None:
    chain = told(a_header() + hashlib_event(8, b"kernel_cmdline: innocent", b"evil"))
    assert chain.command_line is None
    assert [(stage.name, stage.recomputable) for stage in chain.stages] == [("cmdline", False)]


def test_a_section_content_counts_only_behind_its_verified_name() -> None:
    name = ".linux\0".encode("utf-16-le")
    pair = hashlib_event(11, name, b".linux\0") + hashlib_event(11, name, b"kernel bytes")
    (stage,) = told(a_header() + pair).stages
    assert (stage.name, stage.digest) == ("kernel", hashlib.sha256(b"kernel bytes").digest())
    assert told(a_header() + hashlib_event(11, name, b"kernel bytes")).stages == ()


def hashlib_event(register: int, data: bytes, content: bytes) -> bytes:
    """An EV_IPL event whose digest is that of `content`."""
    return measured(register, 0x0D, content).replace(len(content).to_bytes(4, "little") + content, len(data).to_bytes(4, "little") + data)


def test_a_log_of_another_boot_gives_no_chain(vectors: Vectors) -> None:
    ours, theirs = (replay(tcg_log.parse(raw_log(vectors, f"tdx/attestation-rs-live-ccel{end}"))) for end in ("", "-other-boot"))
    boot_chain(ours, ours.registers, measured_by="tee")
    with pytest.raises(NotAuthentic) as caught:
        boot_chain(theirs, ours.registers, measured_by="tee")
    assert "rtmr2 (sha384)" in caught.value.findings[0].expected


def test_a_log_with_a_register_cut_out_does_not_look_whole() -> None:
    loader, kernel = measured(4, 0x80000007, b"an evil loader, which then extends PCR 11 as it likes"), measured(11, 0x0D, b"good")
    ran = replay(tcg_log.parse(a_header() + loader + kernel)).registers
    cut = boot_chain(replay(tcg_log.parse(a_header() + kernel)), ran, measured_by="vtpm")
    assert [(stage.name, stage.register, stage.recomputable) for stage in cut.stages] == [("unexplained", "pcr4", False)]
    assert "log.register-unexplained" in cut.caveats
    assert told(a_header() + loader + kernel).stages == ()
