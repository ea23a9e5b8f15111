"""A lean client for AWS's JSON services: DynamoDB, SQS, EventBridge, Secrets Manager.

Requests go out as the caller wrote them, with botocore's credentials and its errors. What is left
out is what turns Python into the wire form and back by a model of the service, checks it, and works
out an address by rules: two thirds of what a call costs a function, and most of its cold start
(docs/decisions/0006-lean-aws-clients.md). Only for services whose wire form is plain JSON.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import urllib3
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, NoRegionError

from refunds.http import PlainPool, TlsPool

if TYPE_CHECKING:
    from botocore.session import Session


@dataclass(frozen=True)
class Service:
    """``name`` is both the first part of the address and what requests are signed for."""

    name: str
    target: str
    """Before the operation in ``X-Amz-Target``."""
    version: str
    """Of the JSON protocol."""
    variable: str
    """AWS_ENDPOINT_URL_… of this service."""


DYNAMODB = Service("dynamodb", "DynamoDB_20120810", "1.0", "DYNAMODB")
EVENTS = Service("events", "AWSEvents", "1.1", "EVENTBRIDGE")
SECRETS = Service("secretsmanager", "secretsmanager", "1.1", "SECRETS_MANAGER")
SQS = Service("sqs", "AmazonSQS", "1.0", "SQS")

_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_BROKEN = frozenset({500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 1.0


class JsonClient:
    """Threads share it. Arguments and answers are the API's own JSON, without any conversion.

    ``session`` has credentials, refreshed when need be, and the region. ``config``: timeouts,
    pool and attempts, as for a botocore client. Every request must be one that may be made
    twice: after a lost answer it is.
    """

    service: Service

    def __init__(
        self,
        config: Config,
        session: Session,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        settings: Any = config
        self._region = session.get_config_variable("region")
        if not self._region:
            raise NoRegionError
        self._url = endpoint(self.service, self._region)
        self._host = urllib3.util.parse_url(self._url).netloc
        self._credentials = session.get_credentials()
        self._events = session.get_component("event_emitter")
        self._attempts = int(settings.retries["total_max_attempts"])
        self._pool = _pool(self._url, settings)
        self._sleep = sleep

    def call(self, operation: str, request: dict[str, Any]) -> Any:
        """One API call, tried again when that may help.

        Raises ``ClientError`` with the service's answer, or botocore's own error when there was
        none.
        """
        body = json.dumps(request, separators=(",", ":")).encode()
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                status, headers, content = self._send(operation, body)
            except HTTPClientError:
                if last:
                    raise
            else:
                if status < 300:
                    return json.loads(content) if content else {}
                error = _client_error(operation, status, headers, content)
                if last or not _passing(status, error):
                    raise error
            # Full jitter: those that were turned away together don't come back together.
            self._sleep(random.random() * min(_LONGEST_WAIT_SECONDS, 0.05 * 2**attempt))
        raise AssertionError("an attempt either returns or raises")

    def _send(self, operation: str, body: bytes) -> tuple[int, Any, bytes]:
        if self._credentials is None:
            raise NoCredentialsError
        service = self.service
        headers = {
            "Host": self._host,
            "Content-Type": f"application/x-amz-json-{service.version}",
            "X-Amz-Target": f"{service.target}.{operation}",
        }
        key = self._credentials.get_frozen_credentials()
        sign(headers, body, key, service.name, self._region, datetime.now(UTC))
        # botocore's own hook: test doubles answer here.
        prepared = AWSPreparedRequest("POST", self._url, HeadersDict(headers), body, False)
        answer = self._events.emit_until_response(
            f"before-send.{service.name}.{operation}", request=prepared
        )[1]
        if answer is not None:
            return answer.status_code, answer.headers, answer.content
        try:
            response = self._pool.urlopen(
                "POST", "/", body=body, headers=headers, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as exc:
            raise HTTPClientError(error=exc) from exc
        return response.status, response.headers, response.data


class DynamoDB(JsonClient):
    """The operations on items that are used here, named and called as in boto3."""

    service = DYNAMODB

    def get_item(self, **request: Any) -> Any:
        return self.call("GetItem", request)

    def put_item(self, **request: Any) -> Any:
        return self.call("PutItem", request)

    def update_item(self, **request: Any) -> Any:
        return self.call("UpdateItem", request)

    def query(self, **request: Any) -> Any:
        return self.call("Query", request)


class Events(JsonClient):
    service = EVENTS

    def put_events(self, **request: Any) -> Any:
        return self.call("PutEvents", request)


class Queues(JsonClient):
    service = SQS

    def send_message(self, **request: Any) -> Any:
        return self.call("SendMessage", request)

    def receive_message(self, **request: Any) -> Any:
        return self.call("ReceiveMessage", request)

    def delete_message(self, **request: Any) -> Any:
        return self.call("DeleteMessage", request)

    def change_message_visibility(self, **request: Any) -> Any:
        return self.call("ChangeMessageVisibility", request)


class Secrets(JsonClient):
    service = SECRETS

    def get_secret_value(self, **request: Any) -> Any:
        return self.call("GetSecretValue", request)


def endpoint(service: Service, region: str) -> str:
    """Where a service is: as the environment says, else AWS's public address of the region."""
    for variable in (f"AWS_ENDPOINT_URL_{service.variable}", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(variable):
            return url.rstrip("/") + "/"
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service.name}.{region}.{suffix}/"


def _pool(url: str, settings: Any) -> urllib3.HTTPConnectionPool:
    place = urllib3.util.parse_url(url)
    options: dict[str, Any] = {
        "port": place.port,
        "maxsize": settings.max_pool_connections,
        "timeout": urllib3.Timeout(connect=settings.connect_timeout, read=settings.read_timeout),
    }
    if place.scheme == "http":
        return PlainPool(str(place.host), **options)
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return TlsPool(str(place.host), ssl_context=context, **options)


def sign(
    headers: dict[str, str], body: bytes, key: Any, service: str, region: str, now: datetime
) -> None:
    """Add Signature Version 4 of a POST to ``/``, over all of ``headers`` and the body.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    instant = now.strftime("%Y%m%dT%H%M%SZ")
    headers["X-Amz-Date"] = instant
    if key.token:
        headers["X-Amz-Security-Token"] = key.token
    lines = sorted((name.lower(), value) for name, value in headers.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join(
        (
            "POST\n/\n",
            *(f"{name}:{value}" for name, value in lines),
            f"\n{names}\n{hashlib.sha256(body).hexdigest()}",
        )
    )
    scope = f"{instant[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{instant}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = _hmac(_signing_key(key.secret_key, scope), text).hex()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )


@lru_cache(maxsize=16)
def _signing_key(secret: str, scope: str) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _passing(status: int, error: ClientError) -> bool:
    return status in _BROKEN or error.response["Error"]["Code"] in _THROTTLED


def _client_error(operation: str, status: int, headers: Any, content: bytes) -> ClientError:
    """The error as botocore's clients raise it, the failed condition's ``Item`` included."""
    try:
        told = json.loads(content)
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    kind = str(told.pop("__type", None) or headers.get("x-amzn-errortype") or status)
    message = told.pop("message", None) or told.pop("Message", None) or ""
    response: Any = {
        # «com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException:http://…»
        "Error": {"Code": kind.partition(":")[0].rpartition("#")[2], "Message": message},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "RequestId": headers.get("x-amzn-requestid", ""),
        },
        **told,
    }
    return ClientError(response, operation)
