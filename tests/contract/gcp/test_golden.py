"""Every request of two whole lives, as it is on the wire, is one that somebody has read.

``golden/OPERATION.json`` has each distinct request of that operation, in order of first appearance, and what Google's paths, methods and
members are called there is what the SDK made of them. The bodies were held against the SDK's own messages by the loopback server.
EVIDENT_UPDATE_GOLDEN=1 writes the files anew; then read what changed.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from evident.platforms.gcp import images, requests
from evident.platforms.gcp.clients import call
from evident.platforms.gcp.machine import MachineSpec, machine_spec
from evident.platforms.gcp.preflight import preflight
from evident.platforms.gcp.requests import ImageSpec, Place
from evident.platforms.opening import Opening

GOLDEN = Path(__file__).parent / "golden"
PLACE = Place("shop-1", "europe-west4-a")


def certificate(name: str) -> bytes:
    """Always the same bytes: Ed25519 takes no randomness."""
    key = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
    )
    return builder.sign(key, None).public_bytes(Encoding.DER)


def lives(world: Any, tmp_path: Path) -> Iterator[Any]:
    """An SEV-SNP machine seen by everybody, with all that can be done to it; a TDX machine with keys of one's own, hidden away."""
    owner, google = world()
    preflight(owner.clients, machine_spec(owner.order), images.described(owner.file), owner.patience())
    name = owner.up()
    owner.gcp().address(name)
    owner.gcp().stop(name)
    owner.gcp().start(name)
    owner.stock().survey()
    owner.down()
    yield from google.calls
    owner, google = world()
    for file in ("PK", "KEK", "db"):
        (tmp_path / f"{file}.der").write_bytes(certificate(file))
    owner.moved(type="c3-standard-4", secure_boot_keys=str(tmp_path))
    owner.order = replace(owner.order, technology="tdx", openings=(Opening("in", "tcp", 8442, "10.0.0.0/8"),))
    owner.seed = "tdx"
    owner.up()
    yield from google.calls


def readable(each: Any) -> dict[str, Any]:
    """The request; of a piece of an upload not the numbers, which are the compressor's."""
    seen = {"method": each.method, "path": each.path, "query": each.query, "headers": each.headers, "body": each.body}
    if "Content-Range" in each.headers:
        seen |= {"headers": {"Content-Range": re.sub(r"\d+", "N", each.headers["Content-Range"])}, "body": "a piece of the archive"}
    return seen


@pytest.fixture
def seen(world: Any, tmp_path: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for each in lives(world, tmp_path):
        if readable(each) not in found[each.operation]:
            found[each.operation].append(readable(each))
    return found


def test_the_requests_are_the_reviewed_ones(seen: dict[str, list[Any]]) -> None:
    if os.environ.get("EVIDENT_UPDATE_GOLDEN"):
        for path in GOLDEN.glob("*.json"):
            path.unlink()
        for operation, requests_seen in seen.items():
            (GOLDEN / f"{operation}.json").write_text(json.dumps(requests_seen, indent=1, sort_keys=True) + "\n")
    assert seen == {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))}


def golden(operation: str) -> list[Any]:
    return [each["body"] for each in json.loads((GOLDEN / f"{operation}.json").read_text())]


@pytest.mark.parametrize(("machine", "technology", "secure_boot"), [(0, "SEV_SNP", False), (1, "TDX", True)])
def test_what_must_be_in_the_wire_form_of_a_confidential_machine(machine: int, technology: str, secure_boot: bool) -> None:
    body = golden("instances.insert")[machine]
    assert body["confidentialInstanceConfig"] == {"confidentialInstanceType": technology}
    assert body["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert body["shieldedInstanceConfig"] == {"enableVtpm": True, "enableIntegrityMonitoring": True, "enableSecureBoot": secure_boot}
    metadata = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert metadata == {"block-project-ssh-keys": "TRUE", "serial-port-enable": "FALSE", "serial-port-logging-enable": "FALSE"}
    assert "serviceAccounts" not in body
    assert body.get("minCpuPlatform") == ("AMD Milan" if technology == "SEV_SNP" else None)


def test_an_external_address_only_where_there_is_something_outside() -> None:
    seen_by_all, hidden = (body["networkInterfaces"][0] for body in golden("instances.insert"))
    assert (len(seen_by_all["accessConfigs"]), len(seen_by_all["ipv6AccessConfigs"])) == (1, 1)
    assert "accessConfigs" not in hidden
    assert "ipv6AccessConfigs" not in hidden


def test_nothing_is_open_but_what_was_asked_for() -> None:
    rules = golden("firewalls.insert")
    said = {
        (rule["direction"], tuple(rule.get("sourceRanges", rule.get("destinationRanges"))), json.dumps(rule.get("allowed", "denied")))
        for rule in rules
    }
    assert said == {
        ("EGRESS", ("0.0.0.0/0",), '"denied"'),
        ("EGRESS", ("::/0",), '"denied"'),
        ("EGRESS", ("0.0.0.0/0",), '[{"IPProtocol": "tcp", "ports": ["443"]}]'),
        ("EGRESS", ("::/0",), '[{"IPProtocol": "udp", "ports": ["53"]}]'),
        ("INGRESS", ("203.0.113.0/24",), '[{"IPProtocol": "tcp", "ports": ["8442"]}]'),
        ("INGRESS", ("10.0.0.0/8",), '[{"IPProtocol": "tcp", "ports": ["8442"]}]'),
    }
    assert all(rule["priority"] < 65535 for rule in rules)


def test_the_image_takes_both_technologies_and_the_owners_keys() -> None:
    plain, with_keys = golden("images.insert")
    features = {feature["type"] for feature in plain["guestOsFeatures"]}
    assert features == {"SEV_SNP_CAPABLE", "TDX_CAPABLE", "UEFI_COMPATIBLE", "GVNIC", "VIRTIO_SCSI_MULTIQUEUE"}
    assert "shieldedInstanceInitialState" not in plain
    state = with_keys["shieldedInstanceInitialState"]
    assert {state["pk"]["fileType"], *(each["fileType"] for each in (*state["keks"], *state["dbs"]))} == {"X509"}


@pytest.mark.parametrize("operation", ["instances.insert", "images.insert", "buckets.insert", "networks.insert", "subnetworks.insert"])
def test_whatever_is_created_carries_every_tag(operation: str) -> None:
    for each in golden(operation):
        text = json.dumps(each)
        assert all(name in text for name in ("evident-deployment", "evident-id", "evident-key"))
    if operation == "instances.insert":
        labels = [(body["labels"], body["disks"][0]["initializeParams"]["labels"]) for body in golden(operation)]
        assert all(machine == disk for machine, disk in labels)


def test_a_misspelt_member_does_not_leave_the_sdk(owner: Any, google: Any) -> None:
    request = requests.insert(PLACE, "instance", {"name": "a", "confidential_instance_konfig": {}}, None)
    with pytest.raises(ValueError, match="Unknown field for Instance: confidential_instance_konfig"):
        call(owner.clients, "instances", "insert_unary", request)
    assert google.calls == []


def test_the_archive_is_what_google_imports_and_always_the_same(owner: Any) -> None:
    pieces = list(images.archive(owner.file))
    assert pieces == list(images.archive(owner.file))
    assert {len(piece) for piece in pieces[:-1]} == {images.CHUNK}
    content = gzip.decompress(b"".join(pieces))
    assert content[257:265] == b"ustar  \0", "old GNU format"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        [member] = archive.getmembers()
        extracted = archive.extractfile(member)
        assert extracted is not None
        data = extracted.read()
    assert (member.name, member.mtime, member.uid, member.uname) == ("disk.raw", 0, 0, "")
    assert len(data) % images.GIB == 0
    assert data.rstrip(b"\0") == owner.file.read_bytes().rstrip(b"\0")


@pytest.mark.parametrize(("size", "gib"), [(1, 1), (1 << 19, 1), ((1 << 19) + 1, 2)])
def test_the_disk_is_large_enough(size: int, gib: int) -> None:
    assert ImageSpec("00" * 32, size).disk_gib == gib


@pytest.mark.parametrize(
    ("peers", "versions"),
    [
        (["10.0.0.0/8", "192.168.7.0/24", "172.16.0.0/12"], []),
        (["0.0.0.0/0"], [4]),
        (["fd00::/8"], []),
        (["2001:db8::/32", "10.0.0.0/8"], [6]),
    ],
)
def test_what_counts_as_outside(peers: list[str], versions: list[int]) -> None:
    spec = MachineSpec("snp", "n2d-standard-2", tuple(Opening("out", "tcp", 443, peer) for peer in peers))
    assert [version for version in (4, 6) if spec.public(version)] == versions
    assert spec.ipv6 == any(":" in peer for peer in peers)
