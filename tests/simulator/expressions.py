"""DynamoDB's condition, key and update expressions: the subset that the tables use, for real.

Expressions are compiled once and evaluated over items in wire form. What this file doesn't know it
refuses, so an expression that is new in production code is noticed here first.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Wire = dict[str, Any]
Names = Mapping[str, str]
Values = Mapping[str, Wire]
Operand = Callable[[Wire, Names, Values], Wire | None]
Condition = Callable[[Wire, Names, Values], bool]

_TOKEN = re.compile(r"\s*(<=|>=|<>|[=<>(),+\-]|[#:]?[A-Za-z_][A-Za-z0-9_]*)")


class ExpressionError(Exception):
    """What DynamoDB answers with ``ValidationException``."""


@dataclass(frozen=True)
class Update:
    """A compiled update expression."""

    sets: tuple[tuple[str, Operand], ...]
    removes: tuple[str, ...]

    def apply(self, item: Wire, names: Names, values: Values) -> Wire:
        """The new item; every operand sees the old one."""
        new = dict(item)
        for target, operand in self.sets:
            value = operand(item, names, values)
            if value is None:
                raise ExpressionError("the expression refers to an attribute that doesn't exist")
            new[_name(target, names)] = value
        for target in self.removes:
            new.pop(_name(target, names), None)
        return new


def check_paths(update: str, names: Names) -> None:
    """DynamoDB refuses an update that names an attribute twice, before any condition is asked."""
    compiled = compile_update(update)
    targets = [_name(each, names) for each, _ in compiled.sets]
    targets += [_name(each, names) for each in compiled.removes]
    if len(set(targets)) != len(targets):
        raise ExpressionError("two paths overlap")


def updated_names(update: str, names: Names) -> list[str]:
    """The attributes that an update sets."""
    return [_name(target, names) for target, _ in compile_update(update).sets]


def check_placeholders(expressions: list[str], names: Names, values: Values) -> None:
    """DynamoDB refuses a name or value that no expression uses, and one that isn't there."""
    used: set[str] = set()
    for expression in expressions:
        used |= _placeholders(expression)
    if used != names.keys() | values.keys():
        raise ExpressionError(f"placeholders: {sorted(used ^ (names.keys() | values.keys()))}")


@lru_cache(1024)
def _placeholders(expression: str) -> frozenset[str]:
    return frozenset(token for token in _tokens(expression) if token[0] in "#:")


@lru_cache(1024)
def compile_condition(text: str) -> Condition:
    parser = _Parser(text)
    condition = parser.either()
    parser.end()
    return condition


@lru_cache(1024)
def compile_update(text: str) -> Update:
    parser = _Parser(text)
    sets: list[tuple[str, Operand]] = []
    removes: list[str] = []
    while parser.left():
        clause = parser.take().upper()
        if clause not in ("SET", "REMOVE"):
            raise ExpressionError(f"clause {clause} is not simulated")
        while True:
            target = parser.take()
            if clause == "SET":
                parser.expect("=")
                sets.append((target, parser.sum()))
            else:
                removes.append(target)
            if not parser.accept(","):
                break
    return Update(tuple(sets), tuple(removes))


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ExpressionError(f"can't read {text[place:]!r}")
        tokens.append(match[1])
        place = match.end()
    return tokens


def _name(token: str, names: Names) -> str:
    if not token.startswith("#"):
        return token
    if token not in names:
        raise ExpressionError(f"no name {token}")
    return names[token]


def number(value: Wire) -> int:
    return int(value["N"])


def comparable(value: Wire) -> tuple[str, Any]:
    ((kind, inner),) = value.items()
    return kind, int(inner) if kind == "N" else inner


_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _compare(sign: str, one: Wire | None, other: Wire | None) -> bool:
    if one is None or other is None:
        return sign == "<>" and one is not other
    (kind, left), (other_kind, right) = comparable(one), comparable(other)
    if sign in ("=", "<>"):
        return (kind == other_kind and left == right) == (sign == "=")
    if kind != other_kind or kind not in ("N", "S"):
        return False
    return bool(_ORDER[sign](left, right))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._place = 0

    def left(self) -> bool:
        return self._place < len(self._tokens)

    def end(self) -> None:
        if self.left():
            raise ExpressionError(f"unexpected {self._tokens[self._place]}")

    def take(self) -> str:
        if not self.left():
            raise ExpressionError("the expression ends too soon")
        self._place += 1
        return self._tokens[self._place - 1]

    def accept(self, token: str) -> bool:
        if self.left() and self._tokens[self._place].upper() == token:
            self._place += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise ExpressionError(f"expected {token}")

    def either(self) -> Condition:
        parts = [self.both()]
        while self.accept("OR"):
            parts.append(self.both())
        if len(parts) == 1:
            return parts[0]
        return lambda item, names, values: any(part(item, names, values) for part in parts)

    def both(self) -> Condition:
        parts = [self.negation()]
        while self.accept("AND"):
            parts.append(self.negation())
        if len(parts) == 1:
            return parts[0]
        return lambda item, names, values: all(part(item, names, values) for part in parts)

    def negation(self) -> Condition:
        if self.accept("NOT"):
            inner = self.negation()
            return lambda item, names, values: not inner(item, names, values)
        if self.accept("("):
            inner = self.either()
            self.expect(")")
            return inner
        return self.comparison()

    def comparison(self) -> Condition:
        token = self.take()
        if self.accept("("):
            return self._function(token)
        left = self._operand(token)
        sign = self.take()
        if sign not in ("=", "<>", "<", "<=", ">", ">="):
            raise ExpressionError(f"comparison {sign} is not simulated")
        right = self._operand(self.take())
        return lambda item, names, values: _compare(
            sign, left(item, names, values), right(item, names, values)
        )

    def _function(self, name: str) -> Condition:
        target = self.take()
        match name:
            case "attribute_exists":
                self.expect(")")
                return lambda item, names, values: _name(target, names) in item
            case "attribute_not_exists":
                self.expect(")")
                return lambda item, names, values: _name(target, names) not in item
            case "begins_with":
                self.expect(",")
                prefix = self._operand(self.take())
                self.expect(")")
                path = self._operand(target)

                def begins(item: Wire, names: Names, values: Values) -> bool:
                    value, start = path(item, names, values), prefix(item, names, values)
                    if value is None or start is None or "S" not in value:
                        return False
                    return bool(value["S"].startswith(start["S"]))

                return begins
        raise ExpressionError(f"function {name} is not simulated")

    def sum(self) -> Operand:
        left = self._operand(self.take())
        for sign, factor in (("+", 1), ("-", -1)):
            if self.accept(sign):
                return _sum(left, self._operand(self.take()), factor)
        return left

    def _operand(self, word: str) -> Operand:
        if word == "if_not_exists":
            self.expect("(")
            path = self._operand(self.take())
            self.expect(",")
            other = self._operand(self.take())
            self.expect(")")
            return lambda item, names, values: (
                path(item, names, values) or other(item, names, values)
            )
        if word.startswith(":"):

            def value(item: Wire, names: Names, values: Values) -> Wire | None:
                if word not in values:
                    raise ExpressionError(f"no value {word}")
                return values[word]

            return value
        return lambda item, names, values: item.get(_name(word, names))


def _sum(left: Operand, right: Operand, factor: int) -> Operand:
    def add(item: Wire, names: Names, values: Values) -> Wire | None:
        one, other = left(item, names, values), right(item, names, values)
        if one is None or other is None:
            return None
        if "N" not in one or "N" not in other:
            raise ExpressionError("an operand is not a number")
        return {"N": str(number(one) + factor * number(other))}

    return add
