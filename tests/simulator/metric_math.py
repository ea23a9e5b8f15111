"""CloudWatch's metric math, as far as template.yaml uses it, for one window of time.

Where a metric has no datapoint in the window, arithmetic and comparisons with it give none either.
That is CloudWatch's rule, and the reason why an expression over counts that may be missing must
fill them or see to it that they are there.

``ANOMALY_DETECTION_BAND`` is a model that AWS trains and does not publish. Here it is the mean and
standard deviation of the same hour of the last two weeks: enough to see that an alarm looks at the
right metric, side and width, not how AWS's model would decide near the edge.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Values = Mapping[str, float | None]

BAND = re.compile(r"ANOMALY_DETECTION_BAND\((?P<metric>\w+), (?P<width>\d+(\.\d+)?)\)")
LEARNED_FROM = 3
"""Days that the model must have seen the hour before it has a band."""

_OPERATORS: dict[type[ast.AST], Callable[[float, float], float | bool]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
}


@dataclass(frozen=True)
class Expression:
    """An expression over the metrics' ids. Raises ``ValueError`` for what it can't evaluate."""

    text: str

    def value(self, values: Values) -> float | None:
        # Its grammar is a part of Python's.
        return _value(ast.parse(self.text, mode="eval").body, values)


def _value(  # noqa: PLR0911 - one case a kind of node
    node: ast.AST, values: Values
) -> float | None:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            divided, by = _value(left, values), _value(right, values)
            return None if divided is None or not by else divided / by
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _apply(_OPERATORS[type(sign)], _value(left, values), _value(right, values))
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _OPERATORS:
            return _apply(_OPERATORS[type(sign)], _value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id="IF"), args=[condition, then, otherwise]):
            holds = _value(condition, values)
            return None if holds is None else _value(then if holds else otherwise, values)
        case ast.Call(func=ast.Name(id="FILL"), args=[filled, by]):
            there = _value(filled, values)
            return _value(by, values) if there is None else there
    raise ValueError(f"not understood: {ast.unparse(node)}")


def _apply(
    apply: Callable[[float, float], float | bool], left: float | None, right: float | None
) -> float | None:
    return None if left is None or right is None else float(apply(left, right))


def anomaly_band(earlier: Sequence[float | None], width: float) -> tuple[float, float] | None:
    """The band's edges, from the values of the same hour of earlier days; None: not learned."""
    known = [each for each in earlier if each is not None]
    if len(known) < LEARNED_FROM:
        return None
    mean = math.fsum(known) / len(known)
    variance = math.fsum((each - mean) ** 2 for each in known) / len(known)
    # Hours that were all alike say little about how far they may differ.
    reach = width * max(math.sqrt(variance), math.sqrt(mean), 0.2 * mean)
    return mean - reach, mean + reach
