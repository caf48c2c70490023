"""AWS's errors to those of `evident.platforms.cloud`, each with what to do about it.

Sources: EC2 Developer Guide, "Error codes for the Amazon EC2 API"; EC2 API Reference, StateReason; EBS direct API model
(botocore 1.44.5). A code that is in no table is told by its HTTP status: 5xx is AWS's own trouble, 4xx a request it does not take.

A clock that is off has many names: STS and EBS say that the signature has expired, or is not yet current, under the code of a wrong
signature; EC2 says no more than ``AuthFailure`` (aws-sdk-java issue 519, terraform-provider-aws issue 1102).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from evident.errors import EvidentError
from evident.platforms import cloud

Make = Callable[[str, str], EvidentError]
Rule = tuple[Make, str]
"""Error and remedy."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOGIN: Rule = (
    cloud.auth,
    "Renew the credentials (aws sso login, aws configure), then run `aws sts get-caller-identity` to see them work.",
)
_UNKNOWN: Rule = (
    cloud.auth,
    "Renew the credentials (aws sso login, aws configure), and set this machine's clock: EC2 answers the same where that is minutes off.",
)
_CLOCK: Rule = (cloud.auth, "Set this machine's clock (AWS refuses signatures more than five minutes off), then renew the credentials.")
_PERMIT: Rule = (cloud.auth, "Attach the policy in docs/platforms/aws.md to this user or role; an SCP of the organisation may deny it too.")
_ACCOUNT: Rule = (cloud.auth, "Finish the account's registration or verification in the AWS console.")
_LIMIT: Rule = (
    cloud.quota,
    "Ask for a higher limit in Service Quotas, choose a smaller instance type, or end machines that are not needed.",
)
_FULL: Rule = (cloud.capacity, "Try again later, or choose a subnet in another availability zone or another instance type.")
_NOT_HERE: Rule = (cloud.unsupported, "Choose an SEV-SNP type (M6a, C6a, R6a) in a region that offers it.")
_TOKEN: Rule = (cloud.conflict, "The specification changed under a half-made deployment: remove the deployment and create it anew.")
_TAKEN: Rule = (cloud.conflict, "Something of this name is there already: remove it, or choose another deployment name.")
_LOST: Rule = (cloud.conflict, "Something that this needs was removed behind Evident's back: remove the deployment and create it anew.")
_ENDED: Rule = (cloud.conflict, "Somebody ended it. What was left of it is removed; repeat the command to start another.")
_SUBNET: Rule = (cloud.conflict, "Name a subnet (and VPC) of this account and region in the specification.")
_LATER: Rule = (cloud.transient, "Try again later; status.aws.amazon.com tells of outages.")
_NETWORK: Rule = (cloud.transient, "Check the network, proxy and firewall between here and AWS, then repeat the command.")
_STRANGE: Rule = (
    cloud.transient,
    "Something else answers in AWS's place, such as this network's login page: log in there, or go around the proxy, then repeat it.",
)

_CODES: dict[Rule, str] = {
    _LOGIN: """InvalidClientTokenId MissingAuthenticationToken UnrecognizedClientException ExpiredToken
        ExpiredTokenException InvalidAccessKeyId SignatureDoesNotMatch InvalidSignatureException IncompleteSignature""",
    _UNKNOWN: "AuthFailure",
    _CLOCK: "RequestExpired RequestTimeTooSkewed RequestInTheFuture",
    _PERMIT: "UnauthorizedOperation AccessDenied AccessDeniedException Client.UnauthorizedOperation",
    _ACCOUNT: "OptInRequired PendingVerification Blocked SubscriptionRequiredException",
    _LIMIT: """VcpuLimitExceeded InstanceLimitExceeded VolumeLimitExceeded SnapshotLimitExceeded SecurityGroupLimitExceeded
        RulesPerSecurityGroupLimitExceeded SecurityGroupsPerInterfaceLimitExceeded NetworkInterfaceLimitExceeded AMIQuotaExceeded
        ResourceLimitExceeded AddressLimitExceeded PendingSnapshotLimitExceeded MaxIOPSLimitExceeded InsufficientFreeAddressesInSubnet
        ServiceQuotaExceededException ConcurrentLimitExceededException Client.VolumeLimitExceeded""",
    _FULL: """InsufficientInstanceCapacity InsufficientCapacity InsufficientHostCapacity InsufficientVolumeCapacity
        InsufficientReservedInstanceCapacity Server.InsufficientInstanceCapacity""",
    _NOT_HERE: "Unsupported UnsupportedOperation InvalidInstanceType InvalidParameterCombination UnsupportedHibernationConfiguration",
    _TOKEN: "IdempotentParameterMismatch IdempotentInstanceTerminated InvalidClientToken ConflictException",
    _TAKEN: "InvalidGroup.Duplicate InvalidAMIName.Duplicate InvalidPermission.Duplicate",
    _LOST: """InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidSnapshot.NotFound InvalidGroup.NotFound InvalidGroupId.NotFound
        InvalidSecurityGroupID.NotFound InvalidInstanceID.NotFound ResourceNotFoundException Client.InvalidSnapshot.NotFound
        IncorrectState IncorrectInstanceState InvalidSnapshot.InUse""",
    _ENDED: "Client.UserInitiatedShutdown Client.InstanceInitiatedShutdown Client.InstanceTerminated Server.ScheduledStop",
    _SUBNET: "InvalidSubnetID.NotFound InvalidSubnet InvalidVpcID.NotFound InvalidSubnetId.Malformed InvalidSubnetID.Malformed",
    _LATER: """RequestLimitExceeded Throttling ThrottlingException RequestThrottled RequestThrottledException TooManyRequestsException
        SlowDown BandwidthLimitExceeded InternalError InternalFailure InternalServerException ServiceUnavailable Unavailable
        ServerInternal RequestTimeout RequestTimeoutException Server.InternalError ConcurrentTagAccess""",
}
RULES: dict[str, Rule] = {code: rule for rule, names in _CODES.items() for code in _words(names)}
"""AWS's error code, or a StateReason's, to the rule."""

_SKEWED = re.compile("Signature (expired|not yet current)")
"""How the message begins that refuses the time of a signature."""

GONE = _words(
    """InvalidInstanceID.NotFound InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidSnapshot.NotFound InvalidGroup.NotFound
    InvalidGroupId.NotFound InvalidSecurityGroupID.NotFound InvalidVolume.NotFound InvalidNetworkInterfaceID.NotFound"""
)
"""Answers to a removal that say that there is nothing to remove."""
IN_USE = _words(
    """DependencyViolation InvalidSnapshot.InUse VolumeInUse InvalidNetworkInterface.InUse InvalidParameterValue IncorrectState
    InvalidGroup.InUse ResourceInUse IncorrectInstanceState"""
)
"""Answers to a removal that say: not yet."""


def refuse_strange(response_dict: Mapping[str, Any], operation_model: Any, **_: Any) -> None:
    """An answer of botocore's that is not yet parsed (event ``before-parse``): its parsers take a page, and other people's JSON, for an
    answer without content, and so for the word that nothing is there. Raises botocore's own ``ResponseParserError``.
    """
    from botocore.parsers import ResponseParserError

    if response_dict["status_code"] >= 300:
        return
    if response_dict["headers"].get("Content-Type", "").startswith("text/html"):
        raise ResponseParserError("a page")
    by_json = operation_model.service_model.metadata["protocol"] in ("json", "rest-json") and not operation_model.has_streaming_output
    if by_json and not _answers(response_dict["body"], operation_model):
        raise ResponseParserError("other JSON")


def _answers(body: bytes, operation_model: Any) -> bool:
    """Whether `body` has anything that the operation answers with, where that is in the body."""
    shape = operation_model.output_shape
    members = shape.members.items() if shape is not None else ()
    expected = {member.serialization.get("name", name) for name, member in members if "location" not in member.serialization}
    try:
        found = json.loads(body) if body else {}
    except ValueError:
        return False
    return isinstance(found, dict) and (not expected or bool(expected & found.keys()))


def translate(error: Exception, doing: str) -> Exception:
    """`error` of the SDK while `doing` (the API call's name) as one of ours; itself, where only a defect of Evident explains it."""
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    no_credentials = (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError, sdk.ProfileNotFound)
    no_token = (sdk.TokenRetrievalError, sdk.UnauthorizedSSOTokenError, sdk.SSOTokenLoadError)
    if isinstance(error, sdk.ClientError):
        answer: dict[str, Any] = error.response.get("Error", {})
        code, message = str(answer.get("Code", "?")), " ".join(str(answer.get("Message", "")).split())
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        return _answer(code, message, doing, status)
    if isinstance(error, (*no_credentials, *no_token)):
        return _LOGIN[0](f"no usable credentials for {doing}: {error}", _LOGIN[1])
    if isinstance(error, ResponseParserError):
        return _STRANGE[0](f"{doing} was answered, and not by AWS: it is nothing that AWS sends", _STRANGE[1])
    if isinstance(error, sdk.HTTPClientError | sdk.ConnectionError):
        return _NETWORK[0](f"no answer to {doing}: {type(error).__name__}", _NETWORK[1])
    return error


def died(code: str, message: str) -> EvidentError:
    """Why an instance ended while it was starting, by its StateReason."""
    return _answer(code, message, "the start of the instance", 400)


def code_of(error: EvidentError) -> str:
    """AWS's own code behind `error`; empty when AWS did not answer."""
    answer = getattr(error.__cause__, "response", None)  # parsed in the SDK's ClientError, and in no other
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def _answer(code: str, message: str, doing: str, status: int) -> EvidentError:
    if _SKEWED.match(message):
        make, remedy = _CLOCK
    elif code in RULES:
        make, remedy = RULES[code]
    elif status >= 500:
        make, remedy = _LATER
    elif status in {401, 403}:
        make, remedy = _PERMIT
    else:
        make, remedy = cloud.unsupported, "Correct what the message names; `evident doctor` checks most of it before anything is made."
    return make(f"{doing} answered {code}: {message}".rstrip(": "), remedy)
