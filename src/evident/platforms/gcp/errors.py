"""Google's errors to those of `evident.platforms.cloud`, each with what to do about it.

Sources: Compute Engine documentation, "Troubleshooting VM creation" and "Handling API responses"; Cloud Storage JSON API, "Status and
error codes"; google-api-core 2.44 (`GoogleAPICallError`), google-auth 2.62 (`exceptions`). One reason has two spellings, ``quotaExceeded``
in an answer and ``QUOTA_EXCEEDED`` in a finished operation; the table has it in small letters alone. A reason that it has not is told by
the HTTP status: 5xx is Google's own trouble, 4xx a request that it does not take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from evident.errors import EvidentError
from evident.platforms import cloud

Make = Callable[[str, str], EvidentError]
Rule = tuple[Make, str]
"""Error and remedy."""

_LOGIN: Rule = (
    cloud.auth,
    "Renew the credentials: gcloud auth application-default login, or a valid key in GOOGLE_APPLICATION_CREDENTIALS.",
)
_CLOCK: Rule = (cloud.auth, "Set this machine's clock: Google refuses tokens that were signed minutes off. Then repeat the command.")
_PERMIT: Rule = (cloud.auth, "Grant this account the role in docs/platforms/gcp-role.yaml on the project; an organisation may deny it too.")
_OFF: Rule = (
    cloud.auth,
    "Switch the interfaces on: gcloud services enable compute.googleapis.com storage.googleapis.com cloudresourcemanager.googleapis.com",
)
_BILLING: Rule = (cloud.auth, "Link the project to an active billing account in the Google Cloud console.")
_FORBIDDEN: Rule = (
    cloud.auth,
    "A policy of the organisation forbids it: have the constraint that the message names lifted for this project, or use another project.",
)
_LIMIT: Rule = (
    cloud.quota,
    "Ask for a higher limit (console: IAM & Admin, Quotas), choose a smaller machine type or another region, or remove what is not needed.",
)
_FULL: Rule = (
    cloud.capacity,
    "Try again later, or choose another zone or type. Google answers the same of a zone without confidential machines: see its list.",
)
"""As seen in kubernetes-sigs/cluster-api-provider-gcp, issue 1437."""
_NOT_HERE: Rule = (
    cloud.unsupported,
    "Choose a machine type with confidential computing (SEV-SNP: n2d, TDX: c3) in a zone that offers it.",
)
_TAKEN: Rule = (cloud.conflict, "Something of this name is there already: remove it, or choose another deployment name.")
_LOST: Rule = (
    cloud.conflict,
    "Something that this needs does not exist: check project and zone; or remove the deployment and create it anew.",
)
_USED: Rule = (cloud.conflict, "Something else uses it: remove that first, then repeat the command.")
_LATER: Rule = (cloud.transient, "Try again later; status.cloud.google.com tells of outages.")
_NETWORK: Rule = (cloud.transient, "Check the network, proxy and firewall between here and Google, then repeat the command.")
_STRANGE: Rule = (
    cloud.transient,
    "Something else answers in Google's place, such as this network's login page: log in there, or go around the proxy, then repeat it.",
)

_REASONS: dict[Rule, str] = {
    _LOGIN: "autherror unauthenticated accesstokenexpired accesstokenscopeinsufficient",
    _PERMIT: "forbidden permissiondenied permissionserror insufficientpermissions iampermissiondenied insufficientfilepermissions",
    _OFF: "accessnotconfigured servicedisabled",
    _BILLING: "billingnotenabled billingdisabled accountdisabled",
    _FORBIDDEN: "conditionnotmet",
    _LIMIT: "quotaexceeded regionquotaexceeded limitexceeded dailylimitexceeded resourcequotaexceeded",
    _FULL: """zoneresourcepoolexhausted zoneresourcepoolexhaustedwithdetails resourcepoolexhausted regionresourcepoolexhausted
        insufficientcapacity stockout""",
    _NOT_HERE: "unsupportedoperation",
    _TAKEN: "alreadyexists resourcealreadyexists conflict",
    _LOST: "notfound resourcenotfound",
    _USED: "resourceinusebyanotherresource resourceinuse",
    _LATER: """ratelimitexceeded userratelimitexceeded concurrentoperationsquotaexceeded resourceoperationratelimitexceeded
        backenderror internalerror serviceunavailable unavailable resourcenotready deadlineexceeded""",
}
RULES: dict[str, Rule] = {reason: rule for rule, reasons in _REASONS.items() for reason in reasons.split()}
"""Google's reason in small letters alone, to the rule."""
_STATUSES: dict[int, Rule] = {401: _LOGIN, 403: _PERMIT, 404: _LOST, 408: _LATER, 409: _TAKEN, 412: _FORBIDDEN, 429: _LATER}

_ADDRESS = re.compile(r"[A-Z]+ https?://\S+: ")
"""What google-api-core writes before Google's message."""
_GONE = frozenset({"notfound", "resourcenotfound"})
_IN_USE = frozenset({"resourceinusebyanotherresource", "resourceinuse", "resourcenotready", "conflict"})


def translate(error: Exception, doing: str) -> Exception:
    """`error` of the SDK while `doing` as one of ours; itself, where only a defect of Evident explains it."""
    import requests
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth import exceptions as auth
    from google.protobuf.json_format import ParseError

    if isinstance(error, ParseError):
        return strange(doing)
    if isinstance(error, GoogleAPICallError):
        return _answer(_reasons(error), int(error.code or 500), _ADDRESS.sub("", _words(error.message)), doing)
    if isinstance(error, auth.TransportError | requests.RequestException) or getattr(error, "retryable", False):
        return _NETWORK[0](f"no answer to {doing}: {type(error).__name__}", _NETWORK[1])
    if isinstance(error, auth.GoogleAuthError):
        text = _words(str(error))
        if "No access token in response" in text:  # an answer with status 200 that Google would have put one into
            return strange(f"the sign-in for {doing}")
        rule = _CLOCK if "iat and exp" in text or "timeframe" in text else _LOGIN
        return rule[0](f"no usable credentials for {doing}: {text}", rule[1])
    return error


def failed(operation: Any, doing: str) -> EvidentError:
    """Why a finished `operation` (compute_v1.Operation) failed: it was accepted, and its errors are inside."""
    listed = list(operation.error.errors)
    message = "; ".join(_words(each.message) for each in listed) or _words(operation.http_error_message)
    return _answer([each.code for each in listed], operation.http_error_status_code or 400, message, doing)


def gone(error: EvidentError) -> bool:
    """Does Google say that there is no such thing?"""
    return status_of(error) == 404 or _reason(error) in _GONE


def in_use(error: EvidentError) -> bool:
    """Does Google say: not yet, for something uses it or changes it?"""
    return _reason(error) in _IN_USE


def taken(error: EvidentError) -> bool:
    """Does Google say that there is something of this name?"""
    return status_of(error) == 409 and not in_use(error)


def status_of(error: EvidentError) -> int:
    """The HTTP status behind `error`; 0 when Google did not answer."""
    from google.api_core.exceptions import GoogleAPICallError

    return int(error.__cause__.code or 0) if isinstance(error.__cause__, GoogleAPICallError) else 0


def _reason(error: EvidentError) -> str:
    """Google's own reason behind `error`, as `RULES` spells it; empty when Google did not answer."""
    from google.api_core.exceptions import GoogleAPICallError

    cause = error.__cause__
    return _plain(next(iter(_reasons(cause)), "")) if isinstance(cause, GoogleAPICallError) else ""


def not_offered(found: str) -> EvidentError:
    return _NOT_HERE[0](found, _NOT_HERE[1])


def over_limit(found: str) -> EvidentError:
    return _LIMIT[0](found, _LIMIT[1])


def not_permitted(found: str) -> EvidentError:
    return _PERMIT[0](found, _PERMIT[1])


def strange(doing: str) -> EvidentError:
    return _STRANGE[0](f"{doing} was answered, and not by Google: it is not the JSON that Google sends", _STRANGE[1])


def ended(found: str) -> EvidentError:
    return cloud.conflict(found, "Somebody removed it. What was left of it is removed; repeat the command to make another.")


def _reasons(error: Any) -> list[str]:
    """The reasons that an answer gives, the most particular first."""
    listed = [str(each.get("reason", "")) for each in error.errors or () if isinstance(each, dict)]
    return [reason for reason in (error.reason or "", *listed) if reason]


def _answer(reasons: Iterable[str], status: int, message: str, doing: str) -> EvidentError:
    reasons = list(reasons)
    known = next((reason for reason in reasons if _plain(reason) in RULES), None)
    if known is not None:
        make, remedy = RULES[_plain(known)]
    elif status in _STATUSES:
        make, remedy = _STATUSES[status]
    elif status >= 500:
        make, remedy = _LATER
    elif status < 400:  # a redirection, which Google's interfaces have none of
        make, remedy = _STRANGE
    else:
        make, remedy = cloud.unsupported, "Correct what the message names; `evident doctor` checks most of it before anything is made."
    return make(f"{doing} answered {known or next(iter(reasons), status)}: {message}".rstrip(": ."), remedy)


def _plain(reason: str) -> str:
    return reason.replace("_", "").lower()


def _words(text: Any) -> str:
    return " ".join(str(text or "").split())
