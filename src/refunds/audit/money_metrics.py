"""How much was requested, refunded, failed and so on, by currency, from the changes of refunds.

WriteAudit sees every change of every refund, whether the queue, the reconciler or a person made it.
Amounts are integers of minor units. A stream record that is delivered twice is counted twice, so
these numbers are for charts and alarms; `refunds totals` has exact sums.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

_NAMES = {
    "PROCESSING": "Requested",
    "AWAITING_APPROVAL": "AwaitingApproval",
    "REJECTED": "Rejected",
    "PENDING": "Pending",
    "IN_REVIEW": "InReview",
    "SUCCEEDED": "Refunded",
    "FAILED": "Failed",
    "REVERSED": "Reversed",
}

OUTCOME_COUNTS = ("RefundedCount", "FailedCount", "RejectedCount", "ReversedCount")
"""Counts that alarms compare with each other. They are always reported together, as 0 if necessary:
metric math over a count without a datapoint gives no value, and the alarm would stay silent."""


def money_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """By currency: ``RefundedMinor``, ``RefundedCount`` and so on. Ignores what it can't read."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        try:
            change = record["dynamodb"]
            new, was = change["NewImage"], change.get("OldImage", {}).get("status", {}).get("S")
            status, currency = new["status"]["S"], new["currency"]["S"]
            name, amount_minor = _NAMES[status], int(new.get("amount_minor", {"N": "0"})["N"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # The audit writer reports what is wrong with it.
        if status != was:
            found[currency].update({name + "Minor": amount_minor, name + "Count": 1})
    return dict(found)


class MoneyMetrics:
    """Writes amounts and counts in CloudWatch's embedded metric format, one line for each currency.

    Amounts have the currency as a dimension; counts are also written without it. Powertools'
    Metrics would turn the amounts into floats.
    """

    def __init__(self, namespace: str, service: str) -> None:
        self._namespace = namespace
        self._service = service

    def add(self, money: Mapping[str, Mapping[str, int]]) -> None:
        for currency, values in money.items():
            print(json.dumps(self.line(currency, values)))

    def line(self, currency: str, values: Mapping[str, int]) -> dict[str, Any]:
        counts = [name for name in values if name.endswith("Count")]
        amounts = [name for name in values if not name.endswith("Count")]
        zeros = [name for name in OUTCOME_COUNTS if name not in values]
        return {
            "_aws": {
                "Timestamp": int(datetime.now(UTC).timestamp() * 1000),
                "CloudWatchMetrics": [
                    self._directive([["service", "currency"]], amounts, "None"),
                    self._directive([["service"], ["service", "currency"]], counts, "Count"),
                    self._directive([["service"]], zeros, "Count"),
                ],
            },
            "service": self._service,
            "currency": currency,
            **values,
            **dict.fromkeys(zeros, 0),
        }

    def _directive(self, dimensions: list[list[str]], names: list[str], unit: str) -> Any:
        return {
            "Namespace": self._namespace,
            "Dimensions": dimensions,
            "Metrics": [{"Name": name, "Unit": unit} for name in names],
        }
