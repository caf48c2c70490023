"""Every real TPM, log, IMA, Azure, Google, AWS and launch case of the manifest, by the public command and the roles of its contract.

`authentic`, the layer that is named when evidence is refused, and every fact that the manifest states and the answer has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import VECTORS, Vectors

from evident.cli.main import main

KINDS = ("tpm", "eventlog", "ima", "azure", "gcp", "aws", "launch")
EXITS = {"not_authentic": 10, "refused": 11, "indeterminate": 12, "unsupported": 20, "malformed": 30}
NOW = "2026-11-22T00:00:00Z"


@dataclass(frozen=True)
class Call:
    """One call of `evident verify`. `given`: roles whose content the manifest states, by a fact or as text."""

    kind: str
    files: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    at: str = ""
    authentic: bool | None = True
    code: str = ""
    """Of the one finding that says why, where it is not authentic."""
    layer: str = ""


def _pcrs(bank: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda facts: json.dumps({bank: facts[f"pcrs_{bank}"]}).encode()


def _hex(*path: str) -> Callable[[dict[str, Any]], bytes]:
    def take(facts: Any) -> bytes:
        for name in path:
            facts = facts[name]
        return bytes.fromhex(facts)

    return take


def _claims(_: dict[str, Any]) -> bytes:
    raw = (VECTORS / "azure/trustee-snp-milan-v2-raw/hcl-report.bin").read_bytes()
    return raw[0x4D4 : 0x4D4 + int.from_bytes(raw[0x4D0:0x4D4], "little")]


def _report(_: dict[str, Any]) -> bytes:
    return (VECTORS / "azure/trustee-snp-milan-v2-raw/hcl-report.bin").read_bytes()[0x20 : 0x20 + 1184]


AZURE = {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "quote.msg", "signature": "quote.sig"}
TEXT_NONCE = {"nonce": b"challenge"}
QUOTE_NONCE = {"nonce": _hex("tpm_quote", "nonce")}
CALLS: dict[str, tuple[Call, ...]] = {
    "tpm/go-attestation-windows-gcp": (
        Call(
            "tpm",
            {"quote": "quote.bin", "signature": "signature.bin", "ak": "ak_public.bin", "log": "event_log.bin"},
            {"pcrs": _pcrs("sha1")},
        ),
        Call("tpm", {"evidence": "dump.json"}),
    ),
    "tpm/keylime-swtpm-quote": (
        Call(
            "tpm",
            {"quote": "quote.bin", "signature": "signature.bin", "ak": "ak.pub", "ek": "ek.pub", "pcrs": "pcrs.bin"},
            {"nonce": _hex("extra_data")},
        ),
        Call("tpm", {"quote": "quote.bin", "signature": "signature.bin", "ak": "ak.pem", "pcrs": "pcrs.bin"}),
        Call(
            "tpm",
            {"quote": "quote.bin", "signature": "signature.bin", "ak": "ek.pub", "pcrs": "pcrs.bin"},
            authentic=False,
            code="tpm.signature",
            layer="vtpm",
        ),
    ),
    "tpm/cmc-quote": (
        Call(
            "tpm",
            {"quote": "quote.bin", "signature": "signature.bin", "ak-cert": "ak_cert.pem", "chain": "ca.pem"},
            {"pcrs": _pcrs("sha256"), "nonce": _hex("nonce")},
        ),
        Call(
            "tpm",
            {"quote": "quote.bin", "signature": "signature.bin", "ak-cert": "ak_cert.pem", "chain": "ca.pem"},
            at="2028-01-01T00:00:00Z",
            authentic=False,
            code="x509.expired",
            layer="vtpm",
        ),
    ),
    "tpm/kinvolk-azure-vtpm-quote": (
        Call("tpm", {"quote": "quote.msg", "signature": "quote.sig", "ak": "ak.pem"}, {"pcrs": _pcrs("sha256"), **TEXT_NONCE}),
        Call("tpm", {"quote": "quote.bin", "ak": "ak.pem"}, TEXT_NONCE),
        Call("tpm", {"evidence": "quote.bin", "ak": "ak.pem"}, {"nonce": b"other"}, authentic=False, code="tpm.challenge", layer="vtpm"),
    ),
    "azure/trustee-snp-milan-v1": (
        Call("azure-snp", {"evidence": "evidence.json"}, QUOTE_NONCE),
        Call("azure-snp", {"evidence": "evidence-v0.json"}, QUOTE_NONCE),
    ),
    "azure/trustee-snp-milan-userdata": (
        Call("azure-snp", {"evidence": "evidence.json"}, QUOTE_NONCE),
        Call("azure-snp", {"evidence": "evidence.json"}, {"nonce": b"other"}, authentic=False, code="tpm.challenge", layer="vtpm"),
    ),
    "azure/attestation-rs-snp-live": (Call("azure-snp", {"evidence": "evidence.json"}, QUOTE_NONCE),),
    "azure/trustee-snp-milan-v2-raw": (
        Call("azure-snp", AZURE, {"pcrs": _pcrs("sha256"), **TEXT_NONCE}),
        Call("azure-snp", {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "tpm-quote-v1.json"}, TEXT_NONCE),
        Call("azure-snp", {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "quote.bin"}, TEXT_NONCE),
        Call("azure-snp", {"hcl": "hcl-report.bin", "vcek": "vcek.pem"}),
        Call("azure-snp", AZURE, {"claims": _claims, "pcrs": _pcrs("sha256"), **TEXT_NONCE}),
        Call(
            "azure-snp",
            {role: name for role, name in AZURE.items() if role != "hcl"},
            {"claims": _claims, "report": _report, "pcrs": _pcrs("sha256"), **TEXT_NONCE},
        ),
        Call("azure-snp", AZURE, {"claims": b"{}", "pcrs": _pcrs("sha256")}, authentic=False, code="azure.claims", layer="vtpm"),
        Call(
            "azure-snp",
            {"hcl": "hcl-report.bin", "vcek": "vcek.pem"},
            TEXT_NONCE,
            authentic=False,
            code="azure.challenge",
            layer="root_of_trust",
        ),
    ),
    "azure/trustee-snp-quote-of-another-ak": (
        Call(
            "azure-snp",
            {"hcl": "hcl-report.bin", "vcek": "vcek.pem", "tpm-quote": "tpm-quote.msg", "signature": "tpm-quote.sig"},
            TEXT_NONCE,
            authentic=False,
            code="tpm.signature",
            layer="vtpm",
        ),
    ),
    "azure/kinvolk-snp-hcl-2023": (
        Call(
            "azure-snp",
            {"hcl": "hcl-report.bin", "vcek": "certs.pem"},
            authentic=False,
            code="snp.chip-id.mismatch",
            layer="root_of_trust",
        ),
    ),
    "azure/trustee-tdx-v1": (
        Call("azure-tdx", {"evidence": "evidence.json"}, QUOTE_NONCE),
        Call("azure-tdx", {"hcl": "hcl-report.bin", "quote": "td-quote.bin"}),
    ),
    "azure/kinvolk-tdx-hcl": (
        Call("azure-tdx", {"hcl": "hcl-report.bin"}, authentic=None, code="azure.quote.missing", layer="root_of_trust"),
        Call("azure-snp", {"hcl": "hcl-report.bin"}, authentic=None, code="azure.technology", layer="input"),
    ),
    "gcp/go-tpm-tools-cos85-no-nonce": (
        Call("tpm", {"evidence": "attestation.pb"}),
        Call("tpm", {"evidence": "attestation.pb", "chain": ("intermediate_2.crt", "root_1.cer")}),
    ),
    "gcp/reclaim-snp-vtpm-combined": (
        Call("gcp-snp", {"evidence": "attestation.pb"}, {"nonce": _hex("commitment_sha256")}),
        Call("gcp-snp", {"evidence": "attestation.pb"}, {"nonce": b"other"}, authentic=False, code="tpm.challenge", layer="vtpm"),
    ),
    "gcp/go-tdx-guest-cos113-tdx-ccel": (
        Call("gcp-tdx", {"quote": "quote.bin", "log": "ccel.bin", "report-data": "nonce.bin"}),
        Call("tdx", {"quote": "quote.bin", "log": "ccel.bin", "report-data": "nonce.bin"}),
    ),
    "aws/reclaim-nitrotpm-doc": (
        Call("nitrotpm", {"document": "nitrotpm.cose"}, {"nonce": _hex("nonce")}),
        Call("nitrotpm", {"document": "nitrotpm.cose"}, at=NOW, authentic=False, code="x509.expired", layer="vtpm"),
        Call("nitro-enclave", {"document": "nitrotpm.cose"}, authentic=None, code="nitro.kind", layer="input"),
        Call(
            "aws-snp",
            {
                "document": "nitrotpm.cose",
                "report": "../reclaim-vlek-v5/report.bin",
                "vlek": "../reclaim-vlek-v5/vlek.der",
                "chain": "../reclaim-vlek-v5/ask_ark_milan_vlek.pem",
            },
            {"nonce": _hex("nonce")},
            authentic=False,
            code="aws.binding",
            layer="vtpm",
        ),
    ),
    "aws/reclaim-vlek-v5": (
        Call("snp", {"report": "report.bin", "vlek": "vlek.der", "chain": "ask_ark_milan_vlek.pem"}),
        Call("snp", {"evidence": "attestation.pb"}),
    ),
    "aws/evervault-enclave-2022": (Call("nitro-enclave", {"document": "doc.cose"}, {"nonce": _hex("nonce")}),),
    "aws/evervault-enclave-debug": (Call("nitro-enclave", {"document": "doc.cose"}),),
    "aws/dstack-enclave-2025": (Call("nitro-enclave", {"document": "doc.cose"}),),
    "aws/dstack-enclave-app": (Call("nitro-enclave", {"document": "doc.cose"}),),
    "ima/keylime-ima-sig": (
        Call(
            "ima",
            {"ima": "ascii_runtime_measurements", "ima-key": "rsa2048pub.pem"},
            authentic=None,
            code="ima.unsigned",
            layer="userspace",
        ),
    ),
    "ima/keylime-ima-templates": (Call("ima", {"ima": "valid_entries.txt"}, authentic=None, code="ima.unsigned", layer="userspace"),),
    "ima/keylime-ima-malformed": (Call("ima", {"ima": "invalid_entries.txt"}, authentic=False, code="ima.log.template", layer="input"),),
    "ima/ima-evm-utils-test-boot": (
        Call(
            "ima",
            {"ima": "ascii_runtime_measurements", "log": "binary_bios_measurements"},
            authentic=None,
            code="ima.unsigned",
            layer="userspace",
        ),
    ),
}
SHOWN = {
    "tpm/dstack-attest-body": ("quote.bin",),
    "tpm/go-tpm-tools-gce-pca-certs": ("pca_tpm_rsa_enc_cert.pem", "pca_tpm_ecc_sign_cert.pem", "root.crt"),
    "tpm/go-tpm-tools-gce-uca-certs": ("uca_tpm_rsa_sign_cert.pem", "uca_tpm_ecc_enc_cert.pem", "root_1.cer"),
}
"""Cases without anything to verify alone: a quote's body without signature, and certificates."""
UNSTATED = frozenset(
    (
        "evaluate_at",
        "peer_stated",
        "note",
        "names",
        "computed_pcrs",
        "nonce_text",
        "leaf_validity",
        "expect_when_sha1_refused",
        "expect_at_later_clock",
    )
)
"""Facts about the file or about its peers, which are no claims of the evidence."""


def _calls(kind: str) -> Iterator[Any]:
    for case, calls in CALLS.items():
        if case.startswith(kind):
            for number, call in enumerate(calls):
                yield pytest.param(case, call, id=f"{case}-{number}")


def _cases(kind: str) -> list[str]:
    if not (VECTORS / "manifest.json").is_file():
        return ["absent"]
    return [case for case, entry in Vectors(VECTORS).cases.items() if entry["kind"] == kind]


def _role_words(vectors: Vectors, case: str, call: Call, folder: Path) -> list[str]:
    words = []
    for role, names in call.files.items():
        words += [f"{role}={vectors.root / case / name}" for name in ((names,) if isinstance(names, str) else names)]
    for role, source in call.given.items():
        path = folder / role
        path.write_bytes(source if isinstance(source, bytes) else source(vectors.facts(case)))
        words.append(f"{role}={path}")
    return words


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vectors: Vectors) -> Any:
    monkeypatch.setenv("EVIDENT_HOME", str(tmp_path / "home"))

    def run(case: str, call: Call) -> tuple[int, dict[str, Any]]:
        at = call.at or vectors.facts(case).get("evaluate_at", NOW)
        words = _role_words(vectors, case, call, tmp_path)
        code = main(["verify", "--kind", call.kind, "--offline", "--at", at, "-o", "json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_every_case_of_the_manifest_has_a_row(vectors: Vectors) -> None:
    cases = {case for case, entry in vectors.cases.items() if entry["kind"] in KINDS}
    elsewhere = {case for case in cases if case.startswith(("eventlog/", "launch/"))}
    assert cases == set(CALLS) | set(SHOWN) | elsewhere
    for case in cases - elsewhere - set(SHOWN):
        valid = vectors.cases[case]["expect"]
        assert valid == "unknown" or (CALLS[case][0].authentic is not False) == (valid == "valid"), case


def _stated(case: str, facts: dict[str, Any], claims: dict[str, Any], kind: str) -> Iterator[tuple[str, Any, Any]]:
    """Facts of the manifest beside the claims of the same name: path, stated, found."""
    if kind in ("azure-snp", "azure-tdx"):
        yield from _same(facts, claims["hcl"], "hcl")
        technology = "snp" if "snp" in facts else "tdx"
        yield from _same(facts[technology], claims[technology], technology)
        if "tpm" in claims:
            yield "pcrs", facts["pcrs_sha256"], claims["tpm"]["pcrs"]["sha256"]
            yield "tpm_quote", {"nonce": facts["tpm_quote"]["nonce"].lower()}, {"nonce": claims["tpm"]["nonce"]}
    elif case.startswith("gcp/") and kind in ("gcp-snp", "tpm"):
        tpm = claims.get("tpm", claims)
        for bank in facts.get("quotes", facts.get("banks")):
            yield f"pcrs of {bank['bank']}", bank["pcrs"], tpm["pcrs"][bank["bank"]]
        if "snp" in facts:
            yield from _same(facts["snp"], claims["snp"], "snp")
        if "ak_certificate_serial" in facts:
            yield "serial", facts["ak_certificate_serial"], tpm["ak_certificate"]["serial"]
    elif kind in ("gcp-tdx", "tdx"):
        yield from _same(facts, claims.get("tdx", claims), "tdx")
    else:
        yield from _same(facts, claims, kind)
        if kind == "ima":
            yield "PCR 10", facts["pcr10_sha1_after_replay"], claims["pcrs"]["sha1"]["10"]
        for bank in ("sha1", "sha256"):
            if f"pcrs_{bank}" in facts and "pcrs" in claims and claims["pcrs"]:
                yield bank, facts[f"pcrs_{bank}"], claims["pcrs"][bank]


def _same(facts: Mapping[str, Any], claims: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any, Any]]:
    """Every leaf that both have."""
    for name, value in facts.items():
        if name not in claims or name in UNSTATED:
            continue
        if isinstance(value, Mapping) and isinstance(claims[name], Mapping):
            yield from _same(value, claims[name], f"{where}.{name}")
        elif name == "pcr_selection" and all(isinstance(index, int) for index in value):
            yield f"{where}.{name}", [["sha256", value]], claims[name]
        else:
            yield f"{where}.{name}", value, claims[name]


def _plain(value: Any) -> Any:
    """Hex in one case, whatever tool wrote it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.lower() if isinstance(value, str) else value


@pytest.mark.parametrize(("case", "call"), [param for kind in ("tpm", "ima", "azure", "gcp", "aws") for param in _calls(kind)])
def test_the_answer_is_right(verify: Any, vectors: Vectors, case: str, call: Call) -> None:
    code, answer = verify(case, call)
    assert answer["authentic"] is call.authentic, answer["findings"]
    assert code == EXITS[answer["decision"]]
    if call.code:
        assert answer["code"] == call.code
        assert (call.code, call.layer) in {(finding["code"], finding["layer"]) for finding in answer["findings"]}
        if call.authentic is False:
            assert answer["levels"] == {"nominal": 0, "trustworthy": 0}
    if call.authentic is False or not answer["claims"]:
        return
    compared = list(_stated(case, vectors.facts(case), answer["claims"], call.kind))
    different = [(name, stated, found) for name, stated, found in compared if _plain(stated) != _plain(found)]
    assert not different
    assert compared, "an answer that says nothing of what the manifest states"


@pytest.mark.parametrize("case", _cases("eventlog"))
def test_logs_replay_to_the_stated_registers(verify: Any, vectors: Vectors, case: str) -> None:
    (name,) = [file["name"] for file in vectors.cases[case]["files"] if file["role"] == "event log"]
    code, answer = verify(case, Call("tcg-log", {"log": name}))
    facts, claims = vectors.facts(case), answer["claims"]
    assert (code, answer["authentic"], answer["code"]) == (12, None, "log.unsigned")
    assert [(finding["code"], finding["layer"]) for finding in answer["findings"]] == [("log.unsigned", "boot_chain")]
    for bank, registers in facts.get("computed_pcrs", {}).items():
        assert {index: claims["pcrs"][bank][index] for index in registers} == registers
    for register, value in facts.get("replayed_rtmr", {}).items():
        assert claims[register] == value
    assert (claims["events"], claims["format"], sorted(claims["banks"])) == (facts["events"], facts["format"], sorted(facts["banks"]))


@pytest.mark.parametrize(("case", "names"), SHOWN.items())
def test_what_cannot_be_verified_alone_is_shown(
    vectors: Vectors, capsys: pytest.CaptureFixture[str], case: str, names: tuple[str, ...]
) -> None:
    for name in names:
        assert main(["show", str(vectors.root / case / name), "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out)


NOT_SHOWN = ("ccel_table.bin", "nonce.bin", "combined.b64", "container.scale", "invalid_entries.txt")
"""An ACPI table, a challenge, envelopes that nothing here reads, and lines that are no list."""
BARE_SIGNATURES = ("quote.sig", "tpm-quote.sig")


@pytest.mark.parametrize("case", [case for kind in ("tpm", "ima", "azure", "gcp", "aws") for case in _cases(kind)])
def test_every_piece_is_shown(vectors: Vectors, capsys: pytest.CaptureFixture[str], case: str) -> None:
    for file in vectors.cases[case]["files"]:
        if file["name"] not in (*NOT_SHOWN, *BARE_SIGNATURES):
            assert main(["show", str(vectors.root / case / file["name"]), "-o", "json"]) == 0, file["name"]
            assert json.loads(capsys.readouterr().out)["content"]


@pytest.mark.parametrize("case", _cases("eventlog"))
def test_every_log_is_shown(vectors: Vectors, capsys: pytest.CaptureFixture[str], case: str) -> None:
    (name,) = [file["name"] for file in vectors.cases[case]["files"] if file["role"] == "event log"]
    assert main(["show", str(vectors.root / case / name), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)


def _layers(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {layer["name"]: layer for layer in answer["layers"]}


def test_on_google_the_kernel_rests_on_googles_vtpm(verify: Any) -> None:
    """AT-18: PCRs of a real machine, bound to a fresh report of AMD's, and still Google's word."""
    _, answer = verify("gcp/reclaim-snp-vtpm-combined", CALLS["gcp/reclaim-snp-vtpm-combined"][0])
    layers = _layers(answer)
    assert answer["levels"]["trustworthy"] == 1
    assert layers["root_of_trust"]["trusted_parties"] == ["AMD"]
    assert "provider's hypervisor, outside the confidential VM" in layers["vtpm"]["summary"]
    assert layers["vtpm"]["needs_provider"]
    assert "vTPM of Google" in layers["boot_chain"]["endorsers"]
    assert "Google, whose vTPM carries the measurement." in layers["boot_chain"]["residual_trust"]
    assert "boot.unlogged" in {caveat["code"] for caveat in layers["boot_chain"]["caveats"]}


def test_on_aws_the_kernel_rests_on_awss_vtpm(verify: Any) -> None:
    _, answer = verify("aws/reclaim-nitrotpm-doc", CALLS["aws/reclaim-nitrotpm-doc"][0])
    layers = _layers(answer)
    assert answer["levels"] == {"nominal": 0, "trustworthy": 0}
    assert "provider's hypervisor, outside the confidential VM" in layers["vtpm"]["summary"]
    assert "AWS, whose vTPM carries the measurement." in layers["boot_chain"]["residual_trust"]


def test_on_azure_a_report_of_the_boot_leaves_the_paravisors_vtpm_as_root(verify: Any) -> None:
    """AT-04, FH-03: the same platform, once with a report of the boot, once with one made for the challenge."""
    _, static = verify("azure/trustee-snp-milan-v1", CALLS["azure/trustee-snp-milan-v1"][0])
    root = _layers(static)["root_of_trust"]
    assert static["levels"]["trustworthy"] == 0
    assert root["needs_provider"]
    assert "the root of what is fresh here is the vTPM of Microsoft" in root["summary"]
    assert "root.static-report" in {caveat["code"] for caveat in root["caveats"]}
    _, fresh = verify("azure/trustee-snp-milan-userdata", CALLS["azure/trustee-snp-milan-userdata"][0])
    root = _layers(fresh)["root_of_trust"]
    assert fresh["levels"]["trustworthy"] == 1
    assert not root["needs_provider"]
    assert "root.static-report" not in {caveat["code"] for caveat in root["caveats"]}
    assert "paravisor, inside the confidential VM" in _layers(fresh)["vtpm"]["summary"]


def test_a_real_shielded_machine_without_tee_is_level_0_and_says_what_is_left(verify: Any) -> None:
    _, answer = verify("gcp/go-tpm-tools-cos85-no-nonce", CALLS["gcp/go-tpm-tools-cos85-no-nonce"][0])
    layers = _layers(answer)
    assert answer["levels"] == {"nominal": 0, "trustworthy": 0}
    assert layers["root_of_trust"]["verifiability"] == 0
    assert "root.none" in {caveat["code"] for caveat in layers["root_of_trust"]["caveats"]}
    assert layers["vtpm"]["verifiability"] == 1
    assert {"shim", "bootloader", "kernel", "cmdline"} <= {component["name"] for component in layers["boot_chain"]["components"]}
    assert "Google, whose vTPM carries the measurement." in layers["boot_chain"]["residual_trust"]


def test_an_enclave_is_said_to_be_no_machine(verify: Any) -> None:
    _, answer = verify("aws/evervault-enclave-debug", CALLS["aws/evervault-enclave-debug"][0])
    layers = _layers(answer)
    assert answer["authentic"] is True
    assert answer["levels"] == {"nominal": 0, "trustworthy": 0}
    assert {"nitro.enclave", "nitro.debug-mode"} <= {caveat["code"] for layer in answer["layers"] for caveat in layer["caveats"]}
    assert not layers["boot_chain"]["components"]
