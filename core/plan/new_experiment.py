"""A new `[[experiment]]` in the text of a plan. Every byte that was there stays: comments, order, spacing. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import tomli

from core.errors import PlanError
from core.plan.read import value_of
from core.plan.rows import complete
from core.plan.schema import Plan, Row
from core.plan.template import toml_value
from core.plan.validate import key_name, keys_of, leaves, parts_of, tables_of

FORM_SECTIONS = ("train", "adapter")
HEAD_KEYS = ("id", "title", "after", "when", "adapter_from")
_LISTS = ("after", "adapter_from")
_HEADER = re.compile(r"^\s*\[")
_EXPERIMENT = re.compile(r"^\s*\[\[\s*experiment\s*\]\]")
_BLANK = re.compile(r"^\s*(#|$)")


def form_of(plan: Plan, row: Row) -> dict[str, str]:
    """Dotted key → text, for a form in which a copy of `row` is edited. What a sweep chose is a plain value in it."""
    taken = {experiment.id for experiment in plan.experiments}
    name = next(f"{row.experiment}-{n}" for n in range(2, len(taken) + 3) if f"{row.experiment}-{n}" not in taken)
    form = {"id": name, "title": row.title, "after": ", ".join(row.after), "when": row.when or ""}
    form["adapter_from"] = ", ".join(row.adapter_from)
    for section in FORM_SECTIONS:
        settings = getattr(row.settings, section)
        for name in keys_of(section):
            form[f"{section}.{name}"] = _shown(_of(settings, name))
    return form


def entry_of(plan: Plan, form: Mapping[str, str]) -> dict[str, Any]:
    """The entry that a filled-in form means: nested tables, with the settings that differ from the plan's defaults.

    The defaults are taken as a row gets them, with what follows from other keys filled in: the form shows them so.
    """
    filled = complete(plan.defaults)
    entry: dict[str, Any] = {"id": form["id"].strip()}
    for key in HEAD_KEYS[1:]:
        if text := form.get(key, "").strip():
            entry[key] = [part.strip() for part in text.split(",") if part.strip()] if key in _LISTS else text
    for section in FORM_SECTIONS:
        defaults = getattr(filled, section)
        for name in keys_of(section):
            text = form.get(f"{section}.{name}", "").strip()
            if not text or (name == "target_modules" and "adapter_from" in entry):
                continue
            value = _value(section, name, text)
            if _comparable(value) != _comparable(_of(defaults, name)):
                *tables, last = section, *parts_of(section, name)
                table = entry
                for one in tables:
                    table = table.setdefault(one, {})
                table[last] = value
    return entry


def with_experiment(text: str, entry: Mapping[str, Any]) -> str:
    """`text` with the entry behind its last `[[experiment]]`. PlanError: `text` leaves no place."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = newline.join(experiment_lines(entry))
    for place in _places(text):
        head, tail = text[:place], text[place:]
        gap = "" if not head or head.endswith(("\n\n", "\r\n\r\n")) else newline
        ending = "" if not head or head.endswith("\n") else newline
        candidate = f"{head}{ending}{gap}{block}{newline}{newline if tail else ''}{tail}"
        if _adds(text, candidate, entry):
            return candidate
    raise PlanError("the plan's text leaves no place for another [[experiment]]: add it in an editor")


def experiment_lines(entry: Mapping[str, Any]) -> list[str]:
    """The entry as TOML."""
    lines = ["[[experiment]]"]
    for key, value in entry.items():
        inner = leaves(value, (key,), tables_of(key)) if isinstance(value, Mapping) else [((key,), value)]
        lines += [f"{key_name(path)} = {toml_value(one)}" for path, one in inner]
    return lines


def _places(text: str) -> Iterator[int]:
    """Where a new entry may go, the best first: behind the last experiment, before what is said of the next table."""
    lines = text.splitlines(keepends=True)
    starts = [sum(map(len, lines[:i])) for i in range(len(lines) + 1)]
    last = max((i for i, line in enumerate(lines) if _EXPERIMENT.match(line)), default=None)
    if last is not None:
        after = next((i for i in range(last + 1, len(lines)) if _HEADER.match(lines[i])), None)
        if after is not None:
            while _BLANK.match(lines[after - 1]):
                after -= 1
            yield starts[after]
    yield len(text)


def _adds(before: str, after: str, entry: Mapping[str, Any]) -> bool:
    """Whether the one difference is the entry, at the end of the experiments."""
    try:
        old, new = (tomli.loads(text.removeprefix("\ufeff")) for text in (before, after))
    except tomli.TOMLDecodeError:
        return False
    experiments = old.get("experiment", [])
    if not isinstance(experiments, list):
        return False
    return bool(new == old | {"experiment": [*experiments, dict(entry)]})


def _of(settings: Any, key: str) -> Any:
    """The value of a key of a section's settings, which may be in a table in it."""
    return reduce(getattr, key.split("."), settings)


def _value(section: str, name: str, text: str) -> Any:
    _, types = keys_of(section)[name]
    if types == (str,):
        return text
    if types == (tuple[str, ...],) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    return value_of(text)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else toml_value(value)


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
