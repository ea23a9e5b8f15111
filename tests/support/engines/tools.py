"""The engines' programs: fetched or built once by package name, pinned, and kept in .local/tools.

Cargo verifies the checksums of the crate's lock file, Go those of sum.golang.org, Maven those of
the repository (``--strict-checksums``), and npm those of the package index.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / ".local" / "tools"
BUILD_SECONDS = 3600

DYNOXIDE = "3.2.0"
"""The crate's version, whose program calls itself 1.5.0."""
DYNOXIDE_PREBUILT = "1.2.1"
"""The latest program on npm."""
DYNOXIDE_PREBUILT_SHA256 = "be909b7910d3fb552e85db10ef3c8ebae4bd35fee0f26dffdb6dfa5cc656426e"
ELASTICMQ = "1.6.16"
DYNALITE = "4.0.0"
LOCAL_KMS = "20260228"
"""The date of the version in local_kms/go.mod, which go.sum there pins."""
STRIPE_MOCK = "github.com/stripe/stripe-mock"
STRIPE_MOCK_VERSION = "v0.203.0"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class MissingToolchainError(Exception):
    """A program that fetches or runs an engine is not installed."""


def require(program: str, purpose: str, how_to_get: str) -> str:
    """The path of an installed program. Raises ``MissingToolchainError``."""
    if found := shutil.which(program):
        return found
    raise MissingToolchainError(f"{purpose} needs {program}: {how_to_get}")


def cargo() -> str:
    return require("cargo", "dynoxide", "https://rustup.rs, Rust 1.88 or later")


def java() -> str:
    return require("java", "ElasticMQ", "apt-get install openjdk-17-jdk, or https://adoptium.net")


def dynoxide() -> Path:
    """DynamoDB and its streams over SQLite. Compiling it takes minutes, once.

    With ``DYNOXIDE_PREBUILT`` in the environment, the program that its makers have on npm.
    """
    if os.environ.get("DYNOXIDE_PREBUILT"):
        return _prebuilt_dynoxide()
    folder = TOOLS / f"dynoxide-{DYNOXIDE}"
    program = folder / "bin" / "dynoxide"
    if not program.exists():
        _run(
            [
                *(cargo(), "install", "--quiet", "--locked", f"dynoxide-rs@{DYNOXIDE}"),
                # Without its MCP server.
                *("--no-default-features", "--features", "native-sqlite,http-server,import,cli"),
                *("--root", str(folder)),
            ],
            # Compiles in half of the time, and runs nearly as fast.
            CARGO_PROFILE_RELEASE_OPT_LEVEL="2",
            CARGO_PROFILE_RELEASE_LTO="off",
            CARGO_PROFILE_RELEASE_CODEGEN_UNITS="16",
        )
    return program


def _prebuilt_dynoxide() -> Path:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise MissingToolchainError("DYNOXIDE_PREBUILT is for Linux on x86-64: unset it")
    folder = TOOLS / f"dynoxide-prebuilt-{DYNOXIDE_PREBUILT}"
    program = folder / "node_modules" / "@dynoxide" / "linux-x64" / "dynoxide"
    if not program.exists():
        npm = require("npm", "dynoxide", "apt-get install npm, or https://nodejs.org")
        package = f"@dynoxide/linux-x64@{DYNOXIDE_PREBUILT}"
        _run([npm, "install", "--silent", "--prefix", str(folder), package])
    if hashlib.sha256(program.read_bytes()).hexdigest() != DYNOXIDE_PREBUILT_SHA256:
        raise AssertionError(f"{program} is not the program that was tried: delete {folder}")
    return program


def elasticmq() -> Path:
    """SQS on the JVM: the folder of its jars."""
    folder = TOOLS / f"elasticmq-{ELASTICMQ}"
    if not folder.exists():
        maven = require("mvn", "ElasticMQ", "apt-get install maven, or https://maven.apache.org")
        fetched = folder.with_suffix(".new")
        _run(
            [
                *(maven, "--quiet", "--batch-mode", "--strict-checksums"),
                f"--file={Path(__file__).parent / 'elasticmq.xml'}",
                MAVEN_COPY,
                f"-DoutputDirectory={fetched}",
            ]
        )
        fetched.rename(folder)
    return folder


def dynalite() -> Path:
    """DynamoDB over LevelDB: the script that Node.js runs."""
    folder = TOOLS / f"dynalite-{DYNALITE}"
    if not folder.exists():
        npm = require("npm", "dynalite", "apt-get install npm, or https://nodejs.org")
        fetched = folder.with_suffix(".new")
        _run([npm, "install", "--silent", "--prefix", str(fetched), f"dynalite@{DYNALITE}"])
        fetched.rename(folder)
    return folder / "node_modules" / "dynalite" / "cli.js"


def go_program(package: str, version: str) -> Path:
    """A Go program by its package's path."""
    name = package.rpartition("/")[2]
    folder = TOOLS / f"{package.split('/')[2]}-{version}"
    program = folder / name
    if not program.exists():
        go = require("go", name, "https://go.dev/dl, Go 1.24 or later")
        _run([go, "install", f"{package}@{version}"], GOBIN=str(folder), GOFLAGS="")
    return program


def local_kms() -> Path:
    """KMS. Its request handler, unchanged, behind a listener of ours: its own has no address."""
    folder = TOOLS / f"local-kms-{LOCAL_KMS}"
    program = folder / "local-kms"
    if not program.exists():
        go = require("go", "local-kms", "https://go.dev/dl, Go 1.24 or later")
        source = Path(__file__).parent / "local_kms"
        command = [go, "build", "-C", str(source), "-mod=readonly", "-o", str(program), "."]
        _run(command, GOFLAGS="")
    return program


def versitygw() -> Path:
    """S3 over a folder."""
    return go_program("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")


def toxiproxy() -> Path:
    """A TCP proxy that breaks connections on request."""
    return go_program("github.com/Shopify/toxiproxy/v2/cmd/server", "v2.5.0")


def stripe_mock() -> Path:
    """Stripe's own mock of its API."""
    return go_program(STRIPE_MOCK, STRIPE_MOCK_VERSION)


def stripe_mock_module() -> Path:
    """The folder of its source, with the specification and the fixtures that it answers from."""
    go = require("go", "stripe-mock", "https://go.dev/dl, Go 1.24 or later")
    command = [go, "mod", "download", "-json", f"{STRIPE_MOCK}@{STRIPE_MOCK_VERSION}"]
    shown = subprocess.run(
        command,
        env={**os.environ, "GOFLAGS": ""},
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    return Path(json.loads(shown.stdout)["Dir"])


def _run(command: list[str], **environment: str) -> None:
    TOOLS.mkdir(parents=True, exist_ok=True)
    settings: Mapping[str, str] = {**os.environ, **environment}
    subprocess.run(command, env=settings, check=True, timeout=BUILD_SECONDS)
