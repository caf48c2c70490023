"""What is missing on this machine, and how to get it.

examples:
  evident doctor
  evident doctor -o json
  evident doctor --platform aws --set region=eu-west-1 --set type=m6a.large --set subnet=subnet-0a1b --set image=disk.raw

Nothing is changed and nothing is sent over the network. With --platform that cloud is asked, with your credentials, whether a launch
could succeed: credentials, region and type, quotas, image, permissions. Nothing is created there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evident.cli import paths

if TYPE_CHECKING:
    from evident.errors import Finding

Status = Literal["ok", "missing", "optional", "unknown"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing Evident can use: `needed_for` what, `found` here, and how to `get` it."""

    name: str
    status: Status
    needed_for: str
    found: str
    get: str


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--platform", help="ask this cloud whether a launch could succeed")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="what would be launched there; may be repeated")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: argparse.Namespace) -> int:
    """0 when everything the verifier needs is here, 12 when something needed is missing."""
    checks = _cloud(args.platform, args.set) if args.platform else (*_python(), *_storage(), *_guest(), *_host())
    if args.output == "json":
        print(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print(checks)
    return 12 if any(check.status == "missing" for check in checks) else 0


def _print(checks: tuple[Check, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    words = {
        "ok": "[green]present[/]",
        "missing": "[bold red]MISSING[/]",
        "optional": "[yellow]not here[/]",
        "unknown": "[yellow]not known[/]",
    }
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("what", "state", "needed for", "found / how to get it"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(check.name, words[check.status], check.needed_for, check.found if check.status in {"ok", "unknown"} else check.get)
    Console().print(table)


def _cloud(platform: str, settings: list[str]) -> tuple[Check, ...]:
    """What the platform's own preflight finds. Raises `UsageError` where there is none, or a setting is not NAME=VALUE."""
    import importlib

    from evident import platforms
    from evident.errors import UsageError
    from evident.platforms.cloud import Patience

    askable = platforms.names("preflight")
    if platform not in askable:
        raise UsageError.of(
            "doctor.platform", expected="a cloud that can be asked: " + ", ".join(askable), found=repr(platform), remedy="Choose one."
        )
    pairs = [text.partition("=") for text in settings]
    if not all(name and equals for name, equals, _ in pairs):
        raise UsageError.of("doctor.set", expected="NAME=VALUE", found=" ".join(settings), remedy="For example: --set type=m6a.large")
    patience = Patience.real(lambda text: print(f"evident: {text}", file=sys.stderr), attempts=3)
    states: dict[str, Status] = {"ok": "ok", "failed": "missing", "unknown": "unknown"}
    probes = importlib.import_module(f"evident.platforms.{platform}.preflight").doctor({name: value for name, _, value in pairs}, patience)
    return tuple(
        Check(probe.name, states[probe.state], f"launching on {platform}", probe.found, _remedy(probe.found, probe.finding))
        for probe in probes
    )


def _remedy(found: str, finding: Finding | None) -> str:
    return f"{found}. {finding.remedy}" if finding else ""


def _module(name: str, needed_for: str, get: str, *, required: bool) -> Check:
    present = importlib.util.find_spec(name) is not None
    status: Status = "ok" if present else "missing" if required else "optional"
    return Check(f"Python package {name}", status, needed_for, "installed" if present else "not installed", get)


def _python() -> tuple[Check, ...]:
    version = ".".join(map(str, sys.version_info[:3]))
    new_enough = sys.version_info >= (3, 11)
    python = Check("Python >= 3.11", "ok" if new_enough else "missing", "everything", version, "Install Python 3.11 or newer.")
    return (
        python,
        _module("cryptography", "verification", "pip install evident", required=True),
        _module("cbor2", "verification", "pip install evident", required=True),
        _module("rich", "the command line", "pip install 'evident[cli]'", required=True),
        _module("jinja2", "the HTML statement", "pip install 'evident[cli]'", required=True),
        _module("yaml", "policies in YAML", "pip install 'evident[cli]'", required=True),
        _module("joserfc", "EAR tokens", "pip install 'evident[cli]'", required=True),
    )


def _writable(directory: Path) -> bool:
    """Could `directory` be written to, or be made? Nothing is created."""
    while not directory.exists():
        directory = directory.parent
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _storage() -> tuple[Check, ...]:
    checks = []
    for name, directory, needed_for in (
        ("state directory", paths.state_dir(), "deployments, the verifier's key"),
        ("cache directory", paths.cache_dir(), "endorsements offline"),
    ):
        good = _writable(directory)
        checks.append(
            Check(
                name, "ok" if good else "missing", needed_for, str(directory), f"Make {directory} writable, or set EVIDENT_HOME elsewhere."
            )
        )
    return tuple(checks)


def _device(name: str, path: str, needed_for: str, get: str) -> Check:
    device = Path(path)
    usable = device.exists() and os.access(device, os.R_OK)
    return Check(name, "ok" if usable else "optional", needed_for, path, get)


def _guest() -> tuple[Check, ...]:
    """What a confidential guest offers; absent on every other machine, which is normal for a verifier."""
    return (
        _device(
            "configfs-tsm",
            "/sys/kernel/config/tsm/report",
            "collecting evidence in a guest",
            "Run inside a confidential VM, kernel >= 6.7.",
        ),
        _device("SEV guest device", "/dev/sev-guest", "collecting SEV-SNP reports", "Run inside an SEV-SNP guest."),
        _device("TDX guest device", "/dev/tdx_guest", "collecting TDX quotes", "Run inside a TDX guest."),
        _device("TPM", "/dev/tpmrm0", "collecting TPM quotes", "Run where a TPM or vTPM is attached."),
    )


def _host() -> tuple[Check, ...]:
    """What a host needs to launch confidential VMs itself."""
    parameter = Path("/sys/module/kvm_amd/parameters/sev_snp")
    snp = parameter.exists() and parameter.read_text().strip() in {"Y", "1"}
    qemu = shutil.which("qemu-system-x86_64")
    return (
        _device(
            "KVM (device, not tried)", "/dev/kvm", "running VMs at speed", "Enable virtualisation in the firmware and load the kvm module."
        ),
        Check(
            "SEV-SNP host support",
            "ok" if snp else "optional",
            "launching SEV-SNP guests on this host",
            "kvm_amd sev_snp is on",
            "An EPYC host with SNP enabled in the firmware and kernel >= 6.11; without it the platform is `simulated`.",
        ),
        Check("QEMU", "ok" if qemu else "optional", "running VMs", qemu or "", "apt-get install qemu-system-x86"),
    )
