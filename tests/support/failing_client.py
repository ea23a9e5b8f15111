"""A DynamoDB client that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError


class Failing:
    """A client whose writes fail for another reason than their condition."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def fail(**arguments: Any) -> Any:
            code = "ProvisionedThroughputExceededException"
            raise ClientError({"Error": {"Code": code, "Message": ""}}, name)

        return fail
