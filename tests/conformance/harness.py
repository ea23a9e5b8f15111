"""What the conformance suite needs of a gateway under test, and that much done for the sandbox.

An adapter brings a ``Harness``: a scripted server of its gateway's API that can be made to behave
as each ``Case`` says. One over the sandbox's books (``SandboxHarness``) has nearly all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol, Self

from refunds.domain.clock import Clock, SystemClock
from refunds.gateways.contract import ApiKey, Gateway, GatewayStatus, PaymentStatus, Stage
from refunds.gateways.http import HttpTransport, PooledTransport
from refunds_devkit.sandbox.server import Api, SandboxGateway

RIGHT_KEY = "sk_conformance_3f9a"
PERSONAL = "jenny.rosen@example.com 4242424242424242"
"""What the scripted gateway says in its messages: it must come up in no log and no error."""


class Case(StrEnum):
    """What the gateway does with a payment's next refund, or with the next reading of it."""

    # What becomes of a refund
    PENDING = "pending"
    FAILS_AT_ONCE = "fails at once"
    DECLINED = "declined"
    KEY_FORGOTTEN = "the key is forgotten at once"
    # Turned away before anything is done
    RATE_LIMITED = "429, with Retry-After of 7 seconds"
    KEY_IN_USE = "the first call with the key still runs"
    DROPPED_BEFORE = "the connection breaks, nothing is done"
    ERROR_BEFORE = "an error 500, nothing is done"
    DOWN = "an error 503, nothing is done"
    PROXY_PAGE = "502 with a proxy's HTML, nothing is done"
    # Done, and the answer is lost, late or wrong
    SILENT = "done, and no answer for two minutes"
    DROPPED_AFTER = "done, and the connection breaks"
    ERROR_AFTER = "done, and an error 500"
    DOWN_AFTER = "done, and an error 503"
    PROXY_PAGE_AFTER = "done, and 502 with a proxy's HTML"
    LATE = "done, and the answer comes after a minute"
    HEADERS_DRIP = "done, and a byte of the headers every tenth of a second"
    BODY_DRIPS = "done, and a byte of the body every tenth of a second"
    HUGE = "done, and an answer of 16 MiB"
    CUT_OFF = "done, and half of the JSON"
    CLOSED_EARLY = "done, and half of the promised bytes"
    OTHER_AMOUNT = "done, and the answer has another amount"
    OTHER_CURRENCY = "done, and the answer has another currency"
    OTHER_REFERENCE = "done, and the answer has another reference"
    OTHER_PAYMENT = "done, and the answer has another payment"


@dataclass(frozen=True)
class Sample:
    """An amount in minor units of ISO 4217."""

    amount_minor: int
    currency: str


class Key:
    """An ``ApiKey`` that a test can watch: ``values`` are given in turn, one after each forget."""

    def __init__(self, *values: str | Exception) -> None:
        self._values = list(values)
        self.forgotten = 0

    def get(self) -> str:
        value = self._values[min(self.forgotten, len(self._values) - 1)]
        if isinstance(value, Exception):
            raise value
        return value

    def forget(self) -> None:
        self.forgotten += 1


class Harness(Protocol):
    """One gateway's scripted server, running between enter and exit."""

    expressible: Sequence[Sample]
    """Amounts that the gateway can refund, of currencies with 0, 2 and 3 decimals at least."""
    inexpressible: Sequence[Sample]
    """Amounts that its API has no number for; none, for most."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def gateway(
        self,
        *,
        key: ApiKey | None = None,
        clock: Clock | None = None,
        timeout_seconds: float = 5.0,
        stage: str = "",
        url: str | None = None,
    ) -> Gateway:
        """The adapter, towards the server unless told another ``url``."""
        ...

    def new_payment(
        self,
        captured_minor: int = 10_000,
        currency: str = "USD",
        status: PaymentStatus = PaymentStatus.CAPTURED,
    ) -> str:
        """A payment that nobody has refunded; returns its id."""
        ...

    def script(self, case: Case, transaction_id: str, *, reading: bool = False) -> None:
        """Have the payment's next refund meet the case; or all readings of it and of lists."""
        ...

    def refund_by_others(
        self, transaction_id: str, amount_minor: int, reference: str | None = None
    ) -> None:
        """Another system refunds; ``reference`` as it stands at the gateway."""
        ...

    def settle(self, gateway_refund_id: str, to: GatewayStatus) -> None:
        """What becomes of a pending refund, or of one that succeeded."""
        ...

    def pass_time(self, duration: timedelta) -> None:
        """Move the gateway's clock on."""
        ...

    def paid_out_minor(self, transaction_id: str) -> int:
        """Money that left, less what came back."""
        ...

    def refund_calls(self, transaction_id: str) -> int:
        """How many calls to refund the payment have reached the gateway."""
        ...


_CODE = {"code": "bank_says_no", "message": PERSONAL}

_FAULTS: Mapping[Case, tuple[str, Mapping[str, Any]]] = {
    Case.PENDING: ("pending", {}),
    Case.FAILS_AT_ONCE: ("failed", _CODE),
    Case.DECLINED: ("declined", _CODE),
    Case.KEY_FORGOTTEN: ("key_forgotten", {}),
    Case.RATE_LIMITED: ("rate_limited", {"retry_after_seconds": 7}),
    Case.KEY_IN_USE: ("in_use", {}),
    Case.DROPPED_BEFORE: ("drop_before_commit", {}),
    Case.ERROR_BEFORE: ("error_500", {}),
    Case.DOWN: ("error_503", {}),
    Case.PROXY_PAGE: ("html_502", {}),
    Case.SILENT: ("commit_then_timeout", {"seconds": 120}),
    Case.DROPPED_AFTER: ("commit_then_drop", {}),
    Case.ERROR_AFTER: ("commit_then_error_500_remembered", {}),
    Case.DOWN_AFTER: ("commit_then_error_503", {}),
    Case.PROXY_PAGE_AFTER: ("commit_then_html_502", {}),
    Case.LATE: ("commit_then_delay", {"seconds": 60}),
    Case.HEADERS_DRIP: ("slow_drip", {"part": "headers", "seconds_per_byte": 0.1}),
    Case.BODY_DRIPS: ("slow_drip", {"part": "body", "seconds_per_byte": 0.1}),
    Case.HUGE: ("huge_body", {}),
    Case.CUT_OFF: ("truncated_json", {}),
    Case.CLOSED_EARLY: ("short_body", {}),
    Case.OTHER_AMOUNT: ("wrong_amount_echoed", {}),
    Case.OTHER_CURRENCY: ("wrong_currency_echoed", {}),
    Case.OTHER_REFERENCE: ("wrong_reference_echoed", {}),
    Case.OTHER_PAYMENT: ("wrong_transaction_id_echoed", {}),
}


class SandboxHarness:
    """A harness over the sandbox's books and faults; a subclass says whose API is spoken.

    ``in_books`` and ``from_books`` turn amounts into the gateway's own units and back.
    """

    api: Api
    adapter: type[Any]
    payment_prefixes: Sequence[str] = ("pay_",)
    """Payments get them by turns: where ids are of several kinds, each has its share of tests."""
    expressible: Sequence[Sample] = (
        Sample(2_500, "USD"),
        Sample(1, "EUR"),
        Sample(5_000, "JPY"),
        Sample(12_345, "KWD"),
        Sample(999_999_999, "HUF"),
    )
    inexpressible: Sequence[Sample] = ()

    def __init__(self) -> None:
        self._server = SandboxGateway(api=self.api, api_key=RIGHT_KEY, seed=False)
        self._numbers = itertools.count(1)
        self._currencies: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._server)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def transport(self) -> HttpTransport:
        return PooledTransport(4)

    def in_books(self, amount_minor: int, currency: str) -> int:
        return amount_minor

    def from_books(self, amount: int, currency: str) -> int:
        return amount

    def gateway(
        self,
        *,
        key: ApiKey | None = None,
        clock: Clock | None = None,
        timeout_seconds: float = 5.0,
        stage: str = "",
        url: str | None = None,
    ) -> Gateway:
        gateway: Gateway = self.adapter(
            base_url=url or self._server.url,
            api_key=key or Key(RIGHT_KEY),
            transport=self.transport(),
            clock=clock or SystemClock(),
            timeout_seconds=timeout_seconds,
            stage=Stage(stage),
        )
        return gateway

    def new_payment(
        self,
        captured_minor: int = 10_000,
        currency: str = "USD",
        status: PaymentStatus = PaymentStatus.CAPTURED,
    ) -> str:
        number = next(self._numbers)
        prefix = self.payment_prefixes[number % len(self.payment_prefixes)]
        transaction_id = f"{prefix}{number}"
        self._currencies[transaction_id] = currency
        amount = self.in_books(captured_minor, currency)
        self._server.client.add_payment(transaction_id, amount, currency, status=status.value)
        return transaction_id

    def script(self, case: Case, transaction_id: str, *, reading: bool = False) -> None:
        kind, parameters = _FAULTS[case]
        if not reading:
            self._server.client.add_fault(kind, transaction_id=transaction_id, **parameters)
            return
        for operation in ("get_payment", "list_refunds"):
            self._server.client.add_fault(
                kind, transaction_id=transaction_id, operation=operation, always=True, **parameters
            )

    def refund_by_others(
        self, transaction_id: str, amount_minor: int, reference: str | None = None
    ) -> None:
        amount = self.in_books(amount_minor, self._currencies[transaction_id])
        more = {} if reference is None else {"reference": reference}
        self._server.client.add_foreign_refund(transaction_id, amount, **more)

    def settle(self, gateway_refund_id: str, to: GatewayStatus) -> None:
        self._server.client.settle(gateway_refund_id, to.value)

    def pass_time(self, duration: timedelta) -> None:
        self._server.client.advance(duration.total_seconds())

    def paid_out_minor(self, transaction_id: str) -> int:
        moved = self._server.client.movements(transaction_id=transaction_id)
        signs = {"out": 1, "back": -1}
        total = sum(signs[each["direction"]] * each["amount"] for each in moved)
        return self.from_books(total, self._currencies[transaction_id])

    def refund_calls(self, transaction_id: str) -> int:
        calls = self._server.client.calls(transaction_id=transaction_id, operation="create_refund")
        return len(calls)
