"""What the queue needs to know of run folders: read once, and again when somebody has worked there."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from core.plan.schema import GateSettings
from core.queue.trainer_outcome import is_lost, outcome_of
from core.runs.judged import judged
from core.runs.paths import RunPaths
from core.runs.snapshot import RunSnapshot
from core.runs.store import RunFollower, read_run
from core.scoring.outcome import outcome_facts
from core.scoring.verdict import thresholds_of
from core.system.files import stamp

Facts = dict[str, bool | float | None]


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What the queue needs to know of a run folder."""

    outcome: str
    """How the newest attempt ended: done, stopped, diverged, …, crashed; queued: never started; running."""
    attempts: int
    hours: float
    phase: str | None


class RunStatusCache:
    """Of the runs of one plan."""

    def __init__(self, gate: GateSettings) -> None:
        """`gate`: what verdicts on the runs are passed by."""
        self._thresholds = thresholds_of(asdict(gate))
        self._facts: dict[str, Facts] = {}
        self._ended: dict[str, tuple[tuple[int, ...], RunStatus]] = {}
        """Of runs that ended, with the stamp of their events: people and other machines go on with runs, too."""
        self._followers: dict[str, RunFollower] = {}
        """Of runs at work: long histories are not folded again at every look."""

    def at(self, run: RunPaths) -> RunStatus:
        """How the run stands by its folder."""
        events = _stamp(run)
        known = self._ended.get(run.name)
        if known is not None and known[0] == events:
            return known[1]
        follower = self._followers.pop(run.name, None)
        snapshot = read_run(run) if follower is None else follower.refresh()
        found = RunStatus(_outcome(snapshot), len(snapshot.attempts), snapshot.duration_s / 3600, snapshot.phase)
        if found.outcome == "running":
            self._followers[run.name] = follower or RunFollower(run)
        elif found.outcome != "queued":
            self._ended[run.name] = events, found
        return found

    def facts(self, run: RunPaths) -> Facts:
        """What the run's result says to conditions, by the plan's thresholds."""
        if run.name not in self._facts:
            found = judged(read_run(run), self._thresholds)
            self._facts[run.name] = outcome_facts(found.evidence, found.verdict, found.snapshot.steps.seconds_per_step)
        return self._facts[run.name]

    def forget(self, run: RunPaths) -> None:
        """Look at the run's folder again: somebody worked in it."""
        self._ended.pop(run.name, None)
        self._followers.pop(run.name, None)
        self._facts.pop(run.name, None)


def _outcome(snapshot: RunSnapshot) -> str:
    """Of a process that lives, and is none of ours, only what it writes tells that it is the run's trainer."""
    return "crashed" if is_lost(snapshot) else outcome_of(snapshot.state)


def _stamp(run: RunPaths) -> tuple[int, ...]:
    try:
        return stamp(run.events.stat())
    except OSError:
        return ()
