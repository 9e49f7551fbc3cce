"""Choosing utterances from a pool: stratified, shuffled so that every part is a fair sample, reproducible. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.manifests.manifest import Utterance

BINS = 5
"""Equal parts into which durations and other numbers are cut."""


class FieldMissing(ValueError):
    """No utterance of the pool has the field that the strata were asked over."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, by position in the pool, in the order to write; kept ones come as -1 - position."""

    order: tuple[int, ...]
    strata: Mapping[tuple[str, ...], tuple[int, int]]
    """Stratum to (in the pool and kept, chosen)."""


def choose(
    pool: Sequence[Utterance],
    kept: Sequence[Utterance],
    size: int,
    seed: int,
    fields: Sequence[str],
    seconds: Callable[[Utterance], float],
) -> Choice:
    """`size` utterances: all of `kept`, and from `pool` what brings each stratum to its share of the two together.

    `fields` are speaker, duration or names of other fields. Raises FieldMissing. Fewer when the pool is too small.
    """
    rng = random.Random(seed)
    everything = [*pool, *kept]
    labels = _labels(everything, fields, seconds)
    members: dict[tuple[str, ...], list[int]] = {}
    for index in range(len(pool)):
        members.setdefault(labels[index], []).append(index)
    have = Counter(labels[len(pool) :])
    for stratum in sorted(members):
        rng.shuffle(members[stratum])
    room = {stratum: len(found) for stratum, found in members.items()}
    wanted = _shares(Counter(labels), min(size, len(everything)), have, room, rng)
    chosen: dict[tuple[str, ...], list[int]] = {}
    for stratum in sorted(set(labels)):
        picks = members.get(stratum, [])[: wanted.get(stratum, 0)]
        chosen[stratum] = picks + [-1 - i for i in range(len(kept)) if labels[len(pool) + i] == stratum]
    totals = Counter(labels)
    strata = {stratum: (totals[stratum], len(found)) for stratum, found in chosen.items()}
    return Choice(tuple(_fair_order(chosen, rng)), strata)


def _shares(
    totals: Mapping[tuple[str, ...], int],
    size: int,
    have: Mapping[tuple[str, ...], int],
    room: Mapping[tuple[str, ...], int],
    rng: random.Random,
) -> dict[tuple[str, ...], int]:
    """How many to take of each stratum: its share of `size` (largest remainders, ties by chance), less what it has."""
    everything = sum(totals.values())
    exact = {stratum: size * count / everything for stratum, count in totals.items()}
    take = {s: min(room.get(s, 0), max(0, math.floor(exact[s]) - have.get(s, 0))) for s in totals}
    # Strata smaller than one utterance are common (speaker by duration): chance decides among equal remainders.
    missing = size - sum(take.values()) - sum(have.values())
    order = sorted(totals, key=lambda s: (take[s] + have.get(s, 0) - exact[s], rng.random()))
    while missing > 0:
        before = missing
        for stratum in order:
            if missing > 0 and take[stratum] < room.get(stratum, 0):
                take[stratum] += 1
                missing -= 1
        if missing == before:
            break
    # Kept ones may crowd a stratum beyond its share: the largest others give way.
    while missing < 0 and any(take.values()):
        largest = max(take, key=lambda s: (take[s], s))
        take[largest] -= 1
        missing += 1
    return take


def _fair_order(chosen: Mapping[tuple[str, ...], Sequence[int]], rng: random.Random) -> list[int]:
    """Each stratum spread evenly over the whole, from a random start: any contiguous part holds its share of each."""
    placed: list[tuple[float, float, int]] = []
    for stratum in sorted(chosen):
        items = list(chosen[stratum])
        rng.shuffle(items)
        start = rng.random()
        placed += [((place + start) / len(items), rng.random(), item) for place, item in enumerate(items)]
    return [item for _, _, item in sorted(placed)]


def _labels(
    utterances: Sequence[Utterance], fields: Sequence[str], seconds: Callable[[Utterance], float]
) -> list[tuple[str, ...]]:
    """Each utterance's stratum: one word a field."""
    columns = [_column(utterances, name, seconds) for name in fields]
    return list(zip(*columns, strict=True)) if columns else [()] * len(utterances)


def _column(utterances: Sequence[Utterance], name: str, seconds: Callable[[Utterance], float]) -> list[str]:
    values: list[object]
    if name == "duration":
        values = [seconds(utterance) for utterance in utterances]
    elif name == "speaker":
        values = [utterance.speaker for utterance in utterances]
    elif name == "channel":
        values = [None if utterance.channel is None else str(utterance.channel) for utterance in utterances]
    else:
        values = [utterance.extra.get(name) for utterance in utterances]
    known = [value for value in values if value is not None]
    if not known:
        raise FieldMissing(name)
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        numbers = sorted(float(value) for value in known)  # type: ignore[arg-type]
        edges = [numbers[len(numbers) * part // BINS] for part in range(1, BINS)]
        return ["?" if v is None else _bin(name, float(v), edges) for v in values]  # type: ignore[arg-type]
    return ["?" if value is None else str(value) for value in values]


def _bin(name: str, value: float, edges: Sequence[float]) -> str:
    above = sum(value >= edge for edge in edges)
    low = f"{edges[above - 1]:.3g}" if above else ""
    high = f"{edges[above]:.3g}" if above < len(edges) else ""
    return f"{name} {low}…{high}"
