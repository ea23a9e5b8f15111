"""ReceiveWebhook: a gateway reports that a refund has changed, and the reconciler looks at it.

Anybody can call the URL, so a request without a valid signature changes nothing. The function may
read its signing secret and start the reconciler, nothing else.
"""

from __future__ import annotations

import json
import os
from typing import Any

import botocore.session
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.typing import LambdaContext

from refunds.domain.clock import SystemClock
from refunds.gateways.webhooks import RefusedWebhookError, refund_to_look_at
from refunds.lambda_runtime import DEFAULT_CLIENT_CONFIG, quiet_libraries
from refunds.webhook_settings import ReceiveWebhookSettings

SECRET_SECONDS = 300

logger = Logger()
metrics = Metrics()
quiet_libraries()

_clock = SystemClock()
_settings = ReceiveWebhookSettings.read(os.environ)
# One session for both, since each session reads botocore's endpoints again.
_session: Any = botocore.session.get_session()
_functions = _session.create_client("lambda", config=DEFAULT_CLIENT_CONFIG)
_secrets = SecretsProvider(
    boto3_client=_session.create_client("secretsmanager", config=DEFAULT_CLIENT_CONFIG)
)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Returns the HTTP response: 202 when the reconciler was started, or when there is nothing to
    do."""
    secrets = str(_secrets.get(_settings.secret_arn, max_age=SECRET_SECONDS))
    try:
        refund_id = refund_to_look_at(event, secrets, _clock.now())
    except RefusedWebhookError as refused:
        metrics.add_metric("WebhooksRefused", MetricUnit.Count, 1)
        logger.warning("webhook refused", reason=str(refused), status=refused.status)
        return {"statusCode": refused.status}
    metrics.add_metric("WebhooksReceived", MetricUnit.Count, 1)
    if refund_id is not None:
        # Asynchronous: the reconciler asks the gateway, and the gateway may be waiting for this
        # response.
        _functions.invoke(
            FunctionName=_settings.reconcile_function,
            InvocationType="Event",
            Payload=json.dumps({"look_at": refund_id}).encode(),
        )
        logger.info("webhook received", refund_id=refund_id)
    return {"statusCode": 202}
