"""The published permission set is what the executor calls: nothing is missing, nothing is given beyond it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evident.platforms.aws.preflight import preflight

POLICY = Path(__file__).resolve().parents[3] / "docs" / "platforms" / "aws-policy.json"
SERVICE = {
    "StartSnapshot": "ebs",
    "PutSnapshotBlock": "ebs",
    "CompleteSnapshot": "ebs",
    "GetServiceQuota": "servicequotas",
    "GetCallerIdentity": "sts",
}
NEEDS_NONE = {"sts:GetCallerIdentity"}
NO_CALL = {"ec2:CreateTags"}
"""Asked of whoever tags in a creating call."""


def statements() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(POLICY.read_text())["Statement"]
    return found


def allowed(statement: dict[str, Any]) -> set[str]:
    actions = statement["Action"]
    return {actions} if isinstance(actions, str) else set(actions)


def test_the_policy_is_exactly_what_is_called(owner: Any, fake: Any) -> None:
    preflight(owner.clients, owner.spec, owner.image, owner.patience())
    identifier = owner.up()
    owner.aws().ek_pub(identifier)
    owner.aws().stop(identifier)
    owner.aws().start(identifier)
    group = fake.live("security-group")[0]
    group["rules"]["sgr-evil"] = (False, "tcp", 22, 22, "0.0.0.0/0")
    owner.up()
    owner.stock().survey()
    fake._make("volume", "vol", fake.objects[identifier]["tags"], state="available")
    fake._make("network-interface", "eni", fake.objects[identifier]["tags"], state="available")
    owner.down()
    assert fake.live() == []
    called = {f"{SERVICE.get(name, 'ec2')}:{name}" for name, _ in fake.calls} - NEEDS_NONE
    given = set().union(*(allowed(statement) for statement in statements()))
    assert called == given - NO_CALL


def test_no_wildcards() -> None:
    assert not [action for statement in statements() for action in allowed(statement) if "*" in action]


def test_no_power_over_what_others_made() -> None:
    """Without a condition one may look, and create; tag only what one creates, or everything could be made one's own by a tag."""
    free = set().union(*(allowed(each) for each in statements() if "Condition" not in each))
    creating = {"ebs:StartSnapshot", "ec2:CreateSecurityGroup", "ec2:RegisterImage", "ec2:RunInstances"}
    assert {action for action in free if not action.startswith(("ec2:Describe", "servicequotas:Get"))} == creating
    for statement in (each for each in statements() if "Condition" in each):
        if "ec2:CreateTags" in allowed(statement):
            assert allowed(statement) == {"ec2:CreateTags"}
            calls = sorted(action.partition(":")[2] for action in creating)
            assert statement["Condition"] == {"StringEquals": {"ec2:CreateAction": calls}}
        else:
            assert statement["Condition"] == {"StringLike": {"aws:ResourceTag/evident-deployment": "?*"}}
