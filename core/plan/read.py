"""Reads a plan; finds all problems at once, each with its file and line. Pure: text in, a Plan out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import tomli

from core.errors import PlanError
from core.plan.conditions import ConditionError, parse_condition
from core.plan.expand import complete
from core.plan.experiments import read_experiments, read_history
from core.plan.lines import KeyPath, key_lines
from core.plan.overrides import apply_overrides
from core.plan.rules import check_batch, check_rows, check_search, warn_of_masked, warn_of_rows
from core.plan.schema import Experiment, Plan, RunSettings
from core.plan.search_table import read_search
from core.plan.slices import read_slices
from core.plan.validate import SECTIONS, Problems, check_table


def check_references(experiments: Mapping[KeyPath, Experiment], problems: Problems) -> None:
    """`after`, `adapter_from` and `when` name other experiments of the plan, and not in a circle."""
    ids = [experiment.id for experiment in experiments.values()]
    needs: dict[str, tuple[str, ...]] = {}
    for path, experiment in experiments.items():
        named = {"after": experiment.after, "adapter_from": experiment.adapter_from}
        if experiment.when is not None:
            try:
                named["when"] = parse_condition(experiment.when, experiment.after).experiments
            except ConditionError as error:
                problems.add((*path, "when"), f"{error}, in: {experiment.when}")
        for key, names in named.items():
            for name in names:
                if name not in ids and not (key == "when" and name in experiment.after):
                    near = get_close_matches(name, ids, 1)
                    hint = f"did you mean {near[0]}?" if near else f"experiments are {', '.join(ids)}"
                    problems.add((*path, key), f"there is no experiment {name!r}; {hint}")
        needs[experiment.id] = tuple(dict.fromkeys(name for names in named.values() for name in names))
    places = {experiment.id: path for path, experiment in experiments.items()}
    for circle in _circles(needs):
        problems.add(places[circle[0]], f"waits for itself: {' → '.join((*circle, circle[0]))}", circle[0])


def _circles(needs: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Each circle of references once, beginning with the experiment that comes first in the plan."""
    reported: set[frozenset[str]] = set()
    order = list(needs)
    for start in order:
        trail: list[tuple[str, tuple[str, ...]]] = [(start, (start,))]
        seen: set[str] = set()
        while trail:
            at, way = trail.pop()
            for name in needs.get(at, ()):
                if name == start and frozenset(way) not in reported and min(way, key=order.index) == start:
                    reported.add(frozenset(way))
                    yield way
                elif name in needs and name not in seen:
                    seen.add(name)
                    trail.append((name, (*way, name)))


_SYNTAX_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")

_NORMALISER = "data.normaliser"


def parse_plan(text: str, path: str, overrides: Sequence[str] = ()) -> Plan:
    """The plan in `text`, which was read from `path`, with `--set` values applied.

    Raises PlanError with every problem, one a line: `plan.toml:12: train.learning_rat: unknown key; …`.
    """
    data = _parse_toml(text, path)
    lines, places = key_lines(text), dict[KeyPath, str]()
    problems, warnings = Problems(path, lines, places), Problems(path, lines, places)

    defaults_set = apply_overrides(data, overrides, places, problems)
    _check_names(data, problems)
    slices = read_slices(_taken_out(data, "gate", "slice"), problems)
    values = {name: check_table(name, data.get(name, {}), (name,), problems) for name in SECTIONS}
    _check_required(data, problems)
    written = {f"{section}.{key}" for section, table in values.items() for key in table}
    check_batch(written, ("train", "batch_seconds"), problems)

    defaults = RunSettings(**{f.name: SECTIONS[f.name](**values[f.name]) for f in fields(RunSettings)})
    queue = SECTIONS["queue"](**values["queue"])
    experiments = read_experiments(data.get("experiment"), problems)
    named = [{*one.overrides, *one.sweep} for one in experiments.values()]
    chosen = _NORMALISER in written or (bool(named) and all(_NORMALISER in keys for keys in named))
    gate = SECTIONS["gate"](**values["gate"], slice=slices, normaliser_chosen=chosen)
    history = read_history(data.get("history"), problems)
    search = read_search(data.get("search"), defaults, problems)
    check_search(search, queue, experiments, problems, warnings)
    check_references(experiments, problems)
    check_rows(defaults, written, experiments, problems)
    if found := problems.texts():
        raise PlanError("\n".join(found))
    warn_of_rows(defaults, gate, experiments, warnings)
    warn_of_masked(defaults_set, experiments, warnings)
    return Plan(
        path=path,
        defaults=complete(defaults) if defaults.data.replay is not None else defaults,
        gate=gate,
        queue=queue,
        experiments=tuple(experiments.values()),
        history=history,
        search=search,
        warnings=tuple(warnings.texts()),
    )


def _parse_toml(text: str, path: str) -> dict[str, Any]:
    try:
        return tomli.loads(text.removeprefix("\ufeff"))
    except tomli.TOMLDecodeError as error:
        message = str(error)
        place = _SYNTAX_PLACE.search(message)
        what = _SYNTAX_PLACE.sub("", message)
        line = place.group(1) if place and place.group(1) else text.rstrip("\n").count("\n") + 1
        column = f" (column {place.group(2)})" if place and place.group(2) else ""
        raise PlanError(f"{path}:{line}: not valid TOML: {what[:1].lower()}{what[1:]}{column}") from error
    except RecursionError as error:
        raise PlanError(f"{path}: not valid TOML: arrays or tables are nested too deeply") from error
    except ValueError as error:  # Python converts no integer of more than 4300 digits.
        raise PlanError(f"{path}: not valid TOML: a number is too long: shorten it") from error


def _taken_out(data: dict[str, Any], section: str, key: str) -> Any:
    """The value of a key that is not one of plain settings."""
    table = data.get(section)
    return table.pop(key, None) if isinstance(table, dict) else None


def _check_names(data: Mapping[str, Any], problems: Problems) -> None:
    known = (*SECTIONS, "search", "experiment", "history")
    for name in data:
        if name not in known:
            near = get_close_matches(name, known, 1)
            bracketed = {key: f"[[{key}]]" if key in ("experiment", "history") else f"[{key}]" for key in known}
            hint = f"did you mean {bracketed[near[0]]}?" if near else f"a plan has {', '.join(bracketed.values())}"
            problems.add((name,), f"unknown key; {hint}")


def _check_required(data: Mapping[str, Any], problems: Problems) -> None:
    for section, kind in SECTIONS.items():
        table = data.get(section, {})
        for spec in fields(kind):
            if spec.metadata.get("required") and isinstance(table, dict) and spec.name not in table:
                problems.add((section, spec.name), f"is missing: give {spec.metadata['doc']}")
