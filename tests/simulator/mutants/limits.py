"""Faults in how refunds are counted against their limits, and in how people approve them."""

from __future__ import annotations

from functools import partial

from tests.simulator.limit_histories import run_limits
from tests.simulator.mutation import mutant

limits_mutant = partial(mutant, play=run_limits)
"""Of races so narrow that random histories rarely meet them: scripted ones have to catch it."""

CHECKS = "processing.limit_checks:LimitChecks."
COUNTERS = "tables.limit_counters:LimitCounters."
APPROVALS = "processing.approval:Approvals."

MUTANTS = (
    limits_mutant(
        "counted twice: a share that an attempt left is not taken over",
        (CHECKS + "_count", "if (left := read.shares.get(name)) is not None:", "if False:"),
        (
            COUNTERS + "add",
            "change.condition(f\"attribute_not_exists({change.name('s', _SHARE + name)})\")",
            "name += share.token",
        ),
    ),
    limits_mutant(
        "counted twice: what an attempt left is never surplus",
        (
            CHECKS + "_settled",
            'if (row.counted or {}).get(which) != f"{read.name} {share.token}":',
            "if False:",
        ),
    ),
    mutant(
        "counted twice: a late write counts again",
        (COUNTERS + "add", 'change.condition("epoch = :epoch", epoch=read.epoch)', "pass"),
        caught_by="test_a_write_that_arrives_late_does_not_count_again",
    ),
    mutant(
        "counted twice: a write whose answer was lost is made again under its token",
        (
            CHECKS + "_count",
            "share = replace(share, token=self._new_token())\n                continue",
            "continue",
        ),
        caught_by="test_a_share_whose_answer_was_lost_is_not_counted_again_under_its_token",
    ),
    limits_mutant(
        "counted, and the row does not say so",
        (
            CHECKS + "admit",
            "return refund if unchanged else replace(refund, counted=counted or None)",
            "return refund",
        ),
    ),
    limits_mutant(
        "not counted for all users",
        (CHECKS + "admit", "if self.limits.counts_days:", "if False:"),
    ),
    mutant(
        "the counter's limit is looked at when it is read, not when it is written",
        (
            "tables.limit_counters:_Change.add",
            'self.condition(f"{name} <= :most_{short}", **{f"most_{short}": most - amount})',
            "pass",
        ),
        caught_by="test_two_that_have_read_the_same_counter_are_not_both_counted",
    ),
    limits_mutant(
        "one refund over the limit of a day",
        (
            "processing.limit_checks:_over",
            "if taken_minor + share.amount_minor > room.amount_minor:",
            "if taken_minor > room.amount_minor:",
        ),
        (
            "tables.limit_counters:_Change.add",
            "most - amount",
            "most",
        ),
    ),
    limits_mutant(
        "one refund too many of a user and day",
        (
            "processing.limit_checks:_over",
            "read.count + settled.count + 1 > room.count",
            "read.count + settled.count > room.count",
        ),
        (COUNTERS + "add", "most=room.count)", "most=None)"),
    ),
    limits_mutant(
        "not given back",
        (
            "processing.recorder:Recorder.give_back",
            "uncounted = self._give_back_share(refund)",
            "uncounted = None",
        ),
    ),
    mutant(
        "given back twice",
        (
            "tables.refunds:RefundsTable.save",
            'condition += " AND attribute_not_exists(uncounted)"',
            "pass",
        ),
        caught_by="test_who_gives_back_late_gives_nothing_back",
    ),
    mutant(
        "given back before it is certain",
        (
            CHECKS + "_settled",
            "if row is None or row.uncounted is None:\n"
            "                continue  # announced, but not valid yet\n",
            "if row is None:\n                continue\n"
            "            row = replace(row, uncounted=row.uncounted or {which: back.token})\n",
        ),
        caught_by="test_what_is_announced_and_not_given_back_yet_still_counts",
    ),
    mutant(
        "a void give-back counts",
        (
            CHECKS + "_settled",
            "if row.uncounted.get(which) == back.token:",
            "if True:",
        ),
        caught_by="test_who_gives_back_late_gives_nothing_back",
    ),
    limits_mutant(
        "given back on another day",
        (CHECKS + "_announce_back", "if read.name != day:", "if False:"),
    ),
    limits_mutant(
        "a day that is over begins again",
        (CHECKS + "_count", "if read.day < today:", "if read.day != today:"),
    ),
    limits_mutant(
        "a write that began a day is overwritten",
        (COUNTERS + "begin_day", '"ConditionExpression": "epoch = :read",', ""),
    ),
    limits_mutant(
        "claimed without approval",
        (
            "processing.processor:Processor._admit",
            "if not isinstance(admitted, Over):",
            "if isinstance(admitted, Over):\n            return refund\n        else:",
        ),
    ),
    mutant(
        "claimed without approval: a duplicate goes on with what waits",
        (
            "processing.processor:Processor._resume",
            "if refund.status is not Status.PROCESSING:",
            "if refund.status not in (Status.PROCESSING, Status.AWAITING_APPROVAL):",
        ),
        caught_by="test_a_duplicate_of_what_waits_is_dropped_and_changes_nothing",
    ),
    limits_mutant(
        "one approval where two are needed",
        (
            APPROVALS + "approve",
            "if len(approvals) < approvers_needed(refund):",
            "if False:",
        ),
    ),
    limits_mutant(
        "approved by the requester",
        (
            "processing.approval:_check_person",
            "if by.is_any_of(refund.requested_by):",
            "if False:",
        ),
    ),
    limits_mutant(
        "approved by the sender",
        (
            "processing.approval:_check_person",
            'if by.is_any_of(*(refund.sent_by or "").split(SENT_AGAIN)):',
            "if False:",
        ),
    ),
    limits_mutant(
        "approved twice by one person",
        (
            "processing.approval:_check_person",
            'if by.is_any_of(*(each.get("by") for each in refund.approvals or ())):',
            "if False:",
        ),
    ),
    limits_mutant(
        "approved after it expired",
        (APPROVALS + "approve", "if has_expired(refund, at):", "if False:"),
    ),
    limits_mutant(
        "approval never expires",
        (APPROVALS + "look_again", "if not has_expired(refund, at):", "if True:"),
    ),
    limits_mutant(
        "approval expires at once",
        (APPROVALS + "look_again", "if not has_expired(refund, at):", "if False:"),
    ),
    limits_mutant(
        "an approved refund is found by nobody",
        (
            APPROVALS + "_processing",
            "return replace(opened, key_used_at=key_used_at, lease_until=None, check_at=at)",
            "return replace(new, key_used_at=key_used_at, open_since=None, open_shard=None)",
        ),
    ),
    limits_mutant(
        "the age of what waits for approval is not reported",
        (
            "processing.reconcile_refunds:ReconcileRefunds._report_before_sweep",
            "open_.oldest_approval_seconds",
            "0",
        ),
    ),
)
