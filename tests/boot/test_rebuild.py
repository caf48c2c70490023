"""A Debian package built from its source, for real: netbase, whose bytes come out as the archive has them, after one whose build fails.

Needs root (or subordinate ids), namespaces, apt, and a mirror with packages and sources; is skipped, saying so, where it cannot have them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evident.cli.main import main
from evident.cli.paths import cache_dir
from evident.image import lock, provenance, rebuild

pytestmark = [pytest.mark.boot, pytest.mark.life]
LOCK = Path(__file__).resolve().parents[2] / "examples" / "shop.lock.json"
ABSENT = ("image.package-vanished", "image.source-vanished", "image.mirror", "image.packages", "image.tool")


def test_a_package_comes_out_of_its_source_as_the_archive_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    depends = rebuild.depends
    # Without what it needs for its build the other one fails, and stops nothing.
    monkeypatch.setattr(rebuild, "depends", lambda raw, kind, what: depends(raw, kind, what) if what.startswith("netbase") else ())
    out, store = tmp_path / "out", str(cache_dir() / "packages")
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    words = ["--package", "libxxhash0", "--package", "netbase", "--out", str(out), "--store", store]
    assert main(["image", "rebuild", str(LOCK), *words]) in {2, 12}
    said = capfd.readouterr()
    absent = [code for code in ABSENT if code in said.err]
    if absent:
        pytest.skip(f"not to be had here: {absent[0]}")
    assert "NOT BUILT  libxxhash0" in said.out
    assert "image.package-build" in said.err
    (log,) = out.glob("xxhash_*_any.log")
    assert str(log) in said.err
    assert "unsatisfied" in log.read_text()
    assert "equal      netbase" in said.out, said.err
    (outcome,) = out.glob("*.rebuild.json")
    assert provenance.read(outcome.read_bytes()).equal
    (environment,) = out.glob("*.environment.json")
    assert {"debhelper", "gcc-14", "dpkg-dev"} <= {package.name for package in lock.load(environment.read_bytes()).packages}
