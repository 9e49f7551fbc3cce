"""Checks a value, a table, a key of a plan against the schema. Pure; problems are collected, never raised."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_type_hints

from core.plan.lines import KeyPath, nearest_line
from core.plan.schema import (
    MOST_NUMBER,
    AdapterSettings,
    DataSettings,
    GateSettings,
    ModelSettings,
    QueueSettings,
    TrainSettings,
)

SECTIONS: dict[str, type[Any]] = {
    "model": ModelSettings,
    "data": DataSettings,
    "train": TrainSettings,
    "adapter": AdapterSettings,
    "gate": GateSettings,
    "queue": QueueSettings,
}
OVERRIDABLE = ("train", "adapter", "data")
"""Sections that an experiment may override and sweep over."""

_LONG = 10**24
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


class Problems:
    """Collects problems with their places: `plan.toml:12`, or `--set …` where that gave the value."""

    def __init__(self, file: str, lines: Mapping[KeyPath, int], places: Mapping[KeyPath, str]) -> None:
        self._file, self._lines, self._places = file, lines, places
        self._found: dict[str, int] = {}
        """Text to the line that it is sorted by. A problem that several rows share is told once."""

    def line(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it."""
        return nearest_line(self._lines, path)

    def first_given(self, *paths: KeyPath) -> KeyPath:
        """The first of the paths that the plan or `--set` gives; the last one if it gives none."""
        return next((path for path in paths if path in self._places or path in self._lines), paths[-1])

    def is_set(self, path: KeyPath) -> bool:
        """Whether `--set` gave this key."""
        return path in self._places

    def add(self, path: KeyPath, what: str, key: str | None = None) -> None:
        """A problem at `path`; `key` is what the message calls it (default: the dotted key)."""
        name = key_name(path) if key is None else key
        line = None
        place = next((self._places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._places), None)
        if place is None:
            line = self.line(path)
            place = self._file if line is None else f"{self._file}:{line}"
        text = f"{place}: {name}: {what}" if name else f"{place}: {what}"
        self._found.setdefault(text.replace("\n", "\\n"), line or 0)

    def texts(self) -> list[str]:
        """All of them, in the order of the file."""
        return sorted(self._found, key=lambda text: self._found[text])


def key_name(path: KeyPath) -> str:
    """`train.steps` for a path; keys of an experiment without their `experiment[0]`; odd keys quoted."""
    parts = list(path)
    if len(parts) > 2 and parts[0] in ("experiment", "history"):
        parts = parts[2:]
    name = ""
    for part in parts:
        if isinstance(part, int):
            name += f"[{part + 1}]"
        else:
            name += ("." if name else "") + (part if _BARE.match(part) else json.dumps(part))
    return name


@cache
def keys_of(section: str) -> dict[str, tuple[Field[Any], tuple[Any, ...]]]:
    """The keys of a section, each with its field and the types that its value may have.

    Those of a table in it have its name before them: `augment.speed`.
    """
    return dict(_keys_of(SECTIONS[section], ""))


def _keys_of(kind: type[Any], prefix: str) -> Iterator[tuple[str, tuple[Field[Any], tuple[Any, ...]]]]:
    hints = get_type_hints(kind)
    for f in fields(kind):
        hint, name = hints[f.name], f"{prefix}{f.name}"
        if is_dataclass(hint):
            yield from _keys_of(hint, f"{name}.")  # type: ignore[arg-type]
        elif not f.metadata.get("derived"):
            # A plain type has no arguments; tuple[str, ...] has some, but is one type.
            yield name, (f, (hint,) if _is_plain(hint) else get_args(hint))


def _is_plain(hint: Any) -> bool:
    return isinstance(hint, type) or hint in (tuple[str, ...], tuple[float, ...])


def check_table(section: str, raw: Any, path: KeyPath, problems: Problems) -> dict[str, Any]:
    """The valid values of a table of settings, by their keys (`keys_of`); all else becomes problems."""
    if not isinstance(raw, dict):
        problems.add(path, f"expected a table of settings, found {kind_of(raw)}")
        return {}
    values: dict[str, Any] = {}
    for key_path, value in leaves(raw, path, tables_of(section)):
        name = ".".join(map(str, key_path[len(path) :]))
        if (checked := check_value(section, name, value, key_path, problems)) is not None:
            values[name] = checked
    return values


def tables_of(section: str) -> set[str]:
    """The names of the tables in a section: `augment`."""
    return {name.partition(".")[0] for name in keys_of(section) if "." in name}


def parts_of(section: str, key: str) -> tuple[str, ...]:
    """A key of a section as the tables that it is in and its name in the last of them."""
    table, dot, name = key.partition(".")
    return (table, name) if dot and table in tables_of(section) else (key,)


def leaves(table: Mapping[str, Any], path: KeyPath, tables: Collection[str]) -> Iterator[tuple[KeyPath, Any]]:
    """Each key of a table with its value; where it names one of `tables` and holds one, the keys of that instead."""
    for key, value in table.items():
        if key in tables and isinstance(value, dict):
            yield from leaves(value, (*path, key), ())
        else:
            yield (*path, key), value


def check_value(section: str, name: str, value: Any, path: KeyPath, problems: Problems) -> Any:
    """The value in the schema's type; None after a problem."""
    if name not in keys_of(section):
        unknown = f"unknown key; {nearest_key(section, name)}"
        problems.add(
            path, f"expected a table of settings, found {kind_of(value)}" if name in tables_of(section) else unknown
        )
        return None
    spec, types = keys_of(section)[name]
    typed = _typed(_listed(value, spec.metadata), types)
    if typed is None:
        wanted = ["a table of whole numbers, as in { q_proj = 8 }"] if spec.metadata.get("pairs") else []
        wanted = wanted or [_type_name(kind) for kind in types_shown(types)]
        problems.add(path, f"expected {' or '.join(wanted)}, found {_found(value, types)}")
        return None
    if isinstance(typed, tuple) and not spec.metadata.get("repeats"):
        typed = tuple(dict.fromkeys(typed))
    what = _rule_broken(typed, spec.metadata)
    if what is not None:
        problems.add(path, what)
        return None
    return typed


def nearest_key(section: str, name: str) -> str:
    """What an unknown key was probably meant to be."""
    known = list(keys_of(section))
    if near := get_close_matches(name, known, 1):
        return f"did you mean {near[0]}?"
    for other in SECTIONS:
        if name in keys_of(other):
            return f"did you mean {other}.{name}?"
    elsewhere = {key: f"{other}.{key}" for other in SECTIONS for key in keys_of(other)}
    if near := get_close_matches(name, list(elsewhere), 1, 0.8):
        return f"did you mean {elsewhere[near[0]]}?"
    return f"[{section}] has {', '.join(known)}"


def kind_of(value: Any) -> str:
    """What a TOML value is, in words."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int):
        return f"the integer {figure(value)}" if abs(value) < _LONG else figure(value)
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {show(value)}"
    if isinstance(value, list):
        return "an array"
    return "a table" if isinstance(value, dict) else "a date or time"


def figure(value: int | float) -> str:
    """A number as it is shown; Python turns no integer of more than 4300 digits into text."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if abs(value) < _LONG else "a number of more than 24 digits"


def show(value: Any) -> str:
    """A value as it would stand in TOML; long ones are cut."""
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else figure(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def types_shown(types: tuple[Any, ...]) -> tuple[Any, ...]:
    """The types that a user can write: TOML has no null."""
    return tuple(kind for kind in types if kind is not type(None))


def _listed(value: Any, rules: Mapping[str, Any]) -> Any:
    """A list that was written as its only text, or as a table of whole numbers, as the list that it means."""
    if rules.get("single") and isinstance(value, str):
        return [value]
    if rules.get("pairs") and isinstance(value, dict):
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in value.values())
        return [f"{name}={number}" for name, number in value.items()] if whole else value
    return value


def _typed(value: Any, types: tuple[Any, ...]) -> Any:  # noqa: PLR0911 - one return a case
    for kind in types:
        if kind is bool and isinstance(value, bool):
            return value
        if isinstance(value, bool):
            continue
        if kind is int and isinstance(value, int):
            return value
        if kind is float and isinstance(value, (int, float)) and _finite(value):
            return float(value)
        if kind is str and isinstance(value, str) and value:
            return value
        if kind == tuple[str, ...] and isinstance(value, list) and _are_names(value):
            return tuple(value)
        if kind == tuple[float, ...] and isinstance(value, list) and all(map(_is_number, value)):
            return tuple(map(float, value))
    return None


def _are_names(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, str) and item for item in items)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)


def _finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _type_name(kind: Any) -> str:
    names: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a string"}
    names[tuple[float, ...]] = "an array of numbers, as in [0.2, 0.5]"
    return names.get(kind, 'an array of strings, as in ["q_proj", "v_proj"]')


def _found(value: Any, types: tuple[Any, ...]) -> str:
    if _is_number(value) and str in types:
        text = figure(value) if isinstance(value, int) else value
        return f'{text} without quotes; write "{text}"'
    if isinstance(value, (str, list)) and not value:
        return "an empty one"
    return kind_of(value)


def _rule_broken(value: Any, rules: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of the right type."""
    choices = rules.get("choices")
    if isinstance(value, tuple):
        if len(value) > rules.get("most", len(value)):
            return f"{len(value)} of them: give at most {rules['most']}"
        # A list is right when each of its items is.
        ruled = choices is not None or not rules.keys().isdisjoint(("reads", "above", "minimum"))
        wrong = (_rule_broken(item, rules) for item in value) if ruled else ()
        return next((problem for problem in wrong if problem is not None), None)
    # A key that takes one of some words, or a number, has rules for both.
    numeric = isinstance(value, (int, float)) and ("above" in rules or "minimum" in rules)
    if choices is not None and value not in choices and not numeric:
        near = get_close_matches(str(value), [str(choice) for choice in choices], 1)
        hint = f"; did you mean {show(near[0])}?" if near else ""
        if "above" in rules:
            hint = f" and no number above {rules['above']:g}{hint}"
        return f"{show(value)} is not one of {', '.join(show(choice) for choice in choices)}{hint}"
    if rules.get("words") and not any(map(str.isalnum, value)):
        return f"{show(value)} gives no reason: write it in words"
    if (opening := rules.get("opening")) and not _says_more(value, opening):
        return f"{show(value)} is not {show(opening)} with a reason behind it: write it in words"
    return unreadable(value, rules) if isinstance(value, str) else out_of_range(value, rules)


def unreadable(value: str, rules: Mapping[str, Any]) -> str | None:
    """What is wrong with a text that means more, by a field's rules. Documents go by it, too."""
    try:
        rules.get("reads", str)(value)
    except ValueError as error:
        return str(error)
    return None


def _says_more(value: str, opening: str) -> bool:
    return value.startswith(opening) and any(map(str.isalnum, value.removeprefix(opening)))


def out_of_range(value: Any, rules: Mapping[str, Any]) -> str | None:
    """What is wrong with a number by a field's rules, or by those of any; None: nothing. Documents go by it, too."""
    unit = f" {rules['unit']}" if "unit" in rules else ""
    if "below" in rules and value >= rules["below"]:
        return f"{figure(value)} is too large: must be below {figure(rules['below'])}{unit}"
    if "above" in rules and value <= rules["above"]:
        return f"{figure(value)} is too small: must be above {figure(rules['above'])}{unit}"
    if "minimum" in rules and value < rules["minimum"]:
        return f"{figure(value)} is too small: must be at least {figure(rules['minimum'])}{unit}"
    if "maximum" in rules and value > rules["maximum"]:
        return f"{figure(value)} is too large: must be at most {figure(rules['maximum'])}{unit}"
    if not abs(value) <= MOST_NUMBER:  # or no number at all
        return f"{figure(value)} is beyond all measure: must be from -{MOST_NUMBER} to {MOST_NUMBER}{unit}"
    return None
