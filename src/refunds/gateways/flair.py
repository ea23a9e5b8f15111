"""Flair, over the API in docs/flair-gateway.openapi.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refunds.domain.clock import Clock, Deadline, rfc3339
from refunds.domain.redaction import shown_code
from refunds.gateways.contract import (
    BALANCE_EXCEEDED,
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
from refunds.gateways.http import (
    HttpResponse,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    retry_after_seconds,
)

# A validation error must not repeat what the gateway said: it may end up in a log.
_STRICT = ConfigDict(strict=True, hide_input_in_errors=True)


class _Payment(BaseModel):
    model_config = _STRICT
    id: str
    status: str
    currency: str
    amount_captured: int = Field(ge=0)
    amount_refunded: int = Field(ge=0)


class _Refund(BaseModel):
    model_config = _STRICT
    id: str
    transaction_id: str
    reference: str
    amount: int = Field(ge=1)
    currency: str
    status: str
    failure_code: str | None = None
    failure_message: str | None = None

    def typed(self, stage: Stage) -> GatewayRefund:
        return GatewayRefund(
            gateway_refund_id=self.id,
            transaction_id=self.transaction_id,
            reference=stage.refund_id(self.reference),
            amount_minor=self.amount,
            currency=self.currency,
            status=GatewayStatus(self.status),
            failure_code=self.failure_code,
            failure_message=self.failure_message,
        )


class _Page(BaseModel):
    model_config = _STRICT
    data: list[_Refund]
    next_cursor: str | None = None


class _ErrorBody(BaseModel):
    model_config = _STRICT
    code: str
    message: str


class _Error(BaseModel):
    model_config = _STRICT
    error: _ErrorBody


class FlairGateway:
    """One Flair account; ``base_url`` without the ``/v1``."""

    name = "flair"
    key_lifetime = timedelta(hours=24)
    finds_by_reference = True
    is_asynchronous = True
    can_reverse = True
    requests_per_second = None

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
        response = self._get(f"/v1/payments/{quote(transaction_id, safe='')}", {}, deadline)
        if response.status == 404 and _error(response):
            return None
        try:
            payment = _Payment.model_validate_json(self._ok(response).body)
            if payment.id != transaction_id:
                raise GatewayUnavailableError("the gateway answered with another payment")
            return Payment(
                transaction_id=payment.id,
                status=PaymentStatus(payment.status),
                currency=payment.currency,
                captured_minor=payment.amount_captured,
                refunded_minor=payment.amount_refunded,
            )
        except ValueError as exc:
            raise GatewayUnavailableError("the gateway's payment can't be read") from exc

    def create_refund(
        self, order: RefundOrder, deadline: Deadline, *, not_after: datetime
    ) -> Answer:
        reference = self._stage.mark(order.refund_id)
        body = json.dumps(
            {
                "transaction_id": order.transaction_id,
                "amount": order.amount_minor,
                "currency": order.currency,
                "reference": reference,
                "reason": order.reason,
            }
        ).encode()
        try:
            headers = self._headers() | {
                "Idempotency-Key": reference,
                "Content-Type": "application/json",
            }
        except Exception as exc:  # whatever the secret's store raises: nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        # In the thread that sends, just before the bytes go: an old key could pay a second time.
        if self._clock.now() >= not_after:
            return KeyTooOld()
        try:
            response = self._transport.request(
                "POST",
                self._base_url + "/v1/refunds",
                headers=headers,
                body=body,
                deadline=deadline,
            )
        except NotSentError as exc:
            return Retryable(f"not sent: {exc}")
        except NoAnswerError as exc:
            return Unknown(f"no answer: {exc}")
        return self._answer(response)

    def find_refunds(
        self, refund_id: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        page = self._page({"reference": self._stage.mark(refund_id)}, deadline)
        if any(refund.reference != refund_id for refund in page.refunds):
            raise GatewayUnavailableError("the gateway's list ignores the reference")
        return page.refunds

    def list_refunds(
        self,
        deadline: Deadline,
        *,
        transaction_id: str | None = None,
        created_from: datetime | None = None,
        cursor: str | None = None,
    ) -> RefundPage:
        query = {
            "transaction_id": transaction_id,
            "created_from": rfc3339(created_from) if created_from else None,
            "cursor": cursor,
            "limit": "100",
        }
        return self._page({name: value for name, value in query.items() if value}, deadline)

    def _answer(self, response: HttpResponse) -> Answer:
        """What a POST's response says of the money: the one place that decides it."""
        status, error = response.status, _error(response)
        if status in (200, 201):
            try:
                return Accepted(_Refund.model_validate_json(response.body).typed(self._stage))
            except ValueError:
                return Unknown("accepted, but the refund can't be read")
        if error is None or status >= 500:
            # A proxy's page, a body cut short, an outage: none says what became of the call.
            return Unknown(f"HTTP {status}")
        match status:
            case 401 | 403:
                self._api_key.forget()
                return Retryable(f"HTTP {status}: the gateway does not take our key")
            case 429:
                return Retryable("HTTP 429", self._retry_after(response))
            case 409 if error.code == "idempotency_key_reused":
                return KeyReused()
            case 402 | 404 | 422:
                return Declined(
                    error.code, error.message, over_balance=error.code == BALANCE_EXCEEDED
                )
        # 409 idempotency_key_in_use: the earlier call still runs. Others: not in the contract.
        return Unknown(f"HTTP {status} {shown_code(error.code)}")

    def _page(self, query: Mapping[str, str], deadline: Deadline) -> RefundPage:
        response = self._ok(self._get("/v1/refunds", query, deadline))
        try:
            page = _Page.model_validate_json(response.body)
            return RefundPage(
                tuple(refund.typed(self._stage) for refund in page.data), page.next_cursor
            )
        except ValueError as exc:
            raise GatewayUnavailableError("the gateway's list can't be read") from exc

    def _get(self, path: str, query: Mapping[str, str], deadline: Deadline) -> HttpResponse:
        url = self._base_url + path + (f"?{urlencode(query)}" if query else "")
        try:
            headers = self._headers()
        except Exception as exc:  # whatever the secret's store raises
            raise GatewayUnavailableError(f"no gateway key: {type(exc).__name__}") from exc
        try:
            return self._transport.request(
                "GET", url, headers=headers, body=None, deadline=deadline
            )
        except (NotSentError, NoAnswerError) as exc:
            raise GatewayUnavailableError(f"no answer: {exc}") from exc

    def _ok(self, response: HttpResponse) -> HttpResponse:
        if response.status == 200:
            return response
        if response.status in (401, 403):
            self._api_key.forget()
        raise GatewayUnavailableError(f"HTTP {response.status}", self._retry_after(response))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.get()}", "Accept": "application/json"}

    def _retry_after(self, response: HttpResponse) -> float | None:
        return retry_after_seconds(response.headers, self._clock.now())


def _error(response: HttpResponse) -> _ErrorBody | None:
    """The contract's error, or None: then nobody knows who wrote this answer."""
    try:
        return _Error.model_validate_json(response.body).error
    except ValidationError:
        return None
