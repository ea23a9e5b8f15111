"""Builds template.yaml and deploys it to the emulator, with the same SAM commands as to AWS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from refunds_devkit.local.emulator import architecture, aws_settings, runtime
from refunds_devkit.local.running import run
from refunds_devkit.local.workspace import PROJECT, Workspace, plain_environment
from refunds_devkit.package_index import pip_settings, uv_environment
from refunds_ops.stack.stack import Stack, with_outputs

STACK_NAME = "refunds-local"
ARTIFACTS_BUCKET = "refunds-local-artifacts"
BUILD_SECONDS = 300.0
DEPLOY_SECONDS = 240.0

PARAMETERS = {
    "Stage": "local",
    # Short, so that people can watch what takes minutes in AWS.
    "GatewayTimeoutSeconds": "5",
    "FirstRetrySeconds": "1",
    "ReconcileAfterSeconds": "2",
    "NotReadySeconds": "3",
    # Each has its own interpreter and copy of the package. Ten would fill a laptop's memory.
    "MaximumConcurrency": "2",
}

_BIN = Path(sys.executable).parent


def sam_environment(more: Mapping[str, str]) -> dict[str, str]:
    """For SAM's commands: uv on the path, the user's package index, and no AWS account."""
    environment = plain_environment(
        {
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_BETA_UV_PACKAGE_MANAGER": "1",
            **uv_environment(pip_settings(Path(sys.executable))),
            **more,
        }
    )
    environment["PATH"] = f"{_BIN}:{environment.get('PATH', '')}"
    return environment


def build(
    workspace: Workspace,
    parameters: Mapping[str, str],
    folder: Path,
    template: Path = PROJECT / "template.yaml",
) -> None:
    """`sam build` of ``template`` into ``folder``. Raises ``NotReadyError``."""
    run(
        [
            *(_BIN / "sam", "build", "--config-file", _no_config(workspace)),
            *("--template-file", template, "--build-dir", folder),
            *("--parameter-overrides", *_overrides(parameters)),
        ],
        sam_environment({"AWS_DEFAULT_REGION": "us-east-1"}),
        workspace.log("build"),
        seconds=BUILD_SECONDS,
        failure="sam build failed",
        to_do=["It downloads what src/requirements.txt locks: check the network, then try again."],
    )


def build_parameters() -> dict[str, str]:
    """Options that make `sam build` fetch wheels for the emulator's interpreter."""
    return {"PythonRuntime": runtime(), "Architecture": architecture()}


def deploy(
    workspace: Workspace,
    port: int,
    gateway_name: str,
    gateway_url: str,
    more: Mapping[str, str] = {},
) -> Stack:
    """Runs `sam deploy` of what was built and returns the stack. Raises ``NotReadyError``."""
    parameters = PARAMETERS | build_parameters()
    parameters |= {"GatewayName": gateway_name} | gateway_parameters(gateway_url)
    return deploy_stack(workspace, port, STACK_NAME, parameters | dict(more))


def gateway_parameters(url: str) -> dict[str, str]:
    """The template takes plain http in a parameter of its own.

    Both are given: `sam deploy` repeats the previous value of a parameter that is left out.
    """
    tls = url.startswith("https://")
    return {"GatewayUrl": url if tls else "", "LocalGatewayUrl": "" if tls else url}


def deploy_stack(
    workspace: Workspace,
    port: int,
    name: str,
    parameters: Mapping[str, str],
    template: Path | None = None,
) -> Stack:
    """`sam deploy` of ``template``, by default the built one. Raises ``NotReadyError``."""
    settings = aws_settings(port)
    stack = Stack(f"the stack {name}", {}, settings)
    # The same as --resolve-s3 would do, without a stack of SAM's own for it.
    stack.s3.create_bucket(Bucket=ARTIFACTS_BUCKET)
    log = workspace.log("deploy")
    run(
        [
            *(_BIN / "sam", "deploy", "--config-file", _no_config(workspace)),
            *("--template-file", template or workspace.build / "template.yaml"),
            *("--stack-name", name, "--s3-bucket", ARTIFACTS_BUCKET),
            *("--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset"),
            *("--no-confirm-changeset", "--no-progressbar", "--region", settings["AWS_REGION"]),
            *("--parameter-overrides", *_overrides(parameters)),
        ],
        sam_environment(settings),
        log,
        seconds=DEPLOY_SECONDS,
        failure="sam deploy to the emulator failed",
        to_do=[
            "If you changed template.yaml: make check. The emulator's log is "
            f"{workspace.log('emulator')}."
        ],
    )
    return with_outputs(stack, name)


def _overrides(parameters: Mapping[str, str]) -> list[str]:
    # Without quotes SAM takes no empty value.
    return [f'{name}="{value}"' for name, value in parameters.items()]


def _no_config(workspace: Workspace) -> Path:
    """Replaces samconfig.toml, whose stages are in AWS."""
    config = workspace.folder / "samconfig.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("version = 0.1\n")
    return config
