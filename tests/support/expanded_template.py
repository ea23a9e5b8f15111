"""template.yaml as CloudFormation reads it: expanded by SAM and with its parameters filled in."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from samtranslator.translator.transform import transform  # type: ignore[import-untyped]
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
REGION, ACCOUNT = "eu-central-1", "111122223333"

Json = Any


class Stack:
    """The template, expanded and resolved. ``!Ref X`` becomes "X", ``!GetAtt X.Y`` "X.Y"."""

    def __init__(self, template: Json, **parameters: str) -> None:
        self.template = template
        defaults = {
            name: str(definition["Default"])  # Ref of a Number gives text, too
            for name, definition in template["Parameters"].items()
            if "Default" in definition
        }
        self.parameters = {**defaults, "GatewayUrl": "https://gateway.example", **parameters}
        self._conditions = template["Conditions"]
        expanded = _expand(template, parameters)
        self.resources: dict[str, Json] = {
            name: self._resolve({k: v for k, v in resource.items() if k != "Condition"})
            for name, resource in expanded["Resources"].items()
            if self._holds(resource.get("Condition"))
        }
        self.outputs: dict[str, Json] = self._resolve(expanded["Outputs"])

    def given(self, **parameters: str) -> Stack:
        """The same template with other parameters."""
        return Stack(self.template, **parameters)

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
        """What a function's role allows it."""
        role = self[self[function]["Role"].removesuffix(".Arn")]
        return [s for policy in role["Policies"] for s in policy["PolicyDocument"]["Statement"]]

    def may(self, function: str, service: str) -> dict[str, set[str]]:
        """Actions of a service that a function may do, by resource."""
        allowed: dict[str, set[str]] = {}
        for statement in self.statements(function):
            for action in as_list(statement["Action"]):
                if action.startswith(service + ":"):
                    for resource in as_list(statement["Resource"]):
                        allowed.setdefault(resource, set()).add(action.removeprefix(service + ":"))
        return allowed

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self._resolve(self._conditions[condition]))

    # One case for each intrinsic function reads better than a table of functions.
    def _resolve(self, value: Json) -> Json:  # noqa: C901, PLR0911
        match value:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": str(name)}:
                return self._ref(name)
            case {"Fn::GetAtt": list(path)}:
                return ".".join(path)
            case {"Fn::GetAtt": str(path)}:
                return path
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]+)\}", lambda m: str(self._ref(m[1])), text)
            case {"Fn::Join": [separator, parts]}:
                return separator.join(self._resolve(parts))
            case {"Fn::If": [condition, yes, no]}:
                return self._resolve(yes if self._holds(condition) else no)
            case {"Fn::FindInMap": [name, key, inner]}:
                return self.template["Mappings"][name][self._resolve(key)][inner]
            case {"Fn::Equals": [one, other]}:
                return self._resolve(one) == self._resolve(other)
            case {"Fn::Not": [inner]}:
                return not self._resolve(inner)
            case dict():
                resolved = {key: self._resolve(inner) for key, inner in value.items()}
                return {key: inner for key, inner in resolved.items() if inner is not None}
            case list():
                return [inner for inner in map(self._resolve, value) if inner is not None]
        return value

    def _ref(self, name: str) -> Json:
        pseudo = {
            "AWS::Region": REGION,
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::StackName": "refunds-test",
        }
        if name in self.parameters:
            kind = self.template["Parameters"][name]["Type"]
            value = self.parameters[name]
            return value.split(",") if kind == "CommaDelimitedList" else value
        return pseudo.get(name, name)


def _expand(template: Json, parameters: dict[str, str]) -> Json:
    template = copy.deepcopy(template)
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/code.zip"  # as `sam package` does
    return transform(template, dict(parameters), SimpleNamespace(load=dict))


def as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def strings(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a document, with where it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from strings(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, path)
    elif isinstance(value, str):
        yield path, value


def load_template() -> Json:
    return json.loads(json.dumps(yaml_parse((ROOT / "template.yaml").read_text())))
