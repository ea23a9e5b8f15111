"""The metrics of money: what is counted, in which currency, in CloudWatch's own format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.builders import refund
from tests.support.stream_records import CLAIMED, DONE, record

from refunds.audit.money_metrics import MoneyMetrics, money_of


def test_each_change_of_status_counts_with_its_amount_in_its_currency() -> None:
    yen = refund(refund_id="r2", currency="JPY", amount_minor=900)
    assert money_of([record(CLAIMED), record(DONE, CLAIMED), record(yen)]) == {
        "USD": {
            "RequestedMinor": 2500,
            "RequestedCount": 1,
            "RefundedMinor": 2500,
            "RefundedCount": 1,
        },
        "JPY": {"RequestedMinor": 900, "RequestedCount": 1},
    }


def test_a_change_of_something_else_counts_nothing() -> None:
    assert money_of([record(CLAIMED, CLAIMED), record(None, DONE)]) == {}


def test_a_rejection_without_an_amount_is_counted() -> None:
    rejected = record(refund(status="REJECTED"))
    del rejected["dynamodb"]["NewImage"]["amount_minor"]
    assert money_of([rejected]) == {"USD": {"RejectedMinor": 0, "RejectedCount": 1}}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"dynamodb": None},
        {"dynamodb": {"NewImage": {"status": {"S": "NONSENSE"}, "currency": {"S": "USD"}}}},
        {"dynamodb": {"NewImage": {"status": "x", "currency": 1}}},
    ],
)
def test_what_cant_be_read_counts_nothing(broken: dict[str, Any]) -> None:
    assert money_of([broken, record(CLAIMED)])["USD"]["RequestedCount"] == 1


def test_amounts_stay_integers_and_carry_their_currency(
    capsys: pytest.CaptureFixture[str],
) -> None:
    MoneyMetrics("Refunds", "refunds-test").add(
        {"USD": {"RefundedMinor": 10**17 + 1, "RefundedCount": 2}}
    )
    line = json.loads(capsys.readouterr().out)

    assert (line["RefundedMinor"], line["RefundedCount"]) == (10**17 + 1, 2)
    assert (line["service"], line["currency"]) == ("refunds-test", "USD")
    amounts, counts, zeros = line["_aws"]["CloudWatchMetrics"]
    assert amounts == {
        "Namespace": "Refunds",
        "Dimensions": [["service", "currency"]],
        "Metrics": [{"Name": "RefundedMinor", "Unit": "None"}],
    }
    assert counts["Dimensions"] == [["service"], ["service", "currency"]]
    assert counts["Metrics"] == [{"Name": "RefundedCount", "Unit": "Count"}]
    # A ratio of counts has no value where one of them has none.
    assert zeros["Dimensions"] == [["service"]]
    names = [each["Name"] for each in zeros["Metrics"]]
    assert names == ["FailedCount", "RejectedCount", "ReversedCount"]
    assert {line[name] for name in names} == {0}
