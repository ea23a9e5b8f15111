"""`aws`, as far as the docs use it: the AWS CLI's grammar over boto3, for tests without the CLI.

``aws SERVICE OPERATION --parameter value … [--query EXPRESSION] [--output text]``, as version 2
has it: AWS_ENDPOINT_URL is obeyed for every service. Of its own commands, ``logs tail``, ``s3 ls``,
``s3 sync`` and the output file of ``lambda invoke``.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

OWN = ("--query", "--output", "--endpoint-url", "--region")


def main(arguments: list[str]) -> int:
    service, operation, *rest = arguments
    if own := OWN_COMMANDS.get((service, operation)):
        return own(rest)
    output_file = rest.pop() if (service, operation) == ("lambda", "invoke") else None
    given = _options(rest)
    if "--payload" in given and given.pop("--cli-binary-format", "") != "raw-in-base64-out":
        raise SystemExit("Invalid base64: version 2 takes --payload as base64, unless told")
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
    if output_file is not None:
        Path(output_file).write_bytes(answer.pop("Payload").read() + b"\n")
    found = jmespath.search(query, answer) if query else answer
    print(found if output == "text" else json.dumps(found, default=str, indent=2))
    return 0


def tail_logs(words: list[str]) -> int:
    """``logs tail GROUP --since 30m [--filter-pattern PATTERN]``: the lines, oldest first."""
    group, *rest = words
    given = _options(rest)
    count, unit = re.fullmatch(r"(\d+)([mhd])", given["--since"]).groups()  # type: ignore[union-attr]
    seconds = int(count) * {"m": 60, "h": 3600, "d": 86400}[unit]
    matches = _pattern(given.get("--filter-pattern", ""))
    client = boto3.client("logs")
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int((time.time() - seconds) * 1000)
    )
    for event in (event for page in pages for event in page["events"]):
        if matches(event["message"]):
            print(event["logStreamName"], event["message"].rstrip())
    return 0


def _pattern(text: str) -> Callable[[str], bool]:
    """CloudWatch Logs' patterns of words: all of them, or with ``?`` any; quoted, a phrase."""
    words = shlex.split(text)
    any_of = [word[1:] for word in words if word.startswith("?")]
    all_of = [word for word in words if not word.startswith("?")]

    def matches(line: str) -> bool:
        return all(word in line for word in all_of) and (
            not any_of or any(word in line for word in any_of)
        )

    return matches


def list_objects(words: list[str]) -> int:
    """``s3 ls --recursive s3://BUCKET/PREFIX``. Exit status 1 when there is none, as the CLI's."""
    recursive, url = words
    assert recursive == "--recursive"
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    for each in listed:
        print(each["LastModified"], each["Size"], each["Key"])
    return int(not listed)


def download_objects(words: list[str]) -> int:
    """``s3 sync s3://BUCKET/PREFIX FOLDER``, into a folder that has none of them yet."""
    url, folder = words
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents", []):
            file = Path(folder, each["Key"].removeprefix(prefix).lstrip("/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, each["Key"], str(file))
    return 0


OWN_COMMANDS = {
    ("logs", "tail"): tail_logs,
    ("s3", "ls"): list_objects,
    ("s3", "sync"): download_objects,
}


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


FAILED = 254
"""As the CLI has it."""

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (BotoCoreError, ClientError) as exc:
        print(f"\n{exc}", file=sys.stderr)
        sys.exit(FAILED)
