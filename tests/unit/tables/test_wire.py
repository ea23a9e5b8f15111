"""The wire form of values: what goes in comes out, and nothing becomes a float."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from refunds.tables.wire import condition_failed, from_wire, item_from_wire, old_item, to_wire

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_every_plain_value_survives_the_wire(value: Any) -> None:
    assert from_wire(to_wire(value)) == value


@given(values)
def test_the_wire_form_is_the_one_boto3_reads(value: Any) -> None:
    wire: Any = to_wire(value)
    assert TypeDeserializer().deserialize(wire) == value


def test_a_bool_is_no_number_on_the_wire() -> None:
    assert to_wire(True) == {"BOOL": True}
    assert to_wire(1) == {"N": "1"}
    assert to_wire(("a",)) == {"L": [{"S": "a"}]}


@pytest.mark.parametrize("value", [1.0, Decimal(1), b"", {"a"}, object(), [0.5]])
def test_a_float_or_another_type_never_gets_to_the_table(value: Any) -> None:
    with pytest.raises(TypeError, match="no wire form"):
        to_wire(value)


@pytest.mark.parametrize(
    "wire", [{"N": "1.5"}, {"N": "1E2"}, {"B": b"x"}, {"SS": ["a"]}, {"NS": ["1"]}, {}]
)
def test_a_fraction_or_a_foreign_type_is_an_error_not_a_guess(wire: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_wire(wire)


def error(code: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": ""}} | more
    return ClientError(response, "UpdateItem")


def test_only_a_failed_condition_is_an_answer() -> None:
    assert condition_failed(error("ConditionalCheckFailedException"))
    assert not condition_failed(error("ProvisionedThroughputExceededException"))
    assert not condition_failed(error("TransactionConflictException"))


def test_the_item_that_failed_a_condition_is_read_from_its_error() -> None:
    wire = {"refund_id": {"S": "r"}, "version": {"N": "2"}}

    assert old_item(error("ConditionalCheckFailedException", Item=wire)) == item_from_wire(wire)
    assert old_item(error("ConditionalCheckFailedException")) is None
    assert old_item(error("ConditionalCheckFailedException", Item={})) is None
