"""Which endpoint AWS calls go to, and whether it still exists."""

from __future__ import annotations

import os
from collections.abc import Mapping

from refunds_ops.stack.stack_env import STACK_ENV, read_values

ENDPOINT = "AWS_ENDPOINT_URL"


def stale_endpoint(environment: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """Advice for a shell that still names the endpoint of a local stack that was started again.

    ``make up`` takes free ports, so they can differ after ``make down``.
    """
    mine = environment.get(ENDPOINT)
    if not mine or not STACK_ENV.is_file():
        return None
    current = read_values(STACK_ENV).get(ENDPOINT)
    if current is None or current == mine:
        return None
    return (
        f"This shell calls {mine}; the local stack is at {current} now.",
        f"Load its settings again: set -a; . {STACK_ENV}; set +a",
    )
