"""trackio, Hugging Face's local tracker: `trackio show` opens it. Its own variables: TRACKIO_DIR, TRACKIO_SPACE_ID."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import trackio

from core.sinks.sink import Point, Subject

PROJECT = "lora-tui"


class Trackio:
    """One trackio run for each run."""

    def __init__(self, subject: Subject) -> None:
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=subject.name,
            config={key: value for key, value in subject.facts.items() if not key.startswith("_")},
            space_id=os.environ.get("TRACKIO_SPACE_ID"),
            resume="allow",
            embed=False,
        )

    def send(self, points: Sequence[Point]) -> None:
        """One row for each step; its store is JSON, which has no word for what is not finite."""
        for point in points:
            self._run.log({k: v for k, v in point.values.items() if math.isfinite(v)}, step=point.step)

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """The verdict becomes a last row, so that the table of runs shows it."""
        if outcome is not None:
            self._run.log({f"outcome/{key}": value for key, value in outcome.items() if value is not None})
        self._run.finish()


def open_sink(subject: Subject) -> Trackio:
    """A run in trackio's own folder."""
    return Trackio(subject)
