"""The examples in docs/producers.md send a request, each with its language's own AWS SDK."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from tests.support.engines.fixtures import named_if_missing
from tests.support.engines.tools import require
from tests.support.producers_guide import REQUEST, examples

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

REGION = "eu-central-1"
TOOLS = Path(__file__).parents[2] / ".local" / "tools"
JAVASCRIPT_SDK = "@aws-sdk/client-sqs@3.1175.0"
JAVA_SDK = "2.29.52"
GO_SDK = ("config@v1.33.18", "service/sqs@v1.53.0")
TIMEOUT_SECONDS = 600


@pytest.fixture
def queue(
    ministack: str, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[SQSClient, str]]:
    """An empty queue, whose URL is in the environment as the guide says."""
    client = boto3.client("sqs", endpoint_url=ministack, region_name=REGION)
    url = client.create_queue(QueueName="refund-requests")["QueueUrl"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("RefundQueueUrl", url)
    yield client, url
    client.delete_queue(QueueUrl=url)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


HOW_TO_GET = {
    "node": "apt-get install nodejs, or https://nodejs.org",
    "npm": "apt-get install npm, or https://nodejs.org",
    "java": "apt-get install openjdk-17-jdk, or https://adoptium.net",
    "mvn": "apt-get install maven, or https://maven.apache.org",
    "go": "https://go.dev/dl, Go 1.24 or later",
}


def tool(name: str) -> str:
    """The program's path. Without it the test says how to get it, and fails in CI."""
    with named_if_missing():
        return require(name, "this example", HOW_TO_GET[name])


def assert_sent(queue: tuple[SQSClient, str]) -> None:
    client, url = queue
    (message,) = client.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert json.loads(message["Body"]) == REQUEST


def test_javascript(queue: tuple[SQSClient, str]) -> None:
    node, npm = tool("node"), tool("npm")
    folder = TOOLS / "producer-javascript"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules/@aws-sdk/client-sqs").exists():
        run([npm, "install", "--silent", "--prefix", str(folder), JAVASCRIPT_SDK], folder)
    (folder / "send.mjs").write_text(examples("javascript")[0])

    run([node, "send.mjs"], folder)
    assert_sent(queue)


def test_java(queue: tuple[SQSClient, str]) -> None:
    java, maven = tool("java"), tool("mvn")
    folder = TOOLS / "producer-java"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "jars").exists():
        (folder / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>example</groupId><artifactId>send-refund</artifactId><version>1</version>"
            "<dependencies><dependency><groupId>software.amazon.awssdk</groupId>"
            f"<artifactId>sqs</artifactId><version>{JAVA_SDK}</version></dependency></dependencies>"
            "</project>"
        )
        copy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        run([maven, "-q", "-B", copy, "-DoutputDirectory=new-jars"], folder)
        (folder / "new-jars").rename(folder / "jars")
    (folder / "SendRefund.java").write_text(examples("java")[0])

    run([java, "-cp", "jars/*", "SendRefund.java"], folder)
    assert_sent(queue)


def test_go(queue: tuple[SQSClient, str]) -> None:
    go = tool("go")
    folder = TOOLS / "producer-go"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.go").write_text(examples("go")[0])
    if not (folder / "go.sum").exists():
        (folder / "go.mod").write_text("module sendrefund\n\ngo 1.24\n")
        run([go, "get", *(f"github.com/aws/aws-sdk-go-v2/{each}" for each in GO_SDK)], folder)

    run([go, "run", "."], folder)
    assert_sent(queue)
