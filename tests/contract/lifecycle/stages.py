"""The clouds in memory of ``tests/contract/<cloud>``, plugged in where the driver of that cloud connects."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
from tests.contract.aws import conftest as aws_world
from tests.contract.azure import conftest as azure_world
from tests.contract.gcp import conftest as gcp_world

from evident.platforms.aws import launch as aws_launch
from evident.platforms.aws.executor import Aws
from evident.platforms.azure import launch as azure_launch
from evident.platforms.azure.clients import Clients, assembled
from evident.platforms.azure.executor import Azure
from evident.platforms.gcp import images, requests
from evident.platforms.gcp import launch as gcp_launch
from evident.platforms.gcp.executor import Gcp

AWS_WHERE = {"region": aws_world.REGION, "type": "m6a.large", "subnet": "subnet-1"}
AZURE_WHERE = dict(azure_world.WHERE)
GCP_WHERE = {"project": gcp_world.loopback.PROJECT, "zone": gcp_world.loopback.ZONE, "type": "n2d-standard-2"}


@functools.cache  # making an SDK's clients is slow
def _aws() -> aws_world.Wire:
    return aws_world.Wire()


@functools.cache
def _azure() -> tuple[Any, Clients]:
    transport = azure_world.Short(azure_world.FakeAzure(azure_world.Time()))
    return transport, assembled(AZURE_WHERE, azure_world.Credential(), transport, transport.fake.time.wall)


@functools.cache
def _gcp() -> gcp_world.Wire:
    return gcp_world.Wire()


def plug_aws(fake: aws_world.FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = _aws()
    wire.fake = fake
    monkeypatch.setattr(aws_launch, "cloud", lambda _where, patience: Aws(wire.clients, patience))


def plug_azure(fake: azure_world.FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    transport, made = _azure()
    transport.fake = fake
    clients = Clients(made.subscription, made.group, made.compute, made.network, made.blobs, fake.time.wall)
    monkeypatch.setattr(azure_launch, "cloud", lambda where, patience: Azure(clients, patience, where["region"]))


def plug_gcp(google: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = _gcp()
    wire.server.google = google
    google.gib = gcp_world.SMALL_GIB
    monkeypatch.setattr(requests, "GIB", gcp_world.SMALL_GIB)
    monkeypatch.setattr(images, "GIB", gcp_world.SMALL_GIB)
    monkeypatch.setattr(images, "CHUNK", gcp_world.SMALL_CHUNK)
    monkeypatch.setattr(gcp_launch, "cloud", lambda _where, patience: Gcp(wire.direct, patience))


def aws(_: Path, monkeypatch: pytest.MonkeyPatch) -> aws_world.FakeAws:
    fake = aws_world.FakeAws(aws_world.Time())
    plug_aws(fake, monkeypatch)
    return fake


def azure(_: Path, monkeypatch: pytest.MonkeyPatch) -> azure_world.FakeAzure:
    fake = azure_world.FakeAzure(azure_world.Time(), quick=True)
    plug_azure(fake, monkeypatch)
    return fake


def gcp(_: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    google = gcp_world.loopback.Google()
    plug_gcp(google, monkeypatch)
    return google


def aws_refuses(fake: aws_world.FakeAws, code: str) -> None:
    """The next machine is none, for this reason: ``capacity`` or ``quota``."""
    fake.faults["RunInstances"].append(
        aws_world.Refusal({"capacity": "InsufficientInstanceCapacity", "quota": "VcpuLimitExceeded"}[code], status=500)
    )


def azure_refuses(fake: azure_world.FakeAzure, code: str) -> None:
    fake.fates = [({"capacity": "AllocationFailed", "quota": "QuotaExceeded"}[code], "so it goes")]


def gcp_refuses(google: Any, code: str) -> None:
    google.fates["instances.insert"] = [({"capacity": "ZONE_RESOURCE_POOL_EXHAUSTED", "quota": "QUOTA_EXCEEDED"}[code], "so it goes")]
