"""How a trainer ended, in the words of its last event, with crashed, rebooted, queued and running beside them."""

from __future__ import annotations

import time

from core.runs.paths import RunPaths
from core.runs.snapshot import LOST_S, RunSnapshot, RunState
from core.runs.store import read_run
from core.system.process import ProcessIdentity, of_this_boot, other_host

BEFORE_FIRST_EVENT = "before its first event"
_RESTARTED = "the machine was restarted"
_SILENT = f"it was on another machine, and has given no sign of life for {LOST_S / 60:.0f} min"


def read_outcome(run: RunPaths, attempts_before: int, process: ProcessIdentity | None) -> tuple[str, str]:
    """(outcome, message) of a dead trainer; at its start the folder held `attempts_before` attempts."""
    snapshot = read_run(run)
    outcome, message = outcome_when_dead(snapshot.state, process, has_events=len(snapshot.attempts) > attempts_before)
    return outcome, message or ("" if snapshot.final is None or outcome == "done" else snapshot.final.message)


def outcome_when_dead(state: RunState, process: ProcessIdentity | None, *, has_events: bool) -> tuple[str, str]:
    """(outcome, what the trainer itself could not say of it) of a dead trainer, by its run's state.

    `has_events`: whether its attempt is in the run folder.
    """
    outcome = outcome_of(state)
    if outcome == "done" or (has_events and outcome not in ("running", "queued", "crashed")):
        return outcome, ""
    if process is not None and not of_this_boot(process):
        return "rebooted", _RESTARTED if other_host(process) == "boot" else _SILENT
    return "crashed", "" if has_events else BEFORE_FIRST_EVENT


def is_lost(snapshot: RunSnapshot) -> bool:
    """Whether it has been silent for so long that it counts as dead unless its trainer holds the run's lock."""
    silent_s = time.time() - (snapshot.last_event_time or 0.0)
    return snapshot.state is RunState.STALLED and silent_s > LOST_S


def outcome_of(state: RunState) -> str:
    """The run's state in the words of `Final.outcome`, with crashed, queued and running beside them."""
    if state.active:
        return "running"
    return "error" if state is RunState.FAILED else str(state)
