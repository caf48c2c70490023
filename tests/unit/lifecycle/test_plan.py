"""What a plan says before anything is made: where, why, what would be proven, and what of the document is not met."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from tests.contract.lifecycle.images import an_image, digest, spire_spec

from evident.appraisal.identities import NAMES
from evident.audit import keys
from evident.cli.documents import read_specification
from evident.errors import PolicyRefused, UsageError
from evident.identity import spire_cli
from evident.lifecycle import specification
from evident.lifecycle.plan import Plan, plan
from evident.platforms import registry
from evident.platforms.outline import Outline
from evident.platforms.qemu import profile
from evident.reference_values import documents
from evident.reference_values.model import Provenance, ReferenceSet, ReferenceValue, Strength
from evident.verification.snp_tpm import OPERATOR

TODAY = date(2026, 11, 22)
WHERE = {
    "aws": {"region": "eu-west-1", "type": "m6a.large", "subnet": "subnet-1"},
    "azure": {"subscription": "s", "group": "g", "region": "westeurope", "type": "Standard_DC2as_v5"},
    "gcp": {"project": "p", "zone": "europe-west4-a", "type": "n2d-standard-2"},
}
ALL = ["AWS", "Microsoft", "Google"]
OPEN = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}]}
Make = Callable[..., Plan]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the documents lie: an image and the firmware's value beside them."""
    made, key, at = tmp_path_factory.mktemp("documents"), keys.generate(os.urandom), datetime(2026, 11, 22, tzinfo=UTC)
    for name, secrets in (("image", ()), ("reading", ("db",))):
        an_image(made / name, key, name="shop", at=at, secrets=secrets)
    an_image(made / "agent", key, name="shop", at=at, secrets=("db",), spire=spire_spec("example.org"))
    firmware = ReferenceValue(("firmware",), "launch", bytes(48), Strength.RECOMPUTED, "you", "firmware", Provenance("a test", "stated"))
    (made / "firmware.json").write_bytes(documents.dump(ReferenceSet(1, (firmware,), "firmware")))
    return made


@pytest.fixture
def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Plans a document on a host with SEV-SNP, with every SDK."""
    usual: dict[str, Outline] = {}
    for name, outline in registry.OUTLINES.items():
        usual[name] = replace(outline, missing=lambda: (), simulated=lambda: False)
    monkeypatch.setattr(registry, "OUTLINES", MappingProxyType(usual))
    least = {"version": 1, "name": "shop", "image": {"path": "image", "sha256": digest(folder / "image").hex()}, "network": OPEN}

    def made(*, platform: str | None = None, preferred: str | list[str] = "any", spire: Path | None = None, **changes: Any) -> Plan:
        document = {**least, "where": WHERE, "references": ["firmware.json"], "platform": preferred, **changes}
        return plan(specification.read(document, folder), at=TODAY, platform=platform, spire=spire)

    return made


def policy(nominal: int = 4, trustworthy: int = 0, accepted: list[str] = ALL) -> dict[str, Any]:
    return {"version": 1, "levels": {"nominal": nominal, "trustworthy": trustworthy}, "accepted_trust": accepted}


def codes(made: Plan) -> set[str]:
    return {each.finding.code for each in made.chosen.unmet}


def test_any_is_where_most_is_proven_without_the_provider(make: Make) -> None:
    made = make(platform="any", policy=policy())
    assert (made.chosen.platform, made.chosen.prospect.levels.trustworthy) == ("qemu", 4)
    assert made.chosen.unmet == ()
    assert "qemu" not in made.because
    assert "gcp snp: 4, 2" in made.because
    assert {each.platform for each in made.others} == {"aws", "azure", "gcp"}
    assert not any(each.prospect.simulated for each in (made.chosen, *made.others)), "the simulator proves nothing of any hardware"


def test_any_without_a_host_of_ones_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the cloud that proves most, and of two that prove the same the one whose values are stronger."""
    there = {name: outline for name, outline in registry.OUTLINES.items() if name != "qemu"}
    monkeypatch.setattr(registry, "OUTLINES", MappingProxyType(there))
    made = make(platform="any", policy=policy())
    assert (made.chosen.platform, made.chosen.technology, made.chosen.prospect.levels.trustworthy) in (("aws", "snp", 2), ("gcp", "snp", 2))
    assert make(platform="any", policy=policy(accepted=["Google"])).chosen.platform == "gcp", "nobody else is trusted"


def test_the_first_choice_that_meets_everything(make: Make) -> None:
    def chosen(*names: str, accepted: list[str]) -> str:
        return make(preferred=list(names), policy=policy(accepted=accepted)).chosen.platform

    assert chosen("gcp", "aws", accepted=ALL) == "gcp"
    assert chosen("azure", "aws", "gcp", accepted=ALL) == "azure", "less is proven there, and it comes first all the same"
    assert chosen("gcp", "aws", accepted=["AWS"]) == "aws"
    assert chosen("gcp", "aws", accepted=[]) == "gcp", "nowhere: the first choice, with what is unmet"


def test_a_level_that_only_trust_reaches_is_said_so(make: Make) -> None:
    made = make(platform="gcp", technology="snp", policy=policy(trustworthy=3))
    (unmet,) = made.chosen.unmet
    assert unmet.finding.code == "plan.trustworthy"
    assert "level 3 is reachable only by trusting Google" in unmet.finding.found
    assert any(way.startswith("qemu") and "trusting nobody beside the chip's maker" in way for way in unmet.alternatives)
    with pytest.raises(PolicyRefused, match=r"plan\.trustworthy"):
        made.check()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": policy(accepted=[])}, "plan.party"),
        ({"references": []}, "plan.degree"),
        ({"network": {}}, "plan.agent-port"),
        ({"where": {}}, "where.missing"),
        ({"disks": {"root_key": "key-server"}}, "plan.root-key"),
        ({"disks": {"data": ["data.raw"]}}, "plan.data-disk"),
        ({"image": {"path": "image", "sha256": "ab" * 32}}, "plan.image"),
        ({"image": {"path": "nowhere", "sha256": "ab" * 32}}, "plan.no-image"),
        ({"references": ["nowhere.json"]}, "state.read"),
        ({"references": ["/dev/zero"]}, "state.read"),
        ({"references": ["/"]}, "state.read"),
    ],
)
def test_each_requirement(make: Make, changes: dict[str, Any], code: str) -> None:
    document = {"policy": policy(), **changes}
    assert make(platform="aws", policy=policy()).chosen.unmet == ()
    assert code in codes(make(platform="aws", **document))


def test_an_image_that_is_not_there_yet_is_planned_from_its_specification(make: Make, folder: Path) -> None:
    """What is known of it beforehand is what the document says; the build and the plan after it say the rest."""
    wanted = {"path": "yet-to-be-built", "sha256": "ab" * 32, "spec": "other.yaml"}

    def planned() -> Plan:
        return make(platform="aws", policy=policy(), image=wanted)

    assert codes(planned()) == {"plan.no-image"}
    (folder / "other.yaml").write_text("version: 1\n")
    (lacking,) = planned().chosen.unmet
    assert lacking.finding.code == "plan.no-image"
    assert "other.lock.json" in lacking.finding.expected
    (folder / "other.lock.json").write_text("{}")
    made = planned()
    assert made.chosen.unmet == ()
    assert made.chosen.resources[0].kind == "build"
    assert "other.yaml" in made.chosen.resources[0].what
    there = {"path": "image", "sha256": digest(folder / "image").hex(), "spec": "other.yaml"}
    assert "build" not in {item.kind for item in make(platform="aws", policy=policy(), image=there).chosen.resources}


def test_a_key_server_has_to_be_reachable(make: Make) -> None:
    wanted = {"policy": policy(), "disks": {"root_key": "key-server"}}
    assert "plan.key-server" in codes(make(platform="aws", **wanted))
    wanted["key_server"] = "203.0.113.10:8443"
    assert "plan.key-server-port" in codes(make(platform="aws", **wanted))
    out = {"outbound": [{"port": 8443, "peer": "203.0.113.0/28"}]}
    assert codes(make(platform="aws", **wanted, network={**OPEN, **out})) == {"plan.root-key"}, "the image is not encrypted"


def test_secrets_need_a_key_server_files_that_nobody_else_reads_and_an_agent(make: Make, folder: Path) -> None:
    """The image need not be encrypted for that."""
    (folder / "db").write_text("a value")
    image = {"path": "reading", "sha256": digest(folder / "reading").hex()}
    wanted: dict[str, Any] = {"policy": policy(), "secrets": {"db": "db"}, "image": image}
    (folder / "db").chmod(0o644)
    assert codes(make(platform="aws", **wanted)) == {"plan.key-server", "secrets.mode"}
    (folder / "db").chmod(0o600)
    out = {"outbound": [{"port": 8443, "peer": "203.0.113.0/28"}]}
    reachable = {**wanted, "key_server": "203.0.113.10:8443", "network": {**OPEN, **out}}
    assert codes(make(platform="aws", **reachable)) == set()
    assert codes(make(platform="qemu", **wanted)) == set()
    assert "plan.secrets" in codes(make(platform="simulated", **wanted)), "no image boots there"
    (folder / "more").write_text("a value")
    (folder / "more").chmod(0o600)
    for given in ({}, {"more": "more"}, {"db": "db", "more": "more"}):
        assert codes(make(platform="qemu", **{**wanted, "secrets": given})) == {"plan.secrets"}, "not what the image's unit reads"
    (folder / "db").unlink()
    assert codes(make(platform="qemu", **wanted)) == {"secrets.file"}


UKI = {"qemu": {"boot": "uki"}}
LAUNCH, TPM = ({"root_key": "key-server", "reopened_by": way} for way in ("launch", "tpm"))
REOPENED = {
    "by its launch, kernel handed over": ("qemu", {"disks": LAUNCH}, set()),
    "by its launch, booting its disk": (
        "qemu",
        {"disks": LAUNCH, "where": UKI, "policy": policy(accepted=[OPERATOR])},
        {"plan.reopened-by"},
    ),
    "by its launch, in a cloud": ("gcp", {"disks": LAUNCH}, {"plan.reopened-by"}),
    "by its launch, simulated": ("simulated", {"disks": LAUNCH}, {"plan.reopened-by"}),
    "by a TPM, booting its disk": ("qemu", {"disks": TPM, "where": UKI, "policy": policy(accepted=[OPERATOR])}, set()),
    "by a TPM, kernel handed over": ("qemu", {"disks": TPM}, {"plan.reopened-by"}),
    "by a TPM of somebody's": ("qemu", {"disks": TPM, "where": UKI, "policy": policy(2, accepted=[])}, {"plan.reopened-party"}),
    "by a TPM, beside a TD's registers": ("gcp", {"disks": TPM, "technology": "tdx"}, {"plan.reopened-by"}),
    "by a TPM in a cloud": ("aws", {"disks": TPM}, set()),
    "that is not encrypted": ("qemu", {"disks": {"reopened_by": "launch"}}, {"plan.reopened-by"}),
    "with secrets": ("qemu", {"disks": LAUNCH, "secrets": {"db": "db-of-a-disk"}}, {"plan.reopened-asks"}),
    "asking first": ("qemu", {"disks": LAUNCH, "attest_first": True}, {"plan.reopened-asks"}),
}


@pytest.mark.parametrize("what", REOPENED)
def test_a_disk_opens_again_by_what_follows_from_the_boot_there(make: Make, folder: Path, what: str) -> None:
    (folder / "db-of-a-disk").write_text("a value")
    (folder / "db-of-a-disk").chmod(0o600)
    platform, changes, expected = REOPENED[what]
    made = make(platform=platform, **{"policy": policy(accepted=[*ALL, OPERATOR]), "where": {**WHERE, "simulated": {}}, **changes})
    assert {code for code in codes(made) if code.startswith("plan.reopened")} == expected
    assert any(text.endswith("and nobody is asked") for text in made.chosen.unproven)


@pytest.mark.parametrize(
    ("name", "size", "platform", "why"),
    [
        ("chip_id", 64, "aws", "signed by AWS"),
        ("host_data", 32, "aws", "sets none"),
        ("id_key_digest", 48, "gcp", "sets none"),
        ("project_id", 0, "azure", "sets none"),
        ("report_id", 32, "qemu", "every new machine"),
        ("ek_name", 34, "azure", "every new machine"),
        ("fmspc", 6, "qemu", "SNP, which has none"),
        ("chip_id", 64, "gcp", ""),
        ("csp_id", 0, "aws", ""),
        ("id_key_digest", 48, "azure", ""),
        ("project_id", 0, "gcp", ""),
        ("hwid", 64, "qemu", ""),
    ],
)
def test_an_identity_has_to_be_one_that_machines_there_show(make: Make, name: str, size: int, platform: str, why: str) -> None:
    made = make(platform=platform, technology="snp", policy=policy(), identity={name: ["c3" * size or "a name"]})
    if not why:
        assert codes(made) == set()
        return
    (unmet,) = made.chosen.unmet
    assert unmet.finding.code == "plan.identity"
    assert why in unmet.finding.found
    assert any(way.startswith("qemu") for way in unmet.alternatives) == (name == "chip_id")


def test_every_identity_that_a_platform_is_said_to_show_is_known() -> None:
    for outline in registry.OUTLINES.values():
        assert {NAMES[name].new for name in outline.identities} == {False}


@pytest.mark.parametrize(
    ("platform", "kind", "technology"),
    [("gcp", "n2d-standard-2", "tdx"), ("gcp", "c3-standard-4", "snp"), ("azure", "Standard_DC2es_v6", "snp")],
)
def test_a_type_of_machine_has_one_technology(make: Make, platform: str, kind: str, technology: str) -> None:
    where = {platform: {**WHERE[platform], "type": kind}}
    assert "plan.technology" in codes(make(platform=platform, technology=technology, where=where, policy=policy()))


def test_best_is_the_technology_that_the_type_has(make: Make) -> None:
    made = make(platform="gcp", policy=policy())
    assert made.chosen.technology == "snp", "n2d"
    assert "plan.technology" in {each.finding.code for each in made.others[0].unmet}


def test_no_technology_there(make: Make) -> None:
    with pytest.raises(UsageError, match=r"plan\.nowhere"):
        make(platform="aws", technology="tdx", policy=policy())
    with pytest.raises(UsageError, match="Did you mean 'gcp'"):
        make(platform="gpc", policy=policy())


def test_a_simulated_host_is_told_from_a_real_one(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = replace(registry.OUTLINES["qemu"], simulated=lambda: True)
    monkeypatch.setattr(registry, "OUTLINES", MappingProxyType({**registry.OUTLINES, "qemu": qemu}))
    assert codes(make(platform="qemu", policy=policy())) == {"plan.simulated"}
    assert make(platform="any", policy=policy()).chosen.platform != "qemu"
    assert codes(make(platform="qemu", policy={**policy(), "allow_simulated": True})) == set()


def test_a_boot_from_the_disk_rests_on_a_tpm_of_the_hosts(make: Make) -> None:
    """On one's own host as in a cloud: what firmware starts is the TPM's word, and that is its host's."""
    by_uki: dict[str, Any] = {"platform": "qemu", "where": {"qemu": {"boot": "uki"}}}
    made = make(**by_uki)
    levels = made.chosen.prospect.levels
    assert (levels.nominal, levels.trustworthy, made.chosen.trust) == (4, 2, (OPERATOR,))
    assert codes(made) == {"plan.trustworthy", "plan.party"}, "without a policy of the document's nobody is trusted"
    assert f"the boot chain without the word of {OPERATOR}" in made.chosen.unproven
    assert codes(make(**by_uki, policy=policy(trustworthy=2, accepted=[OPERATOR]))) == set()
    assert codes(make(**by_uki, policy=policy(trustworthy=3, accepted=[OPERATOR]))) == {"plan.trustworthy"}
    direct = make(platform="qemu", where={"qemu": {"boot": "direct"}}).chosen
    assert (direct.prospect.levels.trustworthy, direct.trust, direct.unmet) == (4, (), ())
    with pytest.raises(UsageError, match=r"where\.value"):
        make(platform="qemu", where={"qemu": {"boot": "disk"}})
    assert OPERATOR == profile.OPERATOR


def test_a_boot_from_the_disk_that_is_refused_has_the_direct_one_beside_it(make: Make) -> None:
    for unmet in make(platform="qemu", where=UKI, policy=policy(trustworthy=4, accepted=[])).chosen.unmet:
        if unmet.finding.code in ("plan.trustworthy", "plan.party"):
            way = unmet.alternatives[0]
            assert way.startswith("qemu with boot: direct")
            assert "level 4 of 4, 4 without the provider" in way
    (unmet,) = make(platform="gcp", technology="snp", policy=policy(trustworthy=3)).chosen.unmet
    assert not any("with boot" in way for way in unmet.alternatives), "of another platform, what the document says of it counts"


def test_a_firmware_of_ones_own_has_to_be_there(make: Make) -> None:
    assert make(platform="qemu", where={"qemu": {"firmware": "firmware.json"}}).chosen.unmet == ()
    assert codes(make(platform="qemu", where={"qemu": {"firmware": "nowhere.fd"}})) == {"qemu.no-firmware"}


def test_what_is_billed_is_named_and_not_priced(make: Make) -> None:
    for platform in WHERE:
        resources = make(platform=platform, policy=policy()).chosen.resources
        billed = " ".join(each.billed or "" for each in resources)
        assert WHERE[platform]["type"] in billed
        assert "GiB" in billed
        assert not any(sign in billed for sign in "$€£")


@pytest.mark.parametrize("platform", ["aws", "azure", "gcp"])
def test_no_size_is_made_up_for_an_image_that_is_still_to_be_built(make: Make, platform: str) -> None:
    resources = make(platform=platform, policy=policy(), image={"path": "nowhere", "sha256": "ab" * 32}).chosen.resources
    told = " ".join(f"{each.what} {each.billed}" for each in resources)
    assert "as large as the image will be" in told
    assert not re.search(r"\b[123] GiB", told)


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("aws", ("surcharge for SEV-SNP", "each block that is written", "the public IPv4 address")),
        ("azure", ("Standard HDD as 32 GiB", "Premium SSD as 4 GiB", "guest state", "the address, while it is reserved")),
        ("gcp", ("charge for Confidential VM", "external address")),
    ],
)
def test_what_a_confidential_machine_costs_beside_its_type_is_named(make: Make, platform: str, words: tuple[str, ...]) -> None:
    network = {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}]}
    where = {**WHERE, "aws": {**WHERE["aws"], "public": "yes"}}
    resources = make(platform=platform, policy=policy(), network=network, where=where).chosen.resources
    billed = " ".join(each.billed or "" for each in resources)
    assert [word for word in words if word not in billed] == []


def test_without_an_sdk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = replace(registry.OUTLINES["aws"], missing=lambda: ("the SDK: pip install 'evident[aws]'",))
    monkeypatch.setattr(registry, "OUTLINES", MappingProxyType({**registry.OUTLINES, "aws": aws}))
    assert codes(make(platform="aws", policy=policy())) == {"plan.here"}


def test_the_example_of_the_documentation_is_one() -> None:
    example = Path(__file__).resolve().parents[3] / "examples" / "deployment.yaml"
    read_back = read_specification(example)
    assert plan(read_back, at=TODAY).chosen.resources


@pytest.fixture
def agent(folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Plans with an image that holds SPIRE's agent, by the document of that trust domain."""
    monkeypatch.setattr(spire_cli, "program", lambda: "spire-server")
    (folder / "db").write_bytes(b"a value")
    (folder / "db").chmod(0o600)
    said = {"trust_domain": "example.org", "key_server": "spiffe://example.org/k", "server_socket": "s", "workload_socket": "w"}
    (folder / "spire.json").write_text(json.dumps({"version": 1, **said, "server": "127.0.0.1:8081"}))

    def made(*, platform: str = "qemu", **changes: Any) -> Plan:
        image = {"path": "agent", "sha256": digest(folder / "agent").hex()}
        usual = {"spire": folder / "spire.json", "image": image, "secrets": {"db": "db"}, "policy": policy()}
        return make(platform=platform, **{**usual, **changes})

    return made


def test_an_image_with_spires_agent(agent: Make) -> None:
    assert codes(agent()) == set()


def test_without_the_document_of_its_trust_domain(agent: Make, folder: Path) -> None:
    assert codes(agent(spire=None)) == {"spire.document"}
    other = json.loads((folder / "spire.json").read_text()) | {"trust_domain": "example.net", "key_server": "spiffe://example.net/k"}
    (folder / "other.json").write_text(json.dumps(other))
    assert codes(agent(spire=folder / "other.json")) == {"spire.document"}
    assert codes(agent(spire=folder / "absent.json")) == {"state.read"}


@pytest.mark.parametrize("platform", ["aws", "azure", "gcp", "simulated"])
def test_where_no_machine_reaches_spire_server(agent: Make, platform: str) -> None:
    assert "plan.spire" in codes(agent(platform=platform, key_server="203.0.113.10:8443"))


def test_an_entry_cannot_say_or(agent: Make) -> None:
    either = {**policy(), "allowed_identities": {"chip_id": ["22" * 64, "11" * 64]}}
    assert codes(agent(policy=either)) == {"plan.spire-identities"}
    assert codes(agent(policy=policy(), identity={"chip_id": ["22" * 64]})) == set()
