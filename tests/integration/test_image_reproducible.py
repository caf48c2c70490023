"""The example image, built for real: twice under different circumstances, the same bytes; once with a change, the change is named.

Needs the locked packages (from this host's apt mirrors, or kept from an earlier run) and says so when it cannot have them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evident
from evident.audit import dsse, keys
from evident.cli.main import main
from evident.cli.paths import cache_dir
from evident.errors import CollateralUnavailable, UsageError
from evident.evidence import disk, uki
from evident.image import apt, lock, manifest
from evident.image.initrd import OWN_CODE, OWN_FILES
from evident.image.lock import Store
from evident.image.names import INITRD, KERNEL, ROOT, UKI
from evident.reference_values.model import Strength

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The example's packages."""
    folder = cache_dir() / "packages"
    try:
        Store(folder).fetch(lock.load((EXAMPLES / "shop.lock.json").read_bytes()), apt.mirrors())
    except (CollateralUnavailable, UsageError) as error:
        pytest.skip(f"the locked packages cannot be had here: {error.findings[0].code}")
    return folder


@pytest.fixture(scope="module")
def built(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, built by a process of its own in an unusual environment."""
    folder = tmp_path_factory.mktemp("a folder with blanks")
    shutil.copy(EXAMPLES / "shop.yaml", folder)
    shutil.copy(EXAMPLES / "shop.lock.json", folder)
    odd = {
        **os.environ,
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "POSIX",
        "PYTHONHASHSEED": "1",
        "PYTHONUTF8": "0",
        "HOME": str(folder),
        "EVIDENT_HOME": str(folder / "one"),
    }
    command = ["image", "build", "shop.yaml", "--out", "image", "--store", str(packages)]
    program = f"import os, sys; os.umask(0o077); from evident.cli.main import main; sys.exit(main({command!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=odd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "host input" in done.stdout
    return folder / "image"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "two"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return tmp_path


@pytest.fixture
def source(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evident as somebody else has it: in another folder, and years older by its files' times."""
    folder = home / "evident"
    shutil.copytree(Path(evident.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for path in folder.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(evident, "__file__", str(folder / "__init__.py"))
    return folder


@pytest.mark.usefixtures("source")
def test_somebody_else_builds_the_same_bytes_and_signs(built: Path, packages: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """AL-21: other folder, environment, locale, time zone, umask, hash seed and file times; the same bytes, and two signers of them."""
    endorsement = home / "mine.json"
    arguments = ["image", "reproduce", str(built / "manifest.json"), "--store", str(packages), "--out", str(home / "again")]
    assert main([*arguments, "--endorsement-out", str(endorsement)]) == 0, capsys.readouterr().err
    assert "identical" in capsys.readouterr().out
    for name in ("vmlinuz", "initrd.img", "root.erofs", "root.verity", "uki.efi", "disk.raw"):
        assert hashlib.sha256((built / name).read_bytes()).digest() == hashlib.sha256((home / "again" / name).read_bytes()).digest(), name
    builder = built.parent / "one" / "state" / keys.PUBLIC_NAME
    mine = home / "two" / "state" / keys.PUBLIC_NAME
    policy = home / "policy.yaml"
    policy.write_text("version: 1\nminimum_rebuilders: 2\n")
    count = ["image", "reproduce", str(built / "manifest.json"), "--count", "--signer", str(builder), "--signer", str(mine)]
    assert main([*count, "--policy", str(policy)]) == 11
    assert "image.rebuilders" in capsys.readouterr().err
    accepted = [*count, "--policy", str(policy), "--endorsement", str(endorsement), "--reference-out", str(home / "reference.json")]
    assert main(accepted) == 0, capsys.readouterr().err
    assert '"endorser": "you"' in (home / "reference.json").read_text()


def test_a_changed_guest_is_named_first(built: Path, packages: Path, home: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """AL-21: everything that holds the changed file differs too, and the report begins with the cause."""
    with (source / "guest" / "init.py").open("a") as stream:
        stream.write("\nBACK_DOOR = True\n")
    assert main(["image", "reproduce", str(built / "manifest.json"), "--store", str(packages), "--endorsement-out", str(home / "e")]) == 10
    assert "image.not-reproduced" in capsys.readouterr().err
    outcome = json.loads(dsse.read((home / "e").read_bytes())[1])
    assert (outcome["identical"], outcome["first_difference"]) == (False, f"initrd /{OWN_CODE}")


def test_what_the_image_says_of_itself(built: Path) -> None:
    made, _ = manifest.read((built / "manifest.json").read_bytes())
    image = (built / "uki.efi").read_bytes()
    raw = (built / "disk.raw").read_bytes()
    assert disk.open_system_partition(raw).read("EFI/BOOT/BOOTX64.EFI") == image
    assert uki.parse(image).command_line == made.command_line
    assert made.root_hash is not None
    assert made.root_hash.hex() in made.command_line
    assert {value.register for value in made.reference.values} == {"pcr4", "pcr9", "pcr11", "pcr12", "pcr13"}
    assert {value.strength for value in made.reference.values} == {Strength.RECOMPUTED}
    pcr11 = next(value for value in made.reference.values if value.register == "pcr11")
    assert pcr11.components["verity_root_hash"] == made.root_hash
    own = {part.name for part in made.components if part.strength is Strength.REBUILT}
    groups = {OWN_CODE, *("/".join(path.split("/")[:3]) for path in OWN_FILES)}
    assert own >= {"spec", "command line", *(f"initrd /{group}" for group in groups), "root /srv/serve.py"}
    assert not own & {KERNEL, INITRD, ROOT, UKI, "initrd /usr/lib/python3.13", "initrd /usr/sbin/cryptsetup"}
    inventory = made.inventory
    assert inventory.agents == inventory.ssh_authorized_keys == ()
    assert not any(name.rsplit("/", 1)[-1] in {"sh", "bash", "dash", "busybox"} for name in inventory.programs)
    assert len(inventory.kernel_modules) < inventory.kernel_modules_offered // 20
    assert inventory.initrd_bytes["guest code"] < 600_000
