"""checkov on the templates: `make check-security`. Exit 1 on a finding that has no accepted reason.

The template is scanned as it is deployed: expanded by SAM, its parameters and conditions resolved,
once with the defaults and once as a prod stack with everything switched on. What is accepted stands
in the template's Metadata, at the resource, with its reason. An acceptance that checkov no longer
needs is a finding too.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.expanded_template import REGION, ROOT, ExpandedTemplate, Json, load_template

CHECKOV = ROOT / ".venv-scanner/bin/checkov"
COPIES = ROOT / "docs/backup-copy.template.yaml"
SCAN_SECONDS = 300
LEAST_PASSED = 250
"""Fewer passed checks mean that checkov has not understood the templates."""

EVERYTHING = {
    "Stage": "prod",
    "Webhooks": "true",
    "WebhookConcurrency": "5",
    "GatewayRoutes": "pi_=stripe",
    "QueueSenderArns": "arn:aws:iam::444455556666:role/shop",
    "BackupLockMode": "COMPLIANCE",
    "BackupCopyBucketArn": "arn:aws:s3:::refund-copies",
    "BackupCopyAccount": "444455556666",
    "BackupCopyKeyArn": "arn:aws:kms:eu-west-1:444455556666:key/copies",
    "AlarmEmail": "payments@shop.example",
    "ReportingCurrency": "USD",
    "DailyBudgetMinor": "100000",
    "DataEventsBucket": "trails",
    "BreakGlassRoleArn": "arn:aws:iam::111122223333:role/emergency",
    "LogRetentionDays": "365",
}


def main() -> int:
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    logging.disable(logging.WARNING)  # what SAM says about itself
    template = load_template()
    with tempfile.TemporaryDirectory() as folder:
        for name, parameters in (("defaults", {}), ("everything", EVERYTHING)):
            stack = ExpandedTemplate(template, **parameters)
            document = {
                "AWSTemplateFormatVersion": "2010-09-09",
                "Resources": stack.resources,
            }
            (Path(folder) / f"{name}.json").write_text(json.dumps(document, indent=1))
        (Path(folder) / "copies.yaml").write_text(COPIES.read_text())
        report = _scan(Path(folder))
    accepted = accepted_in(template) | accepted_in(load_template(COPIES))
    problems = findings(report, accepted)
    passed = report["summary"]["passed"]
    if not problems and passed < LEAST_PASSED:
        problems = [f"checkov passed {passed} checks only, of at least {LEAST_PASSED}"]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        f"checkov: {passed} checks passed, {len(accepted)} findings accepted, {len(problems)} not"
    )
    return 1 if problems else 0


def findings(report: Json, accepted: dict[tuple[str, str], str]) -> list[str]:
    """What checkov reports and nobody has accepted, and what is accepted for nothing."""
    results = report["results"]
    found = [
        f"{check['check_id']} {check['resource']}: {check['check_name']}"
        for check in results["failed_checks"]
    ]
    found += [f"checkov can't read {file}" for file in results.get("parsing_errors", [])]
    used = {
        (check["resource"].rpartition(".")[2], check["check_id"])
        for check in results["skipped_checks"]
    }
    for (resource, check_id), reason in accepted.items():
        if (resource, check_id) not in used:
            found.append(
                f"{check_id} {resource}: accepted, but checkov does not find it: remove it"
            )
        if len(reason) < len("because of this"):
            found.append(f"{check_id} {resource}: accepted without a reason")
    return found


def _scan(folder: Path) -> Json:
    done = subprocess.run(
        [
            *(CHECKOV, "--directory", folder, "--framework", "cloudformation"),
            *("--skip-download", "--output", "json", "--soft-fail"),
        ],
        env={**os.environ, "LOG_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=SCAN_SECONDS,
        check=False,
    )
    if done.returncode != 0 or not done.stdout.startswith("{"):
        raise SystemExit(f"checkov failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def accepted_in(template: Json) -> dict[tuple[str, str], str]:
    """The reasons in the template's Metadata, by resource and check."""
    return {
        (name, skip["id"]): skip.get("comment", "")
        for name, resource in template["Resources"].items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }


if __name__ == "__main__":
    sys.exit(main())
