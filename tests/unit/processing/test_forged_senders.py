"""Who counts as the same person, whatever a message says and however long a name is."""

from __future__ import annotations

import json

import pytest
from tests.support.builders import refund

from refunds.domain.identity import Identity
from refunds.domain.limits import Exceptions, LimitException, Limits, allowed
from refunds.domain.request import parse_message
from refunds.processing.approval import NotAllowedError, _check_person
from refunds.processing.deferral import FIRST_SENT_BY, all_senders, first_sent_by


def forged(first: str) -> str:
    record = {
        "attributes": {"SenderId": "AROA1:ada"},
        "messageAttributes": {FIRST_SENT_BY: {"dataType": "String", "stringValue": first}},
    }
    body = json.dumps(
        {
            "refund_id": "r1",
            "transaction_id": "tx1",
            "user_id": "u1",
            "amount_minor": 300,
            "currency": "USD",
            "reason": "order_cancelled",
            "requested_by": "agent:7",
        }
    )
    fields = parse_message(body, sent_by=first_sent_by(record)).recorded_fields()
    return str(fields["sent_by"])


ADA = Identity("arn:aws:sts::123456789012:assumed-role/R/ada", "123456789012", "AROA2:ada")


def test_a_long_forged_first_sender_does_not_hide_the_real_one() -> None:
    sent_by = forged("x" * 300)
    with pytest.raises(NotAllowedError):
        _check_person(refund(sent_by=sent_by), ADA)


def test_a_long_forged_first_sender_raises_no_limit() -> None:
    vip = LimitException(per_refund={"USD": 10_000}, by="jo", why="x", at="2026-03-01")
    most = allowed(
        Limits(per_refund={"USD": 100}),
        Exceptions(entries={"sender:AROAVIP": vip}),
        currency="USD",
        user_id="u1",
        requested_by="agent:7",
        sent_by=forged("AROAVIP:" + "x" * 300),
    )
    assert most.per_refund_minor == 100


def test_a_user_with_a_long_path_approves_once() -> None:
    arn = "arn:aws:iam::123456789012:user/" + "division/" * 30 + "ada"
    ada = Identity(arn, "123456789012", "AIDAADA")
    first = {"decision": "approved", **ada.recorded(), "at": "2026-03-01"}
    with pytest.raises(NotAllowedError):
        _check_person(refund(approvals=(first,)), ada)


def test_each_sender_is_named_once_however_often_a_request_is_sent_again() -> None:
    senders = all_senders("AROA1:ada", "AROA2:ProcessRefund")
    for again in ("AROA3:jo", "AROA2:ProcessRefund", "AROA3:jo"):
        senders = all_senders(senders, again)
    assert senders == "AROA1:ada via AROA2:ProcessRefund via AROA3:jo"
