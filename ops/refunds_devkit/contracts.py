"""The documents of both borders, made from the code: `refunds-dev contracts` writes them.

docs/contracts/ has what producers and consumers may rely on, for machines to read, made from the
code that checks messages. docs/gateways.md has a table of what the gateways' adapters declare.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from refunds.domain.clock import SystemClock
from refunds.domain.money import EXPONENTS
from refunds.domain.request import MAX_BODY_BYTES, MAX_ERROR_MESSAGE_BYTES, ErrorCode, RefundRequest
from refunds.gateways.adyen import AdyenGateway
from refunds.gateways.contract import Gateway, Stage
from refunds.gateways.registry import ADAPTERS, open_gateway
from refunds.gateways.requirements import unmet_demands

Document = dict[str, Any]

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "contracts"
GATEWAYS = DOCS / "gateways.md"
SCHEMA_FILE = "refund-request.schema.json"
ASYNCAPI_FILE = "asyncapi.json"

CONTRACT_VERSION = "1.0.0"

EXAMPLES: dict[str, Document] = {
    "partial": {
        "refund_id": "9f1c2d5e-8a7b-4c6d-9e0f-112233445566",
        "transaction_id": "pay_7a6b5c4d",
        "user_id": "user_ada",
        "amount_minor": 2500,
        "currency": "USD",
        "reason": "requested_by_customer",
        "requested_by": "agent:grace",
        "requested_at": "2026-11-23T08:09:59+01:00",
    },
    "everything": {
        "refund_id": "order-1001-cancelled",
        "transaction_id": "pay_7a6b5c4d",
        "user_id": "user_ada",
        "currency": "JPY",
        "reason": "order_cancelled",
        "requested_by": "system:orders",
    },
    "withAllFields": {
        "refund_id": "return-77",
        "transaction_id": "pay_7a6b5c4d",
        "user_id": "user_ada",
        "amount_minor": 2500,
        "currency": "EUR",
        "reason": "other",
        "requested_by": "system:returns",
        "requested_at": "2026-11-23T07:09:59.123456Z",
        "metadata": {"order": "A-1001"},
        "reason_code": "RMA-7",
        "note": "Arrived broken; the customer keeps the saucer.",
        "line_items": [{"sku": "4006381333931", "quantity": 2, "amount_minor": 1800}],
        "expected_refundable_minor": 7500,
    },
}

# What a JSON Schema can't say, in words.
_NOT_IN_SCHEMA = (
    f"Also refused: a body of more than {MAX_BODY_BYTES // 1024} KiB, a key that is given twice, "
    "null, an amount with a point such as 2500.0, control characters, invisible characters and "
    "text direction marks, a card number, and line_items that add up to more than amount_minor."
)


def request_schema() -> Document:
    """The JSON Schema of the request message's body."""
    schema = _without_null(RefundRequest.model_json_schema())
    properties: dict[str, Document] = schema["properties"]
    properties["currency"]["enum"] = sorted(EXPONENTS)
    properties["requested_at"]["format"] = "date-time"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:refunds:contracts:refund-request:1",
        **schema,
        "title": "Refund request",
        "description": f"The body of a message in the refund queue, version 1. {_NOT_IN_SCHEMA}",
        "examples": list(EXAMPLES.values()),
    }


def _without_null(schema: Any) -> Any:
    """Pydantic's schema without ``null`` (an optional field is left out) and generated titles."""
    if isinstance(schema, list):
        return [_without_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: _without_null(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
        and not (name == "default" and value is None)
    }
    match found.pop("anyOf", None):
        case None:
            return found
        case [only, {"type": "null"}]:
            return only | found
        case other:
            return found | {"anyOf": other}


def asyncapi() -> Document:
    """The AsyncAPI description of the queue, the dead-letter queue and the event bus."""
    events = sorted((DOCS / "events").glob("*.json"))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Refunds",
            "version": CONTRACT_VERSION,
            "description": "Requests come through an SQS queue. Outcomes go to an EventBridge bus, "
            "refused requests to a dead-letter queue. Addresses are outputs of the stack.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "refundRequests": {
                "title": "RefundQueueUrl",
                "description": "Standard SQS queue: at least once, in any order.",
                "messages": {"refundRequest": _ref("#/components/messages/refundRequest")},
                "bindings": {"sqs": {"queue": {"name": "refund-requests", "fifoQueue": False}}},
            },
            "deadLetters": {
                "title": "RefundDeadLetterQueueUrl",
                "description": "Requests that were refused, and requests that SQS moved here after "
                "too many attempts; those have no error_code.",
                "messages": {"deadLetter": _ref("#/components/messages/deadLetter")},
            },
            "outcomes": {
                "title": "EventBusName",
                "description": "EventBridge bus: at least once, in any order. Deduplicate by "
                "refund_id and version.",
                "messages": {
                    path.stem: _ref(f"#/components/messages/{path.stem}") for path in events
                },
            },
        },
        "operations": {
            "receiveRefundRequest": {
                "action": "receive",
                "channel": _ref("#/channels/refundRequests"),
            },
            "sendDeadLetter": {"action": "send", "channel": _ref("#/channels/deadLetters")},
            "sendOutcome": {"action": "send", "channel": _ref("#/channels/outcomes")},
        },
        "components": {
            "messages": {
                "refundRequest": {
                    "title": "Refund request",
                    "payload": _ref(f"./{SCHEMA_FILE}"),
                    "examples": [
                        {"name": name, "payload": example} for name, example in EXAMPLES.items()
                    ],
                },
                "deadLetter": _dead_letter(),
                **{path.stem: {"payload": _ref(f"../events/{path.name}")} for path in events},
            }
        },
    }


def _dead_letter() -> Document:
    return {
        "title": "Dead letter",
        "description": "headers are the SQS message attributes, of type String.",
        "headers": {
            "type": "object",
            "properties": {
                "error_code": {
                    "enum": [code.value for code in ErrorCode],
                    "description": "Why the request was refused.",
                },
                "error_message": {
                    "type": "string",
                    "maxLength": MAX_ERROR_MESSAGE_BYTES,
                    "description": "For people. It repeats nothing of the request.",
                },
                "body_sha256": {
                    "type": "string",
                    "pattern": "^[0-9a-f]{64}$",
                    "description": "With card_number only: the SHA-256 of the body as it was sent.",
                },
                "first_sent_by": {
                    "type": "string",
                    "description": "Who sent the request, in SQS's words (SenderId).",
                },
            },
            "dependentRequired": {
                "error_code": ["error_message"],
                "error_message": ["error_code"],
                "body_sha256": ["error_code"],
            },
        },
        "payload": {
            "type": "string",
            "description": "The request's body, byte for byte. With card_number it is rewritten "
            "with an asterisk for every digit of each text that has a card number.",
        },
        "examples": [
            {
                "name": "floatAmount",
                "headers": {
                    "error_code": "invalid_field",
                    "error_message": "amount_minor: must be an integer of minor units from 1 to "
                    "1000000000000 (2500 is $25.00)",
                },
                "payload": '{"refund_id": "return-77", "amount_minor": 25.00}',
            }
        ],
    }


def _ref(target: str) -> Document:
    return {"$ref": target}


def contracts() -> dict[str, str]:
    """Each file's text by its name."""
    documents = {SCHEMA_FILE: request_schema(), ASYNCAPI_FILE: asyncapi()}
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


# --- The gateways' border -------------------------------------------------------------------------

TABLE_BEGINS = "<!-- `refunds-dev contracts` writes this table -->"
TABLE_ENDS = "<!-- end of the table -->"


def with_gateway_table(page: str) -> str:
    """docs/gateways.md with today's table of what the adapters declare."""
    before, _, rest = page.partition(TABLE_BEGINS)
    _, _, after = rest.partition(TABLE_ENDS)
    return f"{before}{TABLE_BEGINS}\n{_gateway_table()}{TABLE_ENDS}{after}"


def _gateway_table() -> str:
    gateways = [*(_opened(name) for name in ADAPTERS), _adyen()]
    options = [adapter.options for adapter in ADAPTERS.values()] + [frozenset()]
    rows: dict[str, list[str]] = {
        "": [gateway.name.capitalize() for gateway in gateways],
        "remembers an idempotency key for at least": [
            _duration(gateway.key_lifetime) for gateway in gateways
        ],
        "answers a repeated key with the first decline": [
            "yes" if gateway.remembers_declines else "not documented" for gateway in gateways
        ],
        "shows payments and refunds": [_yes(gateway.shows_refunds) for gateway in gateways],
        "a new refund may be missing from look-ups for": [
            _duration(gateway.look_up_lag) for gateway in gateways
        ],
        "a refund can fail after it succeeded": [_yes(gateway.can_reverse) for gateway in gateways],
        "options of a route": [
            ", ".join(f"`{option}`" for option in sorted(each)) or "–" for each in options
        ],
        "can be used": [
            f"**no**: {'; '.join(unmet)}" if (unmet := unmet_demands(gateway)) else "yes"
            for gateway in gateways
        ],
    }
    lines = [f"| {' | '.join([name, *values])} |" for name, values in rows.items()]
    return "\n".join([lines[0], "|" + " --- |" * (len(gateways) + 1), *lines[1:]]) + "\n"


class _Unused:
    """Stands in for a key and a transport: what an adapter declares needs neither."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("only declarations are read")


def _opened(name: str) -> Gateway:
    return open_gateway(ADAPTERS[name], stage=Stage(), **_parts())


def _adyen() -> Gateway:
    return AdyenGateway(**_parts())


def _parts() -> dict[str, Any]:
    return {
        "base_url": "https://gateway.example",
        "api_key": _Unused(),
        "transport": _Unused(),
        "clock": SystemClock(),
        "timeout_seconds": 5.0,
    }


def _yes(declared: bool) -> str:
    return "yes" if declared else "no"


def _duration(duration: timedelta) -> str:
    if not duration:
        return "–"
    return (
        f"{duration.days} days" if duration.days > 1 else f"{duration.total_seconds() / 3600:g} h"
    )


@click.command("contracts")
def write_contracts() -> None:
    """Write docs/contracts/, and the table of gateways in docs/gateways.md."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in contracts().items():
        (FOLDER / name).write_text(text)
    GATEWAYS.write_text(with_gateway_table(GATEWAYS.read_text()))
    click.echo(f"{len(contracts())} files written to {FOLDER}, and the table in {GATEWAYS}")
