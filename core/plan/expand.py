"""From a plan to its rows: overrides applied, sweeps multiplied out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from core.plan.schema import DEFAULT_EPOCHS, MOST_INTERVALS, Experiment, Plan, Row, RunSettings, with_keys


def expand(plan: Plan) -> tuple[Row, ...]:
    """The rows in the plan's order, which is the order of running. A sweep's last key changes fastest."""
    return tuple(row for experiment in plan.experiments for row in experiment_rows(plan.defaults, experiment))


def experiment_rows(defaults: RunSettings, experiment: Experiment) -> tuple[Row, ...]:
    """The rows of one experiment: one, or one for each choice of its sweep's values."""
    choices = list(product(*experiment.sweep.values()))
    rows: list[Row] = []
    for number, values in enumerate(choices, 1):
        chosen = dict(zip(experiment.sweep, values, strict=True))
        rows.append(
            Row(
                key=experiment.id if not experiment.sweep else f"{experiment.id}#{number}",
                experiment=experiment.id,
                title=experiment.title,
                label=" ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in chosen.items()),
                settings=complete(with_values(defaults, {**experiment.overrides, **chosen})),
                after=experiment.after,
                when=experiment.when,
                adapter_from=experiment.adapter_from,
            )
        )
    return tuple(rows)


def with_values(settings: RunSettings, values: Mapping[str, Any]) -> RunSettings:
    """`settings` with the dotted keys of `values` replaced.

    `epochs` and `batch_seconds` both say how large the batch is: whichever `values` gives replaces the other.
    """
    if "train.epochs" in values:
        values = {"train.batch_seconds": None, **values}
    elif "train.batch_seconds" in values:
        values = {**values, "train.epochs": None}
    return with_keys(settings, values)


def complete(settings: RunSettings) -> RunSettings:
    """Fill in what follows from other keys: epochs if no batch is given, no share of absent replay."""
    train = settings.train
    if train.epochs is None and train.batch_seconds is None:
        train = replace(train, epochs=DEFAULT_EPOCHS)
    if settings.data.replay is None:
        train = replace(train, replay_share=0.0)
    return replace(settings, train=train)


def interval_steps(steps: int, eval_every: int) -> tuple[int, ...]:
    """The steps at which a run is evaluated after interval 0: every `eval_every`, and at its last step."""
    return (*range(eval_every, steps, eval_every), steps)


def too_many_intervals(steps: int, eval_every: int) -> str | None:
    """What is wrong with so many intervals; None when they are not too many."""
    count = -(-steps // eval_every)
    if count <= MOST_INTERVALS:
        return None
    what = f"{steps} steps with eval_every = {eval_every} give {count} intervals (full evaluations), and a run has"
    return f"{what} at most {MOST_INTERVALS}: raise eval_every"


def matches(row: Row, only: Collection[str]) -> bool:
    """Whether `--only` asks for this row, by its experiment (`3.1`) or its key (`3.1#2`); repeats go with their row."""
    return row.experiment in only or row.key in only or row.confirms in only


def unknown_ids(rows: Sequence[Row], only: Collection[str]) -> tuple[str, ...]:
    """What `--only` names but the plan does not hold."""
    known = {row.experiment for row in rows} | {row.key for row in rows if row.confirms is None}
    return tuple(dict.fromkeys(name for name in only if name not in known))


def short(value: Any) -> str:
    """A value as it stands in a row's label: `5e-05`, `q_proj+v_proj`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "+".join(short(item) for item in value)
    return str(value)
