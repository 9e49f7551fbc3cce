"""The real follower with FakeSinks: `python fake_sinks.py NAME RUN_DIR`. Of the names a plan may give,

tensorboard keeps what it is sent in a file; wandb raises when it is sent anything; mlflow never answers; trackio says
that its package is missing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import UserError
from core.sinks import __main__ as process
from core.sinks import sink
from core.sinks.sink import Opener, Point, Subject


class FakeSink:
    def __init__(self, subject: Subject) -> None:
        subject.folder.mkdir(exist_ok=True)
        self._file = subject.folder / "sent.jsonl"
        self._say({"open": subject.name, "sent": subject.sent, "facts": dict(subject.facts)})

    def send(self, points: Sequence[Point]) -> None:
        for point in points:
            self._say({"step": point.step, **point.values})

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        self._say({"close": None if outcome is None else dict(outcome)})

    def _say(self, value: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(value) + "\n")


class CrashingSink(FakeSink):
    def send(self, points: Sequence[Point]) -> None:
        raise ConnectionError("the tracker\nis away")


class HangingSink(FakeSink):
    def send(self, points: Sequence[Point]) -> None:
        time.sleep(600)


def open_by_name(name: str) -> Opener:
    if name == "trackio":
        raise UserError("the sink trackio needs a package: pip install it")
    kinds: dict[str, Opener] = {"tensorboard": FakeSink, "wandb": CrashingSink, "mlflow": HangingSink}
    return kinds[name]


if __name__ == "__main__":
    process.CLOSE_S = 0.5 if sys.argv[1] == "mlflow" else 60.0
    sink.POLL_S, sink.SETTLED_S = 0.05, 1.0
    process.POLL_S = 0.05  # type: ignore[attr-defined]
    os._exit(process.main(sys.argv[1:], open_by_name))
