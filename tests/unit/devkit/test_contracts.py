"""The files in docs/contracts/ are current, and say what the code accepts and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from tests.support.builders import LEFT_OUT, VISA, body
from tests.support.messages import refused_fields, valid_bodies
from tests.support.world import World

from refunds.domain.request import ErrorCode, parse_message
from refunds_devkit.contracts import (
    ASYNCAPI_FILE,
    EXAMPLES,
    FOLDER,
    GATEWAYS,
    SCHEMA_FILE,
    contracts,
    with_gateway_table,
)

SCHEMA = json.loads((FOLDER / SCHEMA_FILE).read_text())
ASYNCAPI = json.loads((FOLDER / ASYNCAPI_FILE).read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_committed_files_are_what_the_code_makes() -> None:
    there = {path.name: path.read_text() for path in FOLDER.glob("*.json")}

    assert there == contracts(), "run refunds-dev contracts"


def test_the_table_of_gateways_is_what_the_adapters_declare() -> None:
    page = GATEWAYS.read_text()

    assert page == with_gateway_table(page), "run refunds-dev contracts"
    assert "| can be used | yes | yes | **no**: it shows neither" in page


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@given(valid_bodies)
def test_the_schema_accepts_every_request_that_the_code_accepts(fields: dict[str, Any]) -> None:
    parse_message(json.dumps(fields))
    VALIDATOR.validate(fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1},
        {"refund_id": LEFT_OUT},
        {"refund_id": "a b"},
        {"refund_id": "r" * 65},
        {"transaction_id": ""},
        {"user_id": "u" * 129},
        {"amount_minor": 0},
        {"amount_minor": 10**12 + 1},
        {"amount_minor": "2500"},
        {"amount_minor": 25.5},
        {"amount_minor": True},
        {"amount_minor": None},
        {"currency": "usd"},
        {"currency": "XAU"},
        {"reason": "whim"},
        {"requested_by": 7},
        {"metadata": {"k": 1}},
        {"metadata": {"": "v"}},
        {"metadata": {"k" * 41: "v"}},
        {"metadata": {str(number): "v" for number in range(21)}},
        {"note": "n" * 501},
        {"reason_code": ""},
        {"expected_refundable_minor": -1},
        {"line_items": [{"sku": "mug"}]},
        {"line_items": [{"sku": "mug", "quantity": 1, "amount_minor": 1, "colour": "red"}]},
        {"line_items": [{"sku": "mug", "quantity": 1, "amount_minor": 1}] * 51},
    ],
    ids=lambda changes: str(changes)[:50],
)
def test_what_the_schema_refuses_is_refused_by_the_code_too(changes: dict[str, Any]) -> None:
    refused_fields(**changes)
    assert not VALIDATOR.is_valid(body(**changes))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_a_request(name: str) -> None:
    parse_message(json.dumps(EXAMPLES[name]))
    VALIDATOR.validate(EXAMPLES[name])


def references(document: Any) -> list[str]:
    if isinstance(document, list):
        return [found for each in document for found in references(each)]
    if not isinstance(document, dict):
        return []
    own = [document["$ref"]] if "$ref" in document else []
    return own + [found for each in document.values() for found in references(each)]


def test_every_reference_leads_somewhere() -> None:
    found = references(ASYNCAPI)

    assert len(found) > 10
    for reference in found:
        path, _, pointer = reference.partition("#")
        target = json.loads((FOLDER / Path(path)).read_text()) if path else ASYNCAPI
        for step in pointer.strip("/").split("/") if pointer else []:
            target = target[step]


def test_every_event_that_is_documented_has_its_message() -> None:
    names = {path.stem for path in (FOLDER.parent / "events").glob("*.json")}

    assert set(ASYNCAPI["channels"]["outcomes"]["messages"]) == names


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("refund please", ErrorCode.INVALID_JSON),
        (json.dumps(body(amount_minor=25.0)), ErrorCode.INVALID_FIELD),
        (json.dumps(body(note=VISA)), ErrorCode.CARD_NUMBER),
    ],
)
def test_a_dead_letter_has_the_attributes_that_are_documented(
    world: World, content: str, code: ErrorCode
) -> None:
    world.queue.handle(world.stack.send(content), world.deadline())

    (dead,) = world.stack.dead_letters()
    attributes = {name: each["StringValue"] for name, each in dead["MessageAttributes"].items()}
    headers = ASYNCAPI["components"]["messages"]["deadLetter"]["headers"]
    assert attributes["error_code"] == code
    assert set(attributes) <= set(headers["properties"])
    jsonschema.validate(attributes, headers)
