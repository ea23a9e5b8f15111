"""What Stripe's errors prove about the money, and which of them are about our configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import stripe

from refunds.domain.redaction import shown_code
from refunds.gateways.contract import (
    Answer,
    Declined,
    KeyReused,
    Misconfiguration,
    Misconfigured,
    Retryable,
    Unknown,
)

_OVER_BALANCE = {"charge_already_refunded", "amount_too_large"}

_INSUFFICIENT_FUNDS = {"insufficient_funds", "balance_insufficient"}

_MISCONFIGURED = {
    "api_key_expired": Misconfiguration.KEY_REFUSED,
    "platform_api_key_expired": Misconfiguration.KEY_REFUSED,
    "secret_key_required": Misconfiguration.KEY_REFUSED,
    "livemode_mismatch": Misconfiguration.KEY_OF_WRONG_MODE,
    "testmode_charges_only": Misconfiguration.KEY_OF_WRONG_MODE,
    "account_invalid": Misconfiguration.PERMISSION_MISSING,
    "platform_account_required": Misconfiguration.PERMISSION_MISSING,
    "parameter_unknown": Misconfiguration.REQUEST_REFUSED,
}
"""Refusals that are about us, not about the refund. The refund can be made once we have corrected
them."""

_OTHER_MODE = re.compile(r"similar object exists in (live|test) mode", re.IGNORECASE)
"""Only the text of a ``resource_missing`` says that our key is of the wrong mode. Should Stripe
change the text, the payment counts as missing, as it would without this."""


def misconfiguration(error: stripe.StripeError) -> Misconfiguration | None:
    """What is wrong on our side, if that is what the error says."""
    if (details := _details(error)) is None:
        return None
    code = details.get("code")
    if code == "resource_missing":
        other_mode = _OTHER_MODE.search(str(details.get("message", "")))
        return Misconfiguration.KEY_OF_WRONG_MODE if other_mode else None
    known = _MISCONFIGURED.get(code) if isinstance(code, str) else None
    match error:
        case stripe.AuthenticationError():
            return known or Misconfiguration.KEY_REFUSED
        case stripe.PermissionError():
            return known or Misconfiguration.PERMISSION_MISSING
    return known


def is_missing(error: stripe.StripeError) -> bool:
    """Whether Stripe itself says that there is no such object. A proxy's 404 says nothing."""
    details = _details(error)
    is_ours = details is not None and details.get("code") == "resource_missing"
    return is_ours and error.http_status == HTTPStatus.NOT_FOUND


def refusal(  # noqa: PLR0911 - one line a kind of error
    error: stripe.StripeError, retry_after_seconds: float | None
) -> Answer:
    """What the error to a refund proves about the money: the one place that decides it."""
    status, details = error.http_status, _details(error)
    if status is None or details is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # A proxy's page, a truncated body or an outage: the call may have been executed. Stripe
        # stores a 500 for the key, so only a look-up can tell.
        return Unknown(f"HTTP {status}")
    if why := misconfiguration(error):
        return Misconfigured(why)
    code = details.get("code") if isinstance(details.get("code"), str) else None
    match error:
        case stripe.RateLimitError():
            return Retryable(f"HTTP {status}: too many requests", retry_after_seconds)
        case stripe.IdempotencyError() if code != "idempotency_key_in_use":
            return KeyReused()
        case stripe.InvalidRequestError() if (
            status == HTTPStatus.NOT_FOUND and code != "resource_missing"
        ):
            return Unknown("HTTP 404: nothing is known of this address")
        case stripe.InvalidRequestError() | stripe.CardError():
            return _declined(code, details)
    # 409: an earlier call with this key is still running. Others: not in the contract.
    return Unknown(f"HTTP {status} {shown_code(code)}")


def _declined(code: str | None, details: Mapping[str, Any]) -> Declined:
    return Declined(
        code or str(details["type"]),
        str(details.get("message", "")),
        # Stripe gives no code when the amount is more than what is left.
        over_balance=code in _OVER_BALANCE or (code is None and details.get("param") == "amount"),
        # Final as well: Stripe stores this answer for the key, so repeating the call can't succeed.
        # (Where it can, Stripe accepts the refund and leaves it pending with ``pending_reason``
        # ``insufficient_funds``.)
        insufficient_funds=code in _INSUFFICIENT_FUNDS,
    )


def _details(error: stripe.StripeError) -> Mapping[str, Any] | None:
    """The error in the format of Stripe's API, or None: then a proxy may have written the
    response."""
    body: Any = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) and isinstance(details.get("type"), str) else None
