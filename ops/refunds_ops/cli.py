"""`refunds`: the operator's command line. Each command is in a file of its own."""

from __future__ import annotations

import gc
import sys

import click

from refunds_ops.lazy import LazyGroup
from refunds_ops.terminal import run_command

EPILOG = """
Exit status: 0 done or clean, 1 findings or refused, 2 usage, 3 no stack, network or permission.

The stack is found by --stack NAME (CloudFormation), else from the environment (the stack's outputs
by their names), else from .local/stack.env, which `make up` writes.

Every command that shows something takes --json. Completion and all options: docs/cli.md
"""

_AT = "refunds_ops.commands"

SECTIONS = {
    "Refunds": (
        ("request", f"{_AT}.request:request", "Request a refund."),
        ("show", f"{_AT}.show:show", "Show a refund, what became of it and why."),
        (
            "list",
            f"{_AT}.list_refunds:list_refunds",
            "List refunds by payment, user, day and more.",
        ),
        (
            "open",
            f"{_AT}.list_refunds:open_",
            "List the refunds that are not finished.",
        ),
        ("watch", f"{_AT}.watch:watch", "Watch refunds flow, or one refund to its end."),
        ("as-of", f"{_AT}.as_of:as_of", "Show a refund as it was at an instant."),
        ("review", f"{_AT}.review:review", "Decide refunds that no automatic step can settle."),
        ("approve", f"{_AT}.approve:approve", "Approve a refund that is over a limit."),
        (
            "deny",
            f"{_AT}.approve:deny",
            "Reject a refund that is over a limit, which frees its money.",
        ),
        (
            "limits",
            f"{_AT}.limits:limits",
            "Show the limits and make exceptions from them.",
        ),
        (
            "correct",
            f"{_AT}.review:correct",
            "Record a refund as paid because the gateway shows it as paid.",
        ),
    ),
    "Finance": (
        ("totals", f"{_AT}.totals:totals_", "Sum refunds by day, currency and status."),
        (
            "statement",
            f"{_AT}.statement:statement",
            "Write a month's refunds and proof to a folder.",
        ),
    ),
    "Queue": (
        ("status", f"{_AT}.intake:status", "Show whether requests flow, and what waits."),
        ("pause", f"{_AT}.intake:pause", "Keep refund requests in the queue until `resume`."),
        ("resume", f"{_AT}.intake:resume", "Let refund requests flow again."),
        (
            "dead-letters",
            f"{_AT}.dead_letters:dead_letters",
            "List, show, resend and drop messages that were refused or failed.",
        ),
    ),
    "Proof": (
        ("verify", f"{_AT}.verify:verify", "Check that all stored data about refunds is intact."),
        ("audit", f"{_AT}.audit:audit", "Show, repair and prove the audit trail."),
        ("backup", f"{_AT}.backup:backup", "Make, verify, restore and read backups."),
    ),
    "Stack": (
        (
            "console",
            "refunds_console.command:console",
            "Open a web page that shows the stack: refunds, what waits, backups and proof.",
        ),
        ("key", f"{_AT}.key:key", "Check the gateways' keys."),
        (
            "doctor",
            f"{_AT}.doctor:doctor",
            "Check a deployed stack, and say what to do about each fault.",
        ),
        (
            "stack",
            f"{_AT}.stack:stack",
            "Show the stack's outputs, set its key, adopt a deleted stack, or index its days.",
        ),
    ),
}


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--stack", "stack_name", metavar="NAME", help="The CloudFormation stack to work on.")
@click.version_option(package_name="refunds", prog_name="refunds")
@click.pass_context
def cli(context: click.Context, stack_name: str | None) -> None:
    """Request refunds, see what became of them, and operate the stack that makes them."""
    context.obj = stack_name


def main() -> None:
    """The console script."""
    # Imports make many objects and few cycles. With fewer collections a command starts a tenth
    # sooner.
    gc.set_threshold(50_000)
    sys.exit(run_command(lambda: cli(standalone_mode=False, prog_name="refunds")))


if __name__ == "__main__":
    main()
