"""Why a run is in its state, in a sentence: a restart of the machine and another host are told from a crash."""

from __future__ import annotations

import time

from core.runs.snapshot import RunSnapshot, RunState
from core.system.files import is_file
from core.system.process import ProcessIdentity, other_host

DAMAGED_HELP = "put a copy of the file back, or let `lora-tui queue retry` make it again"


def reason(snapshot: RunSnapshot, now: float | None = None) -> str:  # noqa: PLR0911 - one return a case
    """The sentence; empty where the state says all. `now` (Unix seconds) stands in for the clock."""
    if snapshot.state is RunState.DAMAGED:
        return f"its trainer had finished it, but result.json {_wrong_result(snapshot)}; {DAMAGED_HELP}"
    if snapshot.final is not None and snapshot.state not in (RunState.DONE, RunState.CRASHED):
        return snapshot.final.message
    process = snapshot.attempts[-1].process if snapshot.attempts else None
    where = _elsewhere(process)
    silent_s = max(0.0, (time.time() if now is None else now) - (snapshot.last_event_time or 0.0))
    if snapshot.state is RunState.CRASHED:
        if where:
            return f"its trainer is {where}, and has given no sign of life for {_duration(silent_s)}"
        if process is not None and other_host(process) == "boot":
            return f"the machine was restarted while it was {_doing(snapshot)}"
        return f"its trainer was killed or died without a word while it was {_doing(snapshot)}"
    if snapshot.state is RunState.STALLED:
        return f"its trainer{f', {where},' if where else ''} has been silent for {_duration(silent_s)}"
    return f"its trainer is {where}: only its events tell" if snapshot.state.active and where else ""


def _wrong_result(snapshot: RunSnapshot) -> str:
    """What is wrong with it."""
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


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
