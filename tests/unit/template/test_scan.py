"""What `make check-security` reports: findings, and acceptances without a use or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.expanded_template import ROOT, ExpandedTemplate, Json, load_template
from tests.support.template_scan import COPIES, EVERYTHING, accepted_in, findings

TEMPLATES = (ROOT / "template.yaml", COPIES)
NEVER_SCANNED = {"HasLocalGateway", "HasAuditTableKey"}
REASON = "CloudTrail's data events say who read what."


def _report(failed: tuple[str, ...] = (), skipped: tuple[str, ...] = ()) -> Any:
    def checks(names: tuple[str, ...]) -> list[dict[str, str]]:
        return [
            {"check_id": check_id, "resource": f"AWS::S3::Bucket.{name}", "check_name": "logs"}
            for name, check_id in (each.split() for each in names)
        ]

    return {"results": {"failed_checks": checks(failed), "skipped_checks": checks(skipped)}}


def test_a_finding_that_nobody_has_accepted_is_reported() -> None:
    (finding,) = findings(_report(failed=("Bucket CKV_AWS_18",)), {})
    assert finding == "CKV_AWS_18 AWS::S3::Bucket.Bucket: logs"


def test_an_accepted_finding_is_not_reported() -> None:
    report = _report(skipped=("Bucket CKV_AWS_18",))
    assert findings(report, {("Bucket", "CKV_AWS_18"): REASON}) == []


def test_an_acceptance_that_is_not_needed_is_reported() -> None:
    (finding,) = findings(_report(), {("Bucket", "CKV_AWS_18"): REASON})
    assert "remove it" in finding


def test_an_acceptance_without_a_reason_is_reported() -> None:
    report = _report(skipped=("Bucket CKV_AWS_18",))
    (finding,) = findings(report, {("Bucket", "CKV_AWS_18"): "no"})
    assert "without a reason" in finding


def test_a_template_that_checkov_cannot_read_is_reported() -> None:
    report: Any = {
        "results": {"failed_checks": [], "skipped_checks": [], "parsing_errors": ["x.json"]}
    }
    assert findings(report, {}) == ["checkov can't read x.json"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_the_reasons_stand_at_their_resources(path: Path) -> None:
    accepted = accepted_in(load_template(path))
    assert accepted
    for (resource, check_id), reason in accepted.items():
        assert reason.endswith("."), (resource, check_id)


def test_every_condition_of_the_template_holds_in_one_of_the_scans(template: Json) -> None:
    """What only another condition deploys would not be scanned."""
    scanned = [ExpandedTemplate(template), ExpandedTemplate(template, **EVERYTHING)]
    never = {
        name
        for name, condition in template["Conditions"].items()
        if not any(stack.resolve(condition) for stack in scanned)
    }
    # They add no resource: an address, a key in some statements, and numbers that functions read.
    assert never <= NEVER_SCANNED, never - NEVER_SCANNED
