"""Reads `[[experiment]]` and `[[history]]` entries. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from core.plan.lines import KeyPath
from core.plan.schema import MOST_NUMBER, Experiment, HistoryRow
from core.plan.validate import OVERRIDABLE, SECTIONS, Problems, check_table, check_value, keys_of, kind_of
from core.scoring.units import Unit

_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_EXPERIMENT_KEYS = ("id", "title", "after", "when", "adapter_from", "sweep", *OVERRIDABLE)
_HISTORY_KEYS = ("id", "title", "note")
_MAX_ROWS = 1000


def read_experiments(raw: Any, problems: Problems) -> dict[KeyPath, Experiment]:
    """The `[[experiment]]` entries with a right id, by their place in the plan. Faults become problems."""
    if raw is None or raw == []:
        problems.add(("experiment",), "the plan has no [[experiment]]: add one with an id", "")
    experiments: dict[KeyPath, Experiment] = {}
    first: dict[str, KeyPath] = {}
    for entry, path in _entries(raw, "experiment", problems):
        experiment = _experiment(entry, path, problems)
        if experiment is None:
            continue
        if experiment.id in first:
            problems.add(
                (*path, "id"),
                f"{experiment.id!r} is taken already, in line {problems.line(first[experiment.id])}",
            )
            continue
        first[experiment.id] = path
        experiments[path] = experiment
    return experiments


def read_history(raw: Any, unit: Unit, problems: Problems) -> tuple[HistoryRow, ...]:
    """All `[[history]]` entries. Their error rates must be by the unit that the matrix shows: `domain_cer`."""
    rows: list[HistoryRow] = []
    rates = {f"{name}_wer": f"{name}_{unit.rate.lower()}" for name in ("domain", "heldout")}
    for entry, path in _entries(raw, "history", problems):
        _check_names(entry, (*_HISTORY_KEYS, *rates.values()), path, problems)
        values: dict[str, Any] = {"line": problems.line(path)}
        for key in ("id", "title", "note"):
            values[key] = _text(entry, key, path, problems)
        for key, written in rates.items():
            values[key] = _rate(entry, written, unit, path, problems)
        if _valid_id(entry, values["id"], path, problems):
            rows.append(HistoryRow(**values))
    return tuple(rows)


def _entries(raw: Any, name: str, problems: Problems) -> Iterator[tuple[dict[str, Any], KeyPath]]:
    if raw is None:
        return
    if not isinstance(raw, list):
        problems.add((name,), f"expected an array of tables, found {kind_of(raw)}: write [[{name}]]")
        return
    for index, entry in enumerate(raw):
        if isinstance(entry, dict):
            yield entry, (name, index)
        else:
            problems.add((name, index), f"expected a table, found {kind_of(entry)}: write [[{name}]]")


def _experiment(entry: dict[str, Any], path: KeyPath, problems: Problems) -> Experiment | None:
    _check_names(entry, _EXPERIMENT_KEYS, path, problems)
    overrides: dict[str, Any] = {}
    for section in OVERRIDABLE:
        if section in entry:
            table = check_table(section, entry[section], (*path, section), problems)
            overrides |= {f"{section}.{key}": value for key, value in table.items()}
    experiment = Experiment(
        id=_text(entry, "id", path, problems),
        title=_text(entry, "title", path, problems),
        after=_id_list(entry, "after", path, problems),
        when=_text(entry, "when", path, problems) or None,
        adapter_from=_id_list(entry, "adapter_from", path, problems),
        sweep=_sweep(entry, path, problems),
        overrides=overrides,
        line=problems.line(path),
    )
    for key in experiment.sweep:
        if key in overrides:
            problems.add((*path, *key.split(".")), "is swept over in the same experiment: keep one of the two", key)
    if experiment.adapter_from and "adapter.target_modules" in {**overrides, **experiment.sweep}:
        problems.add(
            (*path, "adapter_from"),
            "gives adapter.target_modules, which the experiment also sets: keep one of the two",
        )
    return experiment if _valid_id(entry, experiment.id, path, problems) else None


def _check_names(entry: dict[str, Any], known: Sequence[str], path: KeyPath, problems: Problems) -> None:
    for name in entry:
        if name in known:
            continue
        near = get_close_matches(name, known, 1)
        section = next((s for s in OVERRIDABLE if name in keys_of(s)), None)
        if section is not None and "train" in known:
            hint = f"did you mean {section}.{name}?"
        elif name in SECTIONS and "train" in known:
            hint = f"an experiment may override {', '.join(OVERRIDABLE)} only"
        else:
            hint = f"did you mean {near[0]}?" if near else f"[[{path[0]}]] has {', '.join(known)}"
        problems.add((*path, name), f"unknown key; {hint}")


def _text(entry: dict[str, Any], key: str, path: KeyPath, problems: Problems) -> str:
    value = entry.get(key, "")
    if isinstance(value, str):
        return value
    hint = f'; write {key} = "{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
    problems.add((*path, key), f"expected a string, found {kind_of(value)}{hint}")
    return ""


def _valid_id(entry: dict[str, Any], value: str, path: KeyPath, problems: Problems) -> bool:
    if "id" not in entry:
        problems.add(path, "every entry needs an id", f"[[{path[0]}]]")
    elif value and not _ID.match(value):
        what = "must be at most 64 letters, digits and . _ - and begin with a letter or digit"
        problems.add((*path, "id"), f"{value!r} {what}")
    elif value:
        return True
    elif isinstance(entry["id"], str):
        problems.add((*path, "id"), "is empty")
    return False


def _id_list(entry: dict[str, Any], key: str, path: KeyPath, problems: Problems) -> tuple[str, ...]:
    value = entry.get(key, [])
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(dict.fromkeys(names))
    problems.add(
        (*path, key),
        f'expected an experiment\'s id or an array of them, as in ["2.1"], found {kind_of(value)}',
    )
    return ()


def _rate(entry: dict[str, Any], key: str, unit: Unit, path: KeyPath, problems: Problems) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    sound = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not sound or not 0 <= value <= MOST_NUMBER:
        problems.add((*path, key), f"expected a {unit.long_rate} in percent, found {kind_of(value)}")
        return None
    return float(value)


def _sweep(entry: dict[str, Any], path: KeyPath, problems: Problems) -> dict[str, tuple[Any, ...]]:
    """`{"train.learning_rate" = […]}`; the quotes may be left out."""
    raw = entry.get("sweep", {})
    if not isinstance(raw, dict):
        problems.add((*path, "sweep"), f"expected a table of keys and arrays, found {kind_of(raw)}")
        return {}
    sweep: dict[str, tuple[Any, ...]] = {}
    for key_path, values in _leaves(raw, (*path, "sweep")):
        dotted = ".".join(str(part) for part in key_path[len(path) + 1 :])
        section, _, name = dotted.partition(".")
        if section not in OVERRIDABLE or not name:
            where = f"{section} cannot be swept over" if section in SECTIONS else "unknown key"
            problems.add(
                key_path,
                f"{where}; a sweep has keys like train.learning_rate or adapter.rank",
                f"sweep {dotted}",
            )
        elif not isinstance(values, list) or not values:
            problems.add(
                key_path,
                f"expected an array of values, found {kind_of(values) if values != [] else 'an empty one'}",
            )
        elif dotted in sweep:
            problems.add(key_path, "is given twice in this sweep")
        else:
            checked = [
                check_value(section, name, value, (*key_path, index), problems) for index, value in enumerate(values)
            ]
            if len({repr(value) for value in checked if value is not None}) < sum(v is not None for v in checked):
                problems.add(key_path, "holds a value twice", f"sweep {dotted}")
            sweep[dotted] = tuple(value for value in checked if value is not None)
    if math.prod(map(len, sweep.values())) > _MAX_ROWS:
        problems.add((*path, "sweep"), f"makes more than {_MAX_ROWS} rows: split it into experiments")
        return {}
    return {key: values for key, values in sweep.items() if values}


def _leaves(table: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value
