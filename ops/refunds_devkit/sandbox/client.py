"""A small client of the admin API, for tests and the demo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

TIMEOUT_SECONDS = 30


class SandboxError(Exception):
    """The admin API returned an error."""


class SandboxClient:
    """Scripts a running sandbox gateway and reads its ledger. Raises SandboxError."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(timeout=timeout_seconds, retries=False)

    def close(self) -> None:
        self._pool.clear()

    def health(self) -> dict[str, Any]:
        return self._call("GET", "/health")

    def add_fault(self, kind: str, **parameters: Any) -> dict[str, Any]:
        """Scripts one fault: see docs/sandbox-gateway.md for the parameters. Returns it."""
        added: dict[str, Any] = self.add_faults([{"kind": kind, **parameters}])[0]
        return added

    def add_faults(self, faults: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        added: list[dict[str, Any]] = self._call("POST", "/faults", list(faults))["faults"]
        return added

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", "/faults")["faults"]
        return found

    def remove_faults(self, fault_id: int | None = None) -> int:
        """Removes one fault, or all but the seeded payments' own. Returns the number removed."""
        query = {} if fault_id is None else {"id": str(fault_id)}
        removed: int = self._call("DELETE", "/faults", query=query)["removed"]
        return removed

    def add_payment(
        self, id: str, amount_captured: int, currency: str = "USD", **more: Any
    ) -> dict[str, Any]:
        """Creates or changes a payment; `more` is `status`, `created_at`."""
        payment = {"id": id, "amount_captured": amount_captured, "currency": currency, **more}
        return self.add_payments([payment])[0]

    def add_payments(self, payments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        added: list[dict[str, Any]] = self._call("POST", "/payments", list(payments))["payments"]
        return added

    def add_foreign_refund(self, transaction_id: str, amount: int, **more: Any) -> dict[str, Any]:
        """A refund by another system; `more` is `reference`, `status`, `currency`, `created_at`."""
        body = {"transaction_id": transaction_id, "amount": amount, **more}
        return self._call("POST", "/refunds", body)

    def settle(self, gateway_refund_id: str, status: str, **more: Any) -> dict[str, Any]:
        path = f"/refunds/{quote(gateway_refund_id, safe='')}/settle"
        return self._call("POST", path, {"status": status, **more})

    def advance(self, seconds: float) -> dict[str, Any]:
        """Moves the gateway's clock forward."""
        return self._call("POST", "/clock", {"advance_seconds": seconds})

    def ledger(self, **filters: str) -> dict[str, Any]:
        """Payments, refunds and movements, filtered by `transaction_id`, `reference` or both."""
        return self._call("GET", "/ledger", query=filters)

    def movements(self, **filters: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ledger(**filters)["movements"]
        return found

    def calls(self, **filters: str) -> list[dict[str, Any]]:
        """The calls of the contract's API, oldest first."""
        found: list[dict[str, Any]] = self._call("GET", "/calls", query=filters)["calls"]
        return found

    def _call(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        url = f"{self._url}/_sandbox{path}" + (f"?{urlencode(query)}" if query else "")
        sent = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(
            method, url, body=sent, headers={"Content-Type": "application/json"}
        )
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise SandboxError(f"{method} {path}: {answer.status} {answer.data[:500]!r}")
        decoded: dict[str, Any] = json.loads(answer.data)
        return decoded
