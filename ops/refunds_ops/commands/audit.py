"""`refunds audit …`: the audit trail shown, repaired where possible, and given to others."""

from __future__ import annotations

import click

from refunds_ops.lazy import LazyGroup

_AT = "refunds_ops.commands"

SECTIONS = {
    "Commands": (
        ("show", f"{_AT}.audit_show:show", "Show the audit trail of a refund or a payment."),
        ("receipt", f"{_AT}.audit_receipt:receipt", "Write a file that proves a refund's story."),
        (
            "check-receipt",
            f"{_AT}.audit_receipt:check_receipt_",
            "Check a receipt, JSON or HTML, offline.",
        ),
        ("rebuild", f"{_AT}.audit_repair:rebuild", "Recreate lost audit entries."),
        ("replay", f"{_AT}.audit_repair:replay", "Write failed stream records to the trail."),
        ("close", f"{_AT}.audit_repair:close", "Close a failed record that makes no entry."),
    ),
}


@click.group(cls=LazyGroup, sections=SECTIONS)
def audit() -> None:
    """Show, repair and prove the audit trail."""
