"""Faults in how a refund is claimed, called and recorded."""

from __future__ import annotations

from tests.simulator.mutation import mutant

CONDITION = 'f"{same_version} AND {same_status} AND {same_attempt}"'

MUTANTS = (
    mutant(
        "claim after the call",
        (
            "processing.processor:Processor._claim",
            "there = self._refunds.put_new(refund)",
            "self._settler.call(refund, deadline)\n        there = self._refunds.put_new(refund)",
        ),
    ),
    mutant(
        "new key on retry",
        (
            "gateways.flair:FlairGateway.create_refund",
            '"Idempotency-Key": order.reference',
            '"Idempotency-Key": f"{order.reference}-{self._clock.now()}"',
        ),
    ),
    mutant(
        "release on timeout",
        (
            "processing.settler:Settler.call",
            "case Unknown(reason=reason):",
            "case Unknown(reason=reason):\n"
            "                self.recorder._ledger.release("
            "refund.transaction_id, refund.refund_id)",
        ),
    ),
    mutant(
        "timeout recorded as failed",
        (
            "processing.settler:Settler.call",
            "case Unknown(reason=reason):\n                return self._leave(refund, reason)",
            "case Unknown(reason=reason):\n"
            "                return self.recorder.finish("
            "refund, Status.FAILED, failure_code='timeout')",
        ),
    ),
    mutant(
        "retryable recorded as failed",
        (
            "processing.settler:Settler.call",
            "return self._leave(refund, reason, wait, uncalled=unanswered)",
            "return self.recorder.finish(refund, Status.FAILED, failure_code='later')",
        ),
    ),
    mutant(
        "unconditional finish",
        (
            "tables.refunds:RefundsTable.save",
            CONDITION,
            'f"({same_version} AND {same_status} AND {same_attempt})'
            ' OR attribute_exists(refund_id)"',
        ),
    ),
    mutant(
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
    mutant(
        "every attempt has the same token",
        ("processing.settler:Settler.new_lease", "self.new_token()", "'the-token'"),
        caught_by="test_rule_9_an_attempt_that_was_taken_over_cannot_write",
    ),
    mutant(
        "no fingerprint",
        (
            "processing.processor:Processor._resume",
            "if not request.has_fingerprint(refund.fingerprint):",
            "if False:",
        ),
    ),
    mutant(
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
    mutant(
        "amount not compared",
        (
            "processing.evidence:mismatch",
            "if (shown.amount_minor, shown.currency) != (refund.amount_minor, refund.currency):",
            "if False:",
        ),
    ),
    mutant(
        "key's age not looked at",
        (
            "gateways.flair:FlairGateway.create_refund",
            "if self._clock.now() >= not_after:",
            "if False:",
        ),
        caught_by="test_seen_at_its_expiry_and_hidden_afterwards_pays_once",
    ),
    mutant(
        "look-up skipped past expiry",
        (
            "gateways.flair:FlairGateway.create_refund",
            "if self._clock.now() >= not_after:",
            "if False:",
        ),
        ("processing.settler:Settler.ask_then_call", "if found:", "if False:"),
    ),
    mutant(
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
        caught_by="test_seen_at_its_expiry_and_hidden_afterwards_pays_once",
    ),
    mutant(
        "nothing shown means failed",
        (
            "processing.settler:Settler.ask_then_call",
            "return self.call(refund, deadline, unanswered=unanswered or refund)",
            "return self.recorder.finish(refund, Status.FAILED, failure_code='none')",
        ),
    ),
    mutant(
        "decline after unknown trusted",
        ("processing.settler:Settler._after_decline", "if unanswered is not None:", "if False:"),
    ),
    mutant(
        "key in use taken for a decline",
        (
            "gateways.flair:FlairGateway._answer",
            'return Unknown(f"HTTP {status} {shown_code(error.code)}")',
            'return Declined(error.code, "")',
        ),
    ),
    mutant(
        "a page of HTML taken for a decline",
        (
            "gateways.flair:FlairGateway._answer",
            'return Unknown(f"HTTP {status}")',
            'return Declined("html", "") if status in (404, 422) else Unknown("HTTP")',
        ),
        caught_by="test_a_page_of_html_is_no_decline_whatever_its_status_says",
    ),
)
