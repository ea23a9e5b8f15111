"""The template for the checks in this folder, each of which reads it as CloudFormation would."""

from __future__ import annotations

import pytest
from tests.support.expanded_template import REGION, ExpandedTemplate, Json, load_template


@pytest.fixture(autouse=True)
def _region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


@pytest.fixture(scope="session")
def template() -> Json:
    return load_template()


@pytest.fixture
def stack(template: Json) -> ExpandedTemplate:
    return ExpandedTemplate(template)
