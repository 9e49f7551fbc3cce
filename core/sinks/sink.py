"""What a run has to say to a sink, what a sink is, which there are, and how one follows a run.

A run says points by step, its settings, and how it ended. The packages of sinks are extras, imported only in the
sink's own process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from core.errors import UserError
from core.plan.schema import SINKS
from core.runs.folder import write_json
from core.runs.judged import judged, recorded_thresholds
from core.runs.paths import RunPaths
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.runs.store import RunFollower
from core.scoring.data_health import EVALUATED
from core.scoring.evidence import Interval, Verdict
from core.scoring.units import Unit
from core.system.files import HeldFolder, read_json

_PER_STEP = ("loss", "learning_rate", "grad_norm", "seconds")


@dataclass(frozen=True, slots=True)
class Point:
    """Values at one step. Non-finite ones stay: it is for the sink to show or to leave them out."""

    step: int
    time: float
    """Unix seconds, reckoned from the start and the steps' own durations: pauses between attempts are not in it."""
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Cursor:
    """What was sent already."""

    step: int = 0
    interval: int = -1


def news(snapshot: RunSnapshot, cursor: Cursor) -> tuple[list[Point], Cursor]:
    """The points after `cursor` in rising order of steps, and the cursor behind them.

    A run that was resumed from an earlier checkpoint goes on where the cursor stands: what was sent stays sent.
    """
    steps = snapshot.steps
    started = snapshot.attempts[0].started if snapshot.attempts else 0.0
    seconds = np.where(np.isfinite(steps.seconds), steps.seconds, 0.0)
    times = started + np.cumsum(seconds)
    first = int(np.searchsorted(steps.step, cursor.step, side="right"))
    found: dict[int, tuple[float, dict[str, float]]] = {}
    for index in range(first, len(steps)):
        values = {f"train/{name}": float(getattr(steps, name)[index]) for name in _PER_STEP}
        found[int(steps.step[index])] = (float(times[index]), values)
    for interval in snapshot.intervals:
        if interval.step <= cursor.interval:
            continue
        behind = int(np.searchsorted(steps.step, interval.step, side="right"))
        time = float(times[behind - 1]) if behind else started
        kept = found.setdefault(interval.step, (time, {}))
        kept[1].update(interval_values(interval, snapshot.unit))
    points = [Point(step, *found[step]) for step in sorted(found)]
    last = max((i.step for i in snapshot.intervals), default=cursor.interval)
    return points, Cursor(max(cursor.step, steps.last_step), max(cursor.interval, last))


def interval_values(interval: Interval, unit: Unit = Unit.WORD) -> dict[str, float]:
    """The error rate (wer, cer, mer) in percent, loss, and the errors by kind, of each set."""
    values: dict[str, float] = {}
    for name in EVALUATED:
        score = getattr(interval, name)
        if score is None:
            continue
        counts = score.counts
        known = {unit.rate.lower(): counts.wer_percent, "loss": score.loss, "substitutions": counts.substitutions}
        known |= {"deletions": counts.deletions, "insertions": counts.insertions}
        values |= {f"{name}/{key}": float(value) for key, value in known.items() if value is not None}
    return values


def facts(snapshot: RunSnapshot) -> dict[str, Any]:
    """The run's settings and content hashes, flat: `train.learning_rate` → 1e-4."""
    config = snapshot.config or {}
    plain = {name: config.get(name) for name in ("experiment", "title", "identity")}
    return plain | flat(snapshot.settings) | flat({"hashes": config.get("hashes") or {}})


def outcome(snapshot: RunSnapshot, verdict: Verdict) -> dict[str, Any]:
    """How the run ended: its state, the verdict, and each criterion."""
    states = {f"criterion.{item.name}": item.state.value for item in verdict.criteria}
    values = {f"value.{item.name}": item.value for item in verdict.criteria if item.value is not None}
    plain = {"state": str(snapshot.state), "verdict": verdict.decision.value, "best_step": verdict.best_step}
    if verdict.remarks:
        plain["remarks"] = " ".join(verdict.remarks)
    return plain | states | values


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys; lists are joined by commas."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return found


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that a sink hears of."""

    name: str
    identity: str
    facts: Mapping[str, Any]
    folder: Path
    """Where the sink may keep files of its own."""
    sent: int
    """The last step that an earlier process sent; 0: none."""


class Sink(Protocol):
    """One open connection. Any method may raise or hang: only this process suffers."""

    def send(self, points: Sequence[Point]) -> None:
        """Show these points, in rising order of steps."""

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """Flush and end. `outcome`: how the run ended; None: it goes on, and another process will follow it."""


Opener = Callable[[Subject], Sink]


def opener(name: str) -> Opener:
    """How the sink `name` is opened. UserError when its package is not installed, or there is no such sink."""
    if name not in SINKS:
        raise UserError(f"{name}: no such sink; there are {', '.join(SINKS)}")
    try:
        module = import_module(f"core.sinks.to_{name}")
    except ImportError as error:
        raise UserError(
            f"the sink {name} needs a package that cannot be imported ({error}): pip install 'lora-tui[{name}]'"
        ) from error
    found: Opener = module.open_sink
    return found


# Following one run for one sink: read what is new, send it, remember what was sent

POLL_S = 2.0
SETTLED_S = 10.0
"""A run that stopped or crashed may be resumed at once: its follower waits so long for that."""


def ended(snapshot: RunSnapshot) -> bool:
    """Whether the run has a last word: nothing more will come of it by itself."""
    return snapshot.state is Status.DONE or snapshot.state.broken


def follow(paths: RunPaths, open_sink: Opener, cursor_file: Path, folder: Path, wait: Callable[[float], None]) -> None:
    """Until the run ends, is moved away, or nobody works on it any more. Raises whatever the sink raises."""
    home, follower = HeldFolder(paths.root), RunFollower(paths)
    snapshot = follower.refresh()
    cursor = read_cursor(cursor_file)
    sink = open_sink(Subject(paths.name, snapshot.identity, facts(snapshot), folder, cursor.step))
    quiet_since: float | None = None
    while True:
        if home.lost():  # nothing of it is told, and nothing is written where it was
            sink.close(None)
            return
        points, cursor = news(snapshot, cursor)
        if points:
            sink.send(points)
            write_json(cursor_file.parent.parent, cursor_file, asdict(cursor))
        if ended(snapshot):
            sink.close(verdict_of(snapshot))
            return
        if snapshot.state.active or snapshot.state is Status.QUEUED:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        if quiet_since is not None and time.monotonic() - quiet_since > SETTLED_S:
            sink.close(None)
            return
        wait(POLL_S)
        snapshot = follower.refresh()


def send_once(paths: RunPaths, open_sink: Opener, folder: Path) -> int:
    """Send all of a run that is there, as if nothing had been sent; how many points that were."""
    snapshot = RunFollower(paths).refresh()
    points, _ = news(snapshot, Cursor())
    sink = open_sink(Subject(paths.name, snapshot.identity, facts(snapshot), folder, 0))
    sink.send(points)
    sink.close(verdict_of(snapshot))
    return len(points)


def verdict_of(snapshot: RunSnapshot) -> Mapping[str, Any]:
    """By the `[gate]` that the run was started with."""
    return outcome(snapshot, judged(snapshot, recorded_thresholds(snapshot.config)).verdict)


def read_cursor(file: Path) -> Cursor:
    """What was sent, as far as the file says."""
    document, _ = read_json(file)
    try:
        return Cursor(int((document or {})["step"]), int((document or {})["interval"]))
    except (KeyError, TypeError, ValueError):
        return Cursor()
