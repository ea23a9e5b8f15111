"""Every adapter: stages that share a gateway account."""

from __future__ import annotations

from tests.conformance.calls import (
    accepted,
    id_for,
    look_up,
    refund,
    seconds,
    whole_list,
)
from tests.conformance.harness import Harness

from refunds.gateways.contract import (
    NOT_OURS,
    KeyReused,
    RefundPage,
)


def test_two_stages_may_have_a_refund_of_the_same_id(harness: Harness) -> None:
    paid = harness.new_payment()
    stages = [harness.gateway(stage=name) for name in ("dev", "prod", "")]
    made = [
        accepted(refund(gateway, paid, 1_000 + number)) for number, gateway in enumerate(stages)
    ]

    assert [each.refund_id for each in made] == [id_for(paid)] * 3
    assert harness.paid_out_minor(paid) == 3_003
    for gateway, ours in zip(stages, made, strict=True):
        assert look_up(gateway, paid) == [ours]


def test_anothers_stage_is_foreign(harness: Harness) -> None:
    paid = harness.new_payment()
    dev, prod = harness.gateway(stage="dev"), harness.gateway(stage="prod")
    accepted(refund(prod, paid, 1_000))
    harness.refund_by_others(paid, 500, f"dev-{id_for(paid)}")
    accepted(refund(dev, paid, 2_000))
    listed = whole_list(dev, transaction_id=paid)

    assert [(each.refund_id, each.amount_minor) for each in listed] == [
        (id_for(paid), 2_000),
        (NOT_OURS, 500),
        (NOT_OURS, 1_000),
    ]


def test_a_stage_has_a_key_of_its_own(harness: Harness) -> None:
    paid = harness.new_payment()
    dev, prod = harness.gateway(stage="dev"), harness.gateway(stage="prod")
    accepted(refund(dev, paid, 1_000))

    assert not isinstance(refund(prod, paid, 2_000), KeyReused)
    assert refund(dev, paid, 2_000) == KeyReused()


def test_an_empty_page_is_a_page(harness: Harness) -> None:
    shown = harness.gateway().list_refunds(seconds(5), transaction_id=harness.new_payment())

    assert shown == RefundPage((), None)
