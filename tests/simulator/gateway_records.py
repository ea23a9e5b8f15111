"""What the simulated gateway keeps: payments, and refunds of them."""

from __future__ import annotations

from dataclasses import dataclass

APART = frozenset({"second", "elsewhere"})
"""Hosts that keep their own books: another gateway, and another account of the first."""


@dataclass
class Paid:
    """A payment."""

    id: str
    currency: str
    captured: int
    status: str = "captured"
    host: str = "flair"
    """The gateway, or the account of it, that has the payment."""


@dataclass
class Moved:
    """A refund in the gateway's ledger; ``ours`` when an API call of ours made it."""

    number: int
    transaction_id: str
    reference: str
    amount: int
    currency: str
    status: str
    ours: bool
    created_at: float
    failure_code: str | None = None
    ever_succeeded: bool = False
    gateways_own: bool = False
    """The gateway's own double: no call of ours asked for it."""
    as_asked: bool = True
    """Whether it is what the call asked for."""
    asked: int = 0
    """The amount that the call asked for."""
    host: str = "flair"

    @property
    def id(self) -> str:
        return f"re_{self.number}"

    @property
    def refund_id(self) -> str:
        return self.reference.rpartition(".")[2]

    @property
    def live(self) -> bool:
        return self.status != "failed"


def same_account(one: str, other: str) -> bool:
    """Whether two addresses are of one account. Only those of ``APART`` keep books of their own."""
    return one == other or not {one, other} & APART
