"""Where a document says that it is to be, there its clients connect: region, subscription, group, project and zone."""

from __future__ import annotations

from typing import Any

import google.auth
import moto
import pytest
from google.auth.credentials import AnonymousCredentials

from evident.errors import UsageError
from evident.platforms.aws import launch as aws
from evident.platforms.azure import launch as azure
from evident.platforms.cloud import Patience
from evident.platforms.gcp import launch as gcp

PATIENCE = Patience(lambda: 0.0, lambda _: None, lambda: 0.0, lambda _: None)


@pytest.fixture
def aws_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, and a region of the user's that no document names."""
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "testing"), ("DEFAULT_REGION", "us-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_REGION", raising=False)


@pytest.mark.usefixtures("aws_user")
@pytest.mark.parametrize(("where", "region"), [({"region": "eu-west-1"}, "eu-west-1"), ({}, "us-west-1")])
def test_aws_in_the_documents_region_or_else_the_users(where: dict[str, str], region: str) -> None:
    with moto.mock_aws():
        cloud = aws.cloud(where, PATIENCE)
        assert cloud.place() == f"aws/123456789012/{region}"
        assert {client.meta.region_name for client in (cloud._clients.ec2, cloud._clients.ebs, cloud._clients.quotas)} == {region}


def test_the_tpm_is_named_by_aws_for_the_machine_in_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ec2:
        def __init__(self, where: dict[str, str]) -> None:
            self._region = where["region"]

        def ek_pub(self, machine: str) -> bytes:
            return f"{self._region} {machine}".encode()

    monkeypatch.setattr(aws, "cloud", lambda where, _: Ec2(where))
    named = aws.named({"region": "eu-west-1"}, PATIENCE, "i-1")
    assert (named.key, named.operator, named.location) == (b"eu-west-1 i-1", "AWS", "hypervisor")


def test_azure_in_the_documents_subscription_group_and_region() -> None:
    cloud = azure.cloud({"subscription": "s", "group": "g", "region": "westeurope"}, PATIENCE)
    assert cloud.place() == "azure/s/g/westeurope"
    assert (cloud._clients.compute._config.subscription_id, cloud._clients.network._config.subscription_id) == ("s", "s")


@pytest.mark.parametrize(("where", "project"), [({"project": "documents"}, "documents"), ({}, "users")])
def test_google_cloud_in_the_documents_project_or_else_the_users(
    where: dict[str, str], project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def default(scopes: list[str]) -> tuple[Any, str]:
        assert scopes == ["https://www.googleapis.com/auth/cloud-platform"]
        return AnonymousCredentials(), "users"

    monkeypatch.setattr(google.auth, "default", default)
    cloud = gcp.cloud({**where, "zone": "europe-west4-a"}, PATIENCE)
    assert cloud.place() == f"gcp/{project}/europe-west4-a"


def test_google_cloud_with_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), None))
    with pytest.raises(UsageError, match=r"gcp\.project"):
        gcp.cloud({"zone": "europe-west4-a"}, PATIENCE)
