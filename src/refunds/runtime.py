"""What every function shares: the AWS clients' limits, and an invocation's deadline."""

from __future__ import annotations

import secrets

from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from refunds.times import Clock, Deadline

POOL_WIDTH = 50
"""As wide as the widest batch, so that all of a batch runs at once."""

CLIENT = Config(
    connect_timeout=2,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=POOL_WIDTH,
)
"""Short limits, so that a lost answer leaves time for another try."""

_SPARE_SECONDS = 1.0


def deadline_of(context: LambdaContext, clock: Clock) -> Deadline:
    """A second before Lambda ends the invocation."""
    left_seconds = context.get_remaining_time_in_millis() / 1000
    return Deadline.after(clock, left_seconds - _SPARE_SECONDS)


def new_token() -> str:
    """16 random hex digits: never the same twice."""
    return secrets.token_hex(8)
