"""docs/backup.md's recipe of another account's stack, word by word: two accounts of one emulator, a
stack in each, and the gateway that both may call."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import pytest
from rich.console import Console
from tests.local.flow import Flow, eventually
from tests.local.operating import Operator, paid_and_pending, settled_by_reconciler
from tests.support.expanded_template import REGION

from refunds_devkit.local import deployment
from refunds_devkit.local.deployment import PARAMETERS, build_parameters, gateway_parameters
from refunds_devkit.local.emulator import aws_settings
from refunds_devkit.local.gateway import DEFAULT_API_KEY
from refunds_devkit.local.lifecycle import down, up
from refunds_devkit.local.progress import Steps
from refunds_devkit.local.workspace import Workspace
from refunds_devkit.sandbox.client import SandboxClient
from refunds_ops.stack.records import refund_item
from refunds_ops.stack.stack import Stack

OTHER_ACCOUNT = "222233334444"


@pytest.fixture
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    for name in ("GATEWAY", "GATEWAY_URL", "GATEWAY_API_KEY", "EMULATOR_PORT", "SANDBOX_PORT"):
        os.environ.pop(name, None)
    workspace = Workspace(tmp_path_factory.mktemp("elsewhere"))
    try:
        stack = up(workspace, Steps(Console()), for_containers=False)
        yield Operator(Flow(stack, SandboxClient(stack["GATEWAY_URL"])), workspace)
    finally:
        down(workspace)


@pytest.fixture
def there(operator: Operator) -> Mapping[str, str]:
    """The settings of a shell in the other account."""
    record = Workspace(operator.folder).record()
    assert record is not None
    return {**aws_settings(record.emulator_port), "AWS_ACCESS_KEY_ID": OTHER_ACCOUNT}


def test_a_stack_of_another_account_goes_on_where_the_old_one_was_stopped(
    operator: Operator, there: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = operator.flow
    paid, pending = paid_and_pending(here)
    here.invoke("BackupRefunds")
    stopped = operator.run("refunds pause --why 'moving to the other account'")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    new = _deployed(operator, there, monkeypatch)
    assert OTHER_ACCOUNT in new["RefundQueueArn"]
    assert refund_item(new, paid["refund_id"]) is None

    operator.follow(
        "Another account's stack",
        environment_of=lambda line: there if "--stack refunds-dr" in line else None,
    )

    flow = Flow(new, here.sandbox)
    before = refund_item(here.stack, paid["refund_id"])
    assert refund_item(new, paid["refund_id"]) == before
    here.sandbox.settle(pending["gateway_refund_id"], "succeeded")
    settled = eventually(lambda: settled_by_reconciler(flow, pending), "the pending refund is paid")
    entries = flow.entries(settled)
    assert [each["version"] for each in entries] == list(range(1, settled["version"] + 1))
    # A new request, and one that the old stack paid, sent to the new one.
    fresh = flow.request(flow.payment(), 100)
    flow.send(fresh, flow.request(paid["transaction_id"], 500, refund_id=paid["refund_id"]))
    flow.entries(flow.refund(fresh, "SUCCEEDED"))
    flow.queue_is_empty()
    assert here.moved(paid["transaction_id"]) == [500]
    clean = operator.run("refunds --stack refunds-dr verify --gateway --no-backup", there)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    # Nothing of the other account's was written into this one.
    assert refund_item(here.stack, json.loads(fresh)["refund_id"]) is None


def _deployed(
    operator: Operator, there: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Stack:
    """The template in the other account, with the same gateway."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(deployment, "aws_settings", lambda port: dict(there))
    monkeypatch.setattr(deployment, "ARTIFACTS_BUCKET", f"artifacts-{OTHER_ACCOUNT}")
    parameters = {
        **PARAMETERS,
        **build_parameters(),
        **gateway_parameters(operator.flow.stack["GATEWAY_URL"]),
    }
    port = int(there["AWS_ENDPOINT_URL"].rpartition(":")[2])
    stack = deployment.deploy_stack(Workspace(operator.folder), port, "refunds-dr", parameters)
    stack.secrets.put_secret_value(SecretId=stack["GatewaySecretArn"], SecretString=DEFAULT_API_KEY)
    return stack
