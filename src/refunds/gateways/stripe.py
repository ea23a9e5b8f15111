"""Stripe, through its own SDK and our transport. Imported only where Stripe is configured.

A payment is a PaymentIntent (``pi_…``) or a charge (``ch_…``, ``py_…``), with the connected account
before it if there is one (``acct_…-pi_…``). Always use the same id for a payment, since each id has
its own ledger. Our reference is in the refund's metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import stripe

from refunds.domain.clock import Clock, Deadline
from refunds.gateways.contract import (
    Accepted,
    Answer,
    ApiKey,
    Declined,
    GatewayMisconfiguredError,
    GatewayRefund,
    GatewayUnavailableError,
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
from refunds.gateways.stripe_amounts import NotExpressibleError, from_stripe
from refunds.gateways.stripe_errors import is_missing, misconfiguration, refusal
from refunds.gateways.stripe_objects import (
    FORMATS,
    PARAMS,
    Charge,
    Disputes,
    Page,
    PaymentId,
    PaymentIntent,
    charge_status,
    disputed_minor,
    intent_status,
    is_of_payment,
    may_have_reference,
    read_refund,
    read_refunds,
)

API_VERSION = "2026-10-28.endive"
"""The version that the models below were written for. A test compares it with the SDK's."""

PAGE = 100
MAX_LOOK_UP_PAGES = 10
"""Pages of one payment's refunds that a look-up reads before it gives up."""

EMPTY_PAGE_TRIES = 3
"""How often a page is read again if it is empty although Stripe says that there is more."""

# The SDK logs requests and responses, and reports how long its calls take. A filter, because any
# logging.config.dictConfig enables a disabled logger again.
logging.getLogger("stripe").addFilter(lambda record: False)
stripe.enable_telemetry = False


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
    # A call that is refused before that (for an invalid parameter) is refused in the same way
    # again.
    remembers_declines = True
    shows_refunds = True
    # This is the lag of lists. Stripe's search lags behind and is not used.
    look_up_lag = timedelta(0)
    can_reverse = True

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        base_url: str,
        api_key: ApiKey,
        transport: HttpTransport,
        clock: Clock,
        timeout_seconds: float,
        stage: Stage = Stage(),  # noqa: B008 - it can't change
        options: Iterable[str] = (),
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._transport = transport
        self._clock = clock
        self.timeout_seconds = timeout_seconds
        self._stage = stage
        self.account = public_address(base_url)
        self.body_format = FORMATS[frozenset(options)]

    def reference_for(self, refund_id: str) -> str:
        return self._stage.mark(refund_id)

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        if (asked := PaymentId.parse(transaction_id)) is None:
            return None
        shown = self._read(
            deadline,
            lambda client: (
                client.v1.payment_intents.retrieve(
                    asked.id, {"expand": ["latest_charge"]}, _options(asked)
                )
                if asked.is_intent
                else client.v1.charges.retrieve(asked.id, {}, _options(asked))
            ),
            none_if_missing=True,
        )
        if shown is None:
            return None
        try:
            return self._payment(transaction_id, asked, shown, deadline)
        except ValueError as exc:
            raise GatewayUnavailableError("Stripe's payment can't be read") from exc

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        if (params_in := PARAMS.get(order.format)) is None:
            return Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
        if (payment := PaymentId.parse(order.transaction_id)) is None:
            return Declined("payment_not_found", "Stripe's payments are pi_…, ch_… and py_…")
        try:
            params: Any = params_in(order)
        except NotExpressibleError as exc:
            return Declined("amount_not_expressible", str(exc))

        def check_key_age() -> None:
            # Checked last, right before sending: a forgotten key would pay a second time.
            if self._clock.now() >= not_after:
                raise _KeyTooOldError

        try:
            client = self._client(deadline, check_key_age)
        except Exception as exc:  # the secret store may raise anything; nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        options: Any = {"idempotency_key": order.reference, **_options(payment)}
        return self._answer(
            lambda: client.v1.refunds.create(params, options).to_dict(), order.transaction_id
        )

    def _answer(self, create: Callable[[], object], transaction_id: str) -> Answer:
        try:
            return Accepted(read_refund(create(), transaction_id, self._stage))
        except _KeyTooOldError:
            return KeyTooOld()
        except NotSentError as exc:
            return Retryable(f"not sent: {exc}")
        except NoAnswerError as exc:
            return Unknown(f"no answer: {exc}")
        except stripe.StripeError as exc:
            self._forget_refused_key(exc)
            return refusal(exc, self._retry_after(exc))
        except Exception as exc:
            # The refund can't be read, or the SDK failed on the answer. The request was sent.
            return Unknown(f"the answer can't be read: {type(exc).__name__}")

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        # Reads all refunds of the payment: Stripe's search index lags behind, its lists don't.
        if (payment := PaymentId.parse(transaction_id)) is None:
            return ()
        found: list[GatewayRefund] = []
        cursor: str | None = None
        for _ in range(MAX_LOOK_UP_PAGES):
            rows, cursor = self._rows(payment.filter, payment, cursor, deadline)
            ours = [row for row in rows if may_have_reference(row, reference)]
            try:
                found += [read_refund(row, transaction_id, self._stage) for row in ours]
            except ValueError as exc:
                raise GatewayUnavailableError("Stripe's refund can't be read") from exc
            if cursor is None:
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
        params: dict[str, Any] = {}
        payment: PaymentId | None = None
        if transaction_id is not None:
            if (payment := PaymentId.parse(transaction_id)) is None:
                return RefundPage((), None)
            params |= payment.filter
        if created_from is not None:
            params["created"] = {"gte": int(created_from.timestamp())}
        rows, next_cursor = self._rows(params, payment, cursor, deadline)
        refunds, unreadable = read_refunds(rows, transaction_id, self._stage)
        return RefundPage(refunds, next_cursor, unreadable)

    def list_refunds_before(
        self,
        deadline: Deadline,
        *,
        created_from: datetime,
        created_before: datetime,
        cursor: str | None = None,
    ) -> RefundPage:
        created = {
            "gte": int(created_from.timestamp()),
            "lt": int(created_before.timestamp()),
        }
        rows, next_cursor = self._rows({"created": created}, None, cursor, deadline)
        refunds, unreadable = read_refunds(rows, None, self._stage)
        return RefundPage(refunds, next_cursor, unreadable)

    def _rows(
        self,
        params: Mapping[str, Any],
        payment: PaymentId | None,
        cursor: str | None,
        deadline: Deadline,
    ) -> tuple[list[Any], str | None]:
        """The rows of one page, not yet parsed, and the cursor of the next page."""
        asked: Any = {"limit": PAGE, **params, **({"starting_after": cursor} if cursor else {})}
        for _ in range(EMPTY_PAGE_TRIES):
            shown = self._read(
                deadline, lambda client: client.v1.refunds.list(asked, _options(payment))
            )
            try:
                page = Page.model_validate(shown)
            except ValueError as exc:
                raise GatewayUnavailableError("Stripe's list can't be read") from exc
            if payment and not all(is_of_payment(row, payment) for row in page.data):
                raise GatewayUnavailableError("Stripe's list ignores the payment")
            if not page.has_more:
                return page.data, None
            ids = [row["id"] for row in page.data if isinstance(row, dict) and row.get("id")]
            if ids:
                return page.data, str(ids[-1])
        # This is not the end of the list. The refund that we look for may come next.
        raise GatewayUnavailableError("Stripe's list stops before its end")

    def _payment(
        self, transaction_id: str, asked: PaymentId, shown: Mapping[str, Any], deadline: Deadline
    ) -> Payment:
        charge: Charge | None
        if asked.is_intent:
            intent = PaymentIntent.model_validate(shown)
            shown_id, currency, charge = intent.id, intent.currency, intent.latest_charge
            status = intent_status(intent)
        else:
            charge = Charge.model_validate(shown)
            shown_id, currency, status = charge.id, charge.currency, charge_status(charge)
        if shown_id != asked.id:
            raise ValueError("another payment than asked for")
        currency = currency.upper()
        captured = from_stripe(charge.amount_captured, currency) if charge else 0
        disputed = 0
        if charge and charge.disputed:
            disputed = disputed_minor(charge, self._disputes(charge, asked, deadline))
            if disputed == captured:
                status = PaymentStatus.DISPUTED
        return Payment(
            transaction_id=transaction_id,
            status=status,
            currency=currency,
            captured_minor=captured,
            refunded_minor=from_stripe(charge.amount_refunded, currency) if charge else 0,
            disputed_minor=disputed,
        )

    def _disputes(self, charge: Charge, payment: PaymentId, deadline: Deadline) -> Disputes:
        shown = self._read(
            deadline,
            lambda client: client.v1.disputes.list(
                {"charge": charge.id, "limit": PAGE}, _options(payment)
            ),
        )
        return Disputes.model_validate(shown)

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
            self._forget_refused_key(exc)
            if why := misconfiguration(exc):
                raise GatewayMisconfiguredError(why) from None
            if none_if_missing and is_missing(exc):
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

    def _forget_refused_key(self, error: stripe.StripeError) -> None:
        if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
            self._api_key.forget()

    def _retry_after(self, error: stripe.StripeError) -> float | None:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        return retry_after_seconds(headers, self._clock.now())


def _options(payment: PaymentId | None) -> Any:
    """The SDK's options for a call: the connected account, for a direct charge."""
    if payment is None or payment.connected_account is None:
        return {}
    return {"stripe_account": payment.connected_account}
