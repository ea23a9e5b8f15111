"""How long ago a restore drill passed, by the records that drills leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.backup_parts import BackedUp

from refunds.backup.drills import PREFIX, DrillAge, record_drill

NOW = datetime.now(UTC)


@pytest.fixture
def age(stack: BackedUp) -> DrillAge:
    return DrillAge(
        s3=stack.s3, bucket=stack.bucket, dynamodb=stack.dynamodb, refunds_table=stack.refunds
    )


def test_the_latest_record_counts(stack: BackedUp, age: DrillAge) -> None:
    for days in (60, 12, 40):
        record_drill(stack.s3, stack.bucket, NOW - timedelta(days=days), {"passed": True})
    assert age.days(NOW) == 12


def test_without_a_drill_it_is_since_the_table_was_created(age: DrillAge) -> None:
    assert age.days(datetime.now(UTC) + timedelta(days=35)) == 35


def test_what_is_older_than_the_look_back_counts_as_none(stack: BackedUp, age: DrillAge) -> None:
    record_drill(stack.s3, stack.bucket, NOW - timedelta(days=200), {})
    assert age.days(datetime.now(UTC) + timedelta(days=50)) == 50


def test_a_record_is_kept_with_its_result(stack: BackedUp) -> None:
    key = record_drill(stack.s3, stack.bucket, NOW, {"passed": True, "number": 7})
    assert key.startswith(PREFIX)
    body = stack.s3.get_object(Bucket=stack.bucket, Key=key)["Body"].read()
    assert body == b'{"passed": true, "number": 7}'
