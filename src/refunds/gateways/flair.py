"""Flair, over the API in docs/flair-gateway.openapi.yaml."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refunds.domain.clock import Clock, Deadline, from_rfc3339, rfc3339
from refunds.domain.redaction import shown_code
from refunds.gateways.contract import (
    BALANCE_EXCEEDED,
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
    HttpResponse,
    HttpTransport,
    NoAnswerError,
    NotSentError,
    public_address,
    retry_after_seconds,
)

MAX_LOOK_UP_PAGES = 10
"""Pages of one reference's refunds that a look-up reads before it gives up."""

# The text of a validation error may be logged, so it must not quote the gateway's answer.
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
    reference: str | None
    amount: int = Field(ge=1)
    currency: str
    status: str
    failure_code: str | None = None
    failure_message: str | None = None
    created_at: Any = None

    @property
    def status_is_known(self) -> bool:
        return self.status in set(GatewayStatus)

    def as_shown(self, stage: Stage) -> GatewayRefund:
        return GatewayRefund(
            gateway_refund_id=self.id,
            transaction_id=self.transaction_id,
            refund_id=stage.refund_id(self.reference),
            gateway_reference=self.reference,
            amount_minor=self.amount,
            currency=self.currency,
            # Money may have moved under a status that we don't know, and the status may not be
            # final.
            status=GatewayStatus(self.status) if self.status_is_known else GatewayStatus.PENDING,
            failure_code=self.failure_code,
            failure_message=self.failure_message,
            created_at=_instant(self.created_at),
        )


class _Page(BaseModel):
    model_config = _STRICT
    data: list[Any]
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
    # "The same key with the same body gets the stored response", whatever that was.
    remembers_declines = True
    shows_refunds = True
    look_up_lag = timedelta(0)
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
        return self._stage.mark(refund_id)

    def get_payment(self, transaction_id: str, deadline: Deadline) -> Payment | None:
        response = self._get(f"/v1/payments/{quote(transaction_id, safe='')}", {}, deadline)
        if response.status == HTTPStatus.NOT_FOUND and _error(response):
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
        if (body_in := _BODIES.get(order.format)) is None:
            return Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
        body = body_in(order)
        try:
            headers = self._headers() | {
                "Idempotency-Key": order.reference,
                "Content-Type": "application/json",
            }
        except Exception as exc:  # the secret store may raise anything; nothing was sent
            return Retryable(f"no gateway key: {type(exc).__name__}")
        # Checked last, right before sending: a forgotten key would pay a second time.
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
        self, reference: str, transaction_id: str, deadline: Deadline
    ) -> tuple[GatewayRefund, ...]:
        found: list[GatewayRefund] = []
        cursor: str | None = None
        for _ in range(MAX_LOOK_UP_PAGES):
            query = {"reference": reference} | ({"cursor": cursor} if cursor else {})
            rows, cursor = self._rows(query, deadline)
            try:
                # All of these rows are ours, so none of them may be skipped.
                found += [_Refund.model_validate(row).as_shown(self._stage) for row in rows]
            except ValidationError as exc:
                raise GatewayUnavailableError("the gateway's refund can't be read") from exc
            if any(refund.gateway_reference != reference for refund in found):
                raise GatewayUnavailableError("the gateway's list ignores the reference")
            if cursor is None:
                return tuple(found)
        raise GatewayUnavailableError("the gateway's list of one reference has no end")

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
        rows, next_cursor = self._rows(
            {name: value for name, value in query.items() if value}, deadline
        )
        refunds, unreadable = [], 0
        for row in rows:
            try:
                refund = _Refund.model_validate(row)
            except ValidationError:
                unreadable += 1  # one bad row must not hide the others
            else:
                unreadable += not refund.status_is_known
                refunds.append(refund.as_shown(self._stage))
        return RefundPage(tuple(refunds), next_cursor, unreadable)

    def _answer(self, response: HttpResponse) -> Answer:  # noqa: PLR0911 - one line a status
        """What the response to a POST proves about the money: the one place that decides it."""
        status = response.status
        if status in (200, 201):
            try:
                return Accepted(_Refund.model_validate_json(response.body).as_shown(self._stage))
            except ValueError:
                return Unknown("accepted, but the refund can't be read")
        error = _error(response)
        if error is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # A proxy's page, a truncated body or an outage: the call may have been executed.
            return Unknown(f"HTTP {status}")
        match status:
            case 401 | 403:
                self._api_key.forget()
                return Misconfigured(_MISCONFIGURED[status])
            case 429:
                return Retryable("HTTP 429", self._retry_after(response))
            case 409 if error.code == "idempotency_key_reused":
                return KeyReused()
            case 402 | 404 | 422:
                return Declined(
                    error.code, error.message, over_balance=error.code == BALANCE_EXCEEDED
                )
        # 409 idempotency_key_in_use: an earlier call is still running. Others: not in the contract.
        return Unknown(f"HTTP {status} {shown_code(error.code)}")

    def _rows(self, query: Mapping[str, str], deadline: Deadline) -> tuple[list[Any], str | None]:
        """The rows of one page, not yet parsed, and the cursor of the next page."""
        response = self._ok(self._get("/v1/refunds", query, deadline))
        try:
            page = _Page.model_validate_json(response.body)
        except ValueError as exc:
            raise GatewayUnavailableError("the gateway's list can't be read") from exc
        return page.data, page.next_cursor

    def _get(self, path: str, query: Mapping[str, str], deadline: Deadline) -> HttpResponse:
        url = self._base_url + path + (f"?{urlencode(query)}" if query else "")
        try:
            headers = self._headers()
        except Exception as exc:  # the secret store may raise anything
            raise GatewayUnavailableError(f"no gateway key: {type(exc).__name__}") from exc
        try:
            return self._transport.request(
                "GET", url, headers=headers, body=None, deadline=deadline
            )
        except (NotSentError, NoAnswerError) as exc:
            raise GatewayUnavailableError(f"no answer: {exc}") from exc

    def _ok(self, response: HttpResponse) -> HttpResponse:
        if response.status == HTTPStatus.OK:
            return response
        if response.status in (401, 403):
            self._api_key.forget()
            raise GatewayMisconfiguredError(_MISCONFIGURED[response.status])
        raise GatewayUnavailableError(f"HTTP {response.status}", self._retry_after(response))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._api_key.get()}", "Accept": "application/json"}

    def _retry_after(self, response: HttpResponse) -> float | None:
        return retry_after_seconds(response.headers, self._clock.now())


_MISCONFIGURED = {401: Misconfiguration.KEY_REFUSED, 403: Misconfiguration.PERMISSION_MISSING}


def _body_1(order: RefundOrder) -> bytes:
    return json.dumps(
        {
            "transaction_id": order.transaction_id,
            "amount": order.amount_minor,
            "currency": order.currency,
            "reference": order.reference,
            "reason": order.reason,
        }
    ).encode()


_BODIES: Mapping[int, Callable[[RefundOrder], bytes]] = {1: _body_1}
"""Never change a format that was released: a repeated key with another body is refused for good.
Add the next number instead and raise ``body_format``."""


def _instant(shown: Any) -> datetime | None:
    # If it can't be read, the rest of the refund is still used.
    try:
        return from_rfc3339(shown) if isinstance(shown, str) else None
    except ValueError:
        return None


def _error(response: HttpResponse) -> _ErrorBody | None:
    """The error in the contract's format, or None: then a proxy may have written the response."""
    try:
        return _Error.model_validate_json(response.body).error
    except ValidationError:
        return None
