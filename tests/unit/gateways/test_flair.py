"""What is sent to Flair, how stages share an account, and what never gets out."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.builders import EMAIL, SECRET, VISA, shown
from tests.support.flair_account import ORDER, REFUND, TOMORROW, Account, error

from refunds.domain.redaction import describe
from refunds.gateways.contract import (
    NOT_OURS,
    Accepted,
    GatewayUnavailableError,
    KeyTooOld,
    Misconfiguration,
    Misconfigured,
    Retryable,
    Unknown,
)
from refunds.gateways.http import public_address

# What is sent


def test_a_refund_is_asked_for_as_the_contract_has_it(account: Account) -> None:
    account.wire.says(201, REFUND)
    account.create()

    ((method, url, headers, body),) = account.wire.sent
    assert (method, url) == ("POST", "https://api.flair.example/v1/refunds")
    assert headers["Idempotency-Key"] == "refund-1"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert body is not None
    assert json.loads(body) == {
        "transaction_id": "payment-1",
        "amount": 2500,
        "currency": "USD",
        "reference": "refund-1",
        "reason": "requested_by_customer",
    }
    assert isinstance(json.loads(body)["amount"], int)


def test_the_same_order_is_always_the_same_bytes(account: Account) -> None:
    # Another body under the same key is a 409 for good.
    account.wire.says(500, error())
    account.create()
    account.clock.advance(hours=5)
    account.create()

    assert account.wire.sent[0][3] == account.wire.sent[1][3]


def test_the_bytes_of_format_1_never_change(account: Account) -> None:
    # Refunds that were begun by an older release are repeated with these very bytes.
    account.create()

    assert account.wire.sent[0][3] == (
        b'{"transaction_id": "payment-1", "amount": 2500, "currency": "USD", '
        b'"reference": "refund-1", "reason": "requested_by_customer"}'
    )


def test_a_format_of_a_newer_release_is_not_sent(account: Account) -> None:
    order = replace(ORDER, format=2)
    answer = account.gateway.create_refund(order, account.deadline(), not_after=TOMORROW)

    assert answer == Misconfigured(Misconfiguration.FORMAT_UNKNOWN)
    assert account.wire.sent == []


def test_a_refund_keeps_the_key_that_it_began_with_when_the_stage_changes() -> None:
    account = Account("prod")
    order = replace(ORDER, reference="dev.refund-1")
    account.wire.says(201, REFUND | {"reference": "dev.refund-1"})
    account.gateway.create_refund(order, account.deadline(), not_after=TOMORROW)

    _, _, headers, body = account.wire.sent[0]
    assert headers["Idempotency-Key"] == "dev.refund-1"
    assert json.loads(body or b"")["reference"] == "dev.refund-1"


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("https://api.flair.example/", "https://api.flair.example"),
        ("https://API.flair.example/eu/", "https://api.flair.example/eu"),
        ("https://user:secret@api.flair.example:8443", "https://api.flair.example:8443"),
    ],
)
def test_the_account_is_the_address_without_anything_secret(url: str, account: str) -> None:
    assert public_address(url) == account


def test_a_key_that_may_be_forgotten_is_never_sent(account: Account) -> None:
    account.clock.set(TOMORROW)

    assert account.create() == KeyTooOld()
    assert account.wire.sent == []
    account.clock.set(TOMORROW - timedelta(microseconds=1))
    account.wire.says(201, REFUND)
    assert isinstance(account.create(), Accepted)


def test_a_key_that_ages_while_the_secret_is_fetched_is_not_sent(account: Account) -> None:
    get = account.key.get

    def slowly() -> str:
        account.clock.set(TOMORROW)
        return get()

    account.key.get = slowly  # type: ignore[method-assign]
    assert account.create() == KeyTooOld()
    assert account.wire.sent == []


def test_without_the_secret_nothing_is_sent_and_nothing_of_it_told(account: Account) -> None:
    account.key.error = RuntimeError(SECRET)
    answer = account.create()

    assert answer == Retryable("no gateway key: RuntimeError")
    with pytest.raises(GatewayUnavailableError) as caught:
        account.gateway.get_payment("payment-1", account.deadline())
    assert SECRET not in str(caught.value)
    assert account.wire.sent == []


# Stages that share an account


def test_a_stage_marks_its_keys_and_references_and_reads_them_back() -> None:
    account = Account("dev")
    account.wire.says(201, REFUND | {"reference": "dev.refund-1"})
    answer = account.create()

    assert answer == Accepted(shown(gateway_reference="dev.refund-1"))
    _, _, headers, body = account.wire.sent[0]
    assert headers["Idempotency-Key"] == "dev.refund-1"
    assert body is not None
    assert json.loads(body)["reference"] == "dev.refund-1"


@pytest.mark.parametrize("reference", ["refund-1", "prod.refund-1", "dev.", "dev", ".refund-1"])
def test_another_stages_refund_is_never_taken_for_ours(reference: str) -> None:
    account = Account("dev")
    account.wire.says(200, {"data": [REFUND | {"reference": reference}]})
    page = account.gateway.list_refunds(account.deadline())

    assert page.refunds[0].refund_id == NOT_OURS


# What must not get out


def test_the_key_is_in_no_repr_answer_error_or_log(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = [repr(account.gateway), str(vars(account.gateway).keys())]
    for status in (200, 201, 401, 403, 404, 409, 422, 429, 500):
        account.wire.says(status, error(SECRET, SECRET) if status > 499 else b"<html>")
        told.append(repr(account.create()))
        with pytest.raises(GatewayUnavailableError) as caught:
            account.gateway.get_payment("payment-1", account.deadline())
        told += [repr(caught.value), str(describe(caught.value))]

    assert SECRET not in "".join(told) + caplog.text


@pytest.mark.parametrize("planted", [EMAIL, VISA, "4111 1111 1111 1111", f"{SECRET} for you"])
@pytest.mark.parametrize("status", [400, 409, 500, 503])
def test_the_gateways_own_words_are_in_no_reason(
    account: Account, planted: str, status: int
) -> None:
    account.wire.says(status, error(planted, planted))
    answer = account.create()

    assert isinstance(answer, Unknown)
    assert planted not in answer.reason


def test_a_code_that_looks_like_one_is_told(account: Account) -> None:
    account.wire.says(409, error("idempotency_key_in_use"))

    assert account.create() == Unknown("HTTP 409 idempotency_key_in_use")
