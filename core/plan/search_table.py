"""Reads `[search]`: a seed, and for each key a range or an array of choices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from core.plan.expand import too_many_intervals
from core.plan.lines import KeyPath
from core.plan.schema import HIGH_LEARNING_RATE, MOST_SEED, Range, RunSettings, SearchSpace
from core.plan.validate import OVERRIDABLE, SECTIONS, Problems, check_value, keys_of, kind_of

_KINDS = ("log_uniform", "uniform")
_FORM = "{ log_uniform = [low, high] }, { uniform = [low, high] } or an array of choices"


def read_search(raw: Any, defaults: RunSettings, problems: Problems) -> SearchSpace | None:
    """The table; None without one, or after a problem with the whole of it."""
    if raw is None:
        return None
    path: KeyPath = ("search",)
    if not isinstance(raw, dict):
        problems.add(path, f"expected a table, found {kind_of(raw)}: write [search]")
        return None
    seed = raw.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        problems.add((*path, "seed"), f"expected a whole number from 0 to {MOST_SEED}, found {kind_of(seed)}")
        seed = 0
    ranges: dict[str, Range] = {}
    for key_path, value in _entries({key: value for key, value in raw.items() if key != "seed"}, path):
        dotted = ".".join(str(part) for part in key_path[1:])
        section, _, name = dotted.partition(".")
        if section not in OVERRIDABLE or not name:
            where = f"{section} cannot be searched" if section in SECTIONS else "unknown key"
            problems.add(key_path, f"{where}; [search] has seed, and keys like train.learning_rate or adapter.rank")
        elif dotted in ranges:
            problems.add(key_path, "is given twice")
        elif (found := _range(section, name, value, key_path, problems)) is not None:
            ranges[dotted] = found
    if not ranges and len(raw) <= ("seed" in raw):
        problems.add(path, f"has nothing to draw from: give keys such as train.learning_rate = {_FORM}", "")
    _check(ranges, defaults, problems)
    return SearchSpace(seed, ranges)


def _entries(table: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Each dotted key with what it is to be drawn from."""
    for key, value in table.items():
        deeper = isinstance(value, dict) and not (value.keys() & set(_KINDS)) and len(path) == 1
        if deeper and str(key) in SECTIONS:
            yield from ((((*path, key, name)), inner) for name, inner in value.items())
        else:
            yield (*path, key), value


def _range(section: str, name: str, value: Any, path: KeyPath, problems: Problems) -> Range | None:
    if name not in keys_of(section):
        check_value(section, name, value, path, problems)  # says that there is no such key
    elif isinstance(value, list) and value:
        checked = [check_value(section, name, item, (*path, index), problems) for index, item in enumerate(value)]
        choices = tuple(item for item in checked if item is not None)
        return Range("choices", values=choices) if len(choices) == len(value) else None
    elif not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in _KINDS:
        problems.add(path, f"expected {_FORM}, found {kind_of(value)}")
    elif not {int, float} & set(keys_of(section)[name][1]):
        problems.add(path, "has no range of numbers: give an array of choices")
    else:
        [(kind, bounds)] = value.items()
        return _between(section, name, kind, bounds, (*path, kind), problems)
    return None


def _between(section: str, name: str, kind: str, bounds: Any, path: KeyPath, problems: Problems) -> Range | None:
    if not isinstance(bounds, list) or len(bounds) != 2:
        problems.add(path, f"expected [low, high], found {kind_of(bounds)}")
        return None
    low, high = (check_value(section, name, bound, (*path, index), problems) for index, bound in enumerate(bounds))
    if low is None or high is None:
        return None
    if isinstance(low, str) or isinstance(high, str) or low >= high:
        problems.add(path, f"expected [low, high], the lower one first, found [{low}, {high}]")
        return None
    if kind == "log_uniform" and low <= 0:
        problems.add(path, f"a logarithmic range begins above 0, not at {low:g}")
        return None
    return Range(kind, float(low), float(high), whole=float not in keys_of(section)[name][1])


def _check(ranges: dict[str, Range], defaults: RunSettings, problems: Problems) -> None:
    """What no single key shows: the rules that hold for the rows of experiments, too."""
    if {"train.epochs", "train.batch_seconds"} <= ranges.keys():
        problems.add(_place("train.batch_seconds"), "give epochs or batch_seconds, not both: each derives the batch")
    rate = ranges.get("train.learning_rate")
    allowed = ranges.get("train.allow_high_learning_rate")
    permitted = defaults.train.allow_high_learning_rate if allowed is None else all(allowed.values)
    highest = 0.0 if rate is None else max(rate.values or (rate.high,))
    if highest >= HIGH_LEARNING_RATE and not permitted:
        problems.add(
            _place("train.learning_rate"),
            f"reaches {highest:g}, which is {HIGH_LEARNING_RATE:g} or more, where models forget what they knew; "
            "lower it, or set train.allow_high_learning_rate = true",
        )

    steps = _bound("train.steps", ranges, defaults.train.steps, max)
    every = _bound("train.eval_every", ranges, defaults.train.eval_every, min)
    searched = next((key for key in ("train.eval_every", "train.steps") if key in ranges), None)
    if searched is not None and (what := too_many_intervals(steps, every)) is not None:
        problems.add(_place(searched), what)


def _bound(dotted: str, ranges: Mapping[str, Range], default: int, pick: Callable[[Iterable[Any]], Any]) -> int:
    """The largest or the smallest value that a draw may take."""
    found = ranges.get(dotted)
    return default if found is None else int(pick(found.values or (found.low, found.high)))


def _place(dotted: str) -> KeyPath:
    return ("search", *dotted.split("."))
