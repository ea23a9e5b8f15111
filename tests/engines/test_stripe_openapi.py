"""The scripted Stripe against the real specification, and its questions against stripe-mock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support import stripe_openapi
from tests.support.engines import servers, tools
from tests.support.engines.fixtures import started


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.stripe_mock, tmp_path_factory) as url:
        yield url


def test_the_kept_part_of_stripes_openapi_is_what_stripe_mock_has(url: str) -> None:
    module = tools.stripe_mock_module()
    folder = module / "embedded" / "openapi"
    made = stripe_openapi.made_from(
        json.loads((folder / "spec3.json").read_text()),
        json.loads((folder / "fixtures3.json").read_text()),
        (module / "LICENSE").read_text(),
    )

    kept = json.loads(stripe_openapi.KEPT.read_text())
    assert kept == made, "make it again: python -m tests.support.stripe_openapi"


def test_stripe_mock_takes_every_call_of_every_scripted_case(url: str) -> None:
    # The scripted tests run again, and each call that the adapter makes in them goes to stripe-mock
    # too, which refuses what Stripe's specification does not allow.
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *("-p", "tests.support.stripe_mock_replay", "tests/unit/gateways"),
            *("-k", "test_stripe and not test_stripe_amounts"),
        ],
        cwd=tools.ROOT,
        env={**os.environ, "STRIPE_MOCK_URL": url},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert run.returncode == 0, run.stdout[-3000:]
    (count,) = [line for line in run.stdout.splitlines() if "calls to stripe-mock" in line]
    assert int(count.split()[0]) > 100
