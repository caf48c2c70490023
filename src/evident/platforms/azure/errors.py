"""Azure's errors to those of `evident.platforms.cloud`, each with what to do about it.

Sources: Microsoft Learn, "Troubleshoot common Azure deployment errors", "Troubleshoot virtual machine allocation failures", "Throttling
Resource Manager requests", "Status and error codes (Storage)"; the error classes of azure-core 1.41. The class says little (a full quota is
409, thus ``ResourceExistsError``), so the code in the answer decides. A code that is in no table is told by its HTTP status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

from evident.errors import EvidentError
from evident.platforms import cloud

Make = Callable[[str, str], EvidentError]
Rule = tuple[Make, str]
"""Error and remedy."""

SKEW = 300.0
"""Seconds that this machine's clock may be off: as much as Microsoft Entra ID allows a token's times."""
RESERVED = 60.0
"""Seconds between two tries while Azure keeps a network interface for a machine that was never made; it does so for 180."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOGIN: Rule = (
    cloud.auth,
    "Log in again (az login), or renew the service principal's secret; `az account get-access-token` shows it work.",
)
CLOCK_REMEDY = "Set this machine's clock, then log in again (az login)."
_CLOCK: Rule = (cloud.auth, CLOCK_REMEDY)
_PERMIT: Rule = (
    cloud.auth,
    "Assign the role of docs/platforms/azure-role.json on the resource group (azure.md has the commands), then wait a minute.",
)
_POLICY: Rule = (cloud.auth, "An Azure Policy of the organisation forbids it: ask whoever assigned it, or use another resource group.")
_ACCOUNT: Rule = (cloud.auth, "Name a subscription that is enabled and that these credentials may see: `az account list` lists them.")
_PROVIDER: Rule = (
    cloud.auth,
    "Register the providers once: az provider register -n Microsoft.Compute; az provider register -n Microsoft.Network.",
)
_LIMIT: Rule = (
    cloud.quota,
    "Ask for a higher quota (Azure portal, Quotas), choose a smaller size or another region, or end what is not needed.",
)
_FULL: Rule = (cloud.capacity, "Try again later, or choose another zone, size or region.")
_NOT_HERE: Rule = (
    cloud.unsupported,
    "Choose a confidential size (DCas, DCads, ECas, DCes, ECes) that the region offers: `evident doctor` asks it.",
)
_TOKEN: Rule = (cloud.conflict, "The specification changed under a half-made deployment: remove the deployment and create it anew.")
_GROUP: Rule = (cloud.conflict, "Create the resource group: az group create -n NAME -l REGION. Evident makes none, and removes none.")
_LOCKED: Rule = (cloud.conflict, "Remove the lock on the resource group or resource (az lock list), then repeat the command.")
_LOST: Rule = (cloud.conflict, "Something that this needs was removed behind Evident's back: remove the deployment and create it anew.")
_IN_THE_WAY: Rule = (cloud.conflict, "Remove what the message names, or wait until Azure is done with it; then repeat the command.")
_ACCESS: Rule = (cloud.timeout, "The URL for the upload has expired: repeat the command, the image is uploaded anew.")
_LATER: Rule = (cloud.transient, "Try again later; status.azure.com tells of outages.")
_NETWORK: Rule = (cloud.transient, "Check the network, proxy and firewall between here and Azure, then repeat the command.")
_STRANGE: Rule = (
    cloud.transient,
    "Something else answers in Azure's place, such as this network's login page: log in there, or go around the proxy, then repeat it.",
)

_CODES: dict[Rule, str] = {
    _LOGIN: """ExpiredAuthenticationToken InvalidAuthenticationToken AuthenticationFailedMissingToken InvalidAuthenticationTokenAudience""",
    _PERMIT: "AuthorizationFailed LinkedAuthorizationFailed AuthorizationPermissionMismatch AuthorizationFailure Forbidden",
    _POLICY: "RequestDisallowedByPolicy RequestDisallowedByAzure",
    _ACCOUNT: """SubscriptionNotFound InvalidSubscriptionId InvalidAuthenticationTokenTenant ReadOnlyDisabledSubscription
        DisabledSubscription SubscriptionNotAuthorized""",
    _PROVIDER: "MissingSubscriptionRegistration SubscriptionNotRegistered",
    _LIMIT: "QuotaExceeded OperationNotAllowed PublicIPCountLimitReached ResourceQuotaExceeded SubnetIsFull",
    _FULL: """SkuNotAvailable AllocationFailed ZonalAllocationFailed OverconstrainedAllocationRequest
        OverconstrainedZonalAllocationRequest""",
    _NOT_HERE: """BadRequest InvalidParameter NotSupported OperationNotSupported LocationNotAvailableForResourceType
        NoRegisteredProviderFound InvalidResourceLocation FeatureNotSupportedForAccount""",
    _TOKEN: "PropertyChangeNotAllowed ConflictingUserInput",
    _GROUP: "ResourceGroupNotFound ResourceGroupBeingDeleted",
    _LOCKED: "ScopeLocked",
    _LOST: "Deleting ResourceNotFound NotFound ParentResourceNotFound InvalidResourceReference ImageNotFound BlobNotFound",
    _ACCESS: "AuthenticationFailed InvalidAuthenticationInfo",
    _LATER: """TooManyRequests SubscriptionRequestsThrottled ResourceCollectionRequestsThrottled RetryableError AnotherOperationInProgress
        RetryableErrorDueToAnotherOperation ReferencedResourceNotProvisioned ResourceNotFinalState OperationPreempted
        NicReservedForAnotherVm
        InternalServerError InternalExecutionError InternalOperationError InternalError NetworkingInternalOperationError ServerTimeout
        GatewayTimeout ServiceUnavailable ServerBusy OperationTimedOut DiskServiceInternalError""",
}
RULES: dict[str, Rule] = {code: rule for rule, names in _CODES.items() for code in _words(names)}
"""Azure's code, or that of a machine's provisioning state, to the rule."""

_STATUSES: dict[int, Rule] = {401: _LOGIN, 403: _PERMIT, 404: _LOST, 408: _LATER, 409: _IN_THE_WAY}

GONE = _words("ResourceNotFound NotFound ParentResourceNotFound ResourceGroupNotFound ResourceGroupBeingDeleted")
"""Answers that say that there is nothing of that name."""
IN_USE = _words(
    """InUseSubnetCannotBeDeleted InUseNetworkSecurityGroupCannotBeDeleted NicInUse NicReservedForAnotherVm OperationNotAllowed
    PublicIPAddressCannotBeDeleted CannotDeleteResource AnotherOperationInProgress ReferencedResourceNotProvisioned Conflict
    ResourceNotFinalState"""
)
"""Answers to a removal that say: not yet."""


def refuse_page(response: Any) -> None:
    """A response in the SDK's pipeline. Where no content is expected a page would pass, and elsewhere fail in the SDK's hands.

    Raises azure-core's own ``DecodeError``.
    """
    from azure.core.exceptions import DecodeError

    answer = response.http_response
    if answer.status_code < 300 and answer.headers.get("Content-Type", "").startswith("text/html"):
        answer.close()  # nobody reads it, and its connection would stay open
        raise DecodeError("a page")


def refuse_no_listing(response: Any) -> None:
    """Likewise of a page of a listing: the SDK takes any JSON for one, and so for the word that nothing is there."""
    from azure.core.exceptions import DecodeError

    answer = response.http_response
    if answer.status_code < 300:
        page = json.loads(answer.text())
        if not isinstance(page, dict) or not isinstance(page.get("value"), list):
            raise DecodeError("no listing")


def translate(error: Exception, doing: str, now: datetime) -> Exception:
    """`error` of the SDK while `doing` as one of ours; itself, where only a defect of Evident explains it."""
    from azure.core import exceptions as sdk

    answer = getattr(error, "response", None)
    if isinstance(error, sdk.DecodeError | sdk.DeserializationError | JSONDecodeError):
        return strange(doing)
    if isinstance(error, sdk.HttpResponseError) and answer is not None:
        code, message = _told(error)
        return _answer(code, message, doing, answer.status_code, answer.headers, now)
    if isinstance(error, sdk.ClientAuthenticationError):
        rule = _CLOCK if re.search(r"AADSTS(700024|500133)\b", str(error)) else _LOGIN
        return rule[0](f"no usable credentials for {doing}: {_first_line(error)}", rule[1])
    if isinstance(error, sdk.ServiceRequestError | sdk.ServiceResponseError | sdk.HttpResponseError):
        return _NETWORK[0](f"no answer to {doing}: {type(error).__name__}", _NETWORK[1])
    return error


def strange(doing: str) -> EvidentError:
    return _STRANGE[0](f"{doing} was answered, and not by Azure: it is not the JSON that Azure sends", _STRANGE[1])


def died(code: str, message: str, doing: str) -> EvidentError:
    """Why something that was accepted ended all the same, by the code of its provisioning state."""
    return _answer(code, message, doing, 400, {}, None)


def code_of(error: EvidentError) -> str:
    """Azure's own code behind `error`; empty when Azure did not answer."""
    cause = error.__cause__
    return _told(cause)[0] if getattr(cause, "response", None) is not None else ""


def skew(headers: Any, now: datetime) -> float:
    """Seconds that this machine's clock is ahead of the one that dated an answer; 0 where that is not dated."""
    try:
        return (now - parsedate_to_datetime(headers["Date"]).astimezone(UTC)).total_seconds()
    except (KeyError, TypeError, ValueError):
        return 0.0


def _told(error: Any) -> tuple[str, str]:
    """Code and message of an answer; of a detail where a table knows that, for some services wrap it. Storage tells its in a header."""
    if error.error is None:
        return error.response.headers.get("x-ms-error-code") or f"HTTP {error.response.status_code}", ""
    told = next((each for each in (*error.error.details, error.error) if each.code in RULES), error.error)
    return str(told.code), " ".join(str(told.message or "").split())


def _answer(code: str, message: str, doing: str, status: int, headers: Any, now: datetime | None) -> EvidentError:
    found = f"{doing} answered {code}: {message}".rstrip(": ")
    if status == 429 or (status >= 500 and code not in RULES):
        make, remedy = _LATER
    elif code in RULES:
        make, remedy = RULES[code]
    elif status in _STATUSES:
        make, remedy = _STATUSES[status]
    else:
        make, remedy = cloud.unsupported, "Correct what the message names; `evident doctor` checks most of it before anything is made."
    if status == 401 and now is not None and abs(off := skew(headers, now)) > SKEW:
        make, remedy = _CLOCK
        found += f"; this machine's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Azure's"
    if make is cloud.transient:
        return cloud.transient(found, remedy, after=_wait(code, headers))
    return make(found, remedy)


def _wait(code: str, headers: Any) -> float:
    """Seconds that Azure wants us to stay away: Retry-After, which it gives in seconds."""
    try:
        return float(headers["Retry-After"])
    except (KeyError, TypeError, ValueError):
        return RESERVED if code == "NicReservedForAnotherVm" else 0.0


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
