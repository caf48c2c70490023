"""What can be launched has an outline, with a profile for each technology; and a plan needs no SDK at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evident import platforms
from evident.errors import UsageError
from evident.platforms import registry

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "deployment.yaml"
SDKS = ("boto3", "botocore", "azure", "google", "requests")
BLOCKED = f"""
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {SDKS!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""


def test_every_platform_that_launches_has_one() -> None:
    assert set(registry.OUTLINES) == set(platforms.names("launch"))
    for name, outline in registry.OUTLINES.items():
        for technology in outline.technologies:
            assert registry.profile_id(name, technology) in registry.platform_ids()
        assert all(setting.doc for setting in outline.settings.values())


@pytest.mark.parametrize("name", ["aws", "azure", "gcp", "qemu"])
def test_a_setting_is_named_checked_and_missed(name: str) -> None:
    outline = registry.OUTLINES[name]
    right = {known: (setting.choices or ("something",))[0] for known, setting in outline.settings.items()}
    outline.check(name, right)
    for known, setting in outline.settings.items():
        without = {key: value for key, value in right.items() if key != known}
        if setting.required:
            with pytest.raises(UsageError, match=r"where\.missing"):
                outline.check(name, without)
        else:
            outline.check(name, without)
        with pytest.raises(UsageError) as caught:
            outline.check(name, {**without, known + "s": "something"})
        assert (caught.value.code, repr(known) in caught.value.findings[0].remedy) == ("where.unknown", True)
        if setting.choices:
            with pytest.raises(UsageError, match=r"where\.value"):
                outline.check(name, {**right, known: "otherwise"})


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_a_plan_needs_no_sdk_and_says_which_one_a_launch_takes() -> None:
    words = ["plan", str(EXAMPLE), "--platform", "any", "-o", "json"]
    result = run(f"{BLOCKED}\nfrom evident.cli.main import main\nsys.exit(main({words!r}))")
    assert (result.returncode, result.stderr) == (11, "")
    for extra in ("aws", "azure", "gcp"):
        assert f"pip install 'evident[{extra}]'" in result.stdout


def test_a_plan_loads_no_sdk_that_is_there() -> None:
    words = ["plan", str(EXAMPLE), "--platform", "any"]
    program = f"import sys\nfrom evident.cli.main import main\nmain({words!r})\nprint([name for name in {SDKS!r} if name in sys.modules])"
    loaded = run(program).stdout.splitlines()[-1]
    assert not {"boto3", "botocore", "requests"} & set(eval(loaded))  # noqa: S307  # a list of ours
