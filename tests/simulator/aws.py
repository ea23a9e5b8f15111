"""A call to an AWS service as botocore makes it: retried, throttled, lost on the way or back.

Each service's client is a set of methods that end in ``call``. Here too are the services that need
no more than that: EventBridge, S3 and the secret.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from tests.simulator.kernel import Clock, Kernel

from refunds.audit.outcome_events import INTAKE_EVENTS

T = TypeVar("T")

READ_TIMEOUT_SECONDS = 5.0
SECRET_SECONDS = 300.0


def client_error(operation: str, code: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, **more}
    return ClientError(response, operation)


class Wire:
    """The way to AWS. ``attempts``: 3 as the functions' clients are set up, or 1 for none again."""

    def __init__(self, kernel: Kernel, attempts: int) -> None:
        self._kernel = kernel
        self._attempts = attempts
        self.denied: dict[str, str] = {}
        """Steps that fail for a lasting reason, such as ``dynamodb query Refunds``, and AWS's code
        for it; ``unreachable`` is no answer at all."""
        self.generations: Counter[str] = Counter()
        """By table: how many had its name before. What is on its way to those never arrives."""

    def call(
        self, service: str, operation: str, told: str, apply: Callable[[], T], *, writes: bool
    ) -> T:
        """Have a service do something: ``apply`` does it, once for each try that gets there."""
        kernel = self._kernel
        step = f"{service} {operation}"
        error: Exception | None = None
        for attempt in range(self._attempts):
            if attempt:
                kernel.pause(kernel.random.random())
            kernel.step(step, 0.004, told)
            if (code := self.denied.get(step)) is not None:
                if code == "unreachable":
                    raise EndpointConnectionError(endpoint_url=service)
                raise client_error(operation, code)
            if kernel.fault(service + " throttled"):
                error = client_error(operation, "ThrottlingException")
                continue
            if writes and kernel.fault(service + " applied late"):
                kernel.log("late", f"{operation} {told} is on its way")
                task, table = kernel.task(), operation.rpartition(" ")[2]
                late = partial(self._late, table, self.generations[table], apply)
                kernel.after(
                    READ_TIMEOUT_SECONDS * (0.5 + 4 * kernel.random.random()),
                    partial(kernel.on_behalf, task, late),
                )
                kernel.pause(READ_TIMEOUT_SECONDS)
                error = ReadTimeoutError(endpoint_url=service)
                continue
            value, error = None, None
            try:
                value = apply()
            except ClientError as exc:
                error = exc
            if kernel.fault(service + " answer lost"):
                kernel.log("lost", f"the answer to {operation} {told}")
                kernel.pause(READ_TIMEOUT_SECONDS)
                error = ReadTimeoutError(endpoint_url=service)
                continue
            kernel.observed(error or value)
            kernel.step(step + ", done", 0.004)
            if error is not None:
                raise error
            return value  # type: ignore[return-value]
        assert error is not None
        raise error

    def _late(self, table: str, generation: int, apply: Callable[[], Any]) -> None:
        if generation != self.generations[table]:
            return
        with suppress(ClientError):  # Nobody is there to hear it.
            apply()


class EventBridge:
    """A bus that keeps what it took."""

    def __init__(self, kernel: Kernel, wire: Wire) -> None:
        self._kernel = kernel
        self._wire = wire
        self.taken: set[tuple[str, int]] = set()
        self.refused: set[str] = set()
        self.on_gateway_down: list[Callable[[], None]] = []

    def put_events(self, *, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 1 <= len(Entries) <= 10

        def apply() -> dict[str, Any]:
            failed = 0
            for entry in Entries:
                if self._kernel.fault("events not taken"):
                    failed += 1
                    continue
                detail = json.loads(entry["Detail"])
                if entry["DetailType"] in INTAKE_EVENTS:
                    for listener in self.on_gateway_down:
                        listener()
                elif "message_id" in detail:
                    self.refused.add(detail["message_id"])
                else:
                    self.taken.add((detail["refund_id"], detail["version"]))
            return {"FailedEntryCount": failed}

        return self._wire.call("events", "put", f"{len(Entries)} events", apply, writes=True)


class S3:
    """A bucket: key to body."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.objects: dict[str, bytes] = {}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str,  # noqa: N803
    ) -> None:
        self._wire.call("s3", "put", Key, lambda: self.objects.__setitem__(Key, Body), writes=True)

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: N803
        Prefix: str,  # noqa: N803
        MaxKeys: int,  # noqa: N803
    ) -> dict[str, Any]:
        def apply() -> dict[str, Any]:
            found = sorted(key for key in self.objects if key.startswith(Prefix))
            return {"Contents": [{"Key": key} for key in found[:MaxKeys]]}

        return self._wire.call("s3", "list", Prefix, apply, writes=False)


class Secret:
    """The gateway's key in Secrets Manager."""

    def __init__(self) -> None:
        self.value = "key-1"


class CachedSecret:
    """An environment's own copy of the secret, as ``wiring.SecretKey`` keeps it."""

    def __init__(self, secret: Secret, clock: Clock, wire: Wire) -> None:
        self._secret = secret
        self._clock = clock
        self._wire = wire
        self._value = ""
        self._good_until = 0.0

    def get(self) -> str:
        if self._clock.now().timestamp() >= self._good_until:
            self._value = self._wire.call(
                "secrets", "get", "", lambda: self._secret.value, writes=False
            )
            self._good_until = self._clock.now().timestamp() + SECRET_SECONDS
        return self._value

    def forget(self) -> None:
        self._good_until = 0.0
