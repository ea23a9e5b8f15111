"""What never gets into a log (I8): card numbers, secrets and personal data."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.support.builders import EMAIL, SECRET, VISA, body, refund
from tests.support.expanded_template import ROOT
from tests.support.functions import (
    CARD_IN_GROUPS,
    PAYMENT,
    PLANTED,
    Answers,
    Functions,
    pays,
    stream_event,
)
from tests.support.stream_records import record


def words(status: int) -> Answers:
    """A gateway whose errors are full of what it should keep to itself."""

    def answers(method: str, path: str) -> tuple[int, Any]:
        if "/payments/" in path:
            return 200, PAYMENT
        if method == "GET":
            return 200, {"data": []}
        text = " ".join(PLANTED)
        return status, {"error": {"code": text, "message": text}}

    return answers


def names_people(method: str, path: str) -> tuple[int, Any]:
    # Without a card number beside it, so that nothing else makes it be left out.
    if method == "POST":
        return 422, {"error": {"code": f"{EMAIL}_has_no_card", "message": SECRET}}
    return pays(method, path)


def pages(method: str, path: str) -> tuple[int, Any]:
    return 502, f"<html>{' '.join(PLANTED)}</html>"


def broken_payment(method: str, path: str) -> tuple[int, Any]:
    return 200, PAYMENT | {"status": EMAIL, "currency": VISA, "id": SECRET}


def broken_refund(method: str, path: str) -> tuple[int, Any]:
    if method == "POST":
        return 201, {"id": EMAIL, "status": VISA, "amount": SECRET}
    return pays(method, path)


def failed_refund(method: str, path: str) -> tuple[int, Any]:
    if method != "POST":
        return pays(method, path)
    failed = {"id": EMAIL, "transaction_id": EMAIL, "reference": VISA, "amount": 1}
    return 201, failed | {"currency": EMAIL, "status": "failed", "failure_code": EMAIL}


GATEWAYS: dict[str, Answers] = {
    "pays": pays,
    "pages": pages,
    "names people": names_people,
    "broken payment": broken_payment,
    "broken refund": broken_refund,
    "failed refund": failed_refund,
    **{str(status): words(status) for status in (400, 401, 402, 404, 409, 422, 429, 500)},
}


FEW = ("pays", "names people", "422", "500")
"""Gateways that `make test` has; `make test-long` has all."""


def marked(name: str) -> object:
    return pytest.param(GATEWAYS[name], marks=[] if name in FEW else [pytest.mark.long], id=name)


@pytest.mark.parametrize("gateway", [marked(name) for name in GATEWAYS])
def test_neither_people_cards_nor_secrets_get_into_the_log(
    functions: Functions, gateway: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    functions.gateway.answers = gateway
    refund_id = functions.new_id()
    private = {"user_id": EMAIL, "requested_by": f"customer:{EMAIL}", "metadata": {"to": EMAIL}}
    called = [
        functions.process(
            body(refund_id=refund_id, amount_minor=1, **private),
            body(refund_id=refund_id, amount_minor=2, **private),
            body(refund_id=functions.new_id(), amount_minor=1, metadata={VISA: EMAIL}),
            body(refund_id=functions.new_id(), requested_by=CARD_IN_GROUPS, user_id=SECRET),
            body(refund_id=EMAIL, reason=SECRET, amount_minor=VISA),
            body(**{EMAIL: VISA, SECRET: 1}),
            f'{{"user_id": "{EMAIL}" {SECRET} {VISA}',
        ),
        functions.call("ReconcileRefunds", {}),
        functions.call(
            "WriteAudit",
            stream_event(
                record(refund(refund_id=functions.new_id(), status="FAILED", **private)),
                record({"user_id": {"S": EMAIL}, "metadata": {"B": VISA}, "x": {"S": SECRET}}),
            ),
        ),
    ]

    output = "".join(each.output for each in called) + caplog.text
    assert "message refused" in output
    for planted in PLANTED:
        assert planted not in output


LIBRARIES = ("boto3", "botocore", "stripe", "urllib3")


def test_not_even_at_debug_does_a_secret_or_a_name_get_into_the_log(
    functions: Functions, caplog: pytest.LogCaptureFixture
) -> None:
    # What Lambda does with LogLevel=DEBUG: the root logger gets that level.
    caplog.set_level("DEBUG")
    functions.gateway.answers = pays
    private = {"user_id": EMAIL, "requested_by": f"customer:{EMAIL}", "metadata": {"to": EMAIL}}
    refund_id = functions.new_id()
    called = [
        functions.process(body(refund_id=refund_id, amount_minor=1, **private)),
        functions.call("ReconcileRefunds", {}),
        functions.call(
            "WriteAudit",
            stream_event(record(refund(refund_id=functions.new_id(), **private))),
        ),
    ]

    output = "".join(each.output for each in called) + caplog.text
    assert "refund recorded" in output
    for planted in PLANTED:
        assert planted not in output
    # A library's warning, such as urllib3's of a full pool, may come.
    details = [each for each in caplog.records if each.levelno < logging.WARNING]
    assert not [each for each in details if each.name.split(".")[0] in LIBRARIES]


def test_each_handler_keeps_the_libraries_quiet() -> None:
    for handler in (ROOT / "src/refunds/handlers").glob("[a-z]*.py"):
        assert "\nquiet_libraries()\n" in handler.read_text(), handler.name


def test_an_unforeseen_error_is_told_by_place_and_never_by_its_words(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise KeyError(f"{EMAIL} {VISA}")

    monkeypatch.setattr("refunds.processing.processor.Processor.process", broken)
    called = functions.process(body(refund_id=functions.new_id()))

    line = called.line("message put back")
    assert (line["reason"], line["cause_error"]) == ("KeyError", "KeyError")
    assert "broken" in line["cause_at"]
    for planted in PLANTED:
        assert planted not in called.output


def test_refused_messages_are_told_on_the_bus_without_their_contents(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []
    monkeypatch.setattr(
        "refunds.audit.outcome_events.OutcomeBus.publish",
        lambda bus, events: published.extend(events),
    )
    functions.process(
        body(metadata={VISA: EMAIL, SECRET: f"{EMAIL}\0"}), body(**{EMAIL: 1, SECRET: VISA})
    )

    assert len(published) == 2
    for planted in (EMAIL, VISA):
        assert planted not in str([event.detail for event in published])
