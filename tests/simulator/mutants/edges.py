"""Faults at the edges of the protocol. The scripted histories have to catch each."""

from __future__ import annotations

from functools import partial

from tests.simulator.mutation import mutant
from tests.simulator.scripts import run_scripted

edge_mutant = partial(mutant, play=run_scripted)

MUTANTS = (
    edge_mutant(
        "a new ledger is begun without a look",
        (
            "processing.reserver:Reserver._from_gateway",
            "if payment.refunded_minor or look_up_first:",
            "if False:",
        ),
        (
            "processing.processor:Processor._process",
            "ask_first = seen or delivery.look_up_first",
            "ask_first = False",
        ),
    ),
    edge_mutant(
        "a new stack calls unasked",
        (
            "tables.state:Control.look_up_first",
            "return rfc3339(now) < until",
            "return False",
        ),
    ),
    edge_mutant(
        "a resent message is like any other",
        (
            "processing.processor:Processor._process",
            "ask_first = seen or delivery.look_up_first",
            "ask_first = False",
        ),
    ),
    edge_mutant(
        "what the trail says of a lost record is ignored",
        (
            "processing.processor:Processor._claim",
            "if (known := self._from_trail(request, last)) is not None:",
            "if (known := None) is not None:",
        ),
    ),
    edge_mutant(
        "a key is as young as its lost record's successor",
        (
            "processing.processor:Processor._from_trail",
            "key_used_at=recorded.created_at,",
            "key_used_at=rfc3339(self._clock.now()),",
        ),
    ),
    edge_mutant(
        "without a stage every reference is a refund's id",
        (
            "gateways.contract:Stage.refund_id",
            'refund_id = (reference or "").rpartition(".")[2]',
            'refund_id = (reference or "") if not self.name else str(reference).rpartition(".")[2]',
        ),
    ),
    edge_mutant(
        "today's stage makes the key",
        (
            "processing.settler:_order",
            "reference=refund.reference,",
            'reference=refund.reference if refund.called_at is None else "green.r1",',
        ),
    ),
    edge_mutant(
        "refunds of our other stages are others'",
        (
            "processing.balance:Balance._of_other_stages",
            "and refund.reference == reference",
            "and False",
        ),
    ),
    edge_mutant(
        "another account is called",
        (
            "gateways.routing:Gateways.named",
            "if account not in (None, gateway.account):",
            "if False:",
        ),
    ),
    edge_mutant(
        "a decline is trusted though a call may arrive",
        ("processing.settler:Settler._after_decline", "self._may_arrive(unanswered)", "False"),
    ),
    edge_mutant(
        "a decline is trusted though the gateway shows a pending refund",
        (
            "processing.settler:Settler._after_decline",
            "if found:",
            "if found and found[0].status is not GatewayStatus.PENDING:",
        ),
    ),
    edge_mutant(
        "a double is not counted",
        (
            "processing.balance:Balance._moved_unreserved",
            "moved_minor = others + excess",
            "moved_minor = others",
        ),
    ),
    edge_mutant(
        "a count trusts a sum that changed meanwhile",
        (
            "processing.balance:Balance._count",
            "if unreadable or unlisted_minor:",
            "if False:",
        ),
    ),
    edge_mutant(
        "the rest is what the ledger says",
        (
            "processing.reserver:Reserver._from_ledger",
            "if not _depends_on_balance(request):",
            "if True:",
        ),
    ),
    edge_mutant(
        "the sender's expectation is not compared",
        (
            "processing.reserver:_amount_of",
            "if expected is not None and expected != left_minor:",
            "if False:",
        ),
    ),
    edge_mutant(
        "a payment that is not ready is rejected at once",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return False",
        ),
    ),
    edge_mutant(
        "a payment that is not ready is waited for without end",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return True",
        ),
    ),
    edge_mutant(
        "a day unseen counts from the beginning",
        (
            "processing.settler:Settler._not_shown",
            "refund.shown_at or refund.open_since",
            "refund.open_since",
        ),
    ),
    edge_mutant(
        "a review that the gateway has answered stays",
        (
            "processing.open_refunds:OpenRefunds._next_step_in_review",
            "refund.failure_code in MAY_BE_SHOWN_LATER",
            "False",
        ),
    ),
    edge_mutant(
        "an old review is asked about as often as a new one",
        (
            "processing.open_refunds:_is_time_to_ask",
            "return since_asked >= min(",
            "return True or min(",
        ),
    ),
    edge_mutant(
        "a review is asked about once",
        (
            "processing.open_refunds:_is_time_to_ask",
            "return since_asked >= min(",
            "return False and min(",
        ),
    ),
    edge_mutant(
        "a failed attempt to ask about a review counts as an answer",
        (
            "processing.open_refunds:OpenRefunds._put_off",
            "self._settler.recorder.recheck(refund)",
            "self._settler.recorder.recheck(refund, asked_at=rfc3339(self._clock.now()))",
        ),
    ),
    edge_mutant(
        "a clock ahead silences the questions about a review",
        (
            "processing.open_refunds:_is_time_to_ask",
            "if since_asked < -CLOCK_SKEW:",
            "if False:",
        ),
    ),
    edge_mutant(
        "a webhook of a review asks nobody",
        (
            "processing.reconciler:Reconciler.look_at",
            "if refund.status is Status.IN_REVIEW:",
            "if False:",
        ),
    ),
    edge_mutant(
        "a message at the end of its time is like any other",
        (
            "processing.processor:Processor._claim",
            "if self._message_is_old(delivery):",
            "if False:",
        ),
    ),
    edge_mutant(
        "a reservation leaves with its message",
        (
            "processing.dead_letters:DeadLetterArchiver._keep_open",
            "refund = self._processor.resume_reserved(request, deadline)",
            "refund = None",
        ),
    ),
    edge_mutant(
        "a failed refund leaves the index before its money is back",
        (
            "processing.recorder:Recorder.finish",
            "closes = to is Status.SUCCEEDED and not corrects",
            "closes = to in (Status.SUCCEEDED, Status.FAILED)",
        ),
    ),
    edge_mutant(
        "what is paid at the gateway and failed here is overlooked",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "return self._settler.mark_paid(refund)",
            "return False",
        ),
    ),
)
