"""Every scripted history of a fault that must be alarmed."""

from __future__ import annotations

from tests.simulator import alarm_faults, alarm_waits
from tests.simulator.alarm_play import HISTORIES, played

__all__ = ["HISTORIES", "NOT_PLAYED", "played"]

MODULES = (alarm_faults, alarm_waits)
"""Importing them enters their histories into ``HISTORIES``."""

NOT_PLAYED = {"ReceiveWebhookErrors": "Webhooks=true", "BackupDrillMissing": "Stage=prod"}
"""Alarms of stacks with other parameters, of which the template's tests know."""
