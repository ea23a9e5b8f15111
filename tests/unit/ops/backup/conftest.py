from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto import mock_aws
from tests.support.backup_parts import BackedUp


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """AWS in moto, for one module's tests."""
    with mock_aws():
        yield


@pytest.fixture
def stack(aws: None) -> BackedUp:
    return BackedUp.create()
