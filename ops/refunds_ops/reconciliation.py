"""Compares our refunds of a time span with the gateways' own lists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from refunds.domain.identifiers import REFUND_ID
from refunds.domain.refund import Item
from refunds.tables.refund_indexes import BATCH

if TYPE_CHECKING:
    from refunds.gateways.contract import Gateway, GatewayRefund

MAX_PAGES = 1_000_000

_EXPECTED = {"SUCCEEDED": "succeeded", "REVERSED": "failed", "FAILED": "failed"}
"""What a gateway shows of a refund with that status."""


@dataclass(frozen=True)
class Line:
    """``result``: matched, only here, only there, or different."""

    result: str
    refund_id: str
    gateway: str
    gateway_refund_id: str
    ours: str
    theirs: str


def listed_since(gateway: Gateway, since: datetime) -> Iterator[GatewayRefund]:
    """Every refund that a gateway lists from then on. Raises ``NotReadyError``."""
    from refunds_ops.audit.sources import answer

    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = answer(gateway, partial(gateway.list_refunds, created_from=since, cursor=cursor))
        yield from page.refunds
        if (cursor := page.next_cursor) is None:
            return


def reconcile(
    ours: Mapping[str, Item],
    theirs: Iterable[tuple[str, GatewayRefund]],
    ours_among: Callable[[Collection[str]], Collection[str]],
    look_up: Callable[[Item], Sequence[GatewayRefund]],
) -> Iterator[Line]:
    """``theirs`` with each gateway's name.

    ``ours_among`` returns the refund ids that we have. It distinguishes a refund of another month
    from one that we don't have at all. ``look_up`` asks the gateway for a refund that it must have
    but does not list, such as one of a direct charge at Stripe.
    """
    seen: set[str] = set()
    yield from _listed(ours, theirs, ours_among, seen)
    for refund_id, refund in ours.items():
        if refund_id in seen:
            continue
        gateway = str(refund["gateway"])
        # Refunds with other statuses may never have reached the gateway.
        reached = refund["status"] in ("SUCCEEDED", "REVERSED")
        looked_up = look_up(refund) if reached else ()
        for shown in looked_up:
            yield _compared(refund, gateway, shown, seen)
        if not looked_up:
            result = "only here" if reached else "matched"
            yield Line(result, refund_id, gateway, "", _here(refund), "")


def _listed(
    ours: Mapping[str, Item],
    theirs: Iterable[tuple[str, GatewayRefund]],
    ours_among: Callable[[Collection[str]], Collection[str]],
    seen: set[str],
) -> Iterator[Line]:
    by_reference = {refund.get("gateway_reference"): refund for refund in ours.values()}

    def of_month(shown: GatewayRefund) -> Item | None:
        refund = ours.get(shown.refund_id)
        if refund is None and shown.gateway_reference is not None:
            refund = by_reference.get(shown.gateway_reference)
        return refund

    listed = iter(theirs)
    while some := list(islice(listed, BATCH)):
        unknown = {shown.refund_id for _, shown in some if of_month(shown) is None}
        elsewhere = ours_among([each for each in sorted(unknown) if REFUND_ID.fullmatch(each)])
        for gateway, shown in some:
            if (refund := of_month(shown)) is not None:
                yield _compared(refund, gateway, shown, seen)
            elif shown.refund_id not in elsewhere:
                yield _only_there(gateway, shown)


def _only_there(gateway: str, shown: GatewayRefund) -> Line:
    return Line("only there", shown.refund_id, gateway, shown.gateway_refund_id, "", _there(shown))


def _compared(refund: Item, gateway: str, shown: GatewayRefund, seen: set[str]) -> Line:
    refund_id = refund["refund_id"]
    agrees = (
        _EXPECTED.get(refund["status"], shown.status.value) == shown.status.value
        and refund["status"] != "REJECTED"
        and refund.get("amount_minor") == shown.amount_minor
        and refund["currency"] == shown.currency
        and refund_id not in seen  # two under one reference: paid twice
    )
    seen.add(refund_id)
    result = "matched" if agrees else "different"
    return Line(result, refund_id, gateway, shown.gateway_refund_id, _here(refund), _there(shown))


def _here(refund: Item) -> str:
    return f"{refund['status']} {refund.get('amount_minor')} {refund['currency']}"


def _there(shown: GatewayRefund) -> str:
    return f"{shown.status.value} {shown.amount_minor} {shown.currency}"
