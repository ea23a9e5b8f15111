"""Stripe, through its own SDK and our transport. Imported only where Stripe is configured.

A payment is a PaymentIntent (``pi_…``) or a charge (``ch_…``, ``py_…``). Always name a payment by
the same one of its ids, since each id has a ledger of its own. Our reference is in the refund's
metadata.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
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
    GatewayMisconfiguredError,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    KeyReused,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Payment,
    PaymentStatus,
    RefundOrder,
    RefundPage,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.http import (
    HttpTransport,
    NoAnswerError,
    NotSentError,
    public_address,
    retry_after_seconds,
)
from refunds.gateways.stripe_amounts import NotExpressibleError, from_stripe, to_stripe

API_VERSION = "2026-10-28.endive"
"""The version that the models below were written for. A test compares it with the SDK's."""

PAGE = 100
MAX_LOOK_UP_PAGES = 10
"""Pages of one payment's refunds that a look-up reads before it gives up."""

EMPTY_PAGE_TRIES = 3
"""Times that a page is read again which is empty although Stripe says that there is more."""

# The SDK logs requests and responses, and reports how long its calls take. A filter, because any
# logging.config.dictConfig enables a disabled logger again.
logging.getLogger("stripe").addFilter(lambda record: False)
stripe.enable_telemetry = False

_Result = TypeVar("_Result")

_REASONS = {"requested_by_customer", "duplicate", "fraudulent"}
"""The reasons that Stripe has too. ``fraudulent`` also puts the card on Stripe's block list."""

_STATUSES = {
    "succeeded": GatewayStatus.SUCCEEDED,
    "failed": GatewayStatus.FAILED,
    "canceled": GatewayStatus.FAILED,
    "pending": GatewayStatus.PENDING,
    # The customer has to say where the money should go.
    "requires_action": GatewayStatus.PENDING,
}

_REFUNDABLE_DISPUTES = {"won", "warning_needs_response", "warning_under_review", "warning_closed"}
"""An inquiry (``warning_…``) takes no money, and a dispute that was won gave it back. Under any
other status the bank has the money: still open, ``lost``, or ``prevented`` (the card network has
credited the customer before a dispute was filed)."""

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
"""Refusals that are about us, not about the refund: it can be made once we have put them right."""

_OTHER_MODE = re.compile(r"similar object exists in (live|test) mode", re.IGNORECASE)
"""Only the text of a ``resource_missing`` says that our key is of the wrong mode. Should Stripe
change the text, the payment counts as missing, as it would without this."""

# The text of a validation error may be logged, so it must not quote Stripe's answer.
_STRICT = ConfigDict(strict=True, hide_input_in_errors=True)


class _Charge(BaseModel):
    model_config = _STRICT
    id: str
    status: str
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
    amount: int = Field(ge=0)
    currency: str


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
    pending_reason: str | None = None
    metadata: dict[str, str] | None = None
    destination_details: dict[str, Any] | None = None


class _Page(BaseModel):
    model_config = _STRICT
    data: list[Any]
    has_more: bool


class _KeyTooOldError(Exception):
    """The key may be forgotten; nothing was sent."""


class _OneCall(stripe.HTTPClient):
    """Sends one SDK call over our transport, within one deadline.

    The SDK's own clients have a timeout for each read, not for the whole call. The SDK repeats
    nothing: our transport's errors are not among those that it retries.
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
        """Nothing to close: the transport is shared."""


class StripeGateway:
    """One Stripe account; ``base_url`` without the ``/v1``."""

    name = "stripe"
    # "At least 24 hours": https://docs.stripe.com/api/idempotent_requests
    key_lifetime = timedelta(hours=24)
    # "Retries with the same key return the saved response", once the endpoint has begun to execute.
    # What is refused before that (a parameter that is not valid) is refused in the same way again.
    remembers_declines = True
    can_reverse = True
    body_format = 1

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
        self.account = public_address(base_url)

    def reference_for(self, refund_id: str) -> str:
        return self._stage.mark(refund_id)

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
        if (params_in := _PARAMS.get(order.format)) is None:
            return Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
        if _payment_filter(order.transaction_id) is None:
            return Declined("payment_not_found", "Stripe's payments are pi_…, ch_… and py_…")
        try:
            params: Any = params_in(order)
        except NotExpressibleError as exc:
            return Declined("amount_not_expressible", str(exc))

        def in_time() -> None:
            # Checked last, right before sending: a forgotten key would pay a second time.
            if self._clock.now() >= not_after:
                raise _KeyTooOldError

        try:
            client = self._client(deadline, in_time)
        except Exception as exc:  # the secret store may raise anything; nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        try:
            made = client.v1.refunds.create(params, {"idempotency_key": order.reference})
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
            # The refund can't be read, or the SDK failed on the answer. The request was sent.
            return Unknown(f"the answer can't be read: {type(exc).__name__}")

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        # Reads all refunds of the payment: Stripe's search index lags behind, its lists don't.
        if (payment := _payment_filter(transaction_id)) is None:
            return ()
        found: list[GatewayRefund] = []
        cursor: str | None = None
        for _ in range(MAX_LOOK_UP_PAGES):
            rows, cursor = self._rows({"limit": PAGE, **payment}, cursor, deadline)
            try:
                for row in rows:
                    if _may_be(row, reference):
                        found.append(self._refund(row, transaction_id))
            except ValueError as exc:
                raise GatewayUnavailableError("Stripe's refund can't be read") from exc
            if cursor is None:
                _require_payment(found, transaction_id)
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
        params: dict[str, Any] = {"limit": PAGE}
        if transaction_id is not None:
            if (payment := _payment_filter(transaction_id)) is None:
                return RefundPage((), None)
            params |= payment
        if created_from is not None:
            params["created"] = {"gte": int(created_from.timestamp())}
        rows, next_cursor = self._rows(params, cursor, deadline)
        refunds, unreadable = [], 0
        for row in rows:
            try:
                refunds.append(self._refund(row, transaction_id))
            except ValueError:
                unreadable += 1  # one bad row must not hide the others
            else:
                unreadable += row.get("status") not in {None, *_STATUSES}
        if transaction_id is not None:
            _require_payment(refunds, transaction_id)
        return RefundPage(tuple(refunds), next_cursor, unreadable)

    def _rows(
        self, params: Mapping[str, Any], cursor: str | None, deadline: Deadline
    ) -> tuple[list[Any], str | None]:
        """The rows of one page, unread, and the cursor of the next page."""
        asked: Any = {**params, **({"starting_after": cursor} if cursor else {})}
        for _ in range(EMPTY_PAGE_TRIES):
            shown = self._read(deadline, lambda client: client.v1.refunds.list(asked))
            try:
                page = _Page.model_validate(shown)
            except ValueError as exc:
                raise GatewayUnavailableError("Stripe's list can't be read") from exc
            if not page.has_more:
                return page.data, None
            ids = [row["id"] for row in page.data if isinstance(row, dict) and row.get("id")]
            if ids:
                return page.data, str(ids[-1])
        # Not the end of the list: what comes next may be the refund that we look for.
        raise GatewayUnavailableError("Stripe's list stops before its end")

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
        currency = currency.upper()
        captured = from_stripe(charge.amount_captured, currency) if charge else 0
        refunded = from_stripe(charge.amount_refunded, currency) if charge else 0
        disputed = 0
        if charge and charge.disputed:
            disputed = min(captured, self._disputed_minor(charge, captured, deadline))
            if disputed == captured:
                status = PaymentStatus.DISPUTED
        return Payment(
            transaction_id=transaction_id,
            status=status,
            currency=currency,
            captured_minor=captured,
            refunded_minor=refunded,
            disputed_minor=disputed,
        )

    def _disputed_minor(self, charge: _Charge, captured_minor: int, deadline: Deadline) -> int:
        """What the bank holds of the charge. ``disputed`` itself stays true after a dispute ends.

        All of the charge, if the amount is in another currency or not known yet.
        """
        shown = self._read(
            deadline, lambda client: client.v1.disputes.list({"charge": charge.id, "limit": PAGE})
        )
        disputes = _Disputes.model_validate(shown).data
        taken = [each for each in disputes if each.status not in _REFUNDABLE_DISPUTES]
        if not disputes or any(each.currency != charge.currency for each in taken):
            return captured_minor
        return sum(from_stripe(each.amount, charge.currency.upper()) for each in taken)

    def _refund(self, shown: object, asked: str | None) -> GatewayRefund:
        """``asked`` is the payment's id as we have it: a refund shows both of the payment's ids."""
        refund = _Refund.model_validate(shown)
        currency = refund.currency.upper()
        ids = (refund.payment_intent, refund.charge)
        status = refund.status or "pending"
        failed = _STATUSES.get(status) is GatewayStatus.FAILED
        reference = (refund.metadata or {}).get(REFERENCE_KEY)
        return GatewayRefund(
            gateway_refund_id=refund.id,
            transaction_id=asked if asked in ids and asked else ids[0] or ids[1] or "",
            reference=self._stage.refund_id(reference),
            gateway_reference=reference,
            amount_minor=from_stripe(refund.amount, currency),
            currency=currency,
            # Money may have moved under a status that we don't know, and nothing is final yet.
            status=_STATUSES.get(status, GatewayStatus.PENDING),
            failure_code=(refund.failure_reason or status) if failed else None,
            trace=_trace(refund.destination_details),
            pending_reason=refund.pending_reason,
        )

    def _refusal(self, error: stripe.StripeError) -> Answer:
        """What an error proves about the money: the one place that decides it."""
        status, details = error.http_status, _contract_error(error)
        if status is None or details is None or status >= 500:
            # A proxy's page, a truncated body or an outage: the call may have been executed. Stripe
            # stores a 500 for the key, so only a look-up can tell.
            return Unknown(f"HTTP {status}")
        code = details.get("code") if isinstance(details.get("code"), str) else None
        if why := self._misconfiguration(error):
            return Misconfigured(why)
        match error:
            case stripe.RateLimitError():
                return Retryable(f"HTTP {status}: too many requests", self._retry_after(error))
            case stripe.IdempotencyError() if code != "idempotency_key_in_use":
                return KeyReused()
            case stripe.InvalidRequestError() if status == 404 and code != "resource_missing":
                return Unknown("HTTP 404: nothing is known of this address")
            case stripe.InvalidRequestError() | stripe.CardError():
                return Declined(
                    code or str(details["type"]),
                    str(details.get("message", "")),
                    # Stripe gives no code when an amount is more than what is left.
                    over_balance=code in _OVER_BALANCE
                    or (code is None and details.get("param") == "amount"),
                    # Final as well: Stripe stores this answer for the key, so repeating the call
                    # never succeeds. (Where it can, Stripe accepts the refund and leaves it
                    # pending with ``pending_reason`` ``insufficient_funds``.)
                    insufficient_funds=code in _INSUFFICIENT_FUNDS,
                )
        # 409: an earlier call with this key is still running. Others: not in the contract.
        return Unknown(f"HTTP {status} {shown_code(code)}")

    def _misconfiguration(self, error: stripe.StripeError) -> Misconfiguration | None:
        """What is wrong on our side, if that is what the error says."""
        if (details := _contract_error(error)) is None:
            return None
        code = details.get("code")
        if code == "resource_missing":
            other_mode = _OTHER_MODE.search(str(details.get("message", "")))
            return Misconfiguration.KEY_OF_WRONG_MODE if other_mode else None
        known = _MISCONFIGURED.get(code) if isinstance(code, str) else None
        match error:
            case stripe.AuthenticationError():
                self._api_key.forget()
                return known or Misconfiguration.KEY_REFUSED
            case stripe.PermissionError():
                self._api_key.forget()
                return known or Misconfiguration.PERMISSION_MISSING
        return known

    def _read(
        self,
        deadline: Deadline,
        ask: Callable[[stripe.StripeClient], Any],
        *,
        none_if_missing: bool = False,
    ) -> Any:
        """Stripe's answer as plain JSON. Raises ``GatewayUnavailableError``."""
        try:
            client = self._client(deadline, lambda: None)
        except Exception as exc:  # the secret store may raise anything
            raise GatewayUnavailableError(f"no gateway key: {type(exc).__name__}") from exc
        try:
            return ask(client).to_dict()
        except (NotSentError, NoAnswerError) as exc:
            raise GatewayUnavailableError(f"no answer: {exc}") from exc
        except stripe.StripeError as exc:
            # Raised without the cause: the SDK's error quotes Stripe's message.
            if why := self._misconfiguration(exc):
                raise GatewayMisconfiguredError(why) from None
            details = _contract_error(exc)
            missing = details is not None and details.get("code") == "resource_missing"
            if none_if_missing and missing and exc.http_status == 404:
                return None
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
    """The parameter that names the payment in a request; None for an id that is not Stripe's."""
    if transaction_id.startswith("pi_"):
        return {"payment_intent": transaction_id}
    if transaction_id.startswith(("ch_", "py_")):
        return {"charge": transaction_id}
    return None


def _params_1(order: RefundOrder) -> dict[str, Any]:
    """Raises ``NotExpressibleError``."""
    return {
        **(_payment_filter(order.transaction_id) or {}),
        "amount": to_stripe(order.amount_minor, order.currency),
        "metadata": {REFERENCE_KEY: order.reference},
        **({"reason": order.reason} if order.reason in _REASONS else {}),
    }


_PARAMS: Mapping[int, Callable[[RefundOrder], dict[str, Any]]] = {1: _params_1}
"""Never change a format that was released: a repeated key with another body is refused for good.
Add the next number instead and raise ``body_format``."""


def _may_be(row: object, reference: str) -> bool:
    """Whether a row of the list is the refund with this reference, or can't be told from it."""
    if not isinstance(row, dict):
        return True
    metadata = row.get("metadata")
    if metadata is None:
        return False  # Stripe shows null or an empty object for refunds without metadata
    return not isinstance(metadata, dict) or metadata.get(REFERENCE_KEY) == reference


def _require_payment(refunds: Iterable[GatewayRefund], transaction_id: str) -> None:
    if any(refund.transaction_id != transaction_id for refund in refunds):
        raise GatewayUnavailableError("Stripe's list ignores the payment")


def _trace(details: Mapping[str, Any] | None) -> str | None:
    """The bank's number, for example a card's ARN: ``{"type": "card", "card": {"reference": …}}``.
    None until the bank has assigned one."""
    if details is None:
        return None
    match details.get(str(details.get("type"))):
        case {"reference": str(number)} if _TRACE.fullmatch(number):
            return number
    return None


_TRACE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def _charge_status(charge: _Charge) -> PaymentStatus:
    if charge.status == "failed":
        return PaymentStatus.VOIDED
    # Not by ``captured``, which is false until the final capture.
    if charge.status == "succeeded" and charge.amount_captured > 0:
        return PaymentStatus.CAPTURED
    return PaymentStatus.AUTHORIZED


def _intent_status(intent: _PaymentIntent) -> PaymentStatus:
    # Multicapture leaves an intent in ``requires_capture`` between two captures.
    if intent.latest_charge is not None and intent.status in {"succeeded", "requires_capture"}:
        return _charge_status(intent.latest_charge)
    return PaymentStatus.VOIDED if intent.status == "canceled" else PaymentStatus.AUTHORIZED


def _contract_error(error: stripe.StripeError) -> Mapping[str, Any] | None:
    """The error as Stripe's API has it. None: somebody else may have written this answer."""
    body: Any = error.json_body
    details = body.get("error") if isinstance(body, dict) else None
    return details if isinstance(details, dict) and isinstance(details.get("type"), str) else None
