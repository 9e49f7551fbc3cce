"""Reads a plan; finds all problems at once, each with its file and line. Pure: text in, a Plan out.

The order is that of the plan: `[search]`, the `[[gate.slice]]` entries, how experiments refer to each other, the whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise, product
from random import Random
from typing import Any

import tomli

from core.errors import PlanError
from core.plan.conditions import ConditionError, parse_condition
from core.plan.experiments import read_experiments, read_history
from core.plan.lines import KeyPath, key_lines
from core.plan.rows import complete, too_many_intervals, with_values
from core.plan.rules import (
    check_batch,
    check_rows,
    check_search,
    rate_in_words,
    unclear_candidates,
    unclear_pulls,
    warn_of_masked,
    warn_of_rows,
)
from core.plan.schema import (
    HIGH_LEARNING_RATE,
    MOST_SEED,
    SAMPLERS,
    Experiment,
    Plan,
    Range,
    RunSettings,
    SearchSpace,
    SliceSettings,
    with_keys,
)
from core.plan.validate import (
    OVERRIDABLE,
    SECTIONS,
    Problems,
    check_table,
    check_value,
    keys_of,
    kind_of,
    leaves,
    out_of_range,
    parts_of,
    show,
    tables_of,
)
from core.scoring.slices import MOST_EDGES, MOST_SLICES, MOST_VALUES
from core.scoring.units import Unit

_THRESHOLDS = ("domain_gain", "heldout_regression")
_COUNT = next(spec.metadata for spec in fields(SliceSettings) if spec.name == "min_utterances")
_FEWEST, _MOST = _COUNT["minimum"], _COUNT["maximum"]


def read_slices(raw: Any, problems: Problems) -> tuple[SliceSettings, ...]:
    """All entries that are right. `raw`: what stands under `slice` in `[gate]`, or None."""
    path: KeyPath = ("gate", "slice")
    if raw is None:
        return ()
    if not isinstance(raw, list):
        problems.add(path, f"expected an array of tables, found {kind_of(raw)}: write [[gate.slice]]")
        return ()
    if len(raw) > MOST_SLICES:
        problems.add(path, f"{len(raw)} slices, and there may be {MOST_SLICES}: leave out what decides nothing")
        return ()
    found = [_slice(entry, (*path, index), problems) for index, entry in enumerate(raw)]
    return tuple(item for item in found if item is not None)


def _slice(entry: Any, path: KeyPath, problems: Problems) -> SliceSettings | None:
    if not isinstance(entry, dict):
        problems.add(path, f"expected a table, found {kind_of(entry)}: write [[gate.slice]]")
        return None
    values: dict[str, Any] = {}
    sound = True
    for name, value in entry.items():
        typed, what = _typed(name, value)
        if what is not None:
            problems.add((*path, name), what)
            sound = False
        values[name] = typed
    for what in _missing(values) if sound else ():
        problems.add(path, what)
        sound = False
    return SliceSettings(**values) if sound else None


def _typed(name: str, value: Any) -> tuple[Any, str | None]:
    """(the value, None), or (None, what is wrong with it)."""
    if name not in _CHECKS:
        near = get_close_matches(name, _CHECKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"[[gate.slice]] has {', '.join(_CHECKS)}"
        return None, f"unknown key; {hint}"
    typed = _CHECKS[name](value)
    return (typed, None) if typed is not None else (None, f"expected {_EXPECTED[name]}, found {show(value)}")


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: Any) -> tuple[str, ...] | None:
    sound = isinstance(value, list) and 0 < len(value) <= MOST_VALUES and all(isinstance(item, str) for item in value)
    return tuple(dict.fromkeys(value)) if sound else None


def _edges(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list) or not 0 < len(value) <= MOST_EDGES or None in map(_number, value):
        return None
    return tuple(map(float, value)) if value[0] > 0 and all(a < b for a, b in pairwise(value)) else None


def _number(value: Any) -> float | None:
    try:
        sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return None
    return float(value) if sound and out_of_range(value, {}) is None else None


def _count(value: Any) -> int | None:
    sound = isinstance(value, int) and not isinstance(value, bool) and _FEWEST <= value <= _MOST
    return value if sound else None


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "by": _name,
    "values": _names,
    "edges": _edges,
    "domain_gain": _number,
    "heldout_regression": _number,
    "min_utterances": _count,
}
_EXPECTED = {
    "by": "the name of a field",
    "values": 'an array of strings, as in ["alice", "bob"]',
    "edges": f"1 to {MOST_EDGES} rising numbers of seconds, as in [2.0, 5.0]",
    "domain_gain": "a finite number of points",
    "heldout_regression": "a finite number of points",
    "min_utterances": f"a whole number from {_FEWEST} to {_MOST}",
}


def _missing(values: dict[str, Any]) -> list[str]:
    """What an entry of sound values lacks, or has too much of."""
    found = []
    if "by" not in values:
        found.append("by is missing: give duration, speaker, or another field of the manifest")
    if not any(name in values for name in _THRESHOLDS):
        found.append("a slice needs a threshold: give domain_gain, heldout_regression, or both")
    by_duration = values.get("by") == "duration"
    if by_duration and "edges" not in values:
        found.append("by = duration needs edges, the seconds where slices end, as in edges = [2.0, 5.0]")
    if by_duration and "values" in values:
        found.append("by = duration takes edges, not values")
    if not by_duration and "edges" in values:
        found.append("edges go with by = duration; for other fields give values, or nothing for all")
    return found


_OWN = {"seed", "sampler"}
"""Keys of [search] that are nothing to draw."""
_TOGETHER = {f"train.{key}" for key in (
    "steps", "eval_every", "learning_rate", "replay_share", "kl", "decay_to_base", "interpolate", "interpolate_last",
    "average",
)} | {"adapter.method", "data.selection_share"}  # fmt: skip
"""Keys that are right or wrong by each other's values."""
_MOST_CORNERS = 512
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
    sampler = raw.get("sampler", SAMPLERS[0])
    if sampler not in SAMPLERS:
        one_of = " or ".join(map(show, SAMPLERS))
        problems.add((*path, "sampler"), f"expected {one_of}, found {kind_of(sampler)}")
        sampler = SAMPLERS[0]
    ranges: dict[str, Range] = {}
    for key_path, value in _entries({key: value for key, value in raw.items() if key not in _OWN}, path):
        dotted = ".".join(str(part) for part in key_path[1:])
        section, _, name = dotted.partition(".")
        if section not in OVERRIDABLE or not name:
            where = f"{section} cannot be searched" if section in SECTIONS else "unknown key"
            problems.add(key_path, f"{where}; [search] has seed, sampler, and keys like train.learning_rate")
        elif dotted in ranges:
            problems.add(key_path, "is given twice")
        elif (found := _range(section, name, value, key_path, problems)) is not None:
            ranges[dotted] = found
    if not ranges and raw.keys() <= _OWN:
        problems.add(path, f"has nothing to draw from: give keys such as train.learning_rate = {_FORM}", "")
    _check(ranges, defaults, problems)
    return SearchSpace(seed, ranges, sampler)


def _entries(table: dict[str, Any], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Each dotted key with what it is to be drawn from."""
    for key, value in table.items():
        deeper = isinstance(value, dict) and not (value.keys() & set(_KINDS))
        if deeper and str(key) in SECTIONS:
            yield from leaves(value, (*path, key), tables_of(key))
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
    highest = defaults.train.learning_rate if rate is None else max(rate.values or (rate.high,))
    ratio = ranges.get("adapter.lora_plus")
    faster = defaults.adapter.lora_plus if ratio is None else max(ratio.values or (ratio.high,))
    asked = "train.learning_rate" if rate is not None else "adapter.lora_plus"
    if asked in ranges and highest * faster >= HIGH_LEARNING_RATE and not permitted:
        problems.add(
            _place(asked),
            f"reaches {rate_in_words(highest, faster)}, which is {HIGH_LEARNING_RATE:g} or more, where models forget "
            "what they knew; lower it, or set train.allow_high_learning_rate = true",
        )

    steps = _bound("train.steps", ranges, defaults.train.steps, max)
    every = _bound("train.eval_every", ranges, defaults.train.eval_every, min)
    searched = next((key for key in ("train.eval_every", "train.steps") if key in ranges), None)
    if searched is not None and (what := too_many_intervals(steps, every)) is not None:
        problems.add(_place(searched), what)

    for key, what in _unclear_corners(ranges, defaults):
        problems.add(_place(key), what)


def _unclear_corners(ranges: Mapping[str, Range], defaults: RunSettings) -> Iterator[tuple[str, str]]:
    """(searched key, what is wrong) where draws at the ends of the ranges are no run, each thing once.

    What is asked here gets no better between two ends. Of very many ends some are tried together, always the same.
    """
    ends = {
        key: found.values or tuple(int(end) if found.whole else end for end in (found.low, found.high))
        for key, found in ranges.items()
        if key in _TOGETHER
    }
    few, some = math.prod(map(len, ends.values())) <= _MOST_CORNERS, Random(0)
    corners: Iterator[tuple[Any, ...]] = product(*ends.values())
    if not few:
        corners = (tuple(e[int(some.random() * len(e))] for e in ends.values()) for _ in range(_MOST_CORNERS))
    told: set[str] = set()
    for values in corners:
        drawn = dict(zip(ends, values, strict=True))
        settings = complete(with_values(defaults, drawn))
        if too_many_intervals(settings.train.steps, settings.train.eval_every) is not None:
            continue  # which is told as such
        for key, what in (*unclear_candidates(settings), *unclear_pulls(settings)):
            searched = f"train.{key}" if f"train.{key}" in drawn else next(iter(drawn), "")
            if key not in told and searched:
                told.add(key)
                yield searched, what if searched == f"train.{key}" else f"train.{key}: {what}"


def _bound(dotted: str, ranges: Mapping[str, Range], default: int, pick: Callable[[Iterable[Any]], Any]) -> int:
    """The largest or the smallest value that a draw may take."""
    found = ranges.get(dotted)
    return default if found is None else int(pick(found.values or (found.low, found.high)))


def _place(dotted: str) -> KeyPath:
    return ("search", *dotted.split("."))


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

    defaults = RunSettings(**{f.name: with_keys(SECTIONS[f.name](), values[f.name]) for f in fields(RunSettings)})
    queue = with_keys(SECTIONS["queue"](), values["queue"])
    experiments = read_experiments(data.get("experiment"), problems)
    named = [{*one.overrides, *one.sweep} for one in experiments.values()]
    chosen = _NORMALISER in written or (bool(named) and all(_NORMALISER in keys for keys in named))
    gate = SECTIONS["gate"](**values["gate"], slice=slices, normaliser_chosen=chosen)
    defaults = with_keys(defaults, {"train.beams": gate.beams})
    history = read_history(data.get("history"), Unit(gate.unit), problems)
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


# `--set KEY=VALUE`: written into the parsed plan before it is checked, and checked like the file

_ALTERNATIVES = {"epochs": "batch_seconds", "batch_seconds": "epochs"}


def apply_overrides(
    data: dict[str, Any], overrides: Sequence[str], places: dict[KeyPath, str], problems: Problems
) -> dict[str, str]:
    """Write each `[ID:]SECTION.KEY=VALUE` into `data`, the last one winning, and its place into `places`.

    Gives the defaults that were set, with their places: an experiment with its own value calls for a warning.
    """
    defaults_set: dict[str, str] = {}
    for text in overrides:
        target, equals, raw = text.partition("=")
        experiment, colon, key = target.strip().rpartition(":")
        section, _, name = key.strip().partition(".")
        place: KeyPath = ("--set", text)
        places[place] = f"--set {text}"
        if not equals or not name or not raw.strip():
            problems.add(place, "expected KEY=VALUE, as in train.steps=60 or 2.1:train.steps=60", "")
            continue
        if section not in SECTIONS:
            problems.add(place, f"there is no section {section!r}; sections are {', '.join(SECTIONS)}", "")
            continue
        container: KeyPath = ()
        if colon:
            index = _experiment_index(data, experiment.strip())
            if index is None:
                problems.add(place, f"the plan has no experiment {experiment.strip()!r}", "")
                continue
            if section not in OVERRIDABLE:
                problems.add(place, f"{section} cannot differ between experiments: leave out {experiment}:", "")
                continue
            container = ("experiment", index)
            _end_sweep(data["experiment"][index], section, name)
        else:
            defaults_set[f"{section}.{name}"] = places[place]
        _write(data, (*container, section, *parts_of(section, name)), value_of(raw), places, places[place])
    return defaults_set


def _experiment_index(data: dict[str, Any], experiment: str) -> int | None:
    entries = data.get("experiment")
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict) and entry.get("id") == experiment:
            return index
    return None


def _end_sweep(entry: dict[str, Any], section: str, name: str) -> None:
    """A value set for one experiment is the only one that is wanted of a key that it sweeps over."""
    sweep = entry.get("sweep")
    if not isinstance(sweep, dict):
        return
    sweep.pop(f"{section}.{name}", None)
    *tables, last = section, *parts_of(section, name)
    nested: Any = sweep
    for table in tables:
        nested = nested.get(table) if isinstance(nested, dict) else None
    if isinstance(nested, dict):
        nested.pop(last, None)


def value_of(raw: str) -> Any:
    """A TOML value; a bare word is a string."""
    try:
        document = tomli.loads(f"value = {raw}")
    except (ValueError, RecursionError):  # also an integer of more than 4300 digits
        return raw.strip()
    return document["value"] if list(document) == ["value"] else raw.strip()


def _write(data: dict[str, Any], path: KeyPath, value: Any, places: dict[KeyPath, str], place: str) -> None:
    table: Any = data
    for part in path[:-1]:
        if isinstance(table, dict) and not isinstance(table.setdefault(part, {}), (dict, list)):
            return  # the file has something else there, which is a problem of its own
        table = table[part]
    if not isinstance(table, dict):
        return
    table[path[-1]] = value
    places[path] = place
    # Of the two ways to give the batch, the one set here replaces the file's, not another --set.
    other = (*path[:-1], _ALTERNATIVES.get(str(path[-1]), ""))
    if path[-2] == "train" and other not in places:
        table.pop(str(other[-1]), None)
