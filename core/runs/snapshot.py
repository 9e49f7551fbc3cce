"""A run as its files tell it at one moment, one word for its state, and a sentence for the reason of that state.

All of it is derived each time and never stored. A restart of the machine and another host are told from a crash.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from core.runs.events import AdapterSaved, Final, Notice
from core.runs.paths import RunPaths
from core.runs.status import Status
from core.runs.steps import StepSeries
from core.scoring.evidence import CandidateScore, Interval
from core.scoring.units import Unit
from core.system.files import is_file
from core.system.process import ProcessIdentity, other_host

STALLED_S = 60.0
"""Alive but silent for longer than this (six missed heartbeats) is stalled."""
LOST_S = 600.0
"""A trainer of another machine, silent for longer than this, is taken for dead: only its heartbeat counts."""


_OF_PHASE = {
    "training": Status.TRAINING,
    "baseline": Status.EVALUATING,
    "evaluating": Status.EVALUATING,
    "checkpointing": Status.CHECKPOINTING,
    "saving": Status.SAVING,
    "finishing": Status.FINISHING,
}
_OF_OUTCOME = {
    "stopped": Status.STOPPED,
    "diverged": Status.DIVERGED,
    "stopped_early": Status.STOPPED_EARLY,
    "out_of_memory": Status.OUT_OF_MEMORY,
    "disk_full": Status.DISK_FULL,
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trainer process of a run."""

    number: int
    started: float
    """Unix seconds, by the trainer's clock."""
    last_event: float
    process: ProcessIdentity | None
    resumed_from: int | None
    device: str
    precision: str
    versions: dict[str, str] = field(default_factory=dict)
    final: Final | None = None
    duration_s: float = 0.0
    """From its first event to its last; a gap between two of them counts at most `STALLED_S`, so that a clock that is
    set, or a machine that slept, uses up nobody's hours."""


@dataclass(frozen=True, slots=True, eq=False)
class RunSnapshot:
    """A run at one moment. Histories are folded: what later attempts superseded is not in them."""

    paths: RunPaths
    config: dict[str, Any] | None
    """run.json; None when it is missing or unreadable (then `problems` says so)."""
    result: dict[str, Any] | None
    state: Status
    alive: bool | None
    """Whether the newest attempt's process lives; None: there is none, or it is of another machine."""
    attempts: tuple[Attempt, ...]
    steps: StepSeries
    intervals: tuple[Interval, ...]
    checkpoints: tuple[int, ...]
    adapters: tuple[AdapterSaved, ...]
    phase: str | None
    phase_step: int | None
    phase_detail: str
    progress: tuple[int, int] | None
    """(done, total) of the phase, where it can count."""
    last_event_time: float | None
    notices: tuple[Notice, ...]
    foreign_lines: int
    """Lines that are no event of this schema, or that a superseded attempt wrote late."""
    problems: tuple[str, ...] = ()
    unit: Unit = Unit.WORD
    """What the errors of the intervals were counted by."""
    candidates: tuple[CandidateScore, ...] = ()
    """Candidates other than intervals, in the order of making."""

    @property
    def experiment(self) -> str:
        """The experiment that made the run; the folder's name if run.json does not say."""
        return str((self.config or {}).get("experiment") or self.paths.name)

    @property
    def title(self) -> str:
        """The experiment's title, or nothing."""
        return str((self.config or {}).get("title") or "")

    @property
    def identity(self) -> str:
        """10 hex digits, or nothing if run.json does not say."""
        return str((self.config or {}).get("identity") or "")

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings by section; empty if run.json does not say."""
        settings = (self.config or {}).get("settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def steps_planned(self) -> int:
        """Optimiser updates; 0 if run.json does not say."""
        train = self.settings.get("train")
        steps = train.get("steps") if isinstance(train, dict) else None
        return steps if isinstance(steps, int) else 0

    @property
    def steps_completed(self) -> int:
        """The newest step of the folded history."""
        return self.steps.last_step

    @property
    def final(self) -> Final | None:
        """The newest attempt's last word."""
        return self.attempts[-1].final if self.attempts else None

    @property
    def best_step(self) -> int | None:
        """The step that lora_adapter_best was last pointed at, by the events."""
        return next((a.step for a in reversed(self.adapters) if a.best), None)

    @property
    def chosen(self) -> CandidateScore | None:
        """The candidate made of intervals that the run ships, by the events; None: an interval, or nothing yet."""
        return next((one for one in self.candidates if one.chosen), None)

    @property
    def duration_s(self) -> float:
        """Time spent on the run, all attempts together."""
        return sum(attempt.duration_s for attempt in self.attempts)


def derive_state(  # noqa: PLR0911 - one return a case
    result: dict[str, Any] | None,
    attempt: Attempt | None,
    phase: str | None,
    alive: bool | None,
    silence_s: float,
) -> Status:
    """The state, from the newest attempt, its phase, whether its process lives and how long it is silent."""
    if result is not None:
        return Status.DONE
    if attempt is None:
        return Status.QUEUED
    final = attempt.final
    # The result is written before "done" is said.
    if final is not None and final.outcome == "done" and (alive is False or silence_s > STALLED_S):
        return Status.DAMAGED
    if final is not None and final.outcome != "done":
        return _OF_OUTCOME.get(final.outcome, Status.FAILED)
    if alive is False or (alive is None and silence_s > LOST_S):
        return Status.CRASHED
    if silence_s > STALLED_S:
        return Status.STALLED
    if final is not None:
        return Status.FINISHING
    return _OF_PHASE.get(phase or "", Status.STARTING)


DAMAGED_HELP = "put a copy of the file back, or let `lora-tui queue retry` make it again"


def reason(snapshot: RunSnapshot) -> str:  # noqa: PLR0911 - one return a case
    """The sentence; empty where the state says all. The same whenever it is asked for, as long as the files rest."""
    if snapshot.state is Status.DAMAGED:
        return f"its trainer had finished it, but result.json {_wrong_result(snapshot)}; {DAMAGED_HELP}"
    if snapshot.final is not None and snapshot.state not in (Status.DONE, Status.CRASHED):
        return snapshot.final.message
    process = snapshot.attempts[-1].process if snapshot.attempts else None
    where = _elsewhere(process)
    silent = f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(snapshot.last_event_time or 0.0))}"
    if snapshot.state is Status.CRASHED:
        if where:
            return f"its trainer is {where}, and has given no sign of life {silent}"
        if process is not None and other_host(process) == "boot":
            return f"the machine was restarted while it was {_doing(snapshot)}"
        return f"its trainer was killed or died without a word while it was {_doing(snapshot)}"
    if snapshot.state is Status.STALLED:
        return f"its trainer{f', {where},' if where else ''} has been silent {silent}"
    if not snapshot.state.active:
        return ""
    elsewhere = f"its trainer is {where}: only its events tell" if where else ""
    return "; ".join(filter(None, (_detail(snapshot), elsewhere)))


def _detail(snapshot: RunSnapshot) -> str:
    """How far the phase is that its trainer is in."""
    counted = "" if snapshot.progress is None else f"{snapshot.progress[0]}/{snapshot.progress[1]}"
    return " ".join(filter(None, (snapshot.phase_detail, counted)))


def _wrong_result(snapshot: RunSnapshot) -> str:
    """What is wrong with result.json."""
    paths = snapshot.paths
    problem = next((text for text in snapshot.problems if text.startswith(f"{paths.result}: ")), "")
    if not problem:
        return "is gone"
    empty = paths.result.stat().st_size == 0 if is_file(paths.result) else False
    return "is empty" if empty else f"cannot be read ({problem.removeprefix(f'{paths.result}: ')})"


def _elsewhere(process: ProcessIdentity | None) -> str:
    """Where the trainer is, if not here."""
    other = "" if process is None else other_host(process)
    return {"machine": "on another machine", "container": "in another container"}.get(other, "")


def _doing(snapshot: RunSnapshot) -> str:
    phase = {"baseline": "scoring the base model", "saving": "saving the adapter"}.get(snapshot.phase or "", "")
    at = f" at step {snapshot.steps_completed}" if snapshot.steps_completed else ""
    return (phase or snapshot.phase or "starting") + at
