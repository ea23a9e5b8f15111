"""Flair under test: the sandbox gateway, as it is."""

from __future__ import annotations

from tests.conformance.harness import SandboxHarness

from refunds.flair import FlairGateway
from refunds_ops.sandbox.server import FLAIR


class FlairHarness(SandboxHarness):
    api = FLAIR
    adapter = FlairGateway
