"""The sandbox against its contract, with requests that schemathesis makes up from it, valid and
invalid ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.examples import examples

from refunds_devkit.sandbox.server import SandboxGateway

CONTRACT = Path(__file__).parents[4] / "docs" / "flair-gateway.openapi.yaml"

# The contract's promises. Others of schemathesis's checks are about what it leaves open, such as
# what becomes of parameters that it doesn't know.
HOLDS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


LEFT_OUT = {("GET /v1/refunds", 422), ("GET /v1/refunds/{id}", 401)}
"""What the contract names for other operations, and must mean for these too."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxGateway]:
    with SandboxGateway() as gateway:
        yield gateway


_CONTRACT: Any = schemathesis.openapi.from_dict(yaml.safe_load(CONTRACT.read_text()))
OPERATIONS = {found.ok().label: found.ok() for found in _CONTRACT.get_all_operations()}


def test_the_whole_contract_is_tried() -> None:
    assert set(OPERATIONS) == {
        "GET /v1/payments/{transaction_id}",
        "POST /v1/refunds",
        "GET /v1/refunds",
        "GET /v1/refunds/{id}",
    }


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_one_that_the_contract_has(
    label: str, mode: GenerationMode, sandbox: SandboxGateway
) -> None:
    @settings(
        max_examples=examples(4),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def answers(case: schemathesis.Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        response = case.call(base_url=sandbox.url, headers=headers, timeout=10)
        if (label, response.status_code) in LEFT_OUT:
            assert response.json()["error"].keys() == {"code", "message", "request_id"}
        else:
            case.validate_response(response, checks=HOLDS)

    answers()
