"""Faults in what a payment's ledger holds, gives back and compares."""

from __future__ import annotations

from tests.simulator.mutation import mutant

MUTANTS = (
    mutant(
        "reservation not released on failure",
        (
            "processing.recorder:Recorder.give_back",
            "self._ledger.release(refund.transaction_id, refund.refund_id, back_minor=back_minor)",
            "False",
        ),
    ),
    mutant(
        "released twice",
        (
            "tables.ledger:LedgerTable.release",
            'f"SET remaining = remaining + {back}, #r = :zero"',
            '"SET remaining = remaining + #r"',
        ),
    ),
    mutant(
        "no tombstone after a release",
        (
            "tables.ledger:LedgerTable.release",
            'f"SET remaining = remaining + {back}, #r = :zero"',
            '"SET remaining = remaining + #r REMOVE #r"',
        ),
    ),
    mutant(
        "reviewed money released at once",
        (
            "processing.settler:Settler._review",
            "return self.recorder.finish(",
            "self.recorder._ledger.release(refund.transaction_id, refund.refund_id)\n"
            "        return self.recorder.finish(",
        ),
    ),
    mutant(
        "reserve without looking at what remains",
        (
            "tables.ledger:LedgerTable.reserve",
            'f"{not_yet_held} AND {enough_left}"',
            'f"{not_yet_held} AND ({enough_left} OR attribute_exists(remaining))"',
        ),
    ),
    mutant(
        "an old read of the ledger reserves again",
        (
            "tables.ledger:LedgerTable.reserve",
            'f"{not_yet_held} AND {enough_left}"',
            'f"({not_yet_held} OR attribute_exists(#r)) AND {enough_left}"',
        ),
        caught_by="test_a_refund_that_another_delivery_has_paid_since_the_read_is_not_reserved_again",
    ),
    mutant(
        "what fails on an old read is not read again",
        (
            "processing.reserver:Reserver._hold",
            "            ledger = None\n",
            "",
        ),
        caught_by="test_two_refunds_of_one_payment_in_a_batch_share_what_is_left_of_an_old_read",
    ),
    mutant(
        "a batch that can't read its ledgers fails",
        (
            "processing.process_refund:ProcessRefund._read_ledgers",
            "            return {}",
            "            raise",
        ),
        caught_by="test_a_release_that_may_not_read_its_ledgers_at_once_goes_on_and_raises_the_alarm",
    ),
    mutant(
        "a batch that can't read its ledgers tells nobody",
        (
            "processing.process_refund:ProcessRefund._read_ledgers",
            'self._failed("ledgers of the batch not read", exc)',
            "pass",
        ),
        caught_by="test_a_release_that_may_not_read_its_ledgers_at_once_goes_on_and_raises_the_alarm",
    ),
    mutant(
        "a record gets another payment's ledger",
        (
            "processing.queue:handle_batch",
            "read=ledgers.get(payment),",
            "read=next((each for each in ledgers.values() if each.ledger), None),",
        ),
        caught_by="test_a_batch_that_has_read_no_ledger_looks_first_once_another_has_begun_it",
    ),
    mutant(
        "a ledger begun twice",
        (
            "tables.ledger:LedgerTable.open",
            'f"{not_begun} AND {not_yet_held}"',
            'f"({not_begun} OR attribute_exists(captured)) AND {not_yet_held}"',
        ),
    ),
    mutant(
        "recount without a condition",
        (
            "tables.ledger:LedgerTable.recount",
            '"captured = :read_captured AND remaining = :read_remaining"',
            '"captured = :read_captured OR remaining = :read_remaining"',
        ),
    ),
    mutant(
        "others' refunds not counted",
        (
            "processing.balance:Balance._count",
            "            - moved_minor\n",
            "",
        ),
    ),
    mutant(
        "the amount held is not the refund's",
        (
            "processing.processor:Processor._seen_before",
            "amount = held or request.amount_minor or 0",
            "amount = request.amount_minor or 1",
        ),
    ),
    mutant(
        "a conflict keeps its reservation",
        (
            "processing.recorder:Recorder.give_back_unused",
            "self._ledger.release(transaction_id, refund.refund_id)",
            "pass",
        ),
    ),
)
