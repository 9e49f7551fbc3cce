"""Following one run for one sink: read what is new, send it, remember what was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.runs.folder import write_json
from core.runs.judged import judged, recorded_thresholds
from core.runs.paths import RunPaths
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.runs.store import RunFollower
from core.sinks.sink import Cursor, Opener, Subject, facts, news, outcome
from core.system.files import read_json
from core.system.held_folder import HeldFolder

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
