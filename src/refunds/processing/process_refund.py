"""ProcessRefund: handles a batch of requests from the queue, and reports its results."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from refunds.batches import Pool
from refunds.breaker.breaker import Breaker
from refunds.domain.clock import Clock, Deadline, from_rfc3339
from refunds.domain.redaction import describe, shown_code
from refunds.domain.refund import Refund
from refunds.domain.request import RefusedError
from refunds.failures import Failure, classify, count_failures, misconfiguration
from refunds.processing.queue import Deferred, PutBackError, RefundQueue, Result, handle_batch
from refunds.tables.ledger import NEARLY_FULL_REFUNDS, LedgerRead, LedgerTable
from refunds.tables.state import Control
from refunds.telemetry import Log, Metrics

FUNCTION = "ProcessRefund"

SAID_JUST_NOW = timedelta(minutes=5)


class ProcessRefund:
    def __init__(  # noqa: PLR0913 - its parts, each by keyword
        self,
        *,
        queue: RefundQueue,
        breaker: Breaker,
        control: Control,
        ledger: LedgerTable,
        clock: Clock,
        pool: Pool,
        metrics: Metrics,
        log: Log,
    ) -> None:
        self._queue = queue
        self._breaker = breaker
        self._control = control
        self._ledger = ledger
        self._clock = clock
        self._pool = pool
        self._metrics = metrics
        self._log = log

    def handle(self, event: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Handle an SQS event. Returns the partial batch response: the messages that SQS must
        deliver again."""
        self._breaker.before_batch()
        results: list[tuple[dict[str, Any], Result]] = []
        response = handle_batch(
            event["Records"],
            self._queue,
            deadline,
            self._pool,
            lambda record, result: results.append((record, result)),
            look_up_first=self._look_up_first(),
            read_ledgers=self._read_ledgers,
        )
        now_seconds = self._clock.now().timestamp()
        oldest_seconds = 0
        for record, result in results:
            if isinstance(result, PutBackError):
                sent_ms = int(record["attributes"].get("SentTimestamp", now_seconds * 1000))
                oldest_seconds = max(oldest_seconds, int(now_seconds - sent_ms / 1000))
            self._metrics.add_metric(_metric(result), "Count", 1)
            if isinstance(result, Refund) and self._is_short_of_balance(result):
                self._metrics.add_metric("InsufficientBalance", "Count", 1)
            if failure := _failure(result):
                count_failures(self._metrics, FUNCTION, [failure])
            self._log_result(record["messageId"], result, failure)
        self._metrics.add_metric("OldestPutBackAgeSeconds", "Seconds", oldest_seconds)
        self._watch_gateway(deadline)
        return response

    def _is_short_of_balance(self, refund: Refund) -> bool:
        """Whether the gateway has said so just now: a message may be delivered again days later."""
        since = refund.balance_short_at
        return since is not None and self._clock.now() - from_rfc3339(since) < SAID_JUST_NOW

    def _look_up_first(self) -> bool:
        try:
            return self._control.look_up_first(self._clock.now())
        except Exception as exc:
            # Looking up first is always safe. Failing here would redeliver the whole batch without
            # a growing delay, and move it to the dead-letter queue within hours.
            self._failed("restore marker not read", exc)
            return True

    def _read_ledgers(self, transaction_ids: set[str]) -> Mapping[str, LedgerRead]:
        try:
            ledgers = self._ledger.read_many(transaction_ids)
        except Exception as exc:
            # Each record reads its own ledger instead, and its failure does not affect the others.
            self._failed("ledgers of the batch not read", exc)
            return {}
        for transaction_id, read in ledgers.items():
            if read.ledger and len(read.ledger.reservations) >= NEARLY_FULL_REFUNDS:
                self._metrics.add_metric("LedgersNearlyFull", "Count", 1)
                self._log.warning(
                    "ledger nearly full",
                    transaction_id=transaction_id,
                    refunds=len(read.ledger.reservations),
                )
        return ledgers

    def _watch_gateway(self, deadline: Deadline) -> None:
        try:
            if opened := self._breaker.after_batch(deadline):
                self._metrics.add_metric("BreakerOpened", "Count", 1)
                self._log.error("requests to the gateway stop", reason=opened.why)
        except Exception as exc:
            # The batch is done. It must not be delivered again only because its calls were not
            # counted.
            self._failed("calls to the gateway not counted", exc)

    def _failed(self, message: str, error: Exception) -> None:
        self._log.error(message, extra=describe(error))
        count_failures(self._metrics, FUNCTION, [classify(error)])

    def _log_result(self, message_id: str, result: Result, failure: Failure | None) -> None:
        match result:
            case Refund():
                self._log.info(
                    "refund recorded",
                    message_id=message_id,
                    refund_id=result.refund_id,
                    transaction_id=result.transaction_id,
                    status=result.status.value,
                    failure_code=shown_code(result.failure_code),
                )
            case RefusedError():
                self._log.warning(
                    "message refused", message_id=message_id, error_code=result.code.value
                )
            case Deferred():
                self._log.info("message deferred", message_id=message_id, reason=result.reason)
            case PutBackError():
                # A failure that a person must correct is logged as an error; other failures are
                # tried again.
                write = self._log.error if failure and failure.needs_a_person else self._log.warning
                write(
                    "message put back",
                    message_id=message_id,
                    reason=str(result),
                    delay_seconds=result.delay_seconds,
                    extra=describe(result),
                )
            case _:
                self._log.error(
                    "message not handled", message_id=message_id, extra=describe(result)
                )


def _failure(result: Result) -> Failure | None:
    """The failure that a person may have to correct; None for a message that waits for a good
    reason."""
    match result:
        case PutBackError(__cause__=Exception() as cause):
            return classify(cause)
        case PutBackError():
            return misconfiguration(result.misconfiguration)
        case RefusedError() | Refund():
            return None
        case Exception():
            return classify(result)
    return None


def _metric(result: Result) -> str:
    match result:
        case Refund():
            return f"Refund{result.status.title().replace('_', '')}"
        case RefusedError():
            return "MessagesRefused"
        case Deferred():
            return "MessagesDeferred"
    return "MessagesPutBack"
