"""Stripe, through its own SDK and our transport. Imported only where Stripe is configured.

A payment is a PaymentIntent (``pi_…``) or a charge (``ch_…``, ``py_…``); ask for one payment by one
of its ids, since each id has a ledger of its own. Our reference is in the refund's metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import stripe
from pydantic import BaseModel, ConfigDict, Field

from refunds.domain.clock import Clock, Deadline
from refunds.domain.redaction import shown_code
from refunds.gateways.contract import (
    REFERENCE_KEY,
    Accepted,
    Answer,
    ApiKey,
    Declined,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Payment,
    PaymentStatus,
    RefundOrder,
    RefundPage,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.http import HttpTransport, NoAnswerError, NotSentError, retry_after_seconds
from refunds.gateways.stripe_amounts import NotExpressibleError, from_stripe, to_stripe

API_VERSION = "2026-10-28.endive"
"""What the models below were written for; the installed SDK's own version, a test says."""

PAGE = 100
MAX_LOOK_UP_PAGES = 10
"""Pages of one payment's refunds that a look-up reads before giving up."""

# The SDK logs what Stripe says and what is sent to it, and reports how long its calls take. It is a
# filter since any logging.config.dictConfig enables a logger again that was disabled.
logging.getLogger("stripe").addFilter(lambda record: False)
stripe.enable_telemetry = False

_Result = TypeVar("_Result")

_REASONS = {"requested_by_customer", "duplicate", "fraudulent"}
"""Those of ours that Stripe has too. ``fraudulent`` also puts the card on Stripe's block list."""

_STATUSES = {
    "succeeded": GatewayStatus.SUCCEEDED,
    "failed": GatewayStatus.FAILED,
    "canceled": GatewayStatus.FAILED,
    "pending": GatewayStatus.PENDING,
    # The customer has to say where the money should go; until then it is on its way.
    "requires_action": GatewayStatus.PENDING,
}

_REFUNDABLE_DISPUTES = {"won", "warning_needs_response", "warning_under_review", "warning_closed"}
"""An inquiry (``warning_…``) takes no money, and a dispute that was won gave it back. While any
other is open or lost, the bank has the money already."""

_OVER_BALANCE = {"charge_already_refunded", "amount_too_large"}

_MISCONFIGURED = {
    "api_key_expired",
    "livemode_mismatch",
    "parameter_unknown",
    "platform_account_required",
    "platform_api_key_expired",
    "secret_key_required",
    "testmode_charges_only",
}
"""Refusals that are about us, not about the refund: it can be done once we are put right."""

# A validation error must not repeat what Stripe said: it may end up in a log.
_STRICT = ConfigDict(strict=True, hide_input_in_errors=True)


class _Charge(BaseModel):
    model_config = _STRICT
    id: str
    status: str
    captured: bool
    disputed: bool
    currency: str
    amount_captured: int = Field(ge=0)
    amount_refunded: int = Field(ge=0)


class _PaymentIntent(BaseModel):
    model_config = _STRICT
    id: str
    status: str
    currency: str
    latest_charge: _Charge | None = None


class _Dispute(BaseModel):
    model_config = _STRICT
    status: str


class _Disputes(BaseModel):
    model_config = _STRICT
    data: list[_Dispute]


class _Refund(BaseModel):
    model_config = _STRICT
    id: str
    charge: str | None = None
    payment_intent: str | None = None
    amount: int = Field(ge=1)
    currency: str
    status: str | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] | None = None


class _Page(BaseModel):
    model_config = _STRICT
    data: list[Any]
    has_more: bool


class _KeyTooOldError(Exception):
    """Nothing was sent."""


class _OneCall(stripe.HTTPClient):
    """The SDK's way out: our transport, with the deadline of the one call that this is made for.

    The SDK's own clients have a time-out for each read, not for the whole call. Nothing is tried
    again: an error of ours is none that the SDK would repeat.
    """

    name = "refunds"

    def __init__(
        self, transport: HttpTransport, deadline: Deadline, before_sending: Callable[[], None]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._deadline = deadline
        self._before_sending = before_sending

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        self._before_sending()
        response = self._transport.request(
            method.upper(),
            url,
            headers=dict(headers or {}),
            body=post_data.encode() if post_data else None,
            deadline=self._deadline,
        )
        return response.body.decode(errors="replace"), response.status, response.headers

    def close(self) -> None:
        """Nothing is held: the transport is shared."""


class StripeGateway:
    """One Stripe account; ``base_url`` without the ``/v1``."""

    name = "stripe"
    # "At least 24 hours": https://docs.stripe.com/api/idempotent_requests
    key_lifetime = timedelta(hours=24)
    finds_by_reference = False
    is_asynchronous = True
    can_reverse = True
    # In live mode, https://docs.stripe.com/rate-limits; a sandbox allows a quarter of it.
    requests_per_second = 100.0

    def __init__(
        self,
        *,
        base_url: str,
        api_key: ApiKey,
        transport: HttpTransport,
        clock: Clock,
        timeout_seconds: float,
        stage: Stage = Stage(),  # noqa: B008 - it can't change
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._transport = transport
        self._clock = clock
        self.timeout_seconds = timeout_seconds
        self._stage = stage

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        if _payment_filter(transaction_id) is None:
            return None
        shown = self._read(
            deadline,
            lambda client: (
                client.v1.payment_intents.retrieve(transaction_id, {"expand": ["latest_charge"]})
                if transaction_id.startswith("pi_")
                else client.v1.charges.retrieve(transaction_id)
            ),
            none_if_missing=True,
        )
        if shown is None:
            return None
        try:
            return self._payment(transaction_id, shown, deadline)
        except ValueError as exc:
            raise GatewayUnavailableError("Stripe's payment can't be read") from exc

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        payment = _payment_filter(order.transaction_id)
        if payment is None:
            return Declined("payment_not_found", "Stripe's payments are pi_…, ch_… and py_…")
        try:
            amount = to_stripe(order.amount_minor, order.currency)
        except NotExpressibleError as exc:
            return Declined("amount_not_expressible", str(exc))
        reference = self._stage.mark(order.refund_id)
        params: Any = {**payment, "amount": amount, "metadata": {REFERENCE_KEY: reference}}
        if order.reason in _REASONS:
            params["reason"] = order.reason

        def in_time() -> None:
            # In the thread that sends, just before the bytes go: an old key could pay twice.
            if self._clock.now() >= not_after:
                raise _KeyTooOldError

        try:
            client = self._client(deadline, in_time)
        except Exception as exc:  # whatever the secret's store raises: nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        try:
            made = client.v1.refunds.create(params, {"idempotency_key": reference})
            return Accepted(self._refund(made.to_dict(), order.transaction_id))
        except _KeyTooOldError:
            return KeyTooOld()
        except NotSentError as exc:
            return Retryable(f"not sent: {exc}")
        except NoAnswerError as exc:
            return Unknown(f"no answer: {exc}")
        except stripe.StripeError as exc:
            return self._refusal(exc)
        except Exception as exc:
            # A refund that can't be read, or an SDK that stumbled over the answer: it was sent.
            return Unknown(f"the answer can't be read: {type(exc).__name__}")

    def find_refunds(
        self, refund_id: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        # All of the payment's, one by one: Stripe's search lags behind, its lists don't.
        found: list[GatewayRefund] = []
        cursor: str | None = None
        for _ in range(MAX_LOOK_UP_PAGES):
            page = self.list_refunds(deadline, transaction_id=transaction_id, cursor=cursor)
            found += [refund for refund in page.refunds if refund.reference == refund_id]
            if (cursor := page.next_cursor) is None:
                return tuple(found)
        raise GatewayUnavailableError("too many refunds of one payment to find one among them")

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        params: Any = {"limit": PAGE}
        if transaction_id is not None:
            if (payment := _payment_filter(transaction_id)) is None:
                return RefundPage((), None)
            params |= payment
        if created_from is not None:
            params["created"] = {"gte": int(created_from.timestamp())}
        if cursor is not None:
            params["starting_after"] = cursor
        shown = self._read(deadline, lambda client: client.v1.refunds.list(params))
        try:
            page = _Page.model_validate(shown)
            refunds = tuple(self._listed(page, transaction_id))
            return RefundPage(refunds, page.data[-1]["id"] if page.has_more else None)
        except (ValueError, LookupError, TypeError) as exc:
            raise GatewayUnavailableError("Stripe's list can't be read") from exc

    def _listed(self, page: _Page, transaction_id: str | None) -> list[GatewayRefund]:
        if transaction_id is not None:
            refunds = [self._refund(each, transaction_id) for each in page.data]
            if any(refund.transaction_id != transaction_id for refund in refunds):
                raise ValueError("the list is of other payments too")
            return refunds
        refunds = []
        for each in page.data:
            try:
                refunds.append(self._refund(each, None))
            except ValueError:
                continue  # not made by us, and it must not keep the account's others from us
        return refunds

    def _payment(
        self, transaction_id: str, shown: Mapping[str, Any], deadline: Deadline
    ) -> Payment:
        charge: _Charge | None
        if transaction_id.startswith("pi_"):
            intent = _PaymentIntent.model_validate(shown)
            shown_id, currency, charge = intent.id, intent.currency, intent.latest_charge
            status = _intent_status(intent)
        else:
            charge = _Charge.model_validate(shown)
            shown_id, currency, status = charge.id, charge.currency, _charge_status(charge)
        if shown_id != transaction_id:
            raise ValueError("another payment than asked for")
        if charge and charge.disputed and self._money_is_disputed(charge, deadline):
            status = PaymentStatus.DISPUTED
        currency = currency.upper()
        return Payment(
            transaction_id=transaction_id,
            status=status,
            currency=currency,
            captured_minor=from_stripe(charge.amount_captured, currency) if charge else 0,
            refunded_minor=from_stripe(charge.amount_refunded, currency) if charge else 0,
        )

    def _money_is_disputed(self, charge: _Charge, deadline: Deadline) -> bool:
        """``disputed`` stays true for ever; only the disputes tell how they went."""
        shown = self._read(
            deadline, lambda client: client.v1.disputes.list({"charge": charge.id, "limit": PAGE})
        )
        disputes = _Disputes.model_validate(shown).data
        return not disputes or any(each.status not in _REFUNDABLE_DISPUTES for each in disputes)

    def _refund(self, shown: object, asked: str | None) -> GatewayRefund:
        """``asked``: the payment's id as we have it, since a refund shows both of its ids."""
        refund = _Refund.model_validate(shown)
        currency = refund.currency.upper()
        ids = (refund.payment_intent, refund.charge)
        status = refund.status or "pending"
        failed = _STATUSES.get(status) is GatewayStatus.FAILED
        return GatewayRefund(
            gateway_refund_id=refund.id,
            transaction_id=asked if asked in ids and asked else ids[0] or ids[1] or "",
            reference=self._stage.refund_id((refund.metadata or {}).get(REFERENCE_KEY)),
            amount_minor=from_stripe(refund.amount, currency),
            currency=currency,
            # A status of a later API says nothing final: it is asked for again.
            status=_STATUSES.get(status, GatewayStatus.PENDING),
            failure_code=(refund.failure_reason or status) if failed else None,
        )

    def _refusal(self, error: stripe.StripeError) -> Answer:
        """What an error says of the money: the one place that decides it."""
        status, told = error.http_status, _contract_error(error)
        if status is None or told is None or status >= 500:
            # A proxy's page, a body cut short, an outage: none says what became of the call. A
            # 500 of Stripe's is stored for the key, so only a look-up can tell.
            return Unknown(f"HTTP {status}")
        code = told.get("code") if isinstance(told.get("code"), str) else None
        match error:
            case stripe.AuthenticationError() | stripe.PermissionError():
                self._api_key.forget()
                return Retryable(f"HTTP {status}: Stripe does not take our key")
            case stripe.RateLimitError():
                return Retryable(f"HTTP {status}: too many requests", self._retry_after(error))
            case stripe.IdempotencyError() if code != "idempotency_key_in_use":
                return KeyReused()
            case stripe.InvalidRequestError() if code in _MISCONFIGURED:
                return Retryable(f"HTTP {status} {code}")
            case stripe.InvalidRequestError() if status == 404 and code != "resource_missing":
                return Unknown("HTTP 404: nothing is known of this address")
            case stripe.InvalidRequestError() | stripe.CardError():
                # Also for lack of funds in our own balance: the answer is stored for the key, so
                # the same key will not be paid later. A new request may be.
                return Declined(
                    code or str(told["type"]),
                    str(told.get("message", "")),
                    # Stripe gives no code when an amount is more than what is left.
                    over_balance=code in _OVER_BALANCE
                    or (code is None and told.get("param") == "amount"),
                )
        # 409: the earlier call with this key still runs. Others: not in the contract.
        return Unknown(f"HTTP {status} {shown_code(code)}")

    def _read(
        self,
        deadline: Deadline,
        ask: Callable[[stripe.StripeClient], Any],
        *,
        none_if_missing: bool = False,
    ) -> Any:
        """What Stripe shows, as plain JSON. Raises ``GatewayUnavailableError``."""
        try:
            client = self._client(deadline, lambda: None)
        except Exception as exc:  # whatever the secret's store raises
            raise GatewayUnavailableError(f"no gateway key: {type(exc).__name__}") from exc
        try:
            return ask(client).to_dict()
        except (NotSentError, NoAnswerError) as exc:
            raise GatewayUnavailableError(f"no answer: {exc}") from exc
        except stripe.StripeError as exc:
            told = _contract_error(exc)
            missing = exc.http_status == 404 and told and told.get("code") == "resource_missing"
            if none_if_missing and missing:
                return None
            if isinstance(exc, stripe.AuthenticationError | stripe.PermissionError):
                self._api_key.forget()
            # Without its cause: the SDK's error has Stripe's own words in it.
            raise GatewayUnavailableError(
                f"HTTP {exc.http_status}", self._retry_after(exc)
            ) from None
        except Exception as exc:
            raise GatewayUnavailableError(
                f"Stripe's answer can't be read: {type(exc).__name__}"
            ) from None

    def _client(
        self, deadline: Deadline, before_sending: Callable[[], None]
    ) -> stripe.StripeClient:
        return stripe.StripeClient(
            self._api_key.get(),
            base_addresses={"api": self._base_url},
            stripe_version=API_VERSION,
            max_network_retries=0,
            http_client=_OneCall(self._transport, deadline, before_sending),
        )

    def _retry_after(self, error: stripe.StripeError) -> float | None:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        return retry_after_seconds(headers, self._clock.now())


def _payment_filter(transaction_id: str) -> dict[str, str] | None:
    """How Stripe names the payment in a request; None for what can't be an id of its."""
    if transaction_id.startswith("pi_"):
        return {"payment_intent": transaction_id}
    if transaction_id.startswith(("ch_", "py_")):
        return {"charge": transaction_id}
    return None


def _charge_status(charge: _Charge) -> PaymentStatus:
    if charge.status == "failed":
        return PaymentStatus.VOIDED
    if charge.status != "succeeded" or not charge.captured:
        return PaymentStatus.AUTHORIZED
    return PaymentStatus.CAPTURED


def _intent_status(intent: _PaymentIntent) -> PaymentStatus:
    if intent.status == "canceled":
        return PaymentStatus.VOIDED
    if intent.status != "succeeded" or intent.latest_charge is None:
        return PaymentStatus.AUTHORIZED
    return _charge_status(intent.latest_charge)


def _contract_error(error: stripe.StripeError) -> Mapping[str, Any] | None:
    """The API's own error, or None: then nobody knows who wrote this answer."""
    body: Any = error.json_body
    told = body.get("error") if isinstance(body, dict) else None
    return told if isinstance(told, dict) and isinstance(told.get("type"), str) else None
