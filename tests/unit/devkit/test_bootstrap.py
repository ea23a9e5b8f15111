"""Setting up on a bare machine: what is missing is named, with what to do about it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "ops/bootstrap.py"


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bootstrap"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(bootstrap: ModuleType, tmp_path: Path) -> Any:
    lock = tmp_path / "lock.txt"
    lock.write_text("ruff==1 \\\n    --hash=sha256:aa\nuv==2 \\\n    --hash=sha256:bb\nxyz==3\n")
    return bootstrap.Environment(tmp_path / ".venv", lock, (lock,))


def test_a_python_without_venv_is_told_with_debians_package(
    bootstrap: ModuleType, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.BootstrapError, match=r"apt-get install python3\.\d+-venv"):
        bootstrap._create_empty("dev", environment)


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("ERROR: Temporary failure in name resolution", "HTTPS_PROXY"),
        ("error: tcp connect error: Connection refused", "pip config set global.index-url"),
        ("ERROR: THESE PACKAGES ... Hash mismatch in lock", "before you continue"),
        ("error: something else", "the lines above say why"),
    ],
)
def test_a_failed_download_says_what_to_do(bootstrap: ModuleType, output: str, hint: str) -> None:
    assert hint in bootstrap._network_hint(output)


def test_uv_is_installed_with_its_own_hashes_only(bootstrap: ModuleType, environment: Any) -> None:
    assert bootstrap._locked("uv", environment.lock) == "uv==2 \\\n    --hash=sha256:bb\n"
    with pytest.raises(bootstrap.BootstrapError, match="has no pip"):
        bootstrap._locked("pip", environment.lock)


def test_only_what_has_changed_is_done(
    bootstrap: ModuleType, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for step in ("_create_empty", "_install_locked", "_install_project"):
        monkeypatch.setattr(bootstrap, step, lambda *_, step=step: done.append(step))
    monkeypatch.setattr(bootstrap, "_works", lambda folder: True)
    environment.folder.mkdir()

    bootstrap._bring_up_to_date("dev", environment)
    assert done == ["_create_empty", "_install_locked", "_install_project"]
    done.clear()
    bootstrap._bring_up_to_date("dev", environment)
    assert done == []
    environment.lock.write_text(environment.lock.read_text() + "more==1\n")
    bootstrap._bring_up_to_date("dev", environment)
    assert done == ["_install_locked", "_install_project"]


def test_what_was_interrupted_is_made_anew(
    bootstrap: ModuleType, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(bootstrap, "_works", lambda folder: True)
    monkeypatch.setattr(bootstrap, "_create_empty", lambda *_: done.append("empty"))
    monkeypatch.setattr(bootstrap, "_install_project", lambda *_: None)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    environment.folder.mkdir()
    monkeypatch.setattr(bootstrap, "_install_locked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bootstrap._bring_up_to_date("dev", environment)
    monkeypatch.setattr(bootstrap, "_install_locked", lambda *_: None)
    bootstrap._bring_up_to_date("dev", environment)
    assert done == ["empty", "empty"]
