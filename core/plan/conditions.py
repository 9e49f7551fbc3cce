"""The language of `when`: `when = "stable and not accepted and (falling or guardrail_broken)"`.

`and`, `or`, `not`, parentheses; comparisons `< <= > >= ==` of a number fact with a number; facts may name
their experiment (`2.1:stable`), else they speak of the one experiment in `after`. Facts are true, false or
unknown (None), and combine by Kleene's rules: unknown stays unknown unless the other side decides.

An experiment with several rows (a sweep) has one value per fact: a boolean is true if it is for any row, a
number is the largest of the rows' known numbers. Text is parsed into a tree of nodes, which `evaluate` walks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

BOOLEAN_FACTS = (
    "accepted", "converged", "failed", "falling", "finished", "guardrail_broken", "rejected", "slices_kept", "stable",
)  # fmt: skip
NUMBER_FACTS = ("domain_gain", "domain_wer", "heldout_regression", "heldout_wer", "seconds_per_step")

_TOKEN = re.compile(
    r"\s*(?:(?P<experiment>[A-Za-z0-9][A-Za-z0-9._-]*):"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z_])"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator><=|>=|==|<|>)"
    r"|(?P<bracket>[()]))"
)
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_MAX_DEPTH = 50


class ConditionError(ValueError):
    """A condition cannot be read; the message says where (`at character 8`)."""


@dataclass(frozen=True, slots=True)
class Name:
    """A fact of an experiment."""

    experiment: str
    fact: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`name operator number`."""

    name: Name
    operator: str
    number: float


@dataclass(frozen=True, slots=True)
class Not:
    """`not part`."""

    part: Node


@dataclass(frozen=True, slots=True)
class AllOf:
    """`part and part …`."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`part or part …`."""

    parts: tuple[Node, ...]


Node = Name | Comparison | Not | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class Parser:
    """Recursive descent: or → and → not → comparison or name or parentheses."""

    def __init__(self, text: str, after: Sequence[str]) -> None:
        self._after = tuple(after)
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Node:
        """The tree of the whole text."""
        node = self._or()
        if self._peek.kind != "end":
            self._fail(f"expected `and`, `or` or the end, found `{self._peek.text}`")
        return node

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _takes(self, *texts: str) -> bool:
        if self._peek.kind in ("word", "bracket") and self._peek.text in texts:
            self._take()
            return True
        return False

    def _fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise ConditionError(f"at character {(token or self._peek).at + 1}: {message}")

    def _or(self) -> Node:
        parts = [self._and()]
        while self._takes("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _and(self) -> Node:
        parts = [self._not()]
        while self._takes("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _not(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._fail("too many levels of `not` and parentheses")
        node = Not(self._not()) if self._takes("not") else self._term()
        self._depth -= 1
        return node

    def _term(self) -> Node:
        if self._takes("("):
            node = self._or()
            if not self._takes(")"):
                self._fail("expected `)`")
            return node
        if self._peek.kind == "number":
            number = float(self._take().text)
            if self._peek.kind != "operator":
                self._fail("expected one of < <= > >= == after the number")
            operator = _MIRRORED[self._take().text]
            token = self._peek
            return self._comparison(token, self._name(), operator, number)
        token = self._peek
        name = self._name()
        if self._peek.kind != "operator":
            if name.fact in NUMBER_FACTS:
                self._fail(f"{name.fact} is a number: compare it, as in `{name.fact} > 0.5`", token)
            return name
        operator = self._take().text
        if self._peek.kind != "number":
            self._fail(f"expected a number after `{operator}`")
        return self._comparison(token, name, operator, float(self._take().text))

    def _comparison(self, token: _Token, name: Name, operator: str, number: float) -> Node:
        if name.fact in BOOLEAN_FACTS:
            self._fail(f"{name.fact} is true or false: it cannot be compared with a number", token)
        return Comparison(name, operator, number)

    def _name(self) -> Name:
        experiment = self._take().text if self._peek.kind == "experiment" else None
        token = self._take()
        if token.kind != "word" or token.text in ("and", "or", "not"):
            self._fail(f"expected a fact, found {f'`{token.text}`' if token.text else 'the end'}", token)
        known = (*BOOLEAN_FACTS, *NUMBER_FACTS)
        if token.text not in known:
            near = get_close_matches(token.text, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"facts are {', '.join(known)}"
            self._fail(f"`{token.text}` is not a fact; {hint}", token)
        if experiment is None:
            if len(self._after) != 1:
                given = "several experiments" if self._after else "no experiment"
                self._fail(
                    f"`after` names {given}: say whose {token.text} is meant, as in `2.1:{token.text}`",
                    token,
                )
            experiment = self._after[0]
        return Name(experiment, token.text)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise ConditionError(f"at character {at + 1}: `{text[at]}` is not understood here")
        tokens.append(_Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        at = match.end()
    return [*tokens, _Token("end", "", len(text.rstrip()))]


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
