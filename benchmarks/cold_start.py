"""Cold starts: each function's import and first client, compared with the floor of its libraries.

Fresh processes see only what `sam build` and `refunds-dev precompile` make, and the boto3 of
Lambda's runtime. They write no bytecode, as in Lambda, where the file system is read-only. Ratios
compare CPU time: an import is nothing else, and other programs do not disturb it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import function_environment
from benchmarks.results import Result, median_result, ratio_result
from benchmarks.runtime import built_package, lambda_runtime

POWERTOOLS = (
    "from aws_lambda_powertools import Logger, Metrics\n"
    "from aws_lambda_powertools.utilities.typing import LambdaContext\n"
    "Logger(); Metrics()"
)
BATCH = "from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType"
SECRETS = "from aws_lambda_powertools.utilities.parameters import SecretsProvider"
# pydantic loads most of its modules when the first model is defined.
PYDANTIC = (
    "from pydantic import AfterValidator, BaseModel, Field\n"
    "class Model(BaseModel):\n    name: str = Field(min_length=1)"
)
CANONICAL_JSON = "import rfc8785"
HTTP = "import ssl, urllib3\npools = urllib3.PoolManager(ssl_context=ssl.create_default_context())"
BOTOCORE = "import botocore.session; session = botocore.session.get_session()"
CLIENT = "session.create_client('dynamodb')"

FLOORS: dict[str, dict[str, str]] = {
    "process_refund": {
        "botocore": BOTOCORE,
        "Powertools' core": POWERTOOLS,
        "Powertools' batch": BATCH,
        "Powertools' parameters": SECRETS,
        "pydantic": PYDANTIC,
        "rfc8785": CANONICAL_JSON,
        "urllib3, with the TLS roots": HTTP,
        "DynamoDB client": CLIENT,
    },
    "write_audit": {
        "botocore": BOTOCORE,
        "Powertools' core": POWERTOOLS,
        "Powertools' batch": BATCH,
        "rfc8785": CANONICAL_JSON,
        "DynamoDB client": CLIENT,
    },
    "reconcile_refunds": {
        "botocore": BOTOCORE,
        "Powertools' core": POWERTOOLS,
        "Powertools' parameters": SECRETS,
        "pydantic": PYDANTIC,
        "rfc8785": CANONICAL_JSON,
        "urllib3, with the TLS roots": HTTP,
        "DynamoDB client": CLIENT,
    },
    "receive_webhook": {
        "botocore": BOTOCORE,
        "Powertools' core": POWERTOOLS,
        "Powertools' parameters": SECRETS,
        "Lambda client": "session.create_client('lambda')",
    },
    "backup_refunds": {
        "botocore": BOTOCORE,
        "Powertools' core": POWERTOOLS,
        "DynamoDB client": CLIENT,
    },
}
"""For each function: its libraries, used in their leanest documented way, and then a client."""

MOST_TIMES_THE_FLOOR = 1.20

_CHILD = """
import json, sys, time
sys.path[:0] = {paths!r}
before = set(sys.modules)
shares, wall, cpu = {{}}, time.perf_counter(), time.process_time()
for name, code in {steps!r}:
    start = time.process_time()
    exec(code, globals())
    shares[name] = time.process_time() - start
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
new = set(sys.modules) - before
loaded = {{each: str(getattr(sys.modules[each], "__file__", "")) for each in new}}
ours = sorted(each for each in loaded if each.partition(".")[0] == "refunds")
libraries = sorted(
    each for each, place in loaded.items() if place.startswith({paths!r}) and each not in ours
)
measured = {{"wall": wall, "cpu": cpu, "shares": shares, "libraries": libraries, "ours": ours}}
print(json.dumps(measured))
"""


@dataclass(frozen=True)
class Start:
    """The start of one fresh process: its seconds, and the modules that it loaded."""

    wall: float
    cpu: float
    shares: dict[str, float]
    libraries: list[str]
    ours: list[str]


def start(steps: dict[str, str]) -> Start:
    """Run the steps in a fresh process with the Lambda runtime and the built package."""
    command, environment = fresh_process(steps)
    done = subprocess.run(
        command,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Start(**measured)


def fresh_process(steps: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The command of a process that runs the steps, and its environment."""
    paths = (str(built_package()), str(lambda_runtime()))
    code = _CHILD.format(paths=paths, steps=list(steps.items()))
    environment = function_environment("http://127.0.0.1:1") | {"PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH")
    return [sys.executable, "-S", "-c", code], environment


def imports(function: str) -> dict[str, str]:
    """The only step of a function's cold start."""
    return {"handler": f"import refunds.handlers.{function}"}


def cold_start_results(runs: int) -> list[Result]:
    """Every function's start and its ratio to the floor."""
    results: list[Result] = []
    for function, floor in FLOORS.items():
        handler = imports(function)
        start(handler), start(floor)  # fills the file cache
        ours: list[Start] = []
        floors: list[Start] = []
        for _ in range(runs):
            ours.append(start(handler))
            floors.append(start(floor))
        shares = {
            name: 1000 * statistics.median(each.shares[name] for each in floors) for name in floor
        }
        results += [
            median_result(
                f"cold start {function}",
                [1000 * each.wall for each in ours],
                "ms",
                baseline=[1000 * each.wall for each in floors],
                note="the baseline: its libraries alone",
            ),
            ratio_result(
                f"cold start {function} / floor (CPU)",
                [each.cpu for each in ours],
                [each.cpu for each in floors],
                better="lower",
                target=MOST_TIMES_THE_FLOOR,
                note=", ".join(f"{name} {ms:.0f} ms" for name, ms in shares.items()),
            ),
            unused_result(function, ours[0], floors[0]),
        ]
    return results


def unused_result(function: str, ours: Start, floor: Start) -> Result:
    """Modules that a function loads and its libraries do not need. The target is none."""
    unused = sorted(set(ours.libraries) - set(floor.libraries))
    unused += [each for each in ours.ours if each == "refunds.gateways.stripe"]
    return Result(
        f"imports of {function} that it doesn't use",
        len(unused),
        "modules",
        target=0,
        is_count=True,
        note=", ".join(unused),
    )
