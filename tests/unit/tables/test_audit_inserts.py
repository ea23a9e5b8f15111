"""The audit table's inserts: many in a request, each on its own."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from tests.support.builders import refund
from tests.support.partiql import inserted
from tests.support.world import World

from refunds.domain.audit_entry import audit_entry
from refunds.failures import FailureKind, classify
from refunds.tables.audit_trail import AuditTable, NotStorableError


def entries(number: int) -> list[Any]:
    return [audit_entry(refund(version=version + 1).item()) for version in range(number)]


class Client:
    """DynamoDB whose requests or single statements fail."""

    def __init__(self, *, codes: dict[int, str] | None = None, refuses: int = 0) -> None:
        self.codes = codes or {}
        """By version: the error of its statement."""
        self.refuses = refuses
        """The version whose statement has the whole request refused."""
        self.sizes: list[int] = []
        self.error: Exception | None = None

    def batch_execute_statement(self, *, Statements: Any) -> Any:  # noqa: N803
        if self.error:
            raise self.error
        items = [inserted(each["Statement"], each["Parameters"])[1] for each in Statements]
        versions = [int(item["version"]["N"]) for item in items]
        assert len({item["entry_id"]["S"] for item in items}) == len(items)
        self.sizes.append(len(items))
        if self.refuses in versions:
            raise failed("ValidationException")
        return {
            "Responses": [
                {"Error": {"Code": self.codes[each], "Message": ""}} if each in self.codes else {}
                for each in versions
            ]
        }

    def get_item(self, **arguments: Any) -> Any:
        raise failed("AccessDeniedException")


def failed(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "x")


def codes(results: Any) -> list[Any]:
    return [each and each.response["Error"]["Code"] for each in results]


def table(client: Any) -> AuditTable:
    return AuditTable(client, "PaymentAuditTrail")


def test_a_request_has_25_statements_at_most() -> None:
    client = Client()
    assert table(client).insert_new(entries(60)) == [None] * 60
    assert client.sizes == [25, 25, 10]


def test_a_key_that_comes_twice_goes_into_the_next_request(world: World) -> None:
    first, second = entries(2)
    again = first | {"recorded_at": "later"}
    assert world.audit.insert_new([first, second, again, first]) == [None, None, first, first]
    assert world.stack.items(world.stack.audit_table) == [first, second]


def test_an_entry_that_is_there_is_read_and_not_written_over(world: World) -> None:
    [entry] = entries(1)
    forged = entry | {"user_id": "mallory"}
    assert world.audit.insert_new([forged]) == [None]
    assert world.audit.insert_new([entry, *entries(2)[1:]]) == [forged, None]
    assert world.stack.items(world.stack.audit_table)[0] == forged


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingError", FailureKind.UNAVAILABLE),
        ("ProvisionedThroughputExceeded", FailureKind.UNAVAILABLE),
        ("RequestLimitExceeded", FailureKind.UNAVAILABLE),
        ("InternalServerError", FailureKind.UNAVAILABLE),
        ("AccessDenied", FailureKind.MISCONFIGURED),
        ("ResourceNotFound", FailureKind.MISCONFIGURED),
        ("ValidationError", FailureKind.UNEXPECTED),
    ],
)
def test_a_statements_error_is_that_records_alone_and_classified_as_a_calls(
    code: str, kind: FailureKind
) -> None:
    results = table(Client(codes={2: code})).insert_new(entries(3))
    assert [results[0], results[2]] == [None, None]
    assert isinstance(results[1], ClientError)
    assert classify(results[1]).kind is kind


def test_a_refused_request_is_halved_until_the_bad_statement_is_alone() -> None:
    client = Client(refuses=3)
    results = table(client).insert_new(entries(8))
    assert codes(results) == [None, None, "ValidationException", *[None] * 5]
    assert client.sizes == [8, 4, 2, 2, 1, 1, 4]


@pytest.mark.parametrize(
    "error", [failed("ThrottlingException"), ConnectTimeoutError(endpoint_url="x")]
)
def test_a_request_that_fails_for_another_reason_fails_for_all(error: Exception) -> None:
    client = Client()
    client.error = error
    assert table(client).insert_new(entries(3)) == [error] * 3


def test_a_taken_key_that_can_not_be_read_comes_again() -> None:
    results = table(Client(codes={1: "DuplicateItem"})).insert_new(entries(2))
    assert codes(results) == ["AccessDeniedException", None]


def test_an_entry_without_a_wire_form_does_not_stop_the_others() -> None:
    bad, good = entries(2)
    results = table(Client()).insert_new([bad | {"details": {"amount_minor": 1.5}}, good])
    assert [type(results[0]), results[1]] == [NotStorableError, None]


def test_what_is_there_and_can_not_be_read_is_no_entry_of_ours(world: World) -> None:
    first, second = entries(2)
    theirs = {name: {"S": first[name]} for name in ("transaction_id", "entry_id")}
    world.stack.clients.dynamodb.put_item(
        TableName=world.stack.audit_table, Item=theirs | {"amount": {"N": "1.5"}}
    )
    assert world.audit.insert_new([first, second]) == [{}, None]


def test_the_statement_names_every_attribute_and_holds_no_value() -> None:
    class Seen(Client):
        def batch_execute_statement(self, *, Statements: Any) -> Any:  # noqa: N803
            self.seen = Statements
            return super().batch_execute_statement(Statements=Statements)

    client, [entry] = Seen(), entries(1)
    table(client).insert_new([entry])
    [statement] = client.seen
    assert statement["Statement"].startswith('INSERT INTO "PaymentAuditTrail" VALUE {')
    assert len(statement["Parameters"]) == len(entry)
    assert all(f"'{name}': ?" in statement["Statement"] for name in entry)
