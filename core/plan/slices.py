"""Reads the `[[gate.slice]]` entries of a plan. Pure; faults become problems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from core.plan.lines import KeyPath
from core.plan.schema import SliceSettings
from core.plan.validate import Problems, kind_of, out_of_range, show
from core.scoring.slices import MOST_EDGES, MOST_SLICES, MOST_VALUES

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
