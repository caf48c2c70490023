"""A real boot under QEMU with a software TPM: OVMF starts our image, and log, PCRs, IMA list and predictions must agree.

Slow (a minute without KVM), and skipped, saying what is missing, where QEMU, OVMF, swtpm, a kernel or the image tools are not installed.
Debian: qemu-system-x86 ovmf swtpm swtpm-tools systemd-boot-efi busybox-static mtools dosfstools gdisk cpio binutils tpm2-tools
linux-image-cloud-amd64.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evident.appraisal.layers import boot_chain as boot_chain_layer
from evident.appraisal.layers import firmware
from evident.endorsements import anchors
from evident.errors import NotAuthentic
from evident.evidence import ima_log, tcg_log
from evident.reference_values.model import Strength
from evident.reference_values.pcr import references
from evident.reference_values.uki import predict_direct, predict_disk, predict_uki
from evident.simulator.vtpm import SimulatedTpm
from evident.verification import ima, kinds
from evident.verification.boot_chain import boot_chain
from evident.verification.context import Context
from evident.verification.log import replay

pytestmark = pytest.mark.slow

OVMF_CODE, OVMF_VARS = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
LOADER = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
BUSYBOX = Path("/bin/busybox")
TOOLS = ("qemu-system-x86_64", "swtpm", "swtpm_setup", "mmd", "mcopy", "mkfs.vfat", "sgdisk", "objcopy", "cpio")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_LINE = "console=ttyS0 quiet ima_policy=tcb ima_hash=sha256"
BANKS = ("sha1", "sha256", "sha384")
BOOT_SECONDS = 240

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
$b mount -t securityfs securityfs /sys/kernel/security
exec >/dev/ttyS0 2>&1
for item in log:tpm0/binary_bios_measurements ima:ima/binary_runtime_measurements text:ima/ascii_runtime_measurements; do
  echo; echo "BEGIN ${item%%:*}"; $b base64 /sys/kernel/security/${item#*:}; echo END
done
cd /sys/class/tpm/tpm0
for bank in pcr-*; do for index in $bank/*; do echo "$index $($b cat $index)"; done; done
$b poweroff -f
"""


@dataclass(frozen=True)
class Boot:
    """What one boot left on the serial line."""

    log: bytes
    ima: bytes
    ima_text: bytes
    pcrs: dict[str, dict[int, bytes]]


def kernel() -> Path | None:
    return next(iter(sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))), None)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    missing += [str(path) for path in (OVMF_CODE, OVMF_VARS, STUB, LOADER, BUSYBOX) if not path.exists()]
    missing += [] if kernel() else ["/boot/vmlinuz-*-cloud-amd64"]
    if missing:
        pytest.skip("no measured boot here, for want of " + ", ".join(missing))
    directory = tmp_path_factory.mktemp("boot")
    tree = directory / "initrd"
    for name in ("bin", "proc", "sys", "dev"):
        (tree / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin" / "busybox")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    listing = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))).encode()
    archive = run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, stdin=listing)
    (directory / "initrd.img").write_bytes(archive)
    (directory / "cmdline").write_text(COMMAND_LINE)
    (directory / "osrel").write_text("ID=evident-test\n")
    sections = (
        ("osrel", "osrel", 0x20000),
        ("cmdline", "cmdline", 0x30000),
        ("initrd", "initrd.img", 0x3000000),
        ("linux", str(kernel()), 0x2000000),
    )
    added = [
        word for name, file, address in sections for word in (f"--add-section=.{name}={file}", f"--change-section-vma=.{name}={address:#x}")
    ]
    run(["objcopy", *added, str(STUB), "uki.efi"], cwd=directory)
    return directory


def run(command: list[str], *, cwd: Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, cwd=cwd, input=stdin, check=True, stdout=subprocess.PIPE, env={"PATH": PATH}).stdout


def a_disk(directory: Path, name: str, files: dict[str, Path]) -> Path:
    volume, image = directory / f"{name}.fat", directory / f"{name}.img"
    with volume.open("wb") as file:
        file.truncate(62 << 20)
    run(["mkfs.vfat", "-F", "32", str(volume)], cwd=directory)
    for parent in sorted({str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}, key=len):
        run(["mmd", "-i", str(volume), f"::/{parent}"], cwd=directory)
    for path, source in files.items():
        run(["mcopy", "-i", str(volume), str(source), f"::/{path}"], cwd=directory)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    run(["sgdisk", "-n", "1:2048:0", "-t", "1:ef00", str(image)], cwd=directory)
    with image.open("r+b") as file:
        file.seek(2048 * 512)
        file.write(volume.read_bytes())
    return image


def boot(directory: Path, name: str, machine: list[str]) -> Boot:
    state = directory / f"tpm-{name}"
    state.mkdir()
    variables = shutil.copy(OVMF_VARS, directory / f"vars-{name}.fd")
    run(["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--pcr-banks", ",".join(BANKS)], cwd=directory)
    socket, serial = state / "socket", directory / f"serial-{name}.txt"
    tpm = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={socket}", "--terminate"],
        env={"PATH": PATH},
    )
    try:
        while not socket.exists():
            assert tpm.poll() is None
        emulated = ["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-display", "none", "-monitor", "none", "-net", "none"]
        flash = [f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}", f"if=pflash,format=raw,file={variables}"]
        command = ["qemu-system-x86_64", *emulated, "-no-reboot", "-serial", f"file:{serial}"]
        command += [word for drive in flash for word in ("-drive", drive)]
        command += ["-chardev", f"socket,id=tpm,path={socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]
        subprocess.run([*command, *machine], cwd=directory, check=True, timeout=BOOT_SECONDS, env={"PATH": PATH})
    finally:
        tpm.terminate()
        tpm.wait()
    return spoken(serial.read_bytes().decode("latin-1").replace("\r", ""))


def spoken(text: str) -> Boot:
    blocks = {name: base64.b64decode(body) for name, body in re.findall(r"BEGIN (\w+)\n([A-Za-z0-9+/=\n]*)END\n", text)}
    pcrs: dict[str, dict[int, bytes]] = {}
    for bank, index, value in re.findall(r"pcr-(\w+)/(\d+) ([0-9A-F]{40,})", text):
        pcrs.setdefault(bank, {})[int(index)] = bytes.fromhex(value)
    return Boot(blocks["log"], blocks["ima"], blocks["text"], pcrs)


def from_disk(image: Path) -> list[str]:
    return ["-drive", f"if=none,id=disk,format=raw,file={image}", "-device", "virtio-blk-pci,drive=disk,bootindex=0"]


@pytest.fixture(scope="module")
def booted(work: Path) -> Callable[[str], Boot]:
    done: dict[str, Boot] = {}

    def once(name: str) -> Boot:
        if name not in done:
            first = "EFI/BOOT/BOOTX64.EFI"
            machines = {
                "uki": lambda: from_disk(a_disk(work, "uki", {first: work / "uki.efi"})),
                "loader": lambda: from_disk(a_disk(work, "loader", {first: LOADER, "EFI/Linux/one.efi": work / "uki.efi"})),
                "direct": lambda: ["-kernel", str(kernel()), "-initrd", str(work / "initrd.img"), "-append", COMMAND_LINE],
            }
            done[name] = boot(work, name, machines[name]())
        return done[name]

    return once


STAGES = {
    "uki": {"uki", "kernel-image", "kernel", "initrd", "cmdline", "load-options", "initrd-as-loaded"},
    "loader": {"bootloader", "uki", "kernel-image", "kernel", "initrd", "cmdline", "load-options", "initrd-as-loaded"},
    "direct": {"kernel", "cmdline", "initrd"},
}


@pytest.mark.parametrize("name", STAGES)
def test_the_log_of_a_real_boot_replays_and_names_its_stages(booted: Callable[[str], Boot], name: str) -> None:
    machine = booted(name)
    replayed = replay(tcg_log.parse(machine.log))
    for bank in BANKS:
        chain = boot_chain(replayed, machine.pcrs, measured_by="vtpm", bank=bank)
        assert STAGES[name] <= {stage.name for stage in chain.stages}
        assert chain.secure_boot is False
    forged = {**machine.pcrs, "sha256": {**machine.pcrs["sha256"], 4: bytes(32)}}
    with pytest.raises(NotAuthentic):
        boot_chain(replayed, forged, measured_by="vtpm")


@pytest.mark.parametrize("name", STAGES)
def test_predicted_registers_equal_those_of_the_boot(booted: Callable[[str], Boot], work: Path, name: str) -> None:
    machine = booted(name)
    kernel_file = kernel()
    assert kernel_file is not None
    if name == "direct":
        prediction = predict_direct(kernel_file.read_bytes(), (work / "initrd.img").read_bytes(), COMMAND_LINE, banks=BANKS)
    else:
        prediction = predict_disk((work / f"{name}.img").read_bytes(), banks=BANKS)
    if name == "uki":
        assert prediction.measurements == predict_uki((work / "uki.efi").read_bytes(), banks=BANKS).measurements
    for bank in BANKS:
        predicted = prediction.values(bank)
        assert {"uki": {4, 9, 11, 12}, "loader": {4, 9, 11}, "direct": {9, 11, 12}}[name] <= set(predicted)
        assert predicted == {index: machine.pcrs[bank][index] for index in predicted}


def test_the_measurement_list_of_a_real_boot_is_that_of_its_tpm(booted: Callable[[str], Boot]) -> None:
    machine = booted("uki")
    log = ima_log.parse(machine.ima)
    assert log.entries == ima_log.parse(machine.ima_text).entries
    assert ima_log.serialize_binary(log) == machine.ima
    assert ima_log.serialize_text(log) == machine.ima_text
    for bank in BANKS:
        assert ima.authenticate(log, {bank: machine.pcrs[bank]}).later == 0
    assert ima.boot_aggregate(log.entries, machine.pcrs).rule == "sha256 over sha256 PCR 0-9"


def test_tpm2_eventlog_reads_the_same_events(booted: Callable[[str], Boot], work: Path) -> None:
    if shutil.which("tpm2_eventlog", path=PATH) is None:
        pytest.skip("no tpm2_eventlog (Debian: tpm2-tools)")
    machine = booted("uki")
    (work / "log.bin").write_bytes(machine.log)
    theirs = run(["tpm2_eventlog", "log.bin"], cwd=work).decode()
    assert theirs.count("EventNum:") == len(tcg_log.parse(machine.log).events) + 1


def test_predictions_settle_the_boot_chain_of_a_real_boot(booted: Callable[[str], Boot], work: Path) -> None:
    """The registers of the real boot, quoted by a simulated TPM: matched by what was predicted from the image, refused for another one."""
    machine, nonce = booted("uki"), bytes(32)
    tpm = SimulatedTpm()
    for index, value in machine.pcrs["sha256"].items():
        tpm.set_pcr("sha256", index, value)
    quote, signature = tpm.quote(nonce)
    values = json.dumps({"sha256": {str(index): value.hex() for index, value in tpm.pcrs["sha256"].items()}}).encode()
    contents = {"quote": quote, "signature": signature, "ak": tpm.ak.tpm2b, "pcrs": values, "log": machine.log, "ima": machine.ima}
    context = Context(at=datetime(2026, 11, 22, tzinfo=UTC), anchors=anchors.production(), fetcher=None, nonce=nonce)
    facts = kinds.verify("tpm", {role: (content,) for role, content in contents.items()}, context).facts
    image = (work / "uki.efi").read_bytes()
    below = firmware(facts, ())
    ground = boot_chain_layer(facts, references(predict_uki(image)), below)
    assert (ground.state, ground.degree) == ("holds", Strength.RECOMPUTED)
    other = image.replace(b"console=ttyS0", b"console=ttyS1")
    assert boot_chain_layer(facts, references(predict_uki(other)), below).state == "mismatch"
