"""`--set KEY=VALUE`: written into the parsed plan before it is checked, and checked like the file. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tomli

from core.plan.lines import KeyPath
from core.plan.validate import OVERRIDABLE, SECTIONS, Problems, parts_of

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
