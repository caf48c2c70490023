"""Whatever a user passes: a clear error, the right exit code, no traceback, no half-written file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evident.cli.inputs import read_bytes
from evident.cli.main import main
from evident.errors import UsageError

REPORT_BYTES = 1184
Vectors = Any


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def verify(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    def call(*words: str) -> tuple[int, dict[str, Any], str]:
        code = main(["verify", "--offline", "-o", "json", *words])
        output = capsys.readouterr()
        return code, json.loads(output.out), output.err

    return call


@pytest.fixture
def real(vectors: Vectors, home: Path) -> tuple[bytes, Path]:
    """A real report, and its VCEK as a file."""
    vcek = home / "vcek.pem"
    vcek.write_bytes(vectors.read("snp/microsoft-milan", "vcek.pem"))
    return vectors.read("snp/microsoft-milan", "report.bin"), vcek


def altered(report: bytes, offset: int, value: int) -> bytes:
    return report[:offset] + bytes((value,)) + report[offset + 1 :]


@pytest.mark.parametrize(
    ("name", "change", "exit_code", "code"),
    [
        ("truncated", lambda report: report[:-1], 30, "snp.report.length"),
        ("cut to the signed part", lambda report: report[:0x2A0], 30, "snp.report.length"),
        ("one byte more", lambda report: report + b"\0", 30, "snp.report.length"),
        ("concatenated", lambda report: report + report, 30, "snp.report.length"),
        (
            "response header in front",
            lambda report: bytes(4) + REPORT_BYTES.to_bytes(4, "little") + bytes(24) + report,
            30,
            "snp.report.header",
        ),
        ("unknown version", lambda report: altered(report, 0, 9), 20, "snp.report.version"),
        ("reserved bit", lambda report: altered(report, 0x4C, 1), 30, "snp.report.reserved"),
        ("empty", lambda _: b"", 30, "input.empty"),
        ("text", lambda _: b"this is not a report\n", 30, None),
        ("half a JSON document", lambda _: b'{"version": 2, ', 30, None),
        ("JSON with duplicate keys", lambda _: b'{"version": 2, "version": 3}', 30, None),
        ("a nest of brackets", lambda _: b"[" * 100_000, 30, None),
        ("SEV-ES report of 52 bytes", lambda _: bytes(range(52)), 30, None),
        ("SEV-ES report of 208 bytes", lambda _: bytes(208), 20, "snp.report.relative"),
        ("oversized", lambda report: report * 4000, 30, "pieces.size"),
        ("binary in place of JSON", lambda report: b"{" + report, 30, None),
        ("a TDX quote", lambda _: bytes.fromhex("0400020081000000") + bytes(5000), 20, "snp.report.relative"),
        ("zeros", lambda _: bytes(REPORT_BYTES), 20, "snp.report.version"),
        ("forged", lambda report: altered(report, 0x90, report[0x90] ^ 1), 10, "snp.signature"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_reports(
    name: str,
    change: Callable[[bytes], bytes],
    exit_code: int | None,
    code: str | None,
    real: tuple[bytes, Path],
    verify: Callable[..., tuple[int, dict[str, Any], str]],
    home: Path,
) -> None:
    report, vcek = real
    path = home / "report"
    path.write_bytes(change(report))
    found, document, errors = verify("--kind", "snp", f"report={path}", f"vcek={vcek}", "--at", "2026-03-07T02:00:00Z")
    assert found in ({exit_code} if exit_code else {20, 30})
    assert document["authentic"] is (None if found == 20 else False)
    assert document["levels"] == {"nominal": 0, "trustworthy": 0}
    assert all(finding["remedy"] for finding in document["findings"])
    if code:
        assert document["code"] == code
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [
        (["--kind", "snp", "report"], 2, "usage.role"),
        (["--kind", "snp", "reprot=x"], 2, None),
        (["--kind", "sev", "report={file}"], 20, "kind.unknown"),
        (["--kind", "snp", "report={directory}"], 2, "input.not-a-file"),
        (["--kind", "snp", "report={missing}"], 2, "input.unreadable"),
        (["--kind", "snp", "report={file}", "report={file}"], 2, "pieces.count"),
        (["--kind", "snp", "repport={file}"], 2, "pieces.unknown-role"),
        (["--kind", "snp", "report={file}", "--at", "yesterday"], 2, "usage.time"),
        (["--kind", "snp", "report={file}", "--at", "2026-01-01T00:00:00"], 2, "usage.time"),
        (["--kind", "snp", "report={file}", "--policy", "{missing}"], 2, "input.unreadable"),
        (["--kind", "snp", "report={file}", "--policy", "{binary}"], 30, None),
        (["--kind", "snp", "report={file}", "--policy", "{typo}"], 30, "policy.unknown-key"),
        (["--kind", "snp", "report={file}", "--policy", "{bomb}"], 30, "policy.yaml-alias"),
        (["--kind", "snp", "report={file}", "--policy", "{deep}"], 30, "policy.yaml-size"),
        (["--kind", "snp", "report={file}", "--policy", "{tagged}"], 30, "policy.yaml-tag"),
        (["--kind", "snp", "report={file}", "--policy", "{long}"], 30, "policy.yaml-size"),
        (["--kind", "snp", "report={endless}"], 2, None),
        (["--kind", "snp", "report={file}", "crl={binary}"], 12, None),
        (["{file}"], 30, None),
        (["--kind", "snp", "report={file}", "--reference", "{binary}"], 30, None),
        (["--kind", "snp", "report={file}", "--reference", "{duplicate}"], 30, "reference.duplicate-key"),
        (["--kind", "snp", "report={file}", "--platform", "amazon"], 2, "platform.unknown"),
        (["{missing}"], 2, "input.unreadable"),
        (["{binary}"], 30, None),
        (["{file}", "{file}"], 2, "usage.kind"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_calls(
    words: list[str], exit_code: int, code: str | None, home: Path, capsys: pytest.CaptureFixture[str], vectors: Vectors
) -> None:
    files = {
        "file": vectors.read("snp/microsoft-milan", "report.bin"),
        "binary": bytes(range(256)),
        "typo": b'{"version": 1, "alow_debug": true}',
        "duplicate": b'{"version": 1, "version": 1}',
        "deep": b"name: " + b"[" * 5000,
        "tagged": b"version: !!python/object/apply:os.system [true]\n",
        "long": b"version: 1\nname:\n" + b" - x\n" * 21_000,
        "bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nversion: 1\nname: *b\n",
    }
    paths = {"directory": str(home), "missing": str(home / "nowhere"), "endless": "/dev/zero"}
    for name, data in files.items():
        (home / name).write_bytes(data)
        paths[name] = str(home / name)
    found = main(["verify", "--offline", "-o", "json", *(word.format(**paths) for word in words)])
    output = capsys.readouterr()
    assert found == exit_code, output.err
    assert "Traceback" not in output.err
    if code:
        assert json.loads(output.out)["code"] == code


@pytest.mark.parametrize("option", ["--policy", "--reference"])
def test_a_document_of_one_s_own_that_is_wrong_says_nothing_of_the_evidence(
    verify: Callable[..., tuple[int, dict[str, Any], str]], real: tuple[bytes, Path], home: Path, option: str
) -> None:
    report = home / "report.bin"
    report.write_bytes(real[0])
    (home / "wrong").write_text('{"version": 1, "nonsense": 2}')
    code, document, _ = verify("--kind", "snp", f"report={report}", option, str(home / "wrong"))
    assert (code, document["decision"], document["authentic"]) == (30, "malformed", None)
    report.write_bytes(real[0][:-1])
    code, document, _ = verify("--kind", "snp", f"report={report}")
    assert (code, document["decision"], document["authentic"]) == (30, "malformed", False)


def test_an_unknown_policy_key_is_answered_with_the_nearest(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = home / "policy.json"
    policy.write_text('{"version": 1, "alow_debug": true}')
    report = home / "report"
    report.write_bytes(bytes(REPORT_BYTES))
    assert main(["verify", "--kind", "snp", f"report={report}", "--policy", str(policy), "--offline"]) == 30
    assert "'allow_debug'" in capsys.readouterr().err


def test_an_unreadable_file_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = home / "locked"
    locked.write_bytes(b"x")
    locked.chmod(0)
    monkeypatch.chdir(home)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)  # root reads everything; nobody does not
    try:
        with pytest.raises(UsageError) as caught:
            read_bytes("locked")
    finally:
        if as_root:
            os.seteuid(0)
    assert caught.value.code == "input.unreadable"
    assert caught.value.findings[0].found == "Permission denied"


def test_a_full_disk_leaves_no_half_written_bundle(real: tuple[bytes, Path], home: Path) -> None:
    """A file size limit stands for the full disk: writing fails in the middle."""
    report = home / "report.bin"
    report.write_bytes(real[0])
    bundle = home / "bundle.json"
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "from evident.cli.main import main; from evident.audit import bundle, case, keys, replay; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)); sys.exit(main(sys.argv[1:]))"
    )
    words = ["verify", "--kind", "snp", f"report={report}", f"vcek={real[1]}", "--offline", "--bundle", str(bundle)]
    result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert "bundle.unwritable" in result.stderr
    assert "Traceback" not in result.stderr
    assert not bundle.exists()
    assert not [path for path in home.iterdir() if "bundle" in path.name]


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc/mounts").exists(), reason="mounting a small file system needs root")
def test_a_disk_that_is_really_full_leaves_no_half_written_bundle(real: tuple[bytes, Path], home: Path) -> None:
    """The same on a file system of 64 KiB, of which nothing is left but one block."""
    disk = home / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        (disk / "other").write_bytes(bytes(60 * 1024))
        report = home / "report.bin"
        report.write_bytes(real[0])
        bundle = disk / "bundle.json"
        words = ["verify", "--kind", "snp", f"report={report}", f"vcek={real[1]}", "--offline", "--bundle", str(bundle)]
        result = subprocess.run([sys.executable, "-m", "evident", *words], capture_output=True, text=True, check=False)
        assert result.returncode == 2, result.stderr
        assert "bundle.unwritable" in result.stderr
        assert "No space left" in result.stderr
        assert "Traceback" not in result.stderr
        assert [path.name for path in disk.iterdir()] == ["other"]
    finally:
        subprocess.run(["umount", str(disk)], check=False)
