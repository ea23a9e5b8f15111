"""Deliberate faults of the protocol, each a small change of production code, to see whether the
simulator sees.

A mutant is a snippet of a function and what stands there instead. The snippet must be there exactly
once, so a mutant can't rot unnoticed. The function's code is swapped while the mutant lives.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from tests.simulator.histories import Outcome, run_history
from tests.simulator.outages import run_outage
from tests.simulator.scripts import run_edges
from tests.simulator.two_gateways import run_one_of_two_down


@dataclass(frozen=True)
class Patch:
    """``where``: module and qualified name, as in ``processing.settler:Settler.call``."""

    where: str
    snippet: str
    instead: str


@dataclass(frozen=True)
class Mutant:
    """``play``: the kind of history that has to catch it."""

    name: str
    patches: tuple[Patch, ...]
    play: Callable[[int], Outcome] = run_history


def _mutant(name: str, *patches: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(Patch(*patch) for patch in patches))


def _outage_mutant(name: str, *patches: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(Patch(*patch) for patch in patches), run_outage)


def _two_gateways_mutant(name: str, *patches: tuple[str, str, str]) -> Mutant:
    return Mutant(name, tuple(Patch(*patch) for patch in patches), run_one_of_two_down)


def _edge_mutant(name: str, *patches: tuple[str, str, str]) -> Mutant:
    """One that the scripted histories of ``test_edges`` have to catch."""
    return Mutant(name, tuple(Patch(*patch) for patch in patches), run_edges)


CONDITION = 'f"{same_version} AND {same_status} AND {same_attempt}"'

MUTANTS: tuple[Mutant, ...] = (
    _mutant(
        "claim after the call",
        (
            "processing.processor:Processor._claim",
            "there = self._refunds.put_new(refund)",
            "self._settler.call(refund, deadline)\n        there = self._refunds.put_new(refund)",
        ),
    ),
    _mutant(
        "new key on retry",
        (
            "gateways.flair:FlairGateway.create_refund",
            '"Idempotency-Key": order.reference',
            '"Idempotency-Key": f"{order.reference}-{self._clock.now()}"',
        ),
    ),
    _mutant(
        "release on timeout",
        (
            "processing.settler:Settler.call",
            "case Unknown(reason=reason):",
            "case Unknown(reason=reason):\n"
            "                self.recorder._ledger.release("
            "refund.transaction_id, refund.refund_id)",
        ),
    ),
    _mutant(
        "timeout recorded as failed",
        (
            "processing.settler:Settler.call",
            "case Unknown(reason=reason):\n                return self._leave(refund, reason)",
            "case Unknown(reason=reason):\n"
            "                return self.recorder.finish("
            "refund, Status.FAILED, failure_code='timeout')",
        ),
    ),
    _mutant(
        "retryable recorded as failed",
        (
            "processing.settler:Settler.call",
            "return self._leave(refund, reason, wait, uncalled=unanswered)",
            "return self.recorder.finish(refund, Status.FAILED, failure_code='later')",
        ),
    ),
    _mutant(
        "unconditional finish",
        (
            "tables.refunds:RefundsTable.save",
            CONDITION,
            'f"({same_version} AND {same_status} AND {same_attempt})'
            ' OR attribute_exists(refund_id)"',
        ),
    ),
    _mutant(
        "no fencing: any attempt may write over another's",
        (
            "tables.refunds:RefundsTable.save",
            CONDITION,
            'f"{same_version} AND ({same_status} OR {same_attempt})"',
        ),
        (
            "processing.processor:Processor._resume",
            "return self._settler.take_over(refund, deadline)",
            "return self._settler.call(refund, deadline)",
        ),
    ),
    _mutant(
        "every attempt has the same token",
        ("processing.settler:Settler.new_lease", "self.new_token()", "'the-token'"),
    ),
    _mutant(
        "no fingerprint",
        (
            "processing.processor:Processor._resume",
            "if not request.has_fingerprint(refund.fingerprint):",
            "if False:",
        ),
    ),
    _mutant(
        "a final status is overwritten",
        (
            "domain.refund:check_transition",
            "if new.status not in TRANSITIONS[old.status]:",
            "if False:",
        ),
        (
            "processing.processor:Processor._resume",
            "if refund.status is not Status.PROCESSING:",
            "if refund.status in (Status.PENDING, Status.IN_REVIEW):",
        ),
    ),
    _mutant(
        "amount not compared",
        (
            "processing.settler:mismatch",
            "if (shown.amount_minor, shown.currency) != (refund.amount_minor, refund.currency):",
            "if False:",
        ),
    ),
    _mutant(
        "key's age not looked at",
        (
            "gateways.flair:FlairGateway.create_refund",
            "if self._clock.now() >= not_after:",
            "if False:",
        ),
    ),
    _mutant(
        "look-up skipped past expiry",
        (
            "gateways.flair:FlairGateway.create_refund",
            "if self._clock.now() >= not_after:",
            "if False:",
        ),
        ("processing.settler:Settler.ask_then_call", "if found:", "if False:"),
    ),
    _mutant(
        "an expired key means failed",
        (
            "processing.settler:Settler.call",
            """return self._review(
                    refund,
                    "idempotency_key_expired",
                    "the gateway shows no refund, and calling again might pay twice",
                )""",
            "return self.recorder.finish(refund, Status.FAILED, failure_code='expired')",
        ),
    ),
    _mutant(
        "nothing shown means failed",
        (
            "processing.settler:Settler.ask_then_call",
            "return self.call(refund, deadline, unanswered=unanswered or refund)",
            "return self.recorder.finish(refund, Status.FAILED, failure_code='none')",
        ),
    ),
    _mutant(
        "decline after unknown trusted",
        ("processing.settler:Settler._declined", "if unanswered is not None:", "if False:"),
    ),
    _mutant(
        "key in use taken for a decline",
        (
            "gateways.flair:FlairGateway._answer",
            'return Unknown(f"HTTP {status} {shown_code(error.code)}")',
            'return Declined(error.code, "")',
        ),
    ),
    _mutant(
        "a page of HTML taken for a decline",
        (
            "gateways.flair:FlairGateway._answer",
            'return Unknown(f"HTTP {status}")',
            'return Declined("html", "") if status in (404, 422) else Unknown("HTTP")',
        ),
    ),
    _mutant(
        "reservation not released on failure",
        (
            "processing.recorder:Recorder.give_back",
            "self._ledger.release(refund.transaction_id, refund.refund_id, back_minor=back_minor)",
            "False",
        ),
    ),
    _mutant(
        "released twice",
        (
            "tables.ledger:LedgerTable.release",
            'f"SET remaining = remaining + {back}, #r = :zero"',
            '"SET remaining = remaining + #r"',
        ),
    ),
    _mutant(
        "no tombstone after a release",
        (
            "tables.ledger:LedgerTable.release",
            'f"SET remaining = remaining + {back}, #r = :zero"',
            '"SET remaining = remaining + #r REMOVE #r"',
        ),
    ),
    _mutant(
        "reviewed money released at once",
        (
            "processing.settler:Settler._review",
            "return self.recorder.finish(",
            "self.recorder._ledger.release(refund.transaction_id, refund.refund_id)\n"
            "        return self.recorder.finish(",
        ),
    ),
    _mutant(
        "reserve without looking at what remains",
        (
            "tables.ledger:LedgerTable.reserve",
            'f"{not_yet_held} AND {enough_left}"',
            'f"{not_yet_held} AND ({enough_left} OR attribute_exists(remaining))"',
        ),
    ),
    _mutant(
        "a ledger begun twice",
        (
            "tables.ledger:LedgerTable.open",
            'f"{not_begun} AND {not_yet_held}"',
            'f"({not_begun} OR attribute_exists(captured)) AND {not_yet_held}"',
        ),
    ),
    _mutant(
        "recount without a condition",
        (
            "tables.ledger:LedgerTable.recount",
            '"captured = :read_captured AND remaining = :read_remaining"',
            '"captured = :read_captured OR remaining = :read_remaining"',
        ),
    ),
    _mutant(
        "others' refunds not counted",
        (
            "processing.balance:Balance._count",
            "- self._moved_unreserved(payment, shown, ledger)",
            "- 0",
        ),
    ),
    _mutant(
        "the amount held is not the refund's",
        (
            "processing.processor:Processor._seen_before",
            "amount = held or request.amount_minor or 0",
            "amount = request.amount_minor or 1",
        ),
    ),
    _mutant(
        "a conflict keeps its reservation",
        (
            "processing.recorder:Recorder.give_back_unused",
            "self._ledger.release(transaction_id, refund.refund_id)",
            "pass",
        ),
    ),
    _mutant(
        "a batch that returns empty after an error",
        (
            "processing.queue:handle_batch",
            "on_result(raw, exc)\n            raise",
            "on_result(raw, exc)\n            return",
        ),
    ),
    _mutant(
        "work in progress taken for done",
        (
            "processing.processor:Processor._resume",
            'return Later("another attempt is at work", left)',
            "return Recorded(refund)",
        ),
    ),
    _mutant(
        "a refused message is dropped",
        (
            "processing.queue:RefundQueue._refuse",
            "self._client.send_message(",
            "(lambda **message: None)(",
        ),
    ),
    _mutant(
        "pending dropped without the open index",
        (
            "processing.recorder:Recorder.finish",
            "if to is Status.SUCCEEDED and not corrects else self.opened(new)",
            "if to in (Status.SUCCEEDED, Status.PENDING) else self.opened(new)",
        ),
    ),
    _mutant(
        "still pending, and off the open index",
        (
            "processing.settler:Settler._still_open",
            "left = replace(self.recorder.opened(refund, again=True), lease_until=None)",
            "left = replace(refund, open_since=None, open_shard=None, check_at=None)",
        ),
    ),
    _mutant(
        "archived and forgotten",
        (
            "processing.dead_letters:DeadLetterArchiver._move",
            'self._keep_open(message["Body"], refused="error_code" in attributes)',
            "pass",
        ),
        (
            "processing.settler:Settler._leave",
            "replace(self.recorder.opened(refund, again=True), lease_until=None)",
            "replace(refund, lease_until=None)",
        ),
        (
            "processing.settler:Settler.take_over",
            "            self.recorder.opened(refund),",
            "            refund,",
        ),
    ),
    _mutant(
        "a dead letter deleted, not archived",
        (
            "processing.dead_letters:DeadLetterArchiver._move",
            "self._failures.keep(",
            "(lambda *content: None)(",
        ),
    ),
    _mutant(
        "late reversals not looked for",
        (
            "processing.reversal_sweep:ReversalSweep._take",
            "for shown in page.refunds:",
            "for shown in ():",
        ),
    ),
    _mutant(
        "only the first page is swept",
        (
            "processing.reversal_sweep:ReversalSweep._sweep",
            "position = self._advance(gateway, position, page)",
            "position = self._advance(gateway, position, RefundPage(page.refunds, None))",
        ),
    ),
    _mutant(
        "version not raised",
        ("domain.refund:change_status", "version=refund.version + 1", "version=refund.version"),
    ),
    _mutant(
        "the audit chain does not chain",
        (
            "domain.refund:change_status",
            "previous_hash=previous_hash",
            "previous_hash=refund.previous_hash",
        ),
    ),
    _mutant(
        "audit entries written over",
        (
            "tables.audit_trail:AuditTable.put_new",
            'ConditionExpression="attribute_not_exists(entry_id)"',
            'ConditionExpression="attribute_not_exists(no_such_attribute)"',
        ),
    ),
    _mutant(
        "duplicates in the audit trail",
        (
            "audit.writer:AuditWriter.write",
            "stored = self._audit.put_new(entry | {",
            'entry["entry_id"] += record["eventID"]\n'
            "            stored = self._audit.put_new(entry | {",
        ),
    ),
    _mutant(
        "an audit record that fails is passed over",
        (
            "audit.writer:handle_stream_batch",
            "tell(record, exc)\n            raise",
            "tell(record, exc)\n            return None",
        ),
    ),
    _mutant(
        "events that the bus did not take are lost",
        ("audit.outcome_events:OutcomeBus._put", 'if answer["FailedEntryCount"]:', "if False:"),
    ),
    _two_gateways_mutant(
        "an outage of one gateway holds every gateway's requests",
        (
            "breaker.breaker:Breaker.hold",
            "name = self._gateways.for_new(transaction_id).name",
            "name = 'acme'",
        ),
    ),
    _two_gateways_mutant(
        "what waits for a gateway is put back and uses up its receives",
        ("processing.queue:RefundQueue.handle", "if hold.send_again:", "if False:"),
    ),
    _two_gateways_mutant(
        "an outage of one gateway stops the queue",
        ("breaker.queue_mapping:IntakeKeeper.keep", "all_down = all(", "all_down = any("),
    ),
    _two_gateways_mutant(
        "failures at one gateway are forgotten for a success at the other",
        (
            "breaker.breaker:Breaker._after_calls",
            "item = name if self._several else None",
            "item = None",
        ),
    ),
    _two_gateways_mutant(
        "a gateway among several never recovers",
        (
            "breaker.queue_mapping:IntakeKeeper.keep",
            "self._probe(gateway, gateway.name, deadline)",
            "None",
        ),
    ),
    _outage_mutant(
        "the breaker never opens",
        ("domain.intake:opened", "if intake.breaker is BreakerState.OPEN:", "if True:"),
    ),
    _outage_mutant(
        "the breaker never closes",
        ("domain.intake:after_probe", "if trouble is not None:", "if True:"),
    ),
    _outage_mutant(
        "resumed though a person has paused",
        (
            "domain.intake:desired_mapping",
            "DesiredMapping(intake.flows,",
            "DesiredMapping(intake.breaker is not BreakerState.OPEN,",
        ),
    ),
    _outage_mutant(
        "the mapping is not made to follow after a crash",
        (
            "breaker.queue_mapping:Switch._set",
            'if state == "Disabled" and not want.enabled:',
            'if state == "Disabled":',
        ),
    ),
    _outage_mutant(
        "recovery stays at its first step",
        (
            "domain.intake:after_probe",
            "more = (intake.concurrency or FIRST_CONCURRENCY) * STEP_FACTOR",
            "more = FIRST_CONCURRENCY",
        ),
    ),
)

MUTANTS += (
    _edge_mutant(
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
    _edge_mutant(
        "a new stack calls unasked",
        (
            "tables.state:Control.look_up_first",
            "return rfc3339(now) < until",
            "return False",
        ),
    ),
    _edge_mutant(
        "a resent message is like any other",
        (
            "processing.processor:Processor._process",
            "ask_first = seen or delivery.look_up_first",
            "ask_first = False",
        ),
    ),
    _edge_mutant(
        "what the trail says of a lost record is ignored",
        (
            "processing.processor:Processor._claim",
            "if (known := self._from_trail(request, last)) is not None:",
            "if (known := None) is not None:",
        ),
    ),
    _edge_mutant(
        "a key is as young as its lost record's successor",
        (
            "processing.processor:Processor._from_trail",
            "key_used_at=recorded.created_at,",
            "key_used_at=rfc3339(self._clock.now()),",
        ),
    ),
    _edge_mutant(
        "today's stage makes the key",
        (
            "processing.settler:_order",
            "reference=refund.reference,",
            'reference=refund.reference if refund.called_at is None else "green.r1",',
        ),
    ),
    _edge_mutant(
        "refunds of our other stages are others'",
        (
            "processing.balance:Balance._reservation_of",
            "if refund is not None and refund.reference == reference:",
            "if False:",
        ),
    ),
    _edge_mutant(
        "another account is called",
        (
            "gateways.routing:Gateways.named",
            "if account not in (None, gateway.account):",
            "if False:",
        ),
    ),
    _edge_mutant(
        "a decline is trusted though a call may arrive",
        ("processing.settler:Settler._declined", "self._may_arrive(unanswered)", "False"),
    ),
    _edge_mutant(
        "a decline is trusted though the gateway shows a pending refund",
        (
            "processing.settler:Settler._declined",
            "if found:",
            "if found and found[0].status is not GatewayStatus.PENDING:",
        ),
    ),
    _edge_mutant(
        "a double is not counted",
        (
            "processing.balance:Balance._moved_unreserved",
            "return others + excess +",
            "return others +",
        ),
    ),
    _edge_mutant(
        "the rest is what the ledger says",
        (
            "processing.reserver:Reserver._from_ledger",
            "if not _depends_on_balance(request):",
            "if True:",
        ),
    ),
    _edge_mutant(
        "the sender's expectation is not compared",
        (
            "processing.reserver:_amount_of",
            "if expected is not None and expected != left_minor:",
            "if False:",
        ),
    ),
    _edge_mutant(
        "a payment that is not ready is rejected at once",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return False",
        ),
    ),
    _edge_mutant(
        "a payment that is not ready is waited for without end",
        (
            "processing.processor:Processor._may_pass",
            "return self._clock.now() - delivery.sent_at < self._not_ready_for",
            "return True",
        ),
    ),
    _edge_mutant(
        "a day unseen counts from the beginning",
        (
            "processing.settler:Settler._not_shown",
            "refund.shown_at or refund.open_since",
            "refund.open_since",
        ),
    ),
    _edge_mutant(
        "a review that the gateway has answered stays",
        (
            "processing.open_refunds:OpenRefunds.next_step",
            "refund.failure_code in MAY_BE_SHOWN_LATER",
            "False",
        ),
    ),
    _edge_mutant(
        "a message at the end of its time is like any other",
        (
            "processing.processor:Processor._claim",
            "if self._message_is_old(delivery):",
            "if False:",
        ),
    ),
    _edge_mutant(
        "a reservation leaves with its message",
        (
            "processing.dead_letters:DeadLetterArchiver._keep_open",
            "refund = self._processor.resume_reserved(request)",
            "refund = None",
        ),
    ),
    _edge_mutant(
        "a failed refund leaves the index before its money is back",
        (
            "processing.recorder:Recorder.finish",
            "if to is Status.SUCCEEDED and not corrects else self.opened(new)",
            "if to in (Status.SUCCEEDED, Status.FAILED) else self.opened(new)",
        ),
    ),
    _edge_mutant(
        "what is paid at the gateway and failed here is overlooked",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "marked += self._settler.mark_paid(refund)",
            "pass",
        ),
    ),
)


MAX_SEEDS = 3000
"""A mutant that lives through so many histories has survived."""


@contextmanager
def alive(mutant: Mutant) -> Iterator[None]:
    """Production code with this mutant in it. Raises ``ValueError`` when a snippet has gone."""
    swapped: list[tuple[FunctionType, Any]] = []
    try:
        for patch in mutant.patches:
            function = _function(patch.where)
            swapped.append((function, function.__code__))
            function.__code__ = _mutated(function, patch)
        yield
    finally:
        for function, code in reversed(swapped):
            function.__code__ = code


def hunt(mutant: Mutant, first_seed: int, most: int = MAX_SEEDS) -> Outcome | None:
    """The first history that catches the mutant, or None."""
    if mutant.play is run_edges:
        most = 1  # always the same histories
    with alive(mutant):
        for seed in range(first_seed, first_seed + most):
            outcome = mutant.play(seed)
            if outcome.violation is not None:
                return outcome
    return None


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"refunds.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    return found  # type: ignore[no-any-return]


def _mutated(function: FunctionType, patch: Patch) -> Any:
    source = inspect.getsource(function)
    if source.count(patch.snippet) != 1:
        raise ValueError(f"{patch.where} has {source.count(patch.snippet)} x {patch.snippet!r}")
    source = textwrap.dedent(source.replace(patch.snippet, patch.instead))
    flags = __future__.annotations.compiler_flag
    code = compile(source, f"<mutant of {patch.where}>", "exec", flags, dont_inherit=True)
    scope: dict[str, Any] = {}
    exec(code, dict(function.__globals__), scope)
    return scope[function.__name__].__code__
