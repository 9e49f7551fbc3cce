"""Playing a recorded run as if it were training now: its events come again, faster, into a folder of their own."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import RunFolderError
from core.runs.documents import read_config
from core.runs.judged import recorded_thresholds
from core.runs.paths import RunPaths, adapter_step
from core.runs.row import Row
from core.system.files import SCORES_BYTES, STREAM_BYTES, lines, open_regular, read_bytes
from core.system.process import current_process
from lora_tui.dashboard.reading.log_text import read_tail
from lora_tui.dashboard.reading.machine import Resources
from lora_tui.dashboard.reading.snapshots import Board, Want
from lora_tui.dashboard.reading.watch import Watch

_LONGEST_PAUSE_S = 30.0
"""A recorded pause, between two attempts say, is played as no longer than this."""

_LOG_LATER = "the lines of the log have no times: they are shown when the replay has ended\n"


class ReplaySource:
    """Boards of one recorded run, as it was `speed` × the time since the first board. Used by one thread only."""

    pending = False

    def __init__(self, recorded: Path, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        """RunFolderError when it is no run folder. The recording itself is never written to."""
        self._recorded = RunPaths(recorded.absolute())
        config, problem = read_config(self._recorded)
        if config is None:
            raise RunFolderError(problem or f"{self._recorded.config}: missing: name a run folder, such as runs/2.1-…")
        self._thresholds = recorded_thresholds(config)
        self._lines = list(_lines(self._recorded.events))
        if not self._lines:
            raise RunFolderError(f"{self._recorded.events}: holds no event that could be played")
        self._speed, self._clock = speed, clock
        self._began: float | None = None
        self._base = time.time()
        self._played = 0
        self._folder = tempfile.TemporaryDirectory(prefix="lora-tui-replay-")
        self._paths = RunPaths(Path(self._folder.name) / self._recorded.name)
        self._watch = Watch(self._paths)
        self._prepare(config)

    @property
    def length_s(self) -> float:
        """Seconds that the recording plays, with long pauses cut."""
        return self._lines[-1][0]

    def read(self, want: Want) -> Board:
        """The run at this moment of the replay."""
        if self._began is None:
            self._began = self._clock()
        at = (self._clock() - self._began) * self._speed
        self._play(at)
        self._watch.refresh(self._thresholds)
        row = self._watch.row(Row(f"run:{self._paths.name}", self._key()))
        done = min(1.0, at / self.length_s) if self.length_s > 0 else 1.0
        selected = self._watch.view(row)
        return Board(
            where=self._recorded.name,
            rows=(row,),
            selected=selected if want.selected == row.id else None,
            resources=Resources(),
            replay=f"replay ×{self._speed:g} {100 * done:.0f} %",
        )

    def close(self) -> None:
        """Remove the copy."""
        self._folder.cleanup()

    def _key(self) -> str:
        snapshot = self._watch.snapshot
        return snapshot.experiment if snapshot is not None else self._paths.name

    def _prepare(self, config: dict[str, Any]) -> None:
        self._paths.evals.mkdir(parents=True)
        self._paths.config.write_text(json.dumps(config))
        if self._recorded.log.is_file():
            self._paths.log.write_text(_LOG_LATER)
        for adapter in _adapter_folders(self._recorded.adapters):
            (self._paths.adapters / adapter.name).mkdir(parents=True)
            for file in adapter.iterdir():  # not copied: weights may be large
                (self._paths.adapters / adapter.name / file.name).symlink_to(file)
        # The tuned score comes at the end, when it came then.
        for scored in _adapter_folders(self._recorded.evals):
            _copy_documents(scored, self._paths.evals / scored.name)

    def _play(self, at: float) -> None:
        """Write the events up to `at` seconds, as a trainer that is this very process."""
        first = self._played
        while self._played < len(self._lines) and self._lines[self._played][0] <= at:
            self._played += 1
        if self._played == first:
            return
        # The recorded distances are kept, so that seconds a step and ETA are those of the recording.
        with self._paths.events.open("a", encoding="utf-8") as file:
            for when, event in self._lines[first : self._played]:
                file.write(json.dumps(self._disguised(event, self._base + when)) + "\n")
                self._follow_best(event)
        if self._played == len(self._lines) and self._recorded.log.is_file():
            # Its lines carry no times: shown earlier, they would tell how the run ends.
            self._paths.log.write_text("\n".join(read_tail(self._recorded.log)), encoding="utf-8", errors="replace")
        if self._played == len(self._lines) and self._recorded.result.is_file():
            self._link(self._paths.best, self._recorded.best)
            tuned = self._recorded.tuned("domain").parent
            if tuned.exists():
                _copy_documents(tuned, self._paths.evals / tuned.name)
            for ours, theirs in (
                (self._paths.data_health, self._recorded.data_health),
                (self._paths.position, self._recorded.position),
            ):
                if theirs.is_file():
                    ours.write_bytes(read_bytes(theirs))
            # The result tells what the events were: they are shown as they are, now that all are played.
            self._paths.events.unlink()
            self._paths.events.write_bytes(read_bytes(self._recorded.events, STREAM_BYTES))
            self._paths.result.write_bytes(read_bytes(self._recorded.result))

    def _disguised(self, event: dict[str, Any], when: float) -> dict[str, Any]:
        # "event" first: readers know step lines by how they begin.
        shown = {"event": event["event"]} | event | {"time": round(when, 3)}
        return shown | {"process": current_process().to_json()} if event["event"] == "attempt_started" else shown

    def _follow_best(self, event: dict[str, Any]) -> None:
        if event["event"] == "adapter" and event.get("best") and isinstance(event.get("step"), int):
            self._link(self._paths.best, self._paths.adapter(event["step"]))
        if event["event"] == "candidate_scored" and event.get("best") and isinstance(event.get("name"), str):
            self._link(self._paths.best, self._paths.adapter(event["name"]))

    def _link(self, link: Path, target: Path) -> None:
        link.unlink(missing_ok=True)
        name = target.resolve().name if target.is_symlink() else target.name
        link.symlink_to(f"adapters/{name}")


def _adapter_folders(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if adapter_step(path.name) is not None]


def _copy_documents(source: Path, target: Path) -> None:
    """Copies, for no reader of a run folder follows links."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.json"):
        with contextlib.suppress(OSError):
            (target / file.name).write_bytes(read_bytes(file, SCORES_BYTES))


def _lines(events: Path) -> list[tuple[float, dict[str, Any]]]:
    """(seconds since the first event, event), pauses shortened. Lines that are no events are left out."""
    found: list[tuple[float, dict[str, Any]]] = []
    at, before = 0.0, None
    try:
        with open_regular(events) as file:
            read = [line for line in lines(file) if line.endswith(b"\n")]
    except OSError:
        return []
    for line in read:
        try:
            event = json.loads(line)
            when = float(event["time"])
            str(event["event"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        if before is not None:
            at += min(max(0.0, when - before), _LONGEST_PAUSE_S)
        before = when
        found.append((at, event))
    return found
