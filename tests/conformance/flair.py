"""Flair under test: the sandbox gateway, as it is."""

from __future__ import annotations

from tests.conformance.harness import SandboxHarness

from refunds.gateways.flair import FlairGateway
from refunds_devkit.sandbox.server import FLAIR


class FlairHarness(SandboxHarness):
    api = FLAIR
    adapter = FlairGateway
