"""How far the sweeps for reversals are, for `refunds status`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from refunds.domain.clock import rfc3339
from refunds.processing.sweep_plan import TIERS, SweepState
from refunds.tables.state import Control


@dataclass(frozen=True)
class SweepProgress:
    """The sweep of one gateway's list. ``looked_at``: by age of the refunds, since when all of them
    have been checked."""

    gateway: str
    looked_at: dict[str, str]
    late: bool


def sweep_progress(control: Control, gateway: str, now: datetime) -> SweepProgress | None:
    """None if the gateway's list has never been read."""
    item = control.sweep(gateway)
    if not item:
        return None
    state = SweepState.from_item(item, item.get("account", ""), now)
    unseen = state.unseen(now)
    return SweepProgress(
        gateway,
        {f"under {tier.to_age_days} days": rfc3339(now - unseen[tier.name]) for tier in TIERS},
        late=bool(state.behind(now)),
    )
