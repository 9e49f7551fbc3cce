"""All rows that a plan may come to: its own, the random draws of its search, and each with its repeats. Pure.

Its own are its experiments with their overrides applied and their sweeps multiplied out.

A random draw is a function of the seed, its number and the key alone: neither the results so far nor other keys move
it, and everybody who reads the plan names the same rows. A search that learns from results draws one row after the
other, and writes each down (`core.queue.search`): `all_rows` is given what it drew.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

from core.plan.identity import run_identity
from core.plan.schema import (
    DEFAULT_EPOCHS,
    MOST_INTERVALS,
    Experiment,
    Plan,
    Range,
    Row,
    RunSettings,
    SearchSpace,
    with_keys,
)

# The rows of experiments


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


# The draws of a search, and repeats with other seeds

EXPERIMENT = "search"
"""The experiment of drawn rows, and the name of their run folders."""
NEXT_DRAW = f"{EXPERIMENT}#next"
"""Key of the row that a search that learns is still to draw. It has no run."""
TITLES = {"random": "Random search", "tpe": "Search by TPE"}
"""Of drawn rows, by the sampler."""
_DIGITS = 3
"""Significant digits of a drawn number: enough for a search, and people can read them."""
_MOST_ROWS = 1000
_TRIES = 10
"""So many draws for each row that is wanted: a small space of choices has no more rows to give."""


def draw(space: SearchSpace, number: int) -> dict[str, Any]:
    """The values of draw `number` (from 1), by dotted key."""
    return {
        key: _value(wanted, Random(f"{space.seed}/{number}/{key}").random()) for key, wanted in space.ranges.items()
    }


Draws = Mapping[int, Mapping[str, Any]]
"""Number of a draw (from 1) → its values, by dotted key."""


def search_rows(
    defaults: RunSettings,
    space: SearchSpace,
    count: int,
    others: Iterator[RunSettings] | None = None,
    drawn: Draws | None = None,
) -> tuple[Row, ...]:
    """At most `count` rows `search#N`, each with settings that neither `others` nor an earlier row has.

    N is the number of the draw: a draw that repeats something leaves a gap. `drawn`: what a search that learns has
    drawn so far; behind its rows stands NEXT_DRAW, in whose turn the next one is drawn, until there are `count`.
    """
    seen = {run_identity(settings, {}) for settings in others or ()}
    wanted = min(count, _MOST_ROWS)
    learns = space.sampler != "random"
    rows: list[Row] = []
    for number in sorted(drawn or {}) if learns else range(1, _TRIES * wanted + 1):
        if len(rows) == wanted:
            break
        values = (drawn or {})[number] if learns else draw(space, number)
        settings = complete(with_values(defaults, values))
        identity = run_identity(settings, {})
        if identity not in seen:
            seen.add(identity)
            label = " ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in values.items())
            rows.append(Row(f"{EXPERIMENT}#{number}", EXPERIMENT, TITLES[space.sampler], label, settings, drawn=True))
    if learns and len(rows) < wanted:
        rows.append(Row(NEXT_DRAW, EXPERIMENT, TITLES[space.sampler], "", complete(defaults), drawn=True))
    return tuple(rows)


def in_words(wanted: Range) -> str:
    """`log-uniform 2e-05 … 0.00015`, `one of 8, 16`."""
    if wanted.values:
        return f"one of {', '.join(map(short, wanted.values))}"
    return f"{wanted.kind.replace('_', '-')} {short(wanted.low)} … {short(wanted.high)}"


def _value(wanted: Range, u: float) -> Any:
    """The value at `u` in [0, 1). Uses nothing of `random` but that: its other methods have changed over versions."""
    if wanted.values:
        return wanted.values[int(u * len(wanted.values))]
    low, high = wanted.low, wanted.high
    if wanted.whole:
        # Each whole number has its own stretch: from n − ½ to n + ½.
        low, high = low - 0.5, high + 0.5
    if wanted.kind == "log_uniform":
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    return rounded(wanted, value)


def rounded(wanted: Range, value: float) -> int | float:
    """A number of a range as a draw has it: whole, or of three significant digits."""
    if wanted.whole:
        return int(min(max(math.floor(value + 0.5), wanted.low), wanted.high))
    return min(max(float(f"{value:.{_DIGITS}g}"), wanted.low), wanted.high)


def all_rows(plan: Plan, drawn: Draws | None = None) -> tuple[Row, ...]:
    """Each row with the repeats that `gate.confirm_seeds` asks for behind it.

    `drawn`: what a search that learns has drawn.

    Drawn rows and repeats are there from the start, so that everybody knows their names; whether and when they run
    `next_action` says, and `shown` whether anybody has to see them.
    """
    rows = expand(plan)
    if plan.queue.then == "search" and plan.search is not None:
        count = plan.queue.max_runs
        rows += search_rows(plan.defaults, plan.search, count, (row.settings for row in rows), drawn)
    repeated = plan.gate.confirm_seeds
    return tuple(row for base in rows for row in (base, *repeats(base, repeated if base.key != NEXT_DRAW else 0)))


def repeats(base: Row, count: int) -> tuple[Row, ...]:
    """`2.1@seed1`, `2.1@seed2`, … with the seeds that follow the row's own."""
    first = base.settings.train.seed + 1
    return tuple(
        Row(
            key=f"{base.key}@seed{seed}",
            experiment=base.experiment,
            title=base.title,
            label=f"{base.label} seed={seed}".strip(),
            settings=with_seed(base.settings, seed),
            confirms=base.key,
            drawn=base.drawn,
        )
        for seed in range(first, first + count)
    )


def with_seed(settings: RunSettings, seed: int) -> RunSettings:
    """The same settings with another seed."""
    return replace(settings, train=replace(settings.train, seed=seed))


def shown(rows: Sequence[Row], begun: Collection[str]) -> list[Row]:
    """The rows to show: the plan's own, and of drawn rows and repeats those whose keys are in `begun`."""
    return [row for row in rows if not (row.drawn or row.confirms) or row.key in begun]
