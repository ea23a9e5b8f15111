"""Real engines and emulators, each started once for a module's tests, on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.engines import servers
from tests.support.engines.fixtures import started

REGION = servers.REGION


@pytest.fixture(scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.ministack, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="module")
def dynoxide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.dynoxide, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="module")
def dynalite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.dynalite, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="module")
def elasticmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.elasticmq, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with started(servers.versitygw, tmp_path_factory) as url:
        yield url
