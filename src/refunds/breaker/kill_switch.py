"""The automatic stop: requests wait once a day's total is above ``StopAboveMinor``.

Called for each refund that is counted while the total is above it, before the refund is claimed. So
no refund is paid above the level: its request goes back to the queue, and the whole queue is paused
as if by a person. Only a person resumes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refunds.domain.clock import Clock
from refunds.domain.intake import Intake, stop_intake, stop_level_minor
from refunds.tables.state import ContendedError, Control

STOPPED_SECONDS = 300.0
"""The delay of a request that is put back. Lambda needs up to a minute to stop the queue."""


class StoppedError(Exception):
    """The day's total is above the level; the request must wait."""


class KillSwitch:
    """``by`` is who pauses, for the history. ``announce`` tells the reconciler."""

    def __init__(
        self,
        *,
        control: Control,
        clock: Clock,
        stop_above: Mapping[str, int],
        by: str,
        announce: Callable[[Intake], None],
    ) -> None:
        self._control = control
        self._clock = clock
        self._stop_above = stop_above
        self._by = by
        self._announce = announce

    def __call__(self, currency: str, total_minor: int) -> None:
        """Raises ``StoppedError`` when the total is above the level of the day."""

        now, above_minor = self._clock.now(), self._stop_above.get(currency, 0)
        try:
            before, after = self._control.change_intake(
                lambda intake: stop_intake(
                    intake, currency, total_minor, above_minor=above_minor, by=self._by, now=now
                )
            )
        except ContendedError as exc:
            # Many requests are stopped at once. It is safe to put this one back, whatever the
            # others write.
            raise StoppedError("the day's total may be above StopAboveMinor") from exc
        if after.paused and not before.paused:
            self._announce(after)
        if total_minor > stop_level_minor(after, currency, above_minor=above_minor, now=now):
            raise StoppedError(f"requests are stopped: {after.paused_why}")
