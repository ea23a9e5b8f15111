"""Whether IAM policies of the expanded template allow a call. Conditions are taken as met."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tests.support.expanded_template import ACCOUNT, REGION, ExpandedTemplate, as_list

Json = Any


def logical(resource: str) -> str:
    """``X.Arn`` is X. The audit table and mappings, named by their ARNs, are their names."""
    for service, kind in (("dynamodb", "table/"), ("lambda", "event-source-mapping:")):
        resource = resource.removeprefix(f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind}")
    return resource.replace(".Arn", "").replace(".Id", "")


def allows(statements: Iterable[Json], action: str, resource: str) -> bool:
    """``resource``: a logical id, with its index or prefix of keys if it has one."""
    return any(
        action in as_list(statement["Action"])
        and any(_matches(logical(each), resource) for each in as_list(statement["Resource"]))
        for statement in statements
        if statement["Effect"] == "Allow"
    )


def _matches(pattern: str, resource: str) -> bool:
    # A call on a bucket's object is recorded with the bucket alone.
    if pattern.partition("/")[0] == resource and pattern.partition("/")[0].endswith("Bucket"):
        return True
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), resource) is not None


def policy(stack: ExpandedTemplate, *names: str) -> list[Json]:
    """The statements of managed policies."""
    return [s for name in names for s in stack[name]["PolicyDocument"]["Statement"]]
