"""Runs that a row of the plan would be, but for other settings or other data: named, never judged in its place."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import PlanError
from core.plan.identity import EXCLUDED, LATER, augment_settings, counts, identity_facts
from core.plan.read import parse_plan
from core.plan.rows import expand
from core.plan.schema import Row, RunSettings
from core.plan.validate import leaves, tables_of
from core.queue.execution import PlanExecution
from core.queue.run_status import RecordedRun, newest_first
from core.runs.contents import MODEL
from core.runs.paths import RunPaths

SHOWN = 3
"""Of the near runs of a row that are named; the others are counted."""
_MODULES = "adapter.target_modules"
_AUGMENT = "train.augment."
_WRITTEN = {"train.beams": "gate.beams"}
"""What a plan calls a setting, where that is another name."""
_EARLIER = {_WRITTEN.get(name, name): value for name, value in LATER.items()}
"""What runs were made with that do not say so: an identity has none of it either."""
_NOT_YET = object()
"""In place of a value that the row does not have yet."""
Flat = Mapping[str, Any]
"""Settings that decide the result: `section.key` → value, as JSON has it."""


@dataclass(frozen=True, slots=True)
class NearRun:
    """A run of a row's experiment that is another run than the row's."""

    run: RunPaths
    row: Row
    why: str
    """In what it differs, and what to add to judge it where that can be said: one sentence."""


def near_runs(execution: PlanExecution) -> list[NearRun]:
    """The runs of the plan's experiments that none of its rows is, each with the row that it is nearest to.

    The newest first. Rows that are drawn, and repeats with other seeds, are nobody's neighbours: there are too many.
    """
    rows: dict[str, list[Row]] = {}
    for row in execution.rows:
        if row.confirms is None and not row.drawn:
            rows.setdefault(row.experiment, []).append(row)
    taken = {run for _, run in execution.started()} | {
        run for assigned in execution.assigned.values() for run in execution.others(assigned)
    }
    taken_names = {run.name for run in taken} | set(execution.replaced)
    strangers = {
        run.run: run for run in execution.recorded.all if run.experiment in rows and run.run.name not in taken_names
    }
    facts = {row.key: _of_row(execution, row) for some in rows.values() for row in some} if strangers else {}
    found: list[NearRun] = []
    for paths in newest_first(strangers):
        run = strangers[paths]
        theirs = _theirs(run)
        row = min(rows[run.experiment], key=lambda row: len(_differing(facts[row.key], theirs)))
        found.append(NearRun(paths, row, _why(execution, run, row, _differing(facts[row.key], theirs))))
    return found


def _of_row(execution: PlanExecution, row: Row) -> Flat:
    """With the architecture that it was given; without one while it waits for that."""
    assigned = execution.assigned.get(row.key)
    facts = dict(_facts(row.settings if assigned is None else assigned.resolved.settings))
    if row.adapter_from and assigned is None:
        facts[_MODULES] = _NOT_YET
    return facts


def named(runs: Sequence[NearRun]) -> str:
    """The sentences of the near runs of one row, the newest first; nothing where there are none."""
    more = [f"and {len(runs) - SHOWN} more"] if len(runs) > SHOWN else []
    return "; ".join([*(f"{near.run.name} {near.why}" for near in runs[:SHOWN]), *more])


def _why(execution: PlanExecution, run: RecordedRun, row: Row, differing: Flat) -> str:
    clauses = []
    if differing:
        options = _options(execution, row, run, differing)
        values = ", ".join(f"{name} = {_value(value)}" for name, value in differing.items())
        it = "it" if len(differing) == 1 else "them"
        clauses.append(f"was made with {options}: add {it} to judge it" if options else f"was made with {values}")
    comparison = run.compared(row.settings, execution.contents(row))
    clauses += comparison.differing
    clauses += [
        f"{key} was {path} there"
        for key, path in _paths(run)
        if comparison.differing and any(key in sentence for sentence in comparison.differing)
    ]
    if not clauses and row.adapter_from:
        waits = ", ".join(row.adapter_from)
        clauses.append(
            f"has the row's own target modules, but the row takes those of {waits}, which have not ended: "
            f"add --only {shlex.quote(row.key)} to judge it"
        )
    return "; ".join(clauses) or "has another identity: another version of lora-tui made it"


def _options(execution: PlanExecution, row: Row, run: RecordedRun, differing: Flat) -> str:
    """`--set …` for the plan to mean this run's settings, if there is such; tried out, not guessed."""
    if any(value is None for value in differing.values()) or (row.adapter_from and _MODULES in differing):
        return ""
    submission = execution.submission
    for prefix in ("", f"{row.experiment}:"):
        sets = [f"{prefix}{name}={_value(value)}" for name, value in differing.items()]
        try:
            plan = parse_plan(submission.plan_text, submission.plan_path, (*submission.overrides, *sets))
        except PlanError:
            continue
        rows = [other for other in expand(plan) if other.experiment == row.experiment]
        ours = [dict(_facts(other.settings)) for other in rows]
        if row.adapter_from:
            ours = [one | {_MODULES: _NOT_YET} for one in ours]
        if any(not _differing(one, _theirs(run)) for one in ours):
            return " ".join(f"--set {shlex.quote(one)}" for one in sets)
    return ""


def _differing(ours: Flat, theirs: Flat) -> dict[str, Any]:
    """`section.key` → the run's value, where it is another than the row's. What older runs did not record is off."""
    names = sorted(ours.keys() | theirs.keys())
    return {
        name: theirs.get(name)
        for name in names
        if ours.get(name) is not _NOT_YET and (theirs.get(name) or None) != (ours.get(name) or None)
    }


def _facts(settings: RunSettings) -> Flat:
    return _EARLIER | dict(_flat(json.loads(json.dumps(identity_facts(settings, {})["settings"]))))


def _theirs(run: RecordedRun) -> Flat:
    found = _EARLIER | {name: value for name, value in _flat(run.settings) if counts(name, value)}
    found = {name: value for name, value in found.items() if not name.startswith(_AUGMENT)}
    train = run.settings.get("train")
    augment = train.get("augment") if isinstance(train, dict) else None
    with contextlib.suppress(TypeError):  # a run of another version
        acting = augment_settings(augment or {}).acting()
        found |= {f"{_AUGMENT}{name}": value for name, value in acting.items() if f"{_AUGMENT}{name}" not in EXCLUDED}
    modules = found.get(_MODULES)
    if isinstance(modules, list):
        found[_MODULES] = sorted(set(map(str, modules)))
    return found


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section in ("data", "train", "adapter"):
        values = settings.get(section)
        for path, value in leaves(values, (section,), tables_of(section)) if isinstance(values, dict) else ():
            name = ".".join(map(str, path))
            yield _WRITTEN.get(name, name), value


def _paths(run: RecordedRun) -> Iterator[tuple[str, str]]:
    """What the run names of its contents: `data.train` and its path, `model` and its id."""
    data, model = run.settings.get("data"), run.settings.get(MODEL)
    for key, value in data.items() if isinstance(data, dict) else ():
        if f"data.{key}" in EXCLUDED and isinstance(value, str):
            yield f"data.{key}", value
    if isinstance(model, dict) and isinstance(model.get("id"), str):
        yield MODEL, model["id"]


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)
