"""Weights & Biases. Project, entity and mode come from its own variables (WANDB_PROJECT, WANDB_MODE, …)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from core.sinks.sink import Point, Subject

PROJECT = "lora-tui"


class WeightsAndBiases:
    """One W&B run for each run; a resumed one goes on in it."""

    def __init__(self, subject: Subject) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=subject.identity,
            name=subject.name,
            resume="allow",
            config=dict(subject.facts),
            dir=str(subject.folder),
            # The process has nothing to print, and no code of the user's runs in it.
            settings=wandb.Settings(console="off", disable_code=True, disable_git=True, silent=True),
        )

    def send(self, points: Sequence[Point]) -> None:
        """One row of history for each step."""
        for point in points:
            self._run.log(dict(point.values), step=point.step)

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """The verdict becomes the summary."""
        if outcome is not None:
            self._run.summary.update(dict(outcome))
        self._run.finish(exit_code=0 if outcome is None or outcome.get("state") == "done" else 1)


def open_sink(subject: Subject) -> WeightsAndBiases:
    """Online, offline or disabled, as WANDB_MODE says."""
    subject.folder.mkdir(parents=True, exist_ok=True)
    return WeightsAndBiases(subject)
