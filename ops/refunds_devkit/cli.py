"""`refunds-dev`: what only developers need."""

from __future__ import annotations

import sys

import click

from refunds_devkit.cli_reference import write_cli_reference
from refunds_devkit.contracts import write_contracts
from refunds_devkit.cost.command import cost
from refunds_devkit.precompile import precompile_command
from refunds_devkit.recording.command import record
from refunds_devkit.sample_events import write_sample_events
from refunds_devkit.sandbox.command import sandbox_gateway
from refunds_ops.lazy import CommandGroup
from refunds_ops.terminal import run_command


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="refunds", prog_name="refunds-dev")
def cli() -> None:
    """Tools for developing on this project. `refunds` is the operators' command."""


cli.add_command(sandbox_gateway)
cli.add_command(cost)
cli.add_command(precompile_command)
cli.add_command(record)
cli.add_command(write_sample_events)
cli.add_command(write_contracts)
cli.add_command(write_cli_reference)


def main() -> None:
    """The console script."""
    sys.exit(run_command(lambda: cli(standalone_mode=False, prog_name="refunds-dev")))


if __name__ == "__main__":
    main()
