"""The language of `when`: `when = "stable and not accepted and (falling or guardrail_broken)"`.

`and`, `or`, `not`, parentheses; comparisons `< <= > >= ==` of a number fact with a number; facts may name
their experiment (`2.1:stable`), else they speak of the one experiment in `after`. Facts are true, false or
unknown (None), and combine by Kleene's rules: unknown stays unknown unless the other side decides.

An experiment with several rows (a sweep) has one value per fact: a boolean is true if it is for any row, a
number is the largest of the rows' known numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.plan.condition_parser import (
    BOOLEAN_FACTS,
    NUMBER_FACTS,
    AnyOf,
    Comparison,
    ConditionError,
    Name,
    Node,
    Not,
    Parser,
)

__all__ = [
    "Answer",
    "Condition",
    "ConditionError",
    "Fact",
    "Facts",
    "combined_facts",
    "evaluate",
    "parse_condition",
]

Fact = bool | float | None
Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition."""

    text: str
    root: Node

    @property
    def names(self) -> tuple[Name, ...]:
        """The facts it looks at, in order, each once."""
        return tuple(dict.fromkeys(_names(self.root)))

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments it looks at, in order, each once."""
        return tuple(dict.fromkeys(name.experiment for name in self.names))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a condition came to, and the facts that it was taken over (`2.1:stable` → True)."""

    value: bool | None
    inputs: dict[str, Fact]


def parse_condition(text: str, after: Sequence[str] = ()) -> Condition:
    """Read a condition; ConditionError says what is wrong and where.

    Facts without an experiment are those of the only one in `after`; several or none there are an error.
    """
    return Condition(text, Parser(text, after).parse())


def evaluate(condition: Condition, facts: Mapping[str, Facts | None]) -> Answer:
    """Evaluate over the facts of each experiment; of one that is None or missing, nothing is known yet."""
    inputs = {f"{n.experiment}:{n.fact}": _lookup(n, facts) for n in condition.names}
    return Answer(_value(condition.root, inputs), inputs)


def combined_facts(rows: Iterable[Facts]) -> dict[str, Fact]:
    """The facts of an experiment from those of its rows: booleans any, numbers the largest that is known."""
    rows = list(rows)
    combined: dict[str, Fact] = {}
    for fact in BOOLEAN_FACTS:
        combined[fact] = _any(_truth(row.get(fact)) for row in rows)
    for fact in NUMBER_FACTS:
        known = [number for row in rows if (number := _number(row.get(fact))) is not None]
        combined[fact] = max(known, default=None)
    return combined


def _names(node: Node) -> Iterable[Name]:
    if isinstance(node, Name):
        yield node
    elif isinstance(node, Comparison):
        yield node.name
    elif isinstance(node, Not):
        yield from _names(node.part)
    else:
        for part in node.parts:
            yield from _names(part)


def _truth(value: Fact) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Fact) -> float | None:
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _lookup(name: Name, facts: Mapping[str, Facts | None]) -> Fact:
    value = (facts.get(name.experiment) or {}).get(name.fact)
    return _truth(value) if name.fact in BOOLEAN_FACTS else _number(value)


def _any(values: Iterable[bool | None]) -> bool | None:
    seen = list(values)
    return True if True in seen else (None if None in seen else False)


def _value(node: Node, inputs: Mapping[str, Fact]) -> bool | None:
    if isinstance(node, Name):
        return _truth(inputs[f"{node.experiment}:{node.fact}"])
    if isinstance(node, Comparison):
        left = _number(inputs[f"{node.name.experiment}:{node.name.fact}"])
        return None if left is None else _compare(left, node.operator, node.number)
    if isinstance(node, Not):
        value = _value(node.part, inputs)
        return None if value is None else not value
    values = [_value(part, inputs) for part in node.parts]
    if isinstance(node, AnyOf):
        return _any(values)
    return False if False in values else (None if None in values else True)


def _compare(left: float, operator: str, right: float) -> bool:
    if operator == "<":
        return left < right
    if operator == "<=":
        return left <= right
    if operator == ">":
        return left > right
    if operator == ">=":
        return left >= right
    return left == right
