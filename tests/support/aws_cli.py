"""`aws`, as far as the docs use it: the AWS CLI's grammar over boto3, for tests without the CLI.

``aws SERVICE OPERATION --parameter value … [--query EXPRESSION] [--output text]``, as version 2
has it: AWS_ENDPOINT_URL is obeyed for every service.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name

OWN = ("--query", "--output", "--endpoint-url", "--region")


def main(arguments: list[str]) -> int:
    service, operation, *rest = arguments
    given = _options(rest)
    client: Any = boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=given.pop("--endpoint-url", None),
        region_name=given.pop("--region", None),
    )
    query, output = given.pop("--query", None), given.pop("--output", "json")
    method = operation.replace("-", "_")
    name = next(
        each for each in client.meta.service_model.operation_names if xform_name(each) == method
    )
    members = client.meta.service_model.operation_model(name).input_shape.members
    by_flag = {"--" + xform_name(member, "-"): member for member in members}
    parameters = {}
    for flag, value in given.items():
        positive = flag if flag in by_flag else flag.replace("--no-", "--", 1)
        kind = members[by_flag[positive]].type_name
        parameters[by_flag[positive]] = _value(kind, value, negated=positive != flag)
    answer = getattr(client, method)(**parameters)
    answer.pop("ResponseMetadata", None)
    found = jmespath.search(query, answer) if query else answer
    print(found if output == "text" else json.dumps(found, default=str, indent=2))
    return 0


def _options(words: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag = word
            options[flag] = True
        elif options[flag] is True:
            options[flag] = word
        else:
            options[flag] = f"{options[flag]},{word}"
    return options


def _value(kind: str, value: Any, *, negated: bool) -> Any:
    if kind == "boolean":
        return not negated
    if kind == "list":
        return value.split(",")
    if kind in ("integer", "long"):
        return int(value)
    return json.loads(value) if kind in ("structure", "map") else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
