"""TensorBoard event files, written by tensorboardX: `tensorboard --logdir runs` shows them while the run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tensorboardX import SummaryWriter

from core.sinks.sink import Point, Subject


class TensorBoard:
    """One event file a process."""

    def __init__(self, subject: Subject) -> None:
        # What a killed process had queued beyond `sent` would otherwise be drawn twice.
        purge = subject.sent + 1 if subject.sent else None
        self._writer = SummaryWriter(str(subject.folder), purge_step=purge, write_to_disk=True)
        if not subject.sent:
            self._text("settings", subject.facts)

    def send(self, points: Sequence[Point]) -> None:
        """Each value is a scalar of its name."""
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.time)
        self._writer.flush()

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """The verdict becomes a text."""
        if outcome is not None:
            self._text("verdict", outcome)
        self._writer.close()

    def _text(self, tag: str, facts: Mapping[str, Any]) -> None:
        # Indented by four: TensorBoard renders Markdown, and this is to stay as it is.
        lines = json.dumps(dict(facts), indent=1, default=str).splitlines()
        self._writer.add_text(tag, "\n".join(f"    {line}" for line in lines), 0)


def open_sink(subject: Subject) -> TensorBoard:
    """Event files in the run's folder."""
    return TensorBoard(subject)
