"""An adapter for Adyen, which is not used: Adyen's Checkout API makes refunds but shows none.

``POST /payments/{pspReference}/refunds`` answers ``received`` and a ``pspReference`` for the
request. Only a later webhook says whether money moves. No call shows a payment or a refund.
Therefore ``requirements.py`` refuses this adapter; docs/adding-a-gateway.md, section 5, says what
is missing. The adapter translates the only call there is.

Sources: https://docs.adyen.com/online-payments/refund,
https://docs.adyen.com/development-resources/api-idempotency, https://docs.adyen.com/errors
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NoReturn
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refunds.domain.clock import Clock, Deadline
from refunds.domain.redaction import shown_code
from refunds.gateways.contract import (
    Accepted,
    Answer,
    ApiKey,
    Declined,
    GatewayRefund,
    GatewayStatus,
    GatewayUnavailableError,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Payment,
    RefundOrder,
    RefundPage,
    Retryable,
    Stage,
    Unknown,
)
from refunds.gateways.http import (
    HttpResponse,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    public_address,
    retry_after_seconds,
)

MAX_KEY_CHARACTERS = 64
"""The longest ``Idempotency-Key`` that Adyen takes; its ``reference`` can have 80."""

_STRICT = ConfigDict(strict=True, hide_input_in_errors=True)


class _Amount(BaseModel):
    model_config = _STRICT
    currency: str
    value: int = Field(ge=1)


class _Received(BaseModel):
    model_config = _STRICT
    pspReference: str  # noqa: N815 - Adyen's names
    paymentPspReference: str  # noqa: N815
    reference: str
    status: str
    amount: _Amount


class _Problem(BaseModel):
    model_config = _STRICT
    status: int
    errorCode: str  # noqa: N815
    message: str


class AdyenGateway:
    """One merchant account. The key is the secret's text after the first line, which names the
    merchant account: ``YourCompanyECOM``, a line break, the API key."""

    name = "adyen"
    # "A minimum period of 7 days after first submission"
    key_lifetime = timedelta(days=7)
    # Nothing is documented about the key of a request that was refused.
    remembers_declines = False
    look_up_lag = timedelta(0)
    shows_refunds = False
    can_reverse = True
    body_format = 1

    def __init__(  # noqa: PLR0913 - its parts, each by keyword
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
        reference = self._stage.mark(refund_id)
        if len(reference) <= MAX_KEY_CHARACTERS:
            return reference
        # With a long stage and a long refund id, the reference is too long for a key. The digest is
        # as unique.
        return hashlib.sha256(reference.encode()).hexdigest()

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        _shows_nothing()

    def find_refunds(
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        _shows_nothing()

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        _shows_nothing()

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        if (body_in := _BODIES.get(order.format)) is None:
            return Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
        try:
            merchant_account, _, api_key = self._api_key.get().partition("\n")
        except Exception as exc:  # the secret store may raise anything; nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        payment = quote(order.transaction_id, safe="")
        # Checked last, right before sending: a forgotten key would pay a second time.
        if self._clock.now() >= not_after:
            return KeyTooOld()
        try:
            response = self._transport.request(
                "POST",
                f"{self._base_url}/payments/{payment}/refunds",
                headers={
                    "X-API-Key": api_key.strip(),
                    "Idempotency-Key": order.reference,
                    "Content-Type": "application/json",
                },
                body=body_in(order, merchant_account),
                deadline=deadline,
            )
        except NotSentError as exc:
            return Retryable(f"not sent: {exc}")
        except NoAnswerError as exc:
            return Unknown(f"no answer: {exc}")
        return self._answer(response)

    def _answer(self, response: HttpResponse) -> Answer:  # noqa: PLR0911 - one line a status
        """What the response proves about the money: never that it has moved."""
        status, problem = response.status, _problem(response)
        if status in (200, 201):
            return self._received(response)
        if (
            problem is None
            or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            or "transient-error" in response.headers
        ):
            # A proxy's page, an outage, or a call that Adyen asks to repeat with the same key.
            return Unknown(f"HTTP {status}")
        match status:
            case 401:
                self._api_key.forget()
                return Misconfigured(Misconfiguration.KEY_REFUSED)
            case 403:
                self._api_key.forget()
                return Misconfigured(Misconfiguration.PERMISSION_MISSING)
            case 429:
                return Retryable(
                    "HTTP 429", retry_after_seconds(response.headers, self._clock.now())
                )
            case 422 if problem.errorCode == _IN_PROGRESS:
                return Unknown("HTTP 422: the earlier call is still running")
            case 400 | 422:
                return Declined(problem.errorCode, problem.message)
        return Unknown(f"HTTP {status} {shown_code(problem.errorCode)}")

    def _received(self, response: HttpResponse) -> Answer:
        try:
            shown = _Received.model_validate_json(response.body)
        except ValidationError:
            return Unknown("accepted, but the answer can't be read")
        return Accepted(
            GatewayRefund(
                gateway_refund_id=shown.pspReference,
                transaction_id=shown.paymentPspReference,
                refund_id=self._stage.refund_id(shown.reference),
                gateway_reference=shown.reference,
                amount_minor=shown.amount.value,
                currency=shown.amount.currency,
                # "received" says nothing about the outcome, and no other status is documented.
                status=GatewayStatus.PENDING,
            )
        )


_IN_PROGRESS = "704"
"""\"Request already processed or in progress\"."""


def _shows_nothing() -> NoReturn:
    raise GatewayUnavailableError("Adyen's API shows neither payments nor refunds")


def _body_1(order: RefundOrder, merchant_account: str) -> bytes:
    return json.dumps(
        {
            "merchantAccount": merchant_account,
            "amount": {"currency": order.currency, "value": order.amount_minor},
            "reference": order.reference,
        }
    ).encode()


_BODIES: Mapping[int, Callable[[RefundOrder, str], bytes]] = {1: _body_1}
"""Never change a format that was released: add the next number and raise ``body_format``."""


def _problem(response: HttpResponse) -> _Problem | None:
    """The error in the format of Adyen's API, or None: then a proxy may have written the
    response."""
    try:
        return _Problem.model_validate_json(response.body)
    except ValidationError:
        return None
