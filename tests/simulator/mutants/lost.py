"""Faults of what is rebuilt after a loss. The scripted histories have to catch each."""

from __future__ import annotations

from tests.simulator.mutants.edges import edge_mutant

MUTANTS = (
    edge_mutant(
        "a rebuilt record gives back what the gateway kept",
        (
            "processing.processor:Processor._from_trail",
            'image | {"fingerprint": request.fingerprint()}',
            'image | {"fingerprint": request.fingerprint(), "kept_minor": None}',
        ),
    ),
    edge_mutant(
        "a rebuilt record sends today's format",
        (
            "processing.processor:Processor._from_trail",
            'image | {"fingerprint": request.fingerprint()}',
            'image | {"fingerprint": request.fingerprint(), "order_format": None}',
        ),
    ),
    edge_mutant(
        "what a list does not show is ours, moved or not",
        (
            "processing.balance:Balance._shown_alone",
            "if any(each.status is not GatewayStatus.FAILED for each in shown):",
            "if shown:",
        ),
    ),
    edge_mutant(
        "a ledger begins without what is under way",
        (
            "processing.balance:Balance._count",
            "self._held_before(ledger) if ledger.captured is None else {}",
            "{}",
        ),
    ),
    edge_mutant(
        "a rejection begins a second chain",
        (
            "processing.processor:Processor._reject",
            "refund = _continue_chain(refund, last)",
            "pass",
        ),
    ),
    edge_mutant(
        "what may have been paid before its removal is rejected",
        (
            "processing.processor:Processor._reject",
            'Status(last["status"]) not in ENDED_WITHOUT_MONEY',
            "False",
        ),
    ),
    edge_mutant(
        "an adopted refund's key is new",
        (
            "processing.processor:Processor._claim",
            "LONG_AGO if adopted else now",
            "now",
        ),
    ),
    edge_mutant(
        "a crash before the claim forgets that it was adopted",
        (
            "processing.processor:Processor._seen_before",
            "adopted = self._reserver.is_listed(request, deadline)",
            "adopted = False",
        ),
    ),
    edge_mutant(
        "the archiver forgets that it was adopted",
        (
            "processing.processor:Processor.resume_reserved",
            "adopted = last is None and self._reserver.is_listed(request, deadline)",
            "adopted = False",
        ),
    ),
    edge_mutant(
        "a removed refund is called by a later attempt",
        (
            "processing.processor:Processor._claim",
            "refund = replace(refund, key_used_at=LONG_AGO)  # no later attempt calls it either",
            "pass",
        ),
    ),
    edge_mutant(
        "a lost counter is given back what it never counted",
        (
            "processing.limit_checks:LimitChecks._announce_back",
            "if read.name != day:",
            'if read.day != day.partition("/")[0]:',
        ),
    ),
    edge_mutant(
        "a record that comes back late is not looked up",
        (
            "processing.processor:Processor._sweep_has_passed",
            "return refund.status is Status.SUCCEEDED and age > SWEEP_BACK - LAST_DAY",
            "return False",
        ),
    ),
    edge_mutant(
        "the archiver begins a second chain",
        (
            "processing.processor:Processor.resume_reserved",
            "refund = _continue_chain(refund, last)",
            "pass",
        ),
    ),
    edge_mutant(
        "a late release takes a correction's money",
        (
            "processing.recorder:Recorder.give_back",
            "self._hold_if_corrected(refund.refund_id)",
            "pass",
        ),
    ),
    edge_mutant(
        "what was sent back is still in the payment's sum",
        (
            "processing.balance:Balance._moved_unreserved",
            "and refund_id not in failed",
            "",
        ),
    ),
    edge_mutant(
        "what was sent back is still in the payment's sum at a restore",
        (
            "refunds_ops.backup.ledger_rebuild:rebuilt_ledger",
            "if name in succeeded and name not in failed",
            "if name in succeeded",
        ),
    ),
    edge_mutant(
        "another stage's refund of an id is nobody's",
        (
            "processing.balance:is_named",
            "return _refund_id_of(shown) == refund_id",
            "return shown.refund_id == refund_id",
        ),
    ),
    edge_mutant(
        "what the gateway has under an id is rejected",
        (
            "processing.reserver:Reserver._count_and_hold",
            "(counted.unclear_minor or counted.listed_live)",
            "counted.unclear_minor",
        ),
    ),
    edge_mutant(
        "a message is as young as it says",
        (
            "processing.queue:_delivery",
            "min(first, sent_at)",
            "first",
        ),
    ),
    edge_mutant(
        "what was paid after all holds nothing",
        (
            "processing.settler:Settler.ask_then_review",
            "self.recorder.hold_again(refund)",
            "pass",
        ),
    ),
    edge_mutant(
        "what is shown after all holds nothing",
        (
            "processing.recorder:Recorder.finish",
            "or refund.failure_code == RECORD_LOST",
            "",
        ),
    ),
    edge_mutant(
        "what is paid there is counted by whoever marks it, or never",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "self._settler.count_balance(refund, deadline)\n"
            "        return self._settler.mark_paid(refund)",
            "marked = self._settler.mark_paid(refund)\n"
            "        self._settler.count_balance(refund, deadline)\n"
            "        return marked",
        ),
    ),
    edge_mutant(
        "a correction is closed while a release may be under way",
        (
            "processing.recorder:Recorder.hold_corrected",
            "if age < RELEASE_UNDER_WAY_AT_MOST:",
            "if False:",
        ),
    ),
    edge_mutant(
        "a ledger that was begun for another refund knows of all",
        (
            "processing.processor:_may_have_forgotten",
            "return ledger is not None and ledger.moved_unreserved_minor > 0",
            "return False",
        ),
    ),
    edge_mutant(
        "a restore takes what a list leaves out for ours, moved or not",
        (
            "refunds_ops.backup.ledger_rebuild:rebuilt_ledger",
            "if name in succeeded and name not in failed",
            "if name not in failed",
        ),
    ),
    edge_mutant(
        "a restore counts a payment that changes meanwhile",
        (
            "refunds_ops.backup.ledger_rebuild:LedgerRebuild._rebuild",
            "if unreadable or _live_minor(at_gateway) < payment.refunded_minor:",
            "if False:",
        ),
    ),
    edge_mutant(
        "a restored approval was never called",
        (
            "refunds_ops.backup.audit_chains:_as_audited",
            'if entry["status"] not in (Status.AWAITING_APPROVAL, Status.REJECTED):',
            "if False:",
        ),
    ),
    edge_mutant(
        "a dropped message takes its refund with it",
        (
            "refunds_ops.dead_letters:DeadLetters.drop",
            "if letter.receipt is not None and (begun := self._begun(letter)):",
            "if (begun := None):",
        ),
    ),
    edge_mutant(
        "what is paid there and ended here is not counted",
        (
            "processing.reversal_sweep:ReversalSweep._mark_paid",
            "self._settler.count_balance(refund, deadline)",
            "pass",
        ),
    ),
    edge_mutant(
        "what ended here holds money again in a lost ledger",
        ("processing.balance:Balance._count", "if adopted and not ended:", "if adopted:"),
    ),
    edge_mutant(
        "what a lost record held is given back for another payment's",
        (
            "processing.processor:Processor.give_back_unused",
            "refund.transaction_id != request.transaction_id",
            "False",
        ),
    ),
    edge_mutant(
        "what only the gateway knows is given back for another payment's",
        (
            "processing.processor:Processor.give_back_unused",
            "if held and self._reserver.is_listed(request, deadline):",
            "if False:",
        ),
    ),
    edge_mutant(
        "another payment's record ends what a ledger held",
        (
            "processing.balance:Balance._held_before",
            "refund is None or refund.transaction_id != ledger.transaction_id",
            "refund is None",
        ),
    ),
    edge_mutant(
        "a ledger begun for another refund proves that this one was not paid",
        (
            "processing.processor:Processor._process",
            "if delivery.look_up_first and ledger and not seen:",
            "if False:",
        ),
    ),
    edge_mutant(
        "what all that is left came to is forgotten with the record",
        (
            "processing.processor:_continue_chain",
            'refund.amount_minor or details.get("amount_minor")',
            "refund.amount_minor",
        ),
    ),
    edge_mutant(
        "an id of another payment is rejected",
        (
            "processing.processor:Processor._reject",
            "elif found := self._settler.look_up(refund, deadline):",
            "elif delivery.look_up_first and (found := self._settler.look_up(refund, deadline)):",
        ),
    ),
    edge_mutant(
        "what the bank sent back was never paid",
        ("processing.balance:Balance._count", "for each in every)", "for each in shown)"),
    ),
)
