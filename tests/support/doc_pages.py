"""Which test runs the blocks of each page, and which commands no test can run, with the reason."""

from __future__ import annotations

import re

ON_THE_LOCAL_STACK = ("docs/backup.md", "docs/cost.md", "docs/webhooks.md")
"""tests/local/test_doc_pages.py runs every command of these, but for those below."""

ELSEWHERE = {
    # page and language: the test that runs each such block, or checks it word by word
    ("README.md", "sh"): "tests/local/test_readme.py",
    ("docs/deploying.md", "sh"): "tests/local/test_deploying.py",
    ("docs/adding-a-gateway.md", "sh"): "tests/conformance/test_adding_a_gateway.py",
    ("docs/adding-a-gateway.md", "python"): "tests/conformance/test_adding_a_gateway.py",
    ("docs/audit.md", "python"): "tests/unit/ops/audit/test_receipts.py",
    ("docs/cli.md", "sh"): "tests/unit/ops/test_commands.py",
    # Each story; tests/local/test_daily_stories.py has those that need functions.
    ("docs/daily.md", "sh"): "tests/unit/ops/test_daily_work.py",
    ("docs/daily.md", "csv"): "tests/unit/ops/test_daily_work.py",
    ("docs/runbook.md", "sh"): "tests/local/test_runbook.py",
    ("docs/producers.md", "python"): "tests/unit/domain/test_producers_guide.py",
    ("docs/producers.md", "javascript"): "tests/engines/test_producers.py",
    ("docs/producers.md", "java"): "tests/engines/test_producers.py",
    ("docs/producers.md", "go"): "tests/engines/test_producers.py",
    ("docs/webhooks.md", "json"): "tests/unit/gateways/test_webhooks.py",
}

NOT_RUN = {
    # page and language: why no test can run it
    ("docs/console.md", "sh"): (
        "it serves until it is stopped; the tests of the console start it with each option"
    ),
    ("docs/limits.md", "sh"): (
        "the rest of the deployment is left out; tests/local/test_limits.py deploys with limits"
    ),
    ("docs/security.md", "json"): "a condition in a role of yours, which only AWS evaluates",
}

MAKE_TARGETS_ONLY = ("CONTRIBUTING.md", "docs/releasing.md", "docs/simulator.md")
"""CI runs the targets themselves; tests/unit/test_doc_pages.py knows that each exists."""

RECIPE = "tests/unit/ops/backup/test_recipes.py runs it, on tables that may be damaged"
NOT_HERE: list[tuple[str, str]] = [
    # a regular expression that the beginning of a command matches, and why it is not run
    (r"aws s3 sync", "a command of the AWS CLI's own; test_recipes.py has its stand-in"),
    (r"aws dynamodb import-table", RECIPE),
    (r"aws lambda update-event-source-mapping", "it would stop the stack of the other tests"),
    (r"refunds backup restore", RECIPE),
    (r"refunds --stack refunds-(dr|prod) ", RECIPE),
    (r"refunds backup verify --backup-folder", RECIPE),
    (r"openssl |sha256sum |jq -r '\.exports", RECIPE),
    (r"refunds backup export --format parquet", "tests/unit/ops/backup has it; it needs pyarrow"),
]


NOT_IN_THE_WALK = {
    # first line of a block of docs/deploying.md: why tests/local/test_deploying.py leaves it out
    'sam deploy --parameter-overrides "DayIndex=false …"': (
        "one index an update is CloudFormation's rule, which the emulator doesn't have; "
        "tests/unit/ops has index-days"
    ),
}


def reason_not_to_run(command: str) -> str | None:
    return next((why for begins, why in NOT_HERE if re.match(begins, command)), None)
