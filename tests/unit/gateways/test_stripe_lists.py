"""Look-ups and lists at Stripe: every page, our rows and others'."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.builders import NOW
from tests.support.stripe_script import Script, a_list, a_refund, gateway, soon, unlike_stripe

from refunds.gateways.contract import (
    NOT_OURS,
    REFERENCE_KEY,
    GatewayStatus,
    GatewayUnavailableError,
    ListsBefore,
    RefundPage,
)
from refunds.gateways.stripe import EMPTY_PAGE_TRIES, MAX_LOOK_UP_PAGES


def test_a_look_up_compares_the_metadata_of_every_page() -> None:
    pages = [
        a_list(a_refund(id="re_9", metadata={}), a_refund(id="re_8"), has_more=True),
        a_list(a_refund(id="re_7", metadata={REFERENCE_KEY: "refund-10"}), a_refund(id="re_6")),
    ]
    script = Script(*((200, page) for page in pages))
    found = gateway(script).find_refunds("refund-1", "pi_1", soon())

    assert [each.gateway_refund_id for each in found] == ["re_8", "re_6"]
    assert parse_qs(urlsplit(script.asked[1][1]).query)["starting_after"] == ["re_8"]


def test_the_next_page_begins_after_the_last_row_that_has_an_id() -> None:
    without_id = {name: value for name, value in a_refund().items() if name != "id"}
    first = a_list(a_refund(id="re_9"), without_id, 5, has_more=True)
    script = Script(unlike_stripe(200, first), (200, a_list(a_refund(id="re_8"))))
    asked = gateway(script)
    page = asked.list_refunds(soon(), transaction_id="pi_1")
    rest = asked.list_refunds(soon(), transaction_id="pi_1", cursor=page.next_cursor)

    assert page.unreadable == 2
    assert [each.gateway_refund_id for each in (*page.refunds, *rest.refunds)] == ["re_9", "re_8"]
    assert parse_qs(urlsplit(script.asked[1][1]).query)["starting_after"] == ["re_9"]


def test_a_look_up_without_an_end_is_no_answer() -> None:
    endless = a_list(a_refund(metadata={}), has_more=True)
    script = Script(*((200, endless),) * (MAX_LOOK_UP_PAGES + 5))
    with pytest.raises(GatewayUnavailableError):
        gateway(script).find_refunds("refund-1", "pi_1", soon())

    assert len(script.asked) == MAX_LOOK_UP_PAGES


def test_an_empty_page_is_not_taken_for_the_end_of_the_list() -> None:
    script = Script((200, a_list(has_more=True)), (200, a_list(a_refund())))

    (found,) = gateway(script).find_refunds("refund-1", "pi_1", soon())
    assert found.gateway_refund_id == "re_1"

    forever = Script(*((200, a_list(has_more=True)),) * EMPTY_PAGE_TRIES)
    with pytest.raises(GatewayUnavailableError):
        gateway(forever).list_refunds(soon(), transaction_id="pi_1")


@pytest.mark.parametrize("payment", ["payment-1", ""])
def test_a_payment_that_stripe_cannot_have_has_no_refunds_and_is_not_asked_for(
    payment: str,
) -> None:
    script = Script()
    assert gateway(script).list_refunds(soon(), transaction_id=payment) == RefundPage((), None)
    assert gateway(script).find_refunds("refund-1", payment, soon()) == ()
    assert script.asked == []


def test_one_bad_row_does_not_hide_the_others() -> None:
    listed = a_list(
        a_refund(id="re_1", amount=0),
        a_refund(id="re_2", metadata={REFERENCE_KEY: 7}),
        a_refund(id="re_3", status="of_a_later_version"),
        a_refund(id="re_4"),
    )
    listed["data"].append(5)
    page = gateway(Script(unlike_stripe(200, listed))).list_refunds(soon(), transaction_id="pi_1")

    assert [each.gateway_refund_id for each in page.refunds] == ["re_3", "re_4"]
    assert page.refunds[0].status is GatewayStatus.PENDING
    assert page.unreadable == 4


def test_a_look_up_passes_over_others_rows_but_never_over_one_that_may_be_ours() -> None:
    broken = a_refund(id="re_1", amount=0, metadata=None)
    listed = a_list(broken, a_refund(id="re_2"))
    (found,) = gateway(Script((200, listed))).find_refunds("refund-1", "pi_1", soon())
    assert found.gateway_refund_id == "re_2"

    for ours in (a_refund(amount=0), a_refund(metadata=7), 7):
        with pytest.raises(GatewayUnavailableError):
            gateway(Script(unlike_stripe(200, a_list(ours)))).find_refunds(
                "refund-1", "pi_1", soon()
            )


def test_a_payment_has_the_id_that_it_was_asked_for_by() -> None:
    for transaction_id in ("pi_1", "ch_1"):
        page = gateway(Script((200, a_list(a_refund())))).list_refunds(
            soon(), transaction_id=transaction_id
        )
        assert page.refunds[0].transaction_id == transaction_id


def test_an_accounts_list_has_both_ids_of_a_payment() -> None:
    listed = a_list(a_refund(), a_refund(id="re_2", payment_intent=None))
    page = gateway(Script((200, listed))).list_refunds(soon())

    ids = [(each.transaction_id, each.other_payment_id) for each in page.refunds]
    assert ids == [("pi_1", "ch_1"), ("ch_1", None)]


def test_a_list_that_ignores_the_payment_is_no_answer() -> None:
    listed = a_list(a_refund(), a_refund(id="re_2", payment_intent="pi_2", charge="ch_2"))
    with pytest.raises(GatewayUnavailableError):
        gateway(Script((200, listed))).find_refunds("refund-1", "pi_1", soon())


@pytest.mark.parametrize("shown", [{"object": "list"}, [], "<html>"])
def test_a_payments_list_that_cant_be_read_whole_is_no_answer(shown: Any) -> None:
    with pytest.raises(GatewayUnavailableError):
        gateway(Script(unlike_stripe(200, shown))).list_refunds(soon(), transaction_id="pi_1")


def test_a_refund_of_another_kind_does_not_keep_the_accounts_others_from_us() -> None:
    listed = a_list(a_refund(currency="isk", amount=250), a_refund(id="re_2"))
    page = gateway(Script((200, listed))).list_refunds(soon())

    assert [each.gateway_refund_id for each in page.refunds] == ["re_2"]


def test_what_others_did_is_not_ours() -> None:
    metadata: list[Any] = [None, {}, {"order": "7"}, {REFERENCE_KEY: "prod.refund-1"}]
    listed = a_list(*(a_refund(metadata=each) for each in metadata))
    page = gateway(Script((200, listed)), stage="dev").list_refunds(soon())

    assert {each.refund_id for each in page.refunds} == {NOT_OURS}


def test_the_list_can_begin_in_the_past() -> None:
    script = Script((200, a_list(a_refund(created=1_795_417_800))))
    stripe = gateway(script)
    assert isinstance(stripe, ListsBefore)
    page = stripe.list_refunds_before(
        soon(), created_from=NOW - timedelta(days=180), created_before=NOW
    )

    asked = parse_qs(urlsplit(script.asked[0][1]).query)
    assert int(asked["created[gte]"][0]) == (NOW - timedelta(days=180)).timestamp()
    assert int(asked["created[lt]"][0]) == NOW.timestamp()
    (shown,) = page.refunds
    assert shown.created_at == datetime.fromtimestamp(1_795_417_800, UTC)


def test_the_list_starts_at_a_second() -> None:
    script = Script((200, a_list()))
    since = NOW.replace(microsecond=999_999)
    gateway(script).list_refunds(soon(), created_from=since)

    (sent,) = parse_qs(urlsplit(script.asked[0][1]).query)["created[gte]"]
    assert int(sent) <= since.timestamp() < int(sent) + 1
