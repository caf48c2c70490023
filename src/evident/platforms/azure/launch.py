"""Confidential VMs on Azure. `evident.platforms.cloud_driver` does the driving, `executor` the talking."""

from __future__ import annotations

from collections.abc import Mapping

from evident.platforms.azure.clients import connect
from evident.platforms.azure.executor import Azure
from evident.platforms.cloud import Patience
from evident.platforms.cloud_driver import CloudDriver
from evident.platforms.driver import Surroundings


def driver(surroundings: Surroundings) -> CloudDriver:
    return CloudDriver(surroundings, "azure", cloud)


def cloud(where: Mapping[str, str], patience: Patience) -> Azure:
    """Azure in the subscription, resource group and region of `where`, with the credentials that the SDK finds."""
    return Azure(connect(where), patience, where["region"])
