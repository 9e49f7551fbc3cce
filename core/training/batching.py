"""Batch plans: which clips every step sees, computed before training starts.

A plan is a pure function of clip lengths, budget and seed, so step n's batch needs no loader state and resume is
exact by construction (docs/design.md, "Resuming"). Its hash goes into the evidence of a verdict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import PlanError
from core.plan.fits import clip_count, wrong_batches

WINDOW = 16
"""Micro-batches that are sorted by length together: less padding, still a fair mixture."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Clip numbers in the training and the replay manifest."""

    train: tuple[int, ...]
    replay: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """`steps[n - 1]` holds the micro-batches of step n."""

    steps: tuple[tuple[MicroBatch, ...], ...]
    hash: str
    train_seconds_per_step: float
    epochs: float


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def training_plan(
    train_s: Sequence[float] | NDArray[np.float64],
    replay_s: Sequence[float] | NDArray[np.float64],
    *,
    steps: int,
    accumulation: int,
    train_seconds_per_step: float,
    replay_share: float,
    seed: int,
    cost_s: Callable[[float], float] = float,
) -> TrainingPlan:
    """The plan for clips of the given durations (seconds). Raises PlanError for steps without a clip, or too large.

    `cost_s`: what the encoder computes over for a clip of such a length; micro-batches are cut to have equal shares
    of that.
    """
    train = np.asarray(train_s, dtype=np.float64)
    replay = np.asarray(replay_s, dtype=np.float64)
    groups = steps * accumulation
    total_s = train_seconds_per_step * steps
    wrong = wrong_batches(
        train.tolist(), replay.tolist(), micro_batches=groups, train_total_s=total_s, replay_share=replay_share
    )
    if wrong is not None:
        raise PlanError(wrong)
    random = np.random.default_rng([seed, 1])
    streams = [_groups(train, groups, total_s, random, cost_s)]
    if replay_share > 0 and len(replay):
        replay_total_s = total_s * replay_share / (1.0 - replay_share)
        streams.append(_groups(replay, groups, replay_total_s, random, cost_s))
    else:
        streams.append([()] * groups)
    pairs = [MicroBatch(*pair) for pair in zip(*streams, strict=True)]
    planned = tuple(tuple(pairs[n * accumulation : (n + 1) * accumulation]) for n in range(steps))
    used = sum(float(train[list(micro.train)].sum()) for micro in pairs)
    return TrainingPlan(
        steps=planned,
        hash=_digest([[(m.train, m.replay) for m in step] for step in planned]),
        train_seconds_per_step=train_seconds_per_step,
        epochs=used / float(train.sum()),
    )


def _groups(
    seconds: NDArray[np.float64],
    groups: int,
    total_s: float,
    random: np.random.Generator,
    cost_s: Callable[[float], float],
) -> list[tuple[int, ...]]:
    """`groups` lists of clips that together hold about `total_s` seconds, passing over all clips before any again."""
    count = clip_count(seconds.tolist(), total_s)
    passes = -(-count // len(seconds))
    stream = np.concatenate([random.permutation(len(seconds)) for _ in range(passes)])[:count]
    cost = np.array([cost_s(float(length)) for length in seconds])
    result: list[tuple[int, ...]] = []
    edges = np.linspace(0, count, groups + 1).round().astype(int)
    for start in range(0, groups, WINDOW):
        stop = min(start + WINDOW, groups)
        window = stream[edges[start] : edges[stop]]
        window = window[np.argsort(seconds[window], kind="stable")]
        cuts = _even_cuts(cost[window], stop - start)
        parts = [tuple(int(i) for i in part) for part in np.split(window, cuts)]
        result.extend(parts[i] for i in random.permutation(len(parts)))
    return result


def _even_cuts(seconds: NDArray[np.float64], parts: int) -> list[int]:
    """Where to cut so that the parts hold about equal seconds and none is empty."""
    cumulative = np.cumsum(seconds)
    targets = cumulative[-1] * np.arange(1, parts) / parts
    cuts = np.searchsorted(cumulative, targets) + 1
    for i in range(len(cuts)):
        low = (cuts[i - 1] if i else 0) + 1
        cuts[i] = min(max(int(cuts[i]), low), len(seconds) - (parts - 1 - i))
    return [int(cut) for cut in cuts]


def alike(costs_s: Sequence[float], overhead_s: float) -> list[list[int]]:
    """The clips of a micro-batch in the groups that cost least: each clip costs what the longest of its group does.

    `costs_s`: what the encoder computes over for each clip; `overhead_s`: what one more group costs, in the same unit.
    Groups come with ascending lengths, and the clips of each in their own order.
    """
    order = np.argsort(np.asarray(costs_s), kind="stable")
    sorted_s = np.asarray(costs_s, dtype=np.float64)[order]
    least = np.zeros(
        len(order) + 1
    )  # of the first n clips, each by dynamic programming over where the last group begins
    begins = np.zeros(len(order), dtype=int)
    for last, longest in enumerate(sorted_s):
        costs = least[: last + 1] + np.arange(last + 1, 0, -1) * longest
        begins[last] = int(costs.argmin())
        least[last + 1] = costs[begins[last]] + overhead_s
    groups: list[list[int]] = []
    end = len(order)
    while end:
        begin = int(begins[end - 1])
        groups.append(sorted(int(i) for i in order[begin:end]))
        end = begin
    return groups[::-1]


def evaluation_batches(
    lengths_s: Sequence[float], budget_s: float, cost_s: Callable[[float], float] = float
) -> list[list[int]]:
    """Clips sorted by length, longest first (so that memory runs out at once or never), padded seconds ≤ `budget_s`.

    `cost_s`: what the encoder computes over for a clip of such a length. A single clip over the budget is a batch of
    its own.
    """
    order = sorted(range(len(lengths_s)), key=lambda i: (-lengths_s[i], i))
    batches: list[list[int]] = []
    for index in order:
        if batches and cost_s(lengths_s[batches[-1][0]]) * (len(batches[-1]) + 1) <= budget_s:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def plan_hash(batches: Sequence[Sequence[int]]) -> str:
    """16 hex digits over an evaluation's batch plan."""
    return _digest([list(batch) for batch in batches])
