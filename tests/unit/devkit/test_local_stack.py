"""What the local stack writes down, what it passes on, and what it keeps away from AWS."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from refunds_devkit.local import containers
from refunds_devkit.local.gateway import external_gateway, gateway_problem, wait_for_external
from refunds_devkit.local.lifecycle import down, stack_of
from refunds_devkit.local.ports import free_port
from refunds_devkit.local.processes import Started
from refunds_devkit.local.relay import relay
from refunds_devkit.local.workspace import Record, Workspace, plain_environment
from refunds_devkit.package_index import uv_environment
from refunds_devkit.sandbox.server import SandboxGateway
from refunds_ops.errors import NotReadyError

ROOT = Path(__file__).parents[3]


def test_what_was_started_is_recorded_and_read_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "local")
    assert workspace.record() is None
    record = Record(emulator=Started(4711, "123"), emulator_port=4566, gateway_url="http://x")
    workspace.save(record)
    assert workspace.record() == record
    assert list(record.started) == ["emulator"]
    workspace.forget()
    assert workspace.record() is None


def test_a_damaged_record_says_what_to_do(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.save(Record())
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(NotReadyError) as caught:
        workspace.record()
    assert "delete" in caught.value.to_do[0]


def test_only_one_command_at_a_time(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with (
        workspace.locked(),
        pytest.raises(NotReadyError, match="Another command"),
        workspace.locked(),
    ):
        pass


def test_down_without_up_is_nothing(tmp_path: Path) -> None:
    assert down(Workspace(tmp_path / "never")) == []
    assert down(Workspace(tmp_path)) == []
    with pytest.raises(NotReadyError, match="No stack is running"):
        stack_of(Workspace(tmp_path))


def test_nothing_of_the_users_aws_account_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere.example")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    environment = plain_environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert "AWS_PROFILE" not in environment
    assert "AWS_ENDPOINT_URL_S3" not in environment
    assert environment["AWS_CONFIG_FILE"] == "/dev/null"
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environment["NO_PROXY"] == "127.0.0.1,internal.example,localhost"


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://127.0.0.1:8790", "http://172.17.0.1:8790"),
        ("http://localhost:8790/v1?x=1", "http://172.17.0.1:8790/v1?x=1"),
        ("http://localhost", "http://172.17.0.1:80"),
        ("https://gateway.example:8443/v1", "https://gateway.example:8443/v1"),
    ],
)
def test_a_container_is_told_another_address_of_this_machine_only(url: str, seen: str) -> None:
    assert containers.from_container(url, "172.17.0.1") == seen


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second loopback address")
def test_the_relay_passes_everything_on_both_ways() -> None:
    async def exchange() -> bytes:
        port = free_port()

        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", port)
        relaying = asyncio.create_task(relay("127.0.0.2", [port]))
        for _ in range(500):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.2", port)
                break
            except OSError:
                await asyncio.sleep(0.01)
        writer.write(b"hello " * 50_000)
        writer.write_eof()
        said = await reader.read()
        writer.close()
        relaying.cancel()
        server.close()
        return said

    said = asyncio.run(asyncio.wait_for(exchange(), 60))
    assert said == b"HELLO " * 50_000


def test_pips_settings_become_uvs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX", "https://mine.example/simple")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    settings = {
        "index-url": "https://index.example/simple",
        "extra-index-url": "https://more.example/simple",
        "trusted-host": "index.example\nmore.example",
        "cert": "/etc/ca.pem",
    }
    found = uv_environment(settings)
    assert found["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert found["UV_INSECURE_HOST"] == "index.example more.example"
    assert found["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert "UV_INDEX" not in found  # the user has set it for uv itself


def test_another_gateway_is_tried_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with SandboxGateway(api_key="right") as gateway:
        assert gateway_problem(gateway.url, "right") is None
        assert "401" in str(gateway_problem(gateway.url, "wrong"))
        monkeypatch.setenv("GATEWAY_URL", gateway.url + "/")
        monkeypatch.setenv("GATEWAY_API_KEY", "right")
        there = external_gateway()
        assert there is not None
        assert there.url == gateway.url
        wait_for_external(there)
    monkeypatch.setattr("refunds_devkit.local.gateway.ANSWER_SECONDS", 0.1)
    with pytest.raises(NotReadyError, match="cannot be reached") as caught:
        wait_for_external(there)
    assert "unset GATEWAY_URL" in caught.value.to_do[0]
    monkeypatch.setenv("GATEWAY_URL", "ftp://x")
    with pytest.raises(NotReadyError, match="not an http"):
        external_gateway()


def test_a_python_that_is_not_there_is_told() -> None:
    told = subprocess.run(
        ["sh", ROOT / "ops/bootstrap.sh", "dev"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/nowhere/python3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 3
    assert "PYTHON=/nowhere/python3 is not a Python 3.11 to 3.14" in told.stderr


def test_without_any_python_the_packages_are_named(tmp_path: Path) -> None:
    (tmp_path / "ops").mkdir()
    script = tmp_path / "ops/bootstrap.sh"
    script.write_text((ROOT / "ops/bootstrap.sh").read_text())
    for name in ("sh", "dirname"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True)
        (tmp_path / name).symlink_to(found.stdout.strip())
    told = subprocess.run(
        ["sh", script, "dev"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 3
    assert "apt-get install python3 python3-venv" in told.stderr


def test_every_variable_that_a_container_needs_is_declared_in_the_template() -> None:
    """`sam local invoke --env-vars` passes on no other."""
    template = (ROOT / "template.yaml").read_text()
    assert "AWS_ENDPOINT_URL: !Ref AWS::NoValue" in template
