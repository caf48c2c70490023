"""The SDK's clients, as Evident uses them: one call, one attempt, every error one of ours."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from evident.errors import Unsupported, UsageError


@dataclass(frozen=True, slots=True)
class Clients:
    """One account and region."""

    region: str
    ec2: Any
    ebs: Any
    sts: Any
    quotas: Any


def connect(region: str | None = None, profile: str | None = None) -> Clients:
    """Clients with the credentials that the SDK finds (environment, shared files, SSO, instance role).

    The SDK's own repetition is off: `Patience` repeats, visibly and with the same idempotency key.
    Raises `Unsupported` ``aws.sdk``, `UsageError` ``aws.region`` or ``cloud.auth``.
    """
    if importlib.util.find_spec("boto3") is None:
        raise Unsupported.of(
            "aws.sdk", expected="the AWS SDK for Python", found="no boto3", remedy="Install it: pip install 'evident[aws]'."
        )
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    from evident.platforms.aws.errors import refuse_strange, translate

    try:
        session = boto3.Session(region_name=region, profile_name=profile)
        if session.region_name is None:
            raise UsageError.of(
                "aws.region",
                expected="a region",
                found="none given or configured",
                remedy="Name one in the specification, or set AWS_REGION.",
            )
        session.events.register("before-parse", refuse_strange)
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60, user_agent_extra="evident")
        made = {name: session.client(name, config=config) for name in ("ec2", "ebs", "sts", "service-quotas")}
    except BotoCoreError as error:
        raise translate(error, "the SDK's configuration") from error
    return Clients(session.region_name, made["ec2"], made["ebs"], made["sts"], made["service-quotas"])


def call(client: Any, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """The parsed answer of `client.operation(**request)`; every failure as `evident.platforms.aws.errors` has it."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    from evident.platforms.aws.errors import translate

    try:
        answer: dict[str, Any] = getattr(client, operation)(**request)
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise translate(error, operation) from error
    return answer


def pages(client: Any, operation: str, request: dict[str, Any], member: str) -> list[Any]:
    """Everything below `member` of all pages of a Describe call."""
    found: list[Any] = []
    token: str | None = None
    while True:
        answer = call(client, operation, request if token is None else {**request, "NextToken": token})
        found += answer.get(member, [])
        token = answer.get("NextToken")
        if not token:
            return found
