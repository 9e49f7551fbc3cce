"""How experiments refer to each other: `after`, `adapter_from` and `when`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from core.plan.conditions import ConditionError, parse_condition
from core.plan.lines import KeyPath
from core.plan.schema import Experiment
from core.plan.validate import Problems


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
