"""The deployment document: strict, and kept with the deployment as it was read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from evident import codec
from evident.appraisal.policy import STRICT
from evident.cli.documents import read_specification
from evident.errors import EvidentError, Malformed
from evident.lifecycle import specification
from evident.lifecycle.deployment import deployment
from evident.platforms.driver import Surroundings

DIGEST = "ab" * 32
LEAST = {"version": 1, "name": "shop", "image": {"path": "shop.image", "sha256": DIGEST}}
SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "schemas" / "deployment.json").read_text())


def read(**changes: Any) -> specification.Specification:
    return specification.read({**LEAST, **changes}, Path("/documents"))


def test_little_has_to_be_said() -> None:
    read_back = read()
    assert read_back.platforms == ("any",)
    assert (read_back.technology, read_back.on_refusal, read_back.disks.root_key) == ("best", "keep", "none")
    assert read_back.image.path == "/documents/shop.image"
    assert read_back.network.openings() == ()
    jsonschema.validate(LEAST, SCHEMA)


def test_one_platform_or_several_in_the_order_of_preference() -> None:
    assert read(platform="aws").platforms == ("aws",)
    assert read(platform=["gcp", "aws"]).platforms == ("gcp", "aws")
    for value in ("aws", ["gcp", "aws"]):
        jsonschema.validate({**LEAST, "platform": value}, SCHEMA)
    for value in (7, None, {}, [7], []):
        with pytest.raises(Malformed):
            read(platform=value)


@pytest.mark.parametrize(
    ("document", "code", "word"),
    [
        ({"netwrok": {}}, "specification.unknown-key", "network"),
        ({"network": {"inbond": []}}, "specification.unknown-key", "inbound"),
        ({"policy": {"version": 1, "acepted_trust": []}}, "specification.unknown-key", "accepted_trust"),
        ({"image": {"path": "x", "sha256": "not hex"}}, "specification.type", ""),
        ({"version": 2}, "specification.type", ""),
        ({"size": {"vcpus": 0}}, "specification.size", ""),
        ({"size": {"vcpus": 4097}}, "specification.size", ""),
        ({"size": {"memory_mib": 10**17}}, "specification.size", ""),
        ({"name": ""}, "specification.name", ""),
        ({"name": "../shop"}, "specification.name", ""),
        ({"image": {"path": "a\0b", "sha256": DIGEST}}, "specification.path", ""),
        ({"references": ["a\0b"]}, "specification.path", ""),
        ({"secrets": {"key": "a\0b"}}, "specification.path", ""),
        ({"where": {"gcp": {"secure_boot_keys": "a\0b"}}}, "specification.path", ""),
        ({"where": {"gpc": {"zone": "europe-west4-a"}}}, "specification.where", "'gcp'"),
        ({"where": {"oracle": {"zone": "europe-west4-a"}}}, "specification.where", "docs/deploy.md"),
        ({"platform": "qemu", "where": {"aws": {"regoin": "eu-west-1"}}}, "where.unknown", "'region'"),
        ({"platform": "qemu", "where": {"aws": {"public": "perhaps"}}}, "where.value", ""),
        ({"image": {"path": "x", "sha256": "ab"}}, "specification.digest", ""),
        ({"network": {"inbound": [{"port": 0, "peer": "0.0.0.0/0"}]}}, "cloud.opening", ""),
        ({"network": {"inbound": [{"port": 1, "peer": "10.0.0.1/8"}]}}, "cloud.opening", ""),
        ({"key_server": "vault.example:8443"}, "specification.key-server", ""),
        ({"key_server": "203.0.113.10"}, "specification.key-server", ""),
        ({"reattest_seconds": 0}, "specification.reattest", ""),
        ({"reattest_seconds": 10**17}, "specification.reattest", ""),
        ({"on_refusal": "forgive"}, "specification.type", ""),
        ({"policy": {"version": 1, "levels": {"nominal": 5}}}, "policy.levels", ""),
        ({"secrets": {"../etc/passwd": "x"}}, "secrets.name", ""),
        ({"secrets": {f"s{number}": "x" for number in range(65)}}, "secrets.count", ""),
        ({"identity": {"chipid": ["c3" * 64]}}, "specification.identity.unknown", "chip_id"),
        ({"identity": {"chip_id": ["c3" * 63]}}, "specification.identity.value", ""),
        ({"identity": {"chip_id": ["00" * 64]}}, "specification.identity.value", ""),
        ({"identity": {"host_data": ["not hex"]}}, "specification.identity.value", ""),
        ({"identity": {"project_id": []}}, "specification.identity.value", ""),
        (
            {"identity": {"csp_id": ["x"]}, "policy": {"version": 1, "allowed_identities": {"csp_id": ["x"]}}},
            "specification.identity.twice",
            "",
        ),
    ],
)
def test_what_is_wrong_is_refused(document: dict[str, Any], code: str, word: str) -> None:
    with pytest.raises(EvidentError) as caught:
        read(**document)
    assert caught.value.code == code
    assert word in caught.value.findings[0].remedy


def test_settings_that_are_paths_are_seen_from_the_document_too() -> None:
    where = read(
        where={
            "aws": {"uefi_data": "keys/uefi.b64", "type": "m6a.large"},
            "azure": {"secure_boot_keys": "keys"},
            "gcp": {"secure_boot_keys": "/etc/keys", "zone": "europe-west4-a"},
        }
    ).where
    assert where == {
        "aws": {"uefi_data": "/documents/keys/uefi.b64", "type": "m6a.large"},
        "azure": {"secure_boot_keys": "/documents/keys"},
        "gcp": {"secure_boot_keys": "/etc/keys", "zone": "europe-west4-a"},
    }


def test_secrets_are_files_seen_from_the_document() -> None:
    written = {"secrets": {"db-password": "secrets/db", "API_KEY": "/etc/keys/api"}}
    assert read(**written).secrets == {"db-password": "/documents/secrets/db", "API_KEY": "/etc/keys/api"}
    assert read(**written).asks
    assert not read().asks
    assert read(attest_first=True).asks
    jsonschema.validate({**LEAST, **written}, SCHEMA)


def test_the_machine_that_is_meant_is_part_of_the_policy() -> None:
    chip = "c3" * 64
    wanted = read(identity={"chip_id": [chip]}, policy={"version": 1, "allowed_identities": {"csp_id": ["x"]}})
    assert wanted.held_to(wanted.policy or STRICT).allowed_identities == {"csp_id": ("x",), "chip_id": (chip,)}
    assert read().held_to(STRICT) == STRICT
    jsonschema.validate({**LEAST, "identity": {"chip_id": [chip]}}, SCHEMA)


def test_yaml_is_read_like_json(tmp_path: Path) -> None:
    yaml, plain = tmp_path / "shop.yaml", tmp_path / "shop.json"
    yaml.write_text(
        f"""
version: 1
name: shop
image: {{path: shop.image, sha256: "{DIGEST}"}}
platform: [aws, qemu]
where:
  aws: {{type: m6a.large, public: yes}}
network:
  inbound: [{{port: 8442, peer: 203.0.113.0/24}}]
"""
    )
    plain.write_text(
        json.dumps(
            {
                **LEAST,
                "platform": ["aws", "qemu"],
                "where": {"aws": {"type": "m6a.large", "public": "yes"}},
                "network": {"inbound": [{"port": 8442, "peer": "203.0.113.0/24"}]},
            }
        )
    )
    assert read_specification(yaml) == read_specification(plain)


def test_the_deployment_keeps_its_document(tmp_path: Path) -> None:
    target = deployment("shop", Surroundings(tmp_path, lambda: pytest.fail("no clock"), bytes, print))
    assert specification.kept(target) is None
    wanted = read(platform=["aws"], policy={"version": 1, "accepted_trust": ["AWS"]}, references=["firmware.json"])
    specification.keep(target, wanted)
    assert specification.kept(target) == wanted
    assert codec.decode(specification.Specification, codec.encode(wanted), "specification") == wanted


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"platform": "aws", "where": {"aws": {"region": "eu-west-1", "public": "yes"}, "qemu": {"boot": "uki"}}}, True),
        ({"platform": ["any"], "identity": {"csp_id": ["x"]}}, True),
        ({"platform": []}, False),
        ({"where": {"gpc": {}}}, False),
        ({"where": {"aws": {"regoin": "eu-west-1"}}}, False),
        ({"where": {"aws": {"public": "perhaps"}}}, False),
        ({"identity": {"chipid": ["c3" * 64]}}, False),
        ({"image": {"path": "x", "sha256": "ab"}}, False),
    ],
)
def test_an_editor_knows_the_names_that_the_reader_knows(changes: dict[str, Any], good: bool) -> None:
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid({**LEAST, **changes}) is good
    with contextlib.nullcontext() if good else pytest.raises(EvidentError):
        read(**changes)


def test_every_key_is_explained() -> None:
    def undocumented(schema: dict[str, Any], path: str) -> list[str]:
        return [f"{path}.{name}" for name, member in schema.get("properties", {}).items() if "description" not in member]

    shown = [each for name, part in SCHEMA["$defs"].items() for each in undocumented(part, name)]
    assert shown == []
