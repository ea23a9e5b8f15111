"""A pytest plugin: each call of the scripted Stripe tests goes to stripe-mock as well.

A call that stripe-mock refuses fails its test. Used by tests/engines/test_stripe_openapi.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.support.stripe_script import Script

from refunds.domain.clock import Deadline, SystemClock
from refunds.gateways.http import PooledTransport

_transport = PooledTransport(1)
_calls = 0


@pytest.fixture(autouse=True)
def _replayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scripted = Script.request
    refused: list[str] = []

    def request(  # noqa: PLR0913 - one request's parts
        self: Script,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> Any:
        global _calls
        _calls += 1
        parts = urlsplit(url)
        place = f"{os.environ['STRIPE_MOCK_URL']}{parts.path}?{parts.query}".rstrip("?")
        soon = Deadline.after(SystemClock(), 10)
        response = _transport.request(method, place, headers=headers, body=body, deadline=soon)
        if response.status != 200:
            refused.append(f"{method} {url} {body!r}: HTTP {response.status} {response.body!r}")
        return scripted(self, method, url, headers=headers, body=body, deadline=deadline)

    monkeypatch.setattr(Script, "request", request)
    yield
    assert not refused, f"stripe-mock refuses: {refused[0][:1000]}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"{_calls} calls to stripe-mock")
