"""template.yaml as CloudFormation reads it: expanded by SAM's translator, its parameters filled in.

Also edits of it, which show that the checks in tests/unit/template notice what they are there for.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from samtranslator.sdk import parameter, resource  # type: ignore[import-untyped]
from samtranslator.translator import translator  # type: ignore[import-untyped]
from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
from samtranslator.yaml_helper import (  # type: ignore[import-untyped]
    intrinsics_multi_constructor,
)

logging.getLogger("samtranslator").setLevel(logging.CRITICAL)  # It warns of its own toggles.

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "template.yaml"
REGION, ACCOUNT, STACK_NAME = "eu-central-1", "111122223333", "refunds-test"
FUNCTIONS = ("ProcessRefund", "WriteAudit", "ReconcileRefunds", "BackupRefunds")
"""The functions that every stack has; ReceiveWebhook is there with Webhooks=true only."""

HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS

EVERY_ALARM = {
    "Stage": "prod",
    "Webhooks": "true",
    "AlarmEmail": "ops@example.com",
    "ReportingCurrency": "USD",
    "DailyBudgetMinor": "100000000",
}
"""Parameters with which the stack has all of its alarms."""

Json = Any


def copied(document: Json) -> Json:
    """As ``copy.deepcopy``, which takes five times as long for plain JSON."""
    if type(document) is dict:
        return {key: copied(inner) for key, inner in document.items()}
    if type(document) is list:
        return [copied(inner) for inner in document]
    return document if type(document) is str else copy.deepcopy(document)


# Two thirds of SAM's time go into what is the same for each template: it compares its own policy
# templates with their schema, looks each resource's type up one by one, asks AWS's configuration
# files for the region, and copies the whole template.
translator.make_policy_template_for_function_plugin = cache(
    translator.make_policy_template_for_function_plugin
)
resource.SamResourceType.has_value = cache(resource.SamResourceType.has_value)
parameter.boto3 = SimpleNamespace(
    session=SimpleNamespace(Session=lambda: SimpleNamespace(region_name=REGION))
)
translator.copy = SimpleNamespace(deepcopy=copied)


class ExpandedTemplate:
    """The template, expanded and resolved. ``!Ref X`` becomes "X", ``!GetAtt X.Y`` "X.Y"."""

    def __init__(self, template: Json, *, stack_name: str = STACK_NAME, **parameters: str) -> None:
        self.template = template
        self.stack_name = stack_name
        defaults = {
            name: str(definition["Default"])  # Ref of a Number is text too
            for name, definition in template["Parameters"].items()
            if "Default" in definition
        }
        self.parameters = {**defaults, "GatewayUrl": "https://gateway.example", **parameters}
        self._conditions = template["Conditions"]
        self._given = parameters

    # Expanded when they are asked for: the Rules need neither, and SAM takes most of the time.

    @cached_property
    def resources(self) -> dict[str, Json]:
        return {
            name: self.resolve({k: v for k, v in resource.items() if k != "Condition"})
            for name, resource in self._expanded["Resources"].items()
            if self._holds(resource.get("Condition"))
        }

    @cached_property
    def outputs(self) -> dict[str, Json]:
        resolved: dict[str, Json] = self.resolve(self._expanded["Outputs"])
        return resolved

    @cached_property
    def _expanded(self) -> Json:
        return _expand(json.dumps(self.template), tuple(sorted(self._given.items())))

    def given(self, **parameters: str) -> ExpandedTemplate:
        """The same template with other parameters."""
        return ExpandedTemplate(self.template, **parameters)

    def of_type(self, kind: str) -> dict[str, Json]:
        """Properties of the resources of a type, by logical id."""
        found = {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }
        assert found, f"no {kind} left in the template"
        return found

    def __getitem__(self, name: str) -> Json:
        assert name in self.resources, f"no {name} in the template"
        return self.resources[name]["Properties"]

    def statements(self, function: str) -> list[Json]:
        """The IAM statements of a function's role."""
        role = self[self[function]["Role"].removesuffix(".Arn")]
        return [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]

    def may(self, function: str, service: str) -> dict[str, set[str]]:
        """The actions of a service that a function's role allows, by resource."""
        allowed: dict[str, set[str]] = {}
        for statement in self.statements(function):
            for action in as_list(statement["Action"]):
                if action.startswith(service + ":"):
                    for resource in as_list(statement["Resource"]):
                        allowed.setdefault(resource, set()).add(action.removeprefix(service + ":"))
        return allowed

    def refused_by(self) -> list[str]:
        """The descriptions of the Rules' assertions that the parameters do not meet."""
        return [
            assertion["AssertDescription"]
            for rule in self.template["Rules"].values()
            if self.resolve(rule.get("RuleCondition", True))
            for assertion in rule["Assertions"]
            if not self.resolve(assertion["Assert"])
        ]

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self.resolve(self._conditions[condition]))

    def resolve(self, value: Json) -> Json:
        """A value of the template with its intrinsic functions evaluated."""
        if isinstance(value, list):
            return [inner for inner in map(self.resolve, value) if inner is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if function := self._functions.get(name):
                return function(argument)
        resolved = {key: self.resolve(inner) for key, inner in value.items()}
        return {key: inner for key, inner in resolved.items() if inner is not None}

    @cached_property
    def _functions(self) -> dict[str, Callable[[Json], Json]]:
        resolve = self.resolve
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda path: path if isinstance(path, str) else ".".join(path),
            "Fn::Sub": self._substitute,
            "Fn::Join": lambda of: of[0].join(resolve(of[1])),
            "Fn::If": lambda of: resolve(of[1] if self._holds(of[0]) else of[2]),
            "Fn::FindInMap": lambda of: self.template["Mappings"][of[0]][resolve(of[1])][of[2]],
            "Fn::Equals": lambda of: resolve(of[0]) == resolve(of[1]),
            "Fn::Not": lambda of: not resolve(of[0]),
            "Fn::And": lambda of: all(resolve(of)),
            "Fn::Or": lambda of: any(resolve(of)),
            "Fn::Contains": lambda of: resolve(of[1]) in resolve(of[0]),
            "Condition": lambda of: self._holds(of) if isinstance(of, str) else {"Condition": of},
        }

    def _substitute(self, argument: Json) -> Json:
        if not isinstance(argument, str):
            return {"Fn::Sub": argument}  # SAM's own, with variables
        text = argument
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(self._ref(found[1])), text)

    def _ref(self, name: str) -> Json:
        if name == "AWS::NoValue":
            return None
        pseudo = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::StackName": self.stack_name,
        }
        if name in self.parameters:
            kind = self.template["Parameters"][name]["Type"]
            value = self.parameters[name]
            return value.split(",") if kind == "CommaDelimitedList" else value
        return pseudo.get(name, name)


@lru_cache(maxsize=32)
def _expand(text: str, parameters: tuple[tuple[str, str], ...]) -> Json:
    template = json.loads(text)
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/code.zip"  # as `sam package` does
    return transform(template, dict(parameters), SimpleNamespace(load=dict))


def expanded(template: Json) -> Json:
    """The template as SAM expands it, with the defaults; intrinsic functions stay."""
    return _expand(json.dumps(template), ())


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def strings_in(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a document, with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings_in(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from strings_in(inner, path)
    elif isinstance(value, str):
        yield path, value


def load_template(path: Path = TEMPLATE) -> Json:
    return json.loads(_as_json(path.read_text()))


@cache
def _as_json(text: str) -> str:
    # As SAM reads it, but with libyaml where PyYAML was built with it: 0.4 seconds less.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader.add_multi_constructor("!", intrinsics_multi_constructor)
    return json.dumps(yaml.load(text, Loader=loader))


# --- Edits ----------------------------------------------------------------------------------------

Check = Callable[[ExpandedTemplate], None]
Edit = Callable[[Json], object]


def put(path: str, value: Json) -> Edit:
    """Sets one property, by its path below Resources (or "/..." from the root)."""

    def edit(template: Json) -> None:
        *parents, last = path.lstrip("/").split(".")
        at = template if path.startswith("/") else template["Resources"]
        for key in parents:
            at = at[int(key)] if isinstance(at, list) else at[key]
        if value is None:
            del at[int(last) if isinstance(at, list) else last]
        else:
            at[int(last) if isinstance(at, list) else last] = value

    return edit


def drop(path: str) -> Edit:
    return put(path, None)


def allow(function: str, sid: str, action: str | None = None, resource: str | None = None) -> Edit:
    """Gives a statement of a function's role another action or resource."""

    def edit(template: Json) -> None:
        policy = template["Resources"][f"{function}Role"]["Properties"]["Policies"][0]
        (statement,) = [s for s in policy["PolicyDocument"]["Statement"] if s.get("Sid") == sid]
        if action:
            statement["Action"] = [*as_list(statement["Action"]), action]
        if resource:
            statement["Resource"] = resource

    return edit


def change_key(sid: str, change: Callable[[Json], object]) -> Edit:
    """Changes one statement of the data key's policy."""

    def edit(template: Json) -> None:
        policy = template["Resources"]["DataKey"]["Properties"]["KeyPolicy"]
        for statement in policy["Statement"]:
            statement = statement.get("Fn::If", [None, statement])[1]
            if statement["Sid"] == sid:
                change(statement)

    return edit


def edited(template: Json, edit: Edit) -> Json:
    """A copy of the template with the edit in it."""
    damaged = copied(template)
    edit(damaged)
    assert damaged != template
    return damaged


def assert_noticed(template: Json, check: Check, edit: Edit) -> None:
    expanded = ExpandedTemplate(edited(template, edit))
    assert expanded.resources  # SAM takes the edit, so it is the check that fails.
    with pytest.raises((AssertionError, KeyError, ValueError)):
        check(expanded)


def assert_each_has_an_edit(module: dict[str, Any], edits: list[tuple[Check, Edit]]) -> None:
    """Every check of the template in a test module must have an edit that it notices."""
    checks = {
        value
        for name, value in module.items()
        if name.startswith("test_") and "stack" in value.__annotations__
    }
    assert checks == {check for check, _ in edits}


ENVIRONMENT = "Properties.Environment.Variables"
CHANGES = "WriteAudit.Properties.Events.RefundChanges.Properties"
REQUESTS = "ProcessRefund.Properties.Events.RefundRequests.Properties"
