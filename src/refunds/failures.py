"""Classifies exceptions: which metric counts a failure, and who must act.

An exception that this code does not expect counts as a bug until somebody has looked at it. It
counts as ``UNEXPECTED`` and raises an alarm at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from refunds.domain.redaction import describe
from refunds.gateways.contract import GatewayMisconfiguredError, GatewayUnavailableError
from refunds.tables.state import ContendedError
from refunds.telemetry import Metrics


class FailureKind(StrEnum):
    UNEXPECTED = "unexpected"
    """A bug, or an error that this code does not know."""
    MISCONFIGURED = "misconfigured"
    """Our own key, permission, encryption key or resource is wrong. A person has to correct it."""
    UNAVAILABLE = "unavailable"
    """AWS or the gateway throttles, or does not answer. The next attempt may succeed."""


@dataclass(frozen=True)
class Failure:
    """``name`` is short and stable: part of a metric's name, and what the runbook lists.

    ``detail`` is what may be logged of the exception: its type and place.
    """

    kind: FailureKind
    name: str
    detail: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def needs_a_person(self) -> bool:
        return self.kind is not FailureKind.UNAVAILABLE


GATEWAY_UNAVAILABLE = "gateway_unavailable"
PERMISSION_DENIED = "permission_denied"
ENCRYPTION_KEY_UNUSABLE = "encryption_key_unusable"
RESOURCE_MISSING = "resource_missing"

_NAME_OF_CODE = {
    code: name
    for name, codes in {
        PERMISSION_DENIED: (
            "AccessDenied",
            "AccessDeniedException",
            "AuthorizationError",
            "AuthorizationErrorException",
            "InvalidClientTokenId",
            "NotAuthorized",
            "UnauthorizedOperation",
            "UnrecognizedClientException",
        ),
        ENCRYPTION_KEY_UNUSABLE: (
            "DisabledException",
            "KMSAccessDeniedException",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMSNotFoundException",
            "KmsAccessDenied",
            "KmsDisabled",
            "KmsInvalidState",
            "KmsNotFound",
        ),
        RESOURCE_MISSING: (
            "NoSuchBucket",
            "NonExistentQueue",
            "QueueDoesNotExist",
            "ResourceNotFoundException",
            "TableNotFoundException",
        ),
    }.items()
    for code in codes
}

_BUGS = frozenset({"ValidationException", "InvalidParameterValue", "SerializationException"})
"""AWS's codes for a request that is wrong in itself: repeating it does not help."""


def classify(error: BaseException) -> Failure:
    """Which failure ``error`` is: by its type and AWS's code, never by its text."""
    kind, name = FailureKind.UNEXPECTED, type(error).__name__
    match error:
        case ClientError():
            kind, name = _of_code(error.response["Error"].get("Code", ""))
        case GatewayMisconfiguredError():
            kind, name = FailureKind.MISCONFIGURED, error.reason.value
        case NoCredentialsError():
            kind, name = FailureKind.MISCONFIGURED, PERMISSION_DENIED
        case GatewayUnavailableError():
            kind, name = FailureKind.UNAVAILABLE, GATEWAY_UNAVAILABLE
        case BotoCoreError():
            kind, name = FailureKind.UNAVAILABLE, "aws_unreachable"
        case ContendedError():
            kind, name = FailureKind.UNAVAILABLE, "contended"
    return Failure(kind, name, describe(error))


def _of_code(code: str) -> tuple[FailureKind, str]:
    # Some services add a prefix: KMS.DisabledException, AWS.SimpleQueueService.NonExistentQueue.
    last = code.rpartition(".")[2]
    if last in _NAME_OF_CODE:
        return FailureKind.MISCONFIGURED, _NAME_OF_CODE[last]
    if last in _BUGS:
        return FailureKind.UNEXPECTED, last
    return FailureKind.UNAVAILABLE, last or "aws_unreachable"


def misconfiguration(name: str | None) -> Failure | None:
    """The failure that a person must correct before a refund can be tried again, if any."""
    return Failure(FailureKind.MISCONFIGURED, name) if name else None


_UNEXPECTED = {
    "ProcessRefund": "ProcessRefundUnexpectedErrors",
    "ReconcileRefunds": "ReconcileRefundsUnexpectedErrors",
    "WriteAudit": "WriteAuditUnexpectedErrors",
}


def count_failures(metrics: Metrics, function: str, failures: Iterable[Failure]) -> None:
    """Count failures by kind. A misconfiguration also counts by name: ``MisconfiguredKeyRefused``.

    A gateway that does not answer is not counted here: the circuit breaker handles that.
    """
    for failure in failures:
        if failure.kind is FailureKind.UNEXPECTED:
            metrics.add_metric(_UNEXPECTED[function], "Count", 1)
        elif failure.kind is FailureKind.MISCONFIGURED:
            metrics.add_metric("Misconfigured", "Count", 1)
            metrics.add_metric("Misconfigured" + _words(failure.name), "Count", 1)
        elif failure.name != GATEWAY_UNAVAILABLE:
            metrics.add_metric("AwsErrors", "Count", 1)


def _words(name: str) -> str:
    return name.title().replace("_", "")
