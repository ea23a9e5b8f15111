"""Stripe's own OpenAPI, cut to what refunds need: its schemas check every scripted answer, and its
fixtures are what the scripted objects are made from.

``stripe_openapi.json`` is made from the specification inside stripe-mock (MIT licence, the notice
is in the file). tests/engines/test_stripe_openapi.py checks that it is current. Make it again with
``python -m tests.support.stripe_openapi``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

KEPT = Path(__file__).with_suffix(".json")

OPERATIONS = (
    ("get", "/v1/payment_intents/{intent}"),
    ("get", "/v1/charges/{charge}"),
    ("get", "/v1/disputes"),
    ("get", "/v1/refunds"),
    ("get", "/v1/refunds/{refund}"),
    ("post", "/v1/refunds"),
)
OBJECTS = ("refund", "charge", "payment_intent", "dispute")

_WHOLE = re.compile(
    "(" + "|".join(OBJECTS) + ")|error|api_errors|event|notification_event_.*|billing_details"
    "|address|dispute_(evidence|evidence_details|payment_method_details.*)"
    "|(refund_)?destination_details.*"
)
"""Schemas that are kept. A reference to another is cut to "an object"."""

_ANNOTATIONS = {"description", "title", "maxLength", "format", "x-resourceId"}


class NotStripesShapeError(AssertionError):
    """A scripted answer is not what Stripe's specification allows."""


def made_from(spec: Mapping[str, Any], fixtures: Mapping[str, Any], licence: str) -> dict[str, Any]:
    """What is kept of stripe-mock's ``spec3.json`` and ``fixtures3.json``."""
    schemas = spec["components"]["schemas"]
    kept: dict[str, Any] = {}
    answers = {
        f"{method} {path}": {
            status: _converted(shown["content"]["application/json"]["schema"])
            for status, shown in spec["paths"][path][method]["responses"].items()
        }
        for method, path in OPERATIONS
    }
    answers["event"] = {"200": {"$ref": "#/schemas/event"}}
    waiting = [*_references(answers)]
    while waiting:
        if (name := waiting.pop()) not in kept:
            kept[name] = _converted(schemas[name])
            waiting += _references(kept[name])
    return {
        "version": spec["info"]["version"],
        "licence": licence,
        "fixtures": {name: _fixture(name, fixtures["resources"], kept) for name in OBJECTS},
        "answers": answers,
        "schemas": dict(sorted(kept.items())),
    }


def check_answer(method: str, path: str, status: int, body: object) -> None:
    """Raises ``NotStripesShapeError`` unless Stripe may answer this call so."""
    for operation, answers in _kept()["answers"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", operation)
        if re.fullmatch(pattern, f"{method.lower()} {path}"):
            _check(answers["200" if status == 200 else "default"], body)
            return
    raise NotStripesShapeError(f"{method} {path} is not an operation that is kept")


def check_event(body: object) -> None:
    """Raises ``NotStripesShapeError`` unless Stripe may send this refund event."""
    _check({"$ref": "#/schemas/event"}, body)
    assert isinstance(body, dict)
    _check({"$ref": "#/schemas/refund"}, body["data"]["object"])


def fixture(name: str) -> dict[str, Any]:
    """An object as stripe-mock shows it."""
    return deepcopy(_kept()["fixtures"][name])


@cache
def _kept() -> Any:
    return json.loads(KEPT.read_text())


def _check(schema: Mapping[str, Any], body: object) -> None:
    root = {**schema, "schemas": _kept()["schemas"]}
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(root).iter_errors(body)
    )
    if error is not None:
        raise NotStripesShapeError(f"{error.json_path}: {error.message}")


def _converted(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: ``nullable`` spelled out, nothing allowed that is not named."""
    if isinstance(schema, list):
        return [_converted(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {"$ref": f"#/schemas/{name}"} if _WHOLE.fullmatch(name) else {"type": "object"}
    shown = {
        key: {name: _converted(each) for name, each in value.items()}
        if key == "properties"
        else _converted(value)
        for key, value in schema.items()
        if key not in _ANNOTATIONS and not key.startswith("x-") and key != "nullable"
    }
    if "properties" in shown:
        shown.setdefault("additionalProperties", False)
    return {"anyOf": [shown, {"type": "null"}]} if schema.get("nullable") else shown


def _references(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.rpartition("/")[2]
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _fixture(name: str, resources: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """What the fixture has of the schema's properties, without the texts, lists and objects among
    them that are optional."""
    schema = kept[name]
    return {
        key: value
        for key, value in sorted(resources[name].items())
        if key in schema["required"]
        or (key in schema["properties"] and not isinstance(value, dict | list | str))
    }


if __name__ == "__main__":
    from tests.support.engines import tools

    module = tools.stripe_mock_module()
    folder = module / "embedded" / "openapi"
    made = made_from(
        json.loads((folder / "spec3.json").read_text()),
        json.loads((folder / "fixtures3.json").read_text()),
        (module / "LICENSE").read_text(),
    )
    KEPT.write_text(json.dumps(made, indent=1) + "\n")
    print(f"Wrote {KEPT}")
