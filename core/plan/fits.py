"""What a run needs to start: clips to train on, enough of them for each micro-batch. Pure.

The trainer and `lora-tui plan` ask the same functions and say the same sentences, so that no run dies of what its plan
could have told.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from core.plan.schema import DEFAULT_EPOCHS, DataSettings, TrainSettings

MOST_EPOCHS = 20
"""Passes over few clips that a new plan begins with, at most."""
MOST_DRAWN = 100_000_000
"""Clips in all micro-batches of a run together, which are chosen before its first step: ten to each of MOST_STEPS."""
MOST_AT_ONCE_S = 24 * 3600.0
"""Seconds of speech in one micro-batch: a day of it fits no memory, and is a slip of the keyboard."""


def left_out(seconds: float, text: str, data: DataSettings, longest: float) -> str | None:
    """Why a training clip cannot be used; None: it can, by its length and text. `longest`: what the model hears."""
    if seconds > data.max_seconds:
        return f"longer than data.max_seconds = {data.max_seconds:g}"
    if seconds > longest:
        return f"longer than the model's limit of {longest:g} s"
    return None if text.strip() else "no text"


def nothing_left(name: str, manifest: str, reasons: Collection[str]) -> str:
    """What to say of a set of which every clip was left out."""
    why = "; ".join(reasons)
    return f"data.{name}: no clip of {manifest} can be trained on ({why}); mend the manifest or raise data.max_seconds"


def seconds_per_step(
    train_seconds: float, steps: int, epochs: float | None, batch_seconds: float | None, replay_share: float
) -> float:
    """Training (not replay) seconds in a step, from either way of giving the batch."""
    if batch_seconds is not None:
        return batch_seconds * (1.0 - replay_share)
    return train_seconds * (epochs or DEFAULT_EPOCHS) / steps


def share_of_seconds(train: TrainSettings, own: tuple[float, float], replay: tuple[float, float]) -> float:
    """`train.replay_share` as a share of seconds.

    `own`, `replay`: (seconds, tokens) of all training and all replay clips. A share of tokens takes as many seconds of
    replay as hold these tokens on average.
    """
    share = train.replay_share
    if train.replay_share_by == "seconds" or min(*own, *replay) <= 0:
        return share
    ratio = share / (1.0 - share) * (own[1] / own[0]) / (replay[1] / replay[0])
    return ratio / (1.0 + ratio)


def clip_count(seconds: Sequence[float], total_s: float) -> int:
    """How many clips of these durations together hold about `total_s` seconds."""
    return round(total_s * len(seconds) / math.fsum(seconds))


def wrong_batches(
    train_s: Sequence[float],
    replay_s: Sequence[float],
    *,
    micro_batches: int,
    train_total_s: float,
    replay_share: float,
) -> str | None:
    """What is wrong when some micro-batch would get no clip, or more than can be trained on at once.

    None: each gets one of training and of replay speech.
    """
    streams = [(train_s, train_total_s, "training")]
    if replay_share > 0 and len(replay_s):
        streams.append((replay_s, train_total_s * replay_share / (1.0 - replay_share), "replay"))
    for seconds, total_s, what in streams:
        count = clip_count(seconds, total_s)
        keys = ("train.replay_share, " if what == "replay" else "") + "train.epochs or train.batch_seconds"
        if total_s > MOST_AT_ONCE_S * micro_batches:
            each = f"{total_s / micro_batches:.3g} s of {what} speech in each micro-batch"
            return f"{keys}: {each} are more than a day of it, which fits no memory; lower {keys}"
        if count > MOST_DRAWN:
            return f"{keys}: {count} {what} clips are more than a run goes through ({MOST_DRAWN}); lower {keys}"
        if count < micro_batches:
            return (
                f"{keys}: {count} {what} clips in {micro_batches} micro-batches leave some without one; raise {keys}, "
                "or lower train.steps or train.accumulation"
            )
    return None


def batches_fit(train_s: Sequence[float], replay_s: Sequence[float], train: TrainSettings) -> str | None:
    """`wrong_batches` for the settings of a run."""
    share = train.replay_share if len(replay_s) else 0.0
    each = seconds_per_step(math.fsum(train_s), train.steps, train.epochs, train.batch_seconds, share)
    return wrong_batches(
        train_s,
        replay_s,
        micro_batches=train.steps * train.accumulation,
        train_total_s=each * train.steps,
        replay_share=share,
    )


def steps_and_epochs(train_s: Sequence[float], replay_s: Sequence[float]) -> tuple[int, float]:
    """What a new plan for these clips begins with: the defaults, or as many passes more as give each step a clip.

    Where MOST_EPOCHS are not enough for that, fewer steps.
    """
    wanted = TrainSettings(epochs=DEFAULT_EPOCHS)
    if not len(train_s):
        return wanted.steps, DEFAULT_EPOCHS
    for epochs in (DEFAULT_EPOCHS, *range(math.ceil(DEFAULT_EPOCHS), MOST_EPOCHS + 1)):
        if batches_fit(train_s, replay_s, replace(wanted, epochs=float(epochs))) is None:
            return wanted.steps, float(epochs)
    counts = range(wanted.steps, 1, -1)
    most = replace(wanted, epochs=float(MOST_EPOCHS))
    fitting = (steps for steps in counts if batches_fit(train_s, replay_s, replace(most, steps=steps)) is None)
    return next(fitting, 1), float(MOST_EPOCHS)


def in_rows(problems: Mapping[str, Sequence[str]], rows: int) -> list[str]:
    """Each problem once, with the keys of the rows that have it, where not all of the `rows` do."""
    return [text if len(keys) == rows else f"{', '.join(keys)}: {text}" for text, keys in problems.items()]
