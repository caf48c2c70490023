"""`evident trust`: every anchor with its provenance, and a cache filled over a loopback service."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evident.cli import main as entry
from evident.endorsements import amd, anchors, intel, x509
from evident.endorsements.cache import Cache
from evident.evidence.snp_report import MILAN, SigningKey
from evident.simulator.kds import KdsServer, Response


class FileService:
    """Answers with the given bodies by path and query."""

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self.bodies = bodies
        self.requests: list[str] = []

    def respond(self, target: str) -> Response:
        self.requests.append(target)
        body = self.bodies.get(target)
        return Response(404) if body is None else Response(200, body)


def run(*arguments: str) -> int:
    return entry.main(["trust", *arguments])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def real_vcek(vectors: Any) -> tuple[str, str, bytes]:
    """A real report's file, the path of its VCEK, and the VCEK."""
    case = "snp/microsoft-milan"
    (certificate,) = x509.load_all(vectors.read(case, "vcek.pem"))
    key = amd.parse_endorsement_key(certificate)
    assert key.hwid is not None
    return str(vectors.root / case / "report.bin"), amd.vcek_url(key.product, key.hwid, key.tcb, base=""), certificate.der


@pytest.fixture
def service(real_vcek: tuple[str, str, bytes]) -> Iterator[tuple[FileService, str]]:
    files = FileService({real_vcek[1]: real_vcek[2]})
    with KdsServer(files) as server:  # type: ignore[arg-type]  # anything that responds will do
        yield files, server.base_url


def test_list_prints_every_anchor_with_its_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    text = capsys.readouterr().out
    for anchor in anchors.production():
        assert {anchor.name, f"  SHA-256        {anchor.fingerprint}", f"  from           {anchor.origin}"} <= set(text.splitlines())
        assert anchor.cross_checked in text


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)["anchors"]
    assert [item["sha256"] for item in listed] == [anchor.fingerprint for anchor in anchors.production()]
    assert listed[0]["not_after"] == "2045-10-22T17:23:05Z"
    assert all(item["origin"] and item["cross_checked"] for item in listed)


def test_fetch_a_real_vcek_by_report(
    home: Path, real_vcek: tuple[str, str, bytes], service: tuple[FileService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    files, url = service
    assert run("fetch", "--report", real_vcek[0], "--mirror", url, "-o", "json") == 0
    captured = capsys.readouterr()
    (kept,) = json.loads(captured.out)["kept"]
    assert kept["url"] == amd.KDS_BASE + real_vcek[1]
    assert captured.err.startswith("[1/1] VCEK of Milan chip")
    entry = Cache(home / "cache").lookup(amd.KDS_BASE + real_vcek[1])  # checked, so kept under AMD's own name
    assert entry is not None
    assert entry.body == real_vcek[2]
    assert run("fetch", "--report", real_vcek[0], "--mirror", url) == 0
    assert "had already: VCEK" in capsys.readouterr().out
    assert len(files.requests) == 1


def test_fetch_by_chip_and_tcb(
    home: Path, vectors: Any, real_vcek: tuple[str, str, bytes], service: tuple[FileService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    hwid = real_vcek[1].split("/")[-1].split("?")[0]
    tcb = "bootloader=4,tee=0,snp=24,microcode=219"
    assert run("fetch", "--product", "milan", "--hwid", hwid, "--tcb", tcb, "--mirror", service[1]) == 0
    assert real_vcek[1] in capsys.readouterr().out


def test_what_the_server_lacks_is_undecided_and_the_rest_is_kept(
    home: Path, real_vcek: tuple[str, str, bytes], service: tuple[FileService, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fetch", "--report", real_vcek[0], "--crl", "--mirror", service[1]) == 12
    captured = capsys.readouterr()
    assert "fetched: VCEK" in captured.out
    assert captured.err.count("endorsement.absent") == 2
    assert Cache(home / "cache").lookup(amd.KDS_BASE + real_vcek[1]) is not None


def test_a_forged_list_is_not_authentic(home: Path, simulator_pki: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from evident.simulator.kds import SimulatedKds

    kds = SimulatedKds(simulator_pki, clock=lambda: simulator_pki.made_at)
    with KdsServer(kds) as server:
        assert run("fetch", "--product", "Milan", "--mirror", server.base_url) == 10
    assert "crl.issuer-name" in capsys.readouterr().err
    assert Cache(home / "cache").lookup(amd.crl_url(MILAN, SigningKey.VCEK)) is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--product", "Naples"], "amd.product"),
        (["--hwid", "00"], "trust.chip"),
        (["--tcb", "snp=1"], "trust.chip"),
        (["--product", "Milan", "--hwid", "xx", "--tcb", "bootloader=1,tee=0,snp=1,microcode=1"], "trust.hwid"),
        (["--product", "Milan", "--hwid", "00", "--tcb", "bootloader=1,tee=0,snp=1,microcode=1"], "amd.hwid"),
        (["--product", "Milan", "--hwid", "11" * 64, "--tcb", "snp=1"], "trust.tcb"),
        (["--product", "Milan", "--hwid", "11" * 64, "--tcb", "bootloader=1,tee=0,snp=1,microcode=256"], "trust.tcb"),
        (["--product", "Turin", "--hwid", "11" * 8, "--tcb", "bootloader=1,tee=0,snp=1,microcode=1"], "trust.tcb"),
        (["--product", "Milan", "--mirror", "http://kds.example"], "endorsement.url"),
        (["--report", "/nonexistent"], "input.unreadable"),
    ],
)
def test_usage_errors(home: Path, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", *arguments) == 2
    assert code in capsys.readouterr().err


def test_a_report_of_a_vlek_has_no_vcek(home: Path, vectors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "--report", str(vectors.root / "snp/trustee-aws-milan-vlek-v3/report.bin")) == 2
    assert "trust.no-vcek" in capsys.readouterr().err


def test_a_version_2_report_needs_its_product(home: Path, vectors: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fetch", "--report", str(vectors.root / "snp/trustee-milan-v2/report.bin")) == 2
    assert "trust.product" in capsys.readouterr().err


def test_fetch_of_intels_collateral_asks_for_what_the_quote_names(
    vectors: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = FileService({})
    with KdsServer(files) as server:  # type: ignore[arg-type]  # anything that responds will do
        monkeypatch.setattr(intel, "ROOT_CRL_URL", f"{server.base_url}/IntelSGXRootCA.der")
        code = run("fetch", "--quote", str(vectors.root / "tdx/dcap-qvl-near/quote.bin"), "--pccs", server.base_url)
    assert code == 12
    assert files.requests == [
        "/tdx/certification/v4/tcb?fmspc=20A06F000000",
        "/tdx/certification/v4/qe/identity",
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
        "/IntelSGXRootCA.der",
    ]
    assert "TCB info of FMSPC 20a06f000000" in capsys.readouterr().err
