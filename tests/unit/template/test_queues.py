"""The queues: no request is lost, forgotten or sent by a stranger."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import (
    ACCOUNT,
    DAY_SECONDS,
    HOUR_SECONDS,
    REGION,
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_each_has_an_edit,
    assert_noticed,
    change_key,
    put,
)

SENDS = "RefundQueuePolicy.Properties.PolicyDocument.Statement.1.Fn::If.1"

SHOP = "arn:aws:iam::444455556666:role/shop"  # a producer in another account


def test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run(
    stack: ExpandedTemplate,
) -> None:
    timeout_seconds = stack["ProcessRefund"]["Timeout"]
    assert stack["RefundQueue"]["VisibilityTimeout"] >= 6 * timeout_seconds


def test_a_message_is_tried_often_and_gives_up_before_it_is_too_old(
    stack: ExpandedTemplate,
) -> None:
    queue, dead = stack["RefundQueue"], stack["RefundDeadLetterQueue"]
    receives = queue["RedrivePolicy"]["maxReceiveCount"]
    assert receives >= 5
    assert receives * HOUR_SECONDS < 5 * DAY_SECONDS
    assert queue["MessageRetentionPeriod"] >= 7 * DAY_SECONDS
    # Counted from the first enqueue: a shorter one would delete what SQS has just moved there.
    assert dead["MessageRetentionPeriod"] >= 14 * DAY_SECONDS


def test_a_refused_body_fits_the_dead_letter_queue_with_its_reason(stack: ExpandedTemplate) -> None:
    most = stack["RefundQueue"]["MaximumMessageSize"]
    assert most <= 256 * 1024
    assert stack["RefundDeadLetterQueue"]["MaximumMessageSize"] >= most + 4096


def test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue(
    stack: ExpandedTemplate,
) -> None:
    queue, dead = stack["RefundQueue"], stack["RefundDeadLetterQueue"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "RefundDeadLetterQueue.Arn"
    assert dead["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue['QueueName']}"],
    }


def test_senders_from_another_account_may_send_and_nothing_else(stack: ExpandedTemplate) -> None:
    stack = stack.given(QueueSenderArns=f"{SHOP},arn:aws:iam::777788889999:root")
    (allow,) = _allows(stack["RefundQueuePolicy"]["PolicyDocument"])
    assert SHOP in allow["Principal"]["AWS"]
    assert len(allow["Principal"]["AWS"]) == 2
    assert set(allow["Action"]) == {"sqs:GetQueueUrl", "sqs:SendMessage"}
    assert allow["Resource"] == "RefundQueue.Arn"
    # The queue is encrypted with the sender's rights.
    (use,) = [s for s in _allows(stack["DataKey"]["KeyPolicy"]) if SHOP in str(s["Principal"])]
    assert set(use["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert use["Condition"] == {
        "StringEquals": {"kms:ViaService": f"sqs.{REGION}.amazonaws.com"},
    }


def test_nobody_else_may_send_unless_named(stack: ExpandedTemplate) -> None:
    assert _allows(stack["RefundQueuePolicy"]["PolicyDocument"]) == []
    assert all(s["Principal"] != "*" for s in _allows(stack["DataKey"]["KeyPolicy"]))


def _allows(policy: Json) -> list[Json]:
    return [s for s in policy["Statement"] if s["Effect"] == "Allow"]


# --- Do the checks notice? ------------------------------------------------------------------------

EDITS: list[tuple[Check, Edit]] = [
    (
        test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run,
        put("RefundQueue.Properties.VisibilityTimeout", 359),
    ),
    (
        test_a_message_stays_hidden_six_times_as_long_as_its_function_may_run,
        put("ProcessRefund.Properties.Timeout", 61),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundQueue.Properties.RedrivePolicy.maxReceiveCount", 4),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundQueue.Properties.RedrivePolicy.maxReceiveCount", 120),
    ),
    (
        test_a_message_is_tried_often_and_gives_up_before_it_is_too_old,
        put("RefundDeadLetterQueue.Properties.MessageRetentionPeriod", 604800),
    ),
    (
        test_a_refused_body_fits_the_dead_letter_queue_with_its_reason,
        put("RefundDeadLetterQueue.Properties.MaximumMessageSize", 262144),
    ),
    (
        test_a_refused_body_fits_the_dead_letter_queue_with_its_reason,
        put("RefundQueue.Properties.MaximumMessageSize", 1048576),
    ),
    (
        test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue,
        put("RefundDeadLetterQueue.Properties.RedriveAllowPolicy.redrivePermission", "allowAll"),
    ),
    (
        test_only_the_refund_queue_moves_messages_to_the_dead_letter_queue,
        put("RefundQueue.Properties.QueueName", "renamed"),
    ),
    (test_senders_from_another_account_may_send_and_nothing_else, put(f"{SENDS}.Action", "sqs:*")),
    (
        test_senders_from_another_account_may_send_and_nothing_else,
        change_key("SendersToTheQueue", lambda s: s["Action"].remove("kms:GenerateDataKey")),
    ),
    (
        test_senders_from_another_account_may_send_and_nothing_else,
        change_key("SendersToTheQueue", lambda s: s.pop("Condition")),
    ),
    (
        test_nobody_else_may_send_unless_named,
        put("/Conditions.HasQueueSenders", {"Fn::Equals": ["1", "1"]}),
    ),
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=lambda value: value.__name__)
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)


def test_every_check_has_an_edit() -> None:
    assert_each_has_an_edit(globals(), EDITS)
