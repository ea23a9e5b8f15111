"""Stripe under test: the scripted Stripe server, its books in Stripe's own units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import pytest
from tests.conformance.harness import Sample, SandboxHarness
from tests.support.stripe_openapi import NotStripesShapeError, check_answer

from refunds.domain.clock import Deadline
from refunds.gateways.http import HttpResponse, HttpTransport, PooledTransport
from refunds.gateways.stripe import StripeGateway
from refunds_devkit.sandbox.server import APIS

# Written out here rather than asked of the adapter: what it converts is under test. How many of
# Stripe's units one of ISO 4217's minor units is.
_STRIPE_UNITS = {"ISK": 100, "UGX": 100}
_ISO_UNITS = {"MGA": 100}


class CheckedTransport:
    """Checks the scripted server's answers against Stripe's OpenAPI: one that it does not allow
    would prove nothing about Stripe. What is not JSON is a scripted fault."""

    def __init__(self) -> None:
        self._transport = PooledTransport(4)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> HttpResponse:
        response = self._transport.request(
            method, url, headers=headers, body=body, deadline=deadline
        )
        try:
            content = json.loads(response.body)
        except ValueError:
            return response
        try:
            check_answer(method, urlsplit(url).path, response.status, content)
        except NotStripesShapeError as exc:
            # Not as an exception: the adapter takes every exception for an answer.
            pytest.fail(f"the scripted server's answer is not Stripe's: {exc}")
        return response


class StripeHarness(SandboxHarness):
    api = APIS["stripe"]
    adapter = StripeGateway
    payment_prefixes = ("pi_", "ch_")
    expressible = (
        Sample(2_500, "USD"),
        Sample(1, "EUR"),
        Sample(5_000, "JPY"),
        Sample(12_340, "KWD"),
        Sample(999_999_999, "HUF"),
        Sample(7, "ISK"),
        Sample(5, "UGX"),
        Sample(300, "MGA"),
    )
    inexpressible = (Sample(12_345, "KWD"), Sample(1, "TND"), Sample(250, "MGA"))

    def transport(self) -> HttpTransport:
        return CheckedTransport()

    def in_books(self, amount_minor: int, currency: str) -> int:
        return amount_minor * _STRIPE_UNITS.get(currency, 1) // _ISO_UNITS.get(currency, 1)

    def from_books(self, amount: int, currency: str) -> int:
        return amount * _ISO_UNITS.get(currency, 1) // _STRIPE_UNITS.get(currency, 1)
