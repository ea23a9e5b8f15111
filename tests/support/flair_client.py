"""A client of Flair's API that compares each answer with the contract."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jsonschema
import urllib3
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from refunds_devkit.sandbox.server import SandboxGateway

CONTRACT = Path(__file__).parents[2] / "docs" / "flair-gateway.openapi.yaml"
DOCUMENT = yaml.safe_load(CONTRACT.read_text())
REGISTRY: Registry[Any] = Registry().with_resource(
    "urn:flair", DRAFT202012.create_resource(DOCUMENT)
)
ERROR = {"$ref": "urn:flair#/components/schemas/Error"}
FORMATS = jsonschema.FormatChecker(formats=())


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


FORMATS.checks("date-time", raises=ValueError)(_is_date_time)


def _schema(method: str, path: str, status: int) -> Mapping[str, Any]:
    """The contract's schema for such an answer; that of an error where it documents none."""
    for template, operations in DOCUMENT["paths"].items():
        if method.lower() not in operations:
            continue
        if not re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            continue
        responses = operations[method.lower()]["responses"]
        place = ["paths", template, method.lower(), "responses"]
        name = str(status) if str(status) in responses else f"{status // 100}XX"
        if name not in responses:
            break
        if "$ref" in responses[name]:
            place = responses[name]["$ref"].removeprefix("#/").split("/")
        else:
            place.append(name)
        place += ["content", "application/json", "schema"]
        return {
            "$ref": "urn:flair#/"
            + "/".join(quote(step.replace("~", "~0").replace("/", "~1")) for step in place)
        }
    return ERROR


def check_contract(method: str, url: str, status: int, body: object) -> None:
    """Fails when the answer's JSON is not what the contract says for that call and status."""
    schema = _schema(method, urlsplit(url).path, status)
    assert status >= 400 or schema is not ERROR, f"{method} {url}: {status} is not in the contract"
    jsonschema.Draft202012Validator(schema, registry=REGISTRY, format_checker=FORMATS).validate(
        body
    )


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: Any = None

    @property
    def code(self) -> str:
        code: str = self.body["error"]["code"]
        return code


@dataclass
class Flair:
    """A client of the contract's API that checks each answer against it."""

    gateway: SandboxGateway
    api_key: str = "test_key"
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(maxsize=64, retries=False)
    )
    check_contract: Callable[[str, str, int, object], None] = check_contract
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def call(  # noqa: PLR0913 - one request's parts
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
        timeout: float = 10,
        checked: bool = True,
    ) -> Answer:
        given: dict[str, str | None] = {
            "Authorization": f"Bearer {self.api_key}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        sent = raw if body is None else json.dumps(body).encode()
        response = self.pool.request(
            method,
            self.gateway.url + path,
            body=sent,
            headers={name: value for name, value in given.items() if value is not None},
            timeout=timeout,
        )
        answer = Answer(response.status, response.headers, response.data)
        if checked:
            assert response.headers["content-type"] == "application/json"
            answer.body = json.loads(answer.raw)
            self.check_contract(method, path, answer.status, answer.body)
        return answer

    def refund(  # noqa: PLR0913 - a refund's fields, each by keyword
        self,
        transaction_id: str,
        amount: int = 100,
        *,
        reference: str | None = None,
        key: str | None = None,
        currency: str = "USD",
        timeout: float = 10,
        checked: bool = True,
        **more: Any,
    ) -> Answer:
        """POST /v1/refunds; reference and key are new ones unless given."""
        reference = reference or self.new("refund")
        body = {
            "transaction_id": transaction_id,
            "amount": amount,
            "currency": currency,
            "reference": reference,
            **more,
        }
        headers = {"Idempotency-Key": key or f"key-{reference}"}
        return self.call(
            "POST", "/v1/refunds", body, headers=headers, timeout=timeout, checked=checked
        )

    def payment(self, transaction_id: str) -> Any:
        answer = self.call("GET", f"/v1/payments/{transaction_id}")
        assert answer.status == 200, answer.body
        return answer.body

    def refunds(self, **query: object) -> Any:
        answer = self.call("GET", f"/v1/refunds?{urlencode(query)}")
        assert answer.status == 200, answer.body
        return answer.body

    def get_refund(self, refund_id: str) -> Any:
        answer = self.call("GET", f"/v1/refunds/{refund_id}")
        assert answer.status == 200, answer.body
        return answer.body

    def new(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers)}"

    def new_payment(self, amount_captured: int = 1000, **more: Any) -> str:
        transaction_id = self.new("payment")
        self.gateway.client.add_payment(transaction_id, amount_captured, **more)
        return transaction_id

    def money(self, transaction_id: str) -> list[tuple[str, int]]:
        """The movements of a payment's money: ("out" or "back", minor units)."""
        found = self.gateway.client.movements(transaction_id=transaction_id)
        return [(movement["direction"], movement["amount"]) for movement in found]
