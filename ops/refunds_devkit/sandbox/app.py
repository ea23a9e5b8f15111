"""The contract's endpoints: authentication, idempotency, and the faults of each call."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from refunds_devkit.sandbox.call_log import Call
from refunds_devkit.sandbox.contract import (
    MAX_REQUEST_BYTES,
    RefundCreate,
    RefusedError,
    error_body,
    load_json,
    parse_key,
    parse_page,
    parse_refund_create,
)
from refunds_devkit.sandbox.faults import (
    CREATE_REFUND,
    GET_PAYMENT,
    GET_REFUND,
    LIST_REFUNDS,
    Fault,
    Stage,
)
from refunds_devkit.sandbox.ledger import Ledger
from refunds_devkit.sandbox.outcomes import outcome_of
from refunds_devkit.sandbox.request_body import read_body
from refunds_devkit.sandbox.wire import Answer, Silence, deliver, html_502, status_seen


class StoppingError(Exception):
    """The server stops. The waiting call is abandoned and did nothing."""


@dataclass
class Strikes:
    """The faults that match a call. Each is used up only when the call reaches its stage."""

    ledger: Ledger
    subject: str
    candidates: list[Fault]
    struck: list[str] = field(default_factory=list)

    def at(self, stage: Stage) -> Fault | None:
        for fault in self.candidates:
            if fault.stage == stage and self.ledger.faults.draw(fault, self.subject):
                self.struck.append(fault.kind)
                return fault
        return None


class Gateway:
    """The API on one ledger. `stopping` ends every wait when the server shuts down.

    Another API with the same ledger and faults is a subclass with its own routes and `shape`.
    """

    def __init__(self, ledger: Ledger, api_key: str, stopping: asyncio.Event) -> None:
        self.ledger = ledger
        self.stopping = stopping
        self._authorization = f"Bearer {api_key}".encode()

    def routes(self) -> list[BaseRoute]:
        # `path`, because the contract allows any character in an id.
        return [
            Route("/v1/payments/{id:path}", self._guarded(self.get_payment)),
            Route("/v1/refunds", self._guarded(self.create_refund), methods=["POST"]),
            Route("/v1/refunds", self._guarded(self.list_refunds), methods=["GET"]),
            Route("/v1/refunds/{id:path}", self._guarded(self.get_refund)),
        ]

    def _guarded(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            scheme, _, token = given.partition(b" ")
            given = scheme.title() + b" " + token.strip()
            if not hmac.compare_digest(given, self._authorization):
                raise RefusedError(
                    401, "unauthorized", "Missing or wrong API key.", {"WWW-Authenticate": "Bearer"}
                )
            try:
                return await endpoint(request)
            except StoppingError:
                return Silence(self.stopping)

        return guarded

    def shape(self, answer: Answer) -> Answer:
        """The response in the API's own format. Here it is the contract's."""
        return answer

    # Reading

    async def get_payment(self, request: Request) -> Response:
        transaction_id = request.path_params["id"]

        def look_up() -> Answer:
            payment = self.ledger.payment(transaction_id)
            if payment is None:
                raise RefusedError(404, "payment_not_found", "No such payment.")
            return Answer(200, payment)

        return await self._read(GET_PAYMENT, look_up, transaction_id, None)

    async def get_refund(self, request: Request) -> Response:
        refund_id = request.path_params["id"]

        def look_up() -> Answer:
            refund = self.ledger.refund(refund_id)
            if refund is None:
                raise RefusedError(404, "refund_not_found", "No such refund.")
            return Answer(200, refund)

        found = self.ledger.refund(refund_id) or {}
        about = found.get("transaction_id"), found.get("reference")
        return await self._read(GET_REFUND, look_up, *about)

    async def list_refunds(self, request: Request) -> Response:
        page = parse_page(request.query_params)
        transaction_id = page.transaction_id
        if transaction_id is None and page.reference is not None:
            # A payment's fault also applies to a look-up by reference.
            transaction_id = self.ledger.subject_of_reference(page.reference)
        return await self._read(
            LIST_REFUNDS,
            lambda: Answer(200, self.ledger.page(page)),
            transaction_id,
            page.reference,
        )

    async def _read(
        self,
        operation: str,
        look_up: Callable[[], Answer],
        transaction_id: str | None,
        reference: str | None,
    ) -> Response:
        with self.ledger.transaction():
            strikes = self._strikes(operation, transaction_id, reference)
            door = strikes.at("door")
            delay = None if door else strikes.at("delay")
            late = None if door else strikes.at("answer")
        if delay is not None:
            await self._wait(delay["seconds"])
        with self.ledger.transaction():
            if door is not None:
                response = self._turned_away(door)
            else:
                self.ledger.settlements.apply_due()
                try:
                    answer = look_up()
                except RefusedError as refused:
                    answer = Answer(refused.status, refused.body())
                response = deliver(answer, late, self.stopping, self.shape)
            self.ledger.calls.add(
                Call(
                    operation,
                    status_seen(response),
                    transaction_id,
                    reference,
                    faults=strikes.struck,
                )
            )
        return response

    # Refunding

    async def create_refund(self, request: Request) -> Response:
        raw = await read_body(request, MAX_REQUEST_BYTES)
        key = parse_key(request.headers.get("idempotency-key"))
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        requested: RefundCreate | RefusedError
        fingerprint = hashlib.sha256(raw).digest()
        try:
            if content_type != "application/json":
                raise RefusedError.invalid("Content-Type: must be application/json")
            body = load_json(raw)
            # Two bodies are the same if their JSON is: key order and white space do not count.
            fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
            requested = parse_refund_create(body)
        except RefusedError as refused:
            requested = refused
        return await Creation(self, key, fingerprint, requested).run()

    def _strikes(
        self, operation: str, transaction_id: str | None, reference: str | None
    ) -> Strikes:
        candidates = self.ledger.faults.matching(operation, transaction_id, reference)
        return Strikes(self.ledger, f"{operation}:{reference or transaction_id}", candidates)

    def _turned_away(self, fault: Fault) -> Response:
        match fault.kind:
            case "drop_before_commit":
                return Silence(self.stopping)
            case "html_502":
                return html_502()
            case "error_500":
                answer = Answer(500, error_body("internal_error", "Something broke."))
            case "error_503":
                answer = Answer(503, error_body("service_unavailable", "Try later."))
            case "in_use":
                answer = _key_in_use()
            case "rate_limited":
                answer = Answer(
                    429,
                    error_body("rate_limited", "Too many requests."),
                    {"Retry-After": str(fault["retry_after_seconds"])},
                )
            case _:
                raise AssertionError(fault.kind)
        return self.shape(answer).response()

    async def _wait(self, seconds: float) -> None:
        """Waits even if the client has disconnected: the work is still done afterwards."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        raise StoppingError


@dataclass
class Creation:
    """One POST /v1/refunds.

        begin --(no delay)----------------------> finish      one transaction
        begin, key in use --(delay, no lock)----> finish      two transactions

    One transaction looks up the key and takes it; one transaction checks the balance and writes
    the refund. So two calls with one key, or two refunds of one payment, cannot pass each other.
    """

    gateway: Gateway
    key: str
    fingerprint: bytes
    requested: RefundCreate | RefusedError

    async def run(self) -> Response:
        ledger = self.gateway.ledger
        transaction_id = reference = None
        if isinstance(self.requested, RefundCreate):
            transaction_id, reference = self.requested.transaction_id, self.requested.reference
        with ledger.transaction():
            ledger.settlements.apply_due()
            strikes = self.gateway._strikes(CREATE_REFUND, transaction_id, reference)
            response, replayed = self._answered_at_once(strikes)
            if response is not None:
                self._log(response, strikes, replayed=replayed)
                return response
            number = ledger.keys.start(self.key, self.fingerprint)
            delay = strikes.at("delay")
            if delay is None:
                return self._finish(number, strikes)
        # Abandoned when the server stops. The ledger frees the key when it is next opened.
        await self.gateway._wait(delay["seconds"])
        with ledger.transaction():
            ledger.settlements.apply_due()
            return self._finish(number, strikes)

    def _answered_at_once(self, strikes: Strikes) -> tuple[Response | None, bool]:
        door = strikes.at("door")
        if door is not None:
            return self.gateway._turned_away(door), False
        stored = self.gateway.ledger.keys.find(self.key)
        if stored is None:
            return None, False
        if stored.fingerprint != self.fingerprint:
            body = error_body("idempotency_key_reused", "This key was used with another body.")
            return self.gateway.shape(Answer(409, body)).response(), False
        if stored.status is None or stored.body is None:
            return self.gateway.shape(_key_in_use()).response(), False
        answer = Answer(stored.status, json.loads(stored.body), {"Idempotent-Replayed": "true"})
        return self._deliver(answer, strikes), True

    def _deliver(self, answer: Answer, strikes: Strikes) -> Response:
        return deliver(answer, strikes.at("answer"), self.gateway.stopping, self.gateway.shape)

    def _finish(self, number: int, strikes: Strikes) -> Response:
        answer = self._execute(strikes)
        ledger = self.gateway.ledger
        ledger.keys.finish(number, answer.status, json.dumps(answer.body))
        if strikes.at("key"):
            ledger.keys.forget(number)
        response = self._deliver(answer, strikes)
        self._log(response, strikes)
        return response

    def _execute(self, strikes: Strikes) -> Answer:
        try:
            if isinstance(self.requested, RefusedError):
                raise self.requested
            self.gateway.ledger.refundable(self.requested)
            fault = strikes.at("outcome")
            if fault is not None and fault.kind == "declined":
                raise RefusedError(402, fault["code"], fault["message"])
            broken = Answer(500, error_body("internal_error", "Something broke."))
            if fault is not None and fault.kind == "error_500_remembered":
                return broken
            refund = self.gateway.ledger.add_refund(
                self.requested, outcome_of(fault), idempotency_key=self.key
            )
            if fault is not None and fault.kind == "commit_then_error_500_remembered":
                return broken
            return Answer(201, refund)
        except RefusedError as refused:
            return Answer(refused.status, refused.body())

    def _log(self, response: Response, strikes: Strikes, *, replayed: bool = False) -> None:
        requested = self.requested if isinstance(self.requested, RefundCreate) else None
        self.gateway.ledger.calls.add(
            Call(
                CREATE_REFUND,
                status_seen(response),
                requested.transaction_id if requested else None,
                requested.reference if requested else None,
                self.key,
                replayed,
                strikes.struck,
            )
        )


def _key_in_use() -> Answer:
    return Answer(
        409, error_body("idempotency_key_in_use", "The first call with this key still runs.")
    )


def make_app(gateway: Gateway, more: list[BaseRoute]) -> Starlette:
    def shaped(request: Request, answer: Answer) -> Response:
        ours = request.url.path.startswith("/_sandbox")
        return (answer if ours else gateway.shape(answer)).response()

    async def refused(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RefusedError)
        return shaped(request, Answer(exc.status, exc.body(), exc.headers))

    async def no_route(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        code = {404: "not_found", 405: "method_not_allowed"}.get(exc.status_code, "http_error")
        body = error_body(code, str(exc.detail))
        return shaped(request, Answer(exc.status_code, body, exc.headers or {}))

    async def gone(request: Request, exc: Exception) -> Response:
        return Silence(gateway.stopping)

    async def broken(request: Request, exc: Exception) -> Response:
        body = error_body(
            "internal_error",
            "The sandbox failed. This is a fault of the sandbox, not a scripted one.",
        )
        return shaped(request, Answer(500, body))

    app = Starlette(
        routes=[*gateway.routes(), *more],
        exception_handlers={
            RefusedError: refused,
            HTTPException: no_route,
            ClientDisconnect: gone,
            Exception: broken,
        },
    )
    app.router.redirect_slashes = False
    return app
