"""All rows that a plan may come to: its own, the draws of its search, and each with its repeats. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from core.plan.expand import expand
from core.plan.schema import Plan, Row, RunSettings
from core.plan.search import search_rows


def all_rows(plan: Plan) -> tuple[Row, ...]:
    """Each row with the repeats that `gate.confirm_seeds` asks for behind it.

    Drawn rows and repeats are there from the start, so that everybody knows their names; whether and when they run
    `next_action` says, and `shown` whether anybody has to see them.
    """
    rows = expand(plan)
    if plan.queue.then == "search" and plan.search is not None:
        count = plan.queue.max_runs
        rows += search_rows(plan.defaults, plan.search, count, (row.settings for row in rows))
    return tuple(row for base in rows for row in (base, *repeats(base, plan.gate.confirm_seeds)))


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


def seeds_confirmed(rows: Sequence[Row], accepted: Mapping[str, bool | None]) -> dict[str, tuple[int, int]]:
    """Row key → (other seeds accepted, other seeds asked for), for rows that have repeats.

    `accepted`: whether a row's own run was accepted; None or missing: not known.
    """
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.confirms is not None:
            count, of = found.get(row.confirms, (0, 0))
            found[row.confirms] = count + (accepted.get(row.key) is True), of + 1
    return found
