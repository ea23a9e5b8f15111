"""Fixtures for the tests of the audit trail."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from tests.support.audit_commands import Run, commands_on
from tests.support.audit_rows import Trail
from tests.support.moto_stack import REGION, Clients, Stack

from refunds.backup.table_scan import PageReader, ReadLimit


@pytest.fixture(scope="module")
def scan(clients: Clients) -> PageReader:
    return PageReader(boto3.client("dynamodb", region_name=REGION), ReadLimit(0))


@pytest.fixture(scope="module")
def made(clients: Clients, scan: PageReader) -> Trail:
    """A stack with four refunds and a clean trail, to be looked at or copied, never changed."""
    trail = Trail(Stack.create(clients), scan)
    trail.populate()
    return trail


@pytest.fixture
def trail(made: Trail, stack: Stack) -> Trail:
    """A stack of the test's own with four refunds and a clean trail."""
    return made.copy_to(stack)


@pytest.fixture
def run(trail: Trail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    return commands_on(trail, monkeypatch, tmp_path)
