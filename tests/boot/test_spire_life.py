"""A machine with SPIRE's agent that boots its own disk, starts again, and is revoked: what a real spire-server knows of it meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.boot import test_spire

from evident.cli.main import main
from evident.lifecycle import enrolment
from evident.platforms.qemu import launch

if TYPE_CHECKING:
    from tests.spire.real import Spire

pytestmark = pytest.mark.life
built, owned = test_spire.built, test_spire.owned
NAME = "spiffe://example.org/evident/shop/machine/1"


def entries(spire: Spire) -> dict[str, set[str]]:
    """Those of machines of Evident's, by ID; the selectors of each."""
    shown = json.loads(spire.cli("entry", "show", "-output", "json"))["entries"]
    return {
        each["id"]: {f"{one['type']}:{one['value']}" for one in each["selectors"]} for each in shown if each["id"].startswith("evident-")
    }


def test_it_boots_twice_and_is_revoked(owned: Any, spire: Spire) -> None:
    """The entry demands what a TPM quoted of the boot (BW-05). Each boot has an agent of its own, and all are banned in the end."""
    before = {json.dumps(each["id"]) for each in spire.agents()}
    shop = owned.shop("shop")
    assert owned.up("shop", "--boot", "uki") == 0
    (node,) = (found for name, found in entries(spire).items() if name.endswith("-node"))
    assert {value.split(":")[1] for value in node} == {"measurement", "pcr"}
    assert len(entries(spire)) == 2
    launch.stop(shop.machine)
    assert main(["up", "shop"]) == 0
    assert [(entry.event, entry.spiffe_id) for entry in owned.log] == [("released", f"{NAME}/key")] * 2
    agents = [each for each in spire.agents() if json.dumps(each["id"]) not in before]
    assert len(agents) == 2
    assert not any(each["banned"] for each in agents)
    assert main(["revoke", "shop", "--reason", "a test"]) == 0
    assert entries(spire) == {}
    assert all(each["banned"] for each in spire.agents() if json.dumps(each["id"]) not in before)
    assert not (shop.directory / enrolment.FILE).exists()


def test_an_update_has_names_of_its_own(owned: Any, spire: Spire) -> None:
    """Both machines are known for the window; each gets its own disk's key by its own name."""
    shop = owned.shop("shop")
    assert owned.up("shop") == 0
    assert main(["update", "shop", "--image", str(owned.image), "--publish", "8080", "--window", "1h"]) == 0
    assert shop.number == 2
    assert len(entries(spire)) == 4
    assert [(entry.event, entry.spiffe_id) for entry in owned.log] == [
        ("released", f"{NAME}/key"),
        ("released", f"{NAME.removesuffix('1')}2/key"),
    ]
    assert main(["down", "shop"]) == 0
    assert entries(spire) == {}
