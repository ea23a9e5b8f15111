"""The gateways that the suite is run for: those with an adapter, or the one that is named."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
from tests.conformance.harness import Harness
from tests.support import no_public_authorities as no_public_authorities

HARNESSES = {
    "flair": "tests.conformance.flair:FlairHarness",
    "stripe": "tests.conformance.stripe:StripeHarness",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--harness", metavar="MODULE:CLASS", help="Run the conformance suite for this one only."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "harness" in metafunc.fixturenames:
        one = metafunc.config.getoption("--harness")
        places = {"": one} if one else HARNESSES
        metafunc.parametrize(
            "harness", list(places.values()), ids=list(places), indirect=True, scope="module"
        )


@pytest.fixture(scope="module")
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    module, _, name = request.param.partition(":")
    with getattr(import_module(module), name)() as harness:
        yield harness
