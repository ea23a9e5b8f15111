"""What would happen if a dead letter was sent again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refunds.domain.refund import Refund, Status
from refunds.domain.request import RefundRequest, RefusedError, parse_message

FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.REJECTED, Status.REVERSED})


@dataclass(frozen=True)
class Forecast:
    helps: bool
    what: str


def forecast(body: str, refund_of: Callable[[str], Refund | None]) -> Forecast:
    try:
        request = parse_message(body)
    except RefusedError as exc:
        return Forecast(False, f"would be refused again: {exc.code}: {exc.message}")
    refund = refund_of(request.refund_id)
    if refund is None:
        return Forecast(True, "would be processed")
    if not is_same_request(request, refund.fingerprint):
        return Forecast(
            False, f"would be refused: {refund.refund_id} is another request's, {refund.status}"
        )
    if refund.status in FINAL:
        return Forecast(False, f"would change nothing: the refund is {refund.status}")
    return Forecast(True, f"would continue the refund, which is {refund.status}")


def is_same_request(request: RefundRequest, stored: str) -> bool:
    try:
        return request.has_fingerprint(stored)
    except ValueError:  # of a newer release
        return True
