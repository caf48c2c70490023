"""`evident trust forecast`: text and JSON over bundles and the cache, offline, with the exit code of the worst to come."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evident.appraisal.policy import Policy, RequiredLevels
from evident.audit import bundle, keys
from evident.audit.case import Case, decide
from evident.cli import main as entry
from evident.cli.paths import cache_dir
from evident.endorsements import anchors, intel, pem
from evident.endorsements.cache import Cache
from evident.endorsements.fetcher import RecordingFetcher, StaticFetcher
from evident.reference_values.model import Provenance, ReferenceValue, Strength
from evident.simulator.tdx import Platform, TdxPki, TrustDomain, tcb_info

AT = datetime(2026, 6, 10, tzinfo=UTC)
PKI, GUEST, NONCE = TdxPki(b"forecast", AT), TrustDomain(), bytes(range(64))


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two machines, one of which runs an older module; the verifier's key; the TEST root."""
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))
    key = keys.generate(lambda size: b"\x07" * size)
    names = []
    for number, platform in enumerate((Platform(), Platform(name="platform-2", pce_svn=12)), 1):
        reference = ReferenceValue(
            ("firmware",), "launch", GUEST.mrtd, Strength.RECOMPUTED, "you", "firmware", Provenance("test", "stated")
        )
        case = Case(
            kind="tdx",
            pieces={
                "quote": (PKI.quote(platform, GUEST, NONCE),),
                **{role: (body,) for role, body in PKI.collateral(Platform(), AT).items()},
            },
            at=AT,
            nonce=NONCE,
            unsafe=frozenset({"simulated-root"}),
            policy=Policy(version=1, allow_simulated=True, levels=RequiredLevels(nominal=2)),
            references=(reference,),
        )
        recorded = RecordingFetcher(StaticFetcher({}))
        outcome = decide(case, anchors=anchors.production().plus(*PKI.anchors()), fetcher=recorded)
        path = tmp_path / f"machine-{number}.json"
        path.write_bytes(bundle.build(case, recorded, outcome, key))
        names.append(str(path))
    (tmp_path / "root.pem").write_bytes(pem.encode(PKI.certificate("root"), "CERTIFICATE"))
    (tmp_path / "signer.pem").write_bytes(key.public.pem)
    return [
        "--at",
        "2026-06-12T00:00:00Z",
        "--signer",
        str(tmp_path / "signer.pem"),
        "--unsafe-simulated-root",
        str(tmp_path / "root.pem"),
        *names,
    ]


def test_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["trust", "forecast", *arguments, "--days", "60"]) == 11
    out = capsys.readouterr().out
    first, second = out.split("\n\n")
    assert "now              accepted, UpToDate" in first
    assert "2026-07-09 00:00Z indeterminate" in first
    assert "tdx.tcb-info.stale" in first
    assert "as soon as the next update raises one of" in first
    assert "now              refused, OutOfDate (INTEL-SA-00001)" in second
    assert "pcesvn by 1 (INTEL-SA-00001)" in second


def test_json_and_newer_collateral(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    later = datetime(2026, 6, 12, tzinfo=UTC)
    content = tcb_info(Platform(), later)
    content["tcbLevels"][0] |= {"tcbStatus": "SWHardeningNeeded", "advisoryIDs": ["INTEL-SA-77777"]}
    documents = {**PKI.collateral(Platform(), later), "tcb-info": PKI.document("tcbInfo", content)}
    urls = {
        "tcb-info": intel.tcb_info_url(Platform().fmspc),
        "qe-identity": intel.qe_identity_url(),
        "pck-crl": intel.pck_crl_url("platform"),
        "root-crl": intel.ROOT_CRL_URL,
    }
    for role, url in urls.items():
        Cache(cache_dir()).store(url, documents[role], later)
    assert entry.main(["trust", "forecast", *arguments[:-1], "-o", "json", "--days", "20"]) == 11
    found = json.loads(capsys.readouterr().out)
    (machine,) = found["machines"]
    assert machine["recorded"]["decision"] == "accepted"
    assert machine["present"] == {
        "decision": "refused",
        "tcb_status": "SWHardeningNeeded",
        "advisories": ["INTEL-SA-77777"],
        "codes": machine["present"]["codes"],
    }
    assert "policy.tcb-status" in machine["present"]["codes"]
    assert machine["changes"] == []
    assert found["until"] == (later + timedelta(days=20)).isoformat().replace("+00:00", "Z")


def test_a_bundle_by_somebody_else_is_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(keys.generate(lambda size: b"\x09" * size).public.pem)
    arguments[arguments.index("--signer") + 1] = str(stranger)
    assert entry.main(["trust", "forecast", *arguments]) == 10
    assert "bundle.signer-untrusted" in capsys.readouterr().err
