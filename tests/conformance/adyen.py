"""Adyen under test: its one call, over the sandbox's books and faults."""

from __future__ import annotations

from tests.conformance.harness import RIGHT_KEY, Key, SandboxHarness

from refunds.gateways.adyen import AdyenGateway
from refunds_devkit.sandbox.adyen_api import MERCHANT_ACCOUNT, AdyenApi
from refunds_devkit.sandbox.server import Api


class AdyenHarness(SandboxHarness):
    api = Api(AdyenApi)
    adapter = AdyenGateway

    def adyen(self, *, key: str = RIGHT_KEY, stage: str = "") -> AdyenGateway:
        gateway = self.gateway(
            key=Key(f"{MERCHANT_ACCOUNT}\n{key}"), stage=stage, url=f"{self._server.url}/v71"
        )
        assert isinstance(gateway, AdyenGateway)
        return gateway
