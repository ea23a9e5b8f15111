"""The indexes of `refunds list`: what they cost, and how a stack that has data gets them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.support.expanded_template import (
    Check,
    Edit,
    ExpandedTemplate,
    Json,
    assert_noticed,
    put,
)

USER, DAY = "refunds-by-user", "refunds-by-day"


def indexes(stack: ExpandedTemplate) -> dict[str, Json]:
    return {index["IndexName"]: index for index in stack["Refunds"]["GlobalSecondaryIndexes"]}


def test_both_are_on_unless_switched_off(stack: ExpandedTemplate) -> None:
    assert {USER, DAY} < indexes(stack).keys()
    assert indexes(stack.given(UserIndex="false", DayIndex="false")).keys() == {"open-refunds"}


def test_an_index_entry_never_changes(stack: ExpandedTemplate) -> None:
    """So it costs one write unit, once: its keys are set at creation, and it holds nothing else."""
    for name, partition in ((USER, "user_id"), (DAY, "day_shard")):
        index = indexes(stack)[name]
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
        assert [key["AttributeName"] for key in index["KeySchema"]] == [partition, "created_at"]


@pytest.mark.parametrize("user", ["true", "false"])
@pytest.mark.parametrize("day", ["true", "false"])
def test_every_defined_attribute_is_a_key_and_no_other(
    stack: ExpandedTemplate, user: str, day: str
) -> None:
    table = stack.given(UserIndex=user, DayIndex=day)["Refunds"]
    schemas = [table["KeySchema"], *(i["KeySchema"] for i in table["GlobalSecondaryIndexes"])]
    used = {key["AttributeName"] for schema in schemas for key in schema}
    defined = [each["AttributeName"] for each in table["AttributeDefinitions"]]
    assert sorted(defined) == sorted(used)


def test_a_stack_with_data_gets_both_in_two_updates_of_one_index_each(
    stack: ExpandedTemplate,
) -> None:
    """CloudFormation creates or deletes at most one index of a table in an update."""
    steps = [("false", "false"), ("true", "false"), ("true", "true")]
    states = [indexes(stack.given(UserIndex=user, DayIndex=day)).keys() for user, day in steps]
    for before, after in pairwise(states):
        assert len(before ^ after) == 1


EDITS: list[tuple[Check, Edit]] = [
    (
        test_an_index_entry_never_changes,
        put(
            f"Refunds.Properties.GlobalSecondaryIndexes.{number}.Fn::If.1.Projection.ProjectionType",
            "ALL",
        ),
    )
    for number in (1, 2)
]


@pytest.mark.parametrize(("check", "edit"), EDITS, ids=["by user", "by day"])
def test_the_checks_notice(template: Json, check: Check, edit: Edit) -> None:
    assert_noticed(template, check, edit)
