"""What runs say by their folders: how a trainer ended, what conditions ask, and what a run was made of.

A folder is read once, and again when somebody has worked there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from core.manifests.hashing import references_sha256
from core.plan.identity import run_identity
from core.plan.schema import GateSettings, RunSettings
from core.runs.contents import Comparison, Content, compare
from core.runs.documents import read_config
from core.runs.judged import judged
from core.runs.paths import RunPaths, RunsFolder
from core.runs.snapshot import LOST_S, RunSnapshot
from core.runs.status import Status
from core.runs.store import RunFollower, read_run
from core.scoring.criteria import trained_intervals, wer_points
from core.scoring.data_health import JUDGED
from core.scoring.evidence import Criterion, Decision, Evidence, State, Verdict
from core.scoring.units import ErrorCounts
from core.scoring.verdict import thresholds_of
from core.system.files import SCORES_BYTES, read_json, stamp
from core.system.process import ProcessIdentity, of_this_boot, other_host

BEFORE_FIRST_EVENT = "before its first event"
_RESTARTED = "the machine was restarted"
_SILENT = f"it was on another machine, and has given no sign of life for {LOST_S / 60:.0f} min"


def read_outcome(run: RunPaths, attempts_before: int, process: ProcessIdentity | None) -> tuple[str, str]:
    """(outcome, message) of a dead trainer; at its start the folder held `attempts_before` attempts."""
    snapshot = read_run(run)
    outcome, message = outcome_when_dead(snapshot.state, process, has_events=len(snapshot.attempts) > attempts_before)
    return outcome, message or ("" if snapshot.final is None or outcome == "done" else snapshot.final.message)


def outcome_when_dead(state: Status, process: ProcessIdentity | None, *, has_events: bool) -> tuple[str, str]:
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
    return snapshot.state is Status.STALLED and silent_s > LOST_S


def outcome_of(state: Status) -> str:
    """The run's state in the words of `Final.outcome`, with crashed, queued and running beside them."""
    if state.active:
        return "running"
    return "error" if state is Status.FAILED else str(state)


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

    def __init__(self, gate: GateSettings, dead: Callable[[str], int] = lambda run: 0) -> None:
        """`gate`: what verdicts on the runs are passed by.

        `dead`: run → how many of its attempts have ended by what the queue's journal says (`core.queue.state`).
        """
        self._dead = dead
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
        found = RunStatus(
            _outcome(snapshot, self._dead(run.name)), len(snapshot.attempts), snapshot.duration_s / 3600, snapshot.phase
        )
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


def _outcome(snapshot: RunSnapshot, dead: int) -> str:
    """Of a process that lives, and is none of ours, only what it writes tells that it is the run's trainer.

    `dead`: so many of the attempts have ended.
    """
    over = snapshot.state.active and len(snapshot.attempts) <= dead
    return "crashed" if over or is_lost(snapshot) else outcome_of(snapshot.state)


def _stamp(run: RunPaths) -> tuple[int, ...]:
    try:
        return stamp(run.events.stat())
    except OSError:
        return ()


# What a run's result says to the conditions of a plan (`core.plan.conditions` names the facts)

FALLING_INTERVALS = 3
"""Domain WER is still falling if it fell strictly over this many last intervals."""


def outcome_facts(
    evidence: Evidence, verdict: Verdict, seconds_per_step: float | None
) -> dict[str, bool | float | None]:
    """The facts of an ended run. None: the evidence does not say.

    accepted, rejected, stable, converged, falling, guardrail_broken, slices_kept: bool. domain_gain, heldout_regression
    (points) and domain_wer, heldout_wer (percent, tuned): only from a valid tuned score.
    """
    decided = verdict.decision is not Decision.UNDECIDED
    gain, regression = verdict.criterion("domain_gain"), verdict.criterion("heldout")
    return {
        "accepted": verdict.decision is Decision.ACCEPTED if decided else None,
        "rejected": verdict.decision is Decision.REJECTED if decided else None,
        "stable": _held(verdict.criterion("stability"), evidence),
        "converged": _held(verdict.criterion("convergence"), evidence),
        "falling": _falling(evidence),
        "guardrail_broken": _guardrail_broken(verdict),
        "slices_kept": None if verdict.slices in (None, State.UNKNOWN) else verdict.slices is State.PASS,
        "domain_gain": _valid(gain),
        "heldout_regression": _valid(regression),
        "domain_wer": _wer(gain, evidence.tuned_domain),
        "heldout_wer": _wer(regression, evidence.tuned_heldout),
        "seconds_per_step": seconds_per_step if _finite(seconds_per_step) else None,
    }


def _held(criterion: Criterion, evidence: Evidence) -> bool | None:
    """Whether the criterion passed. A run that broke down before it could be judged did not hold it."""
    if criterion.state is State.UNKNOWN:
        return None if evidence.failure is None else False
    return criterion.state is State.PASS


def _falling(evidence: Evidence) -> bool | None:
    last = trained_intervals(evidence)[-FALLING_INTERVALS:]
    wers = [wer for i in last if (wer := wer_points(i.domain.counts)) is not None]
    if len(wers) < FALLING_INTERVALS:
        return None
    return all(after < before for before, after in pairwise(wers))


def _guardrail_broken(verdict: Verdict) -> bool | None:
    """No interval kept the guardrail, or the tuned score breaks it, valid by convergence or not."""
    heldout = verdict.criterion("heldout")
    if verdict.guardrail_kept is False or heldout.state is State.FAIL:
        return True
    if verdict.guardrail_kept is None or heldout.value is None or heldout.threshold is None:
        return None
    # Both are the floats nearest to exact decimals, so this agrees with the exact comparison at the edge.
    return heldout.value > heldout.threshold


def _valid(criterion: Criterion) -> float | None:
    return None if criterion.state is State.UNKNOWN else criterion.value


def _wer(criterion: Criterion, tuned: ErrorCounts | None) -> float | None:
    return None if criterion.state is State.UNKNOWN or tuned is None else tuned.wer_percent


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# What runs were made of by what they recorded, and which of them answer for a row whose data or model is not here


@dataclass(frozen=True, slots=True)
class Match:
    """A run that is a row's as far as that can be told here."""

    run: RunPaths
    identity: str
    hashes: Mapping[str, str]
    comparison: Comparison
    others: tuple[RunPaths, ...] = ()
    """Older runs that are so, too."""


@dataclass(frozen=True)
class RecordedRun:
    """What the `run.json` of one run says, as far as it can be used."""

    run: RunPaths
    experiment: str
    identity: str
    settings: Mapping[str, Any]
    hashes: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)

    def is_of(self, settings: RunSettings) -> bool:
        """Whether these settings, on what the run says it was made of, have the run's identity."""
        identity = run_identity(settings, self.hashes) if self.hashes else ""
        return identity == self.identity and self.run.name.endswith(f"-{identity}")

    def compared(self, settings: RunSettings, contents: Mapping[str, Content]) -> Comparison:
        """The contents of a row with those of the run."""
        # Replay speech of which nothing is taken is no part of a run, whether it is named or not.
        left_out = {"replay"} if settings.train.replay_share == 0 else set()
        named = {name: content for name, content in contents.items() if name not in left_out}
        hashes = {name: digest for name, digest in self.hashes.items() if name not in left_out}
        return compare(named, hashes, self.lines, self._references)

    def _references(self, name: str) -> str | None:
        """Of an evaluation set: from the base model's score on it, for runs that did not record their lines."""
        if name not in JUDGED:
            return None
        document, _ = read_json(self.run.evaluation(0, name), SCORES_BYTES)
        try:
            lines = [(str(one["id"]), str(one["reference"])) for one in (document or {})["utterances"]]
        except (KeyError, TypeError):
            return None
        return references_sha256(lines)


class RecordedRuns:
    """Those of one folder. Each `run.json` is read once, when it is first needed."""

    def __init__(self, runs: RunsFolder) -> None:
        self._runs = runs
        self._known: dict[RunSettings, Match | None] = {}

    @cached_property
    def all(self) -> tuple[RecordedRun, ...]:
        """Every run whose `run.json` can be read."""
        return tuple(run for run in map(recorded_run, self._runs.runs()) if run is not None)

    def match(self, settings: RunSettings, contents: Mapping[str, Content]) -> Match | None:
        """The newest run of these settings that was made of these contents, as far as they can be compared."""
        if settings not in self._known:
            self._known[settings] = self._match(settings, contents)
        return self._known[settings]

    def _match(self, settings: RunSettings, contents: Mapping[str, Content]) -> Match | None:
        alike = [(run, run.compared(settings, contents)) for run in self.all if run.is_of(settings)]
        found = {run.run: (run, comparison) for run, comparison in alike if not comparison.differing}
        if not found:
            return None
        newest, *others = newest_first(found)
        run, comparison = found[newest]
        return Match(newest, run.identity, run.hashes, comparison, tuple(others))


def newest_first(runs: Collection[RunPaths]) -> list[RunPaths]:
    """By the time of their last events, which a copy keeps; the files' own times say when they were copied."""
    if len(runs) < 2:
        return list(runs)
    return sorted(runs, key=lambda run: (-(read_run(run).last_event_time or 0.0), run.name))


def recorded_run(run: RunPaths) -> RecordedRun | None:
    """What the run's `run.json` says; None where it cannot be read."""
    config, _ = read_config(run)
    settings = (config or {}).get("settings")
    if config is None or not isinstance(settings, dict):
        return None
    return RecordedRun(
        run,
        str(config.get("experiment") or ""),
        str(config.get("identity") or ""),
        settings,
        dict(_texts(config.get("hashes"))),
        dict(_texts(config.get("lines"))),
    )


def _texts(value: object) -> Iterable[tuple[str, str]]:
    """The pairs of names and texts in a document; what is none is left out."""
    pairs = value.items() if isinstance(value, dict) else ()
    return ((str(name), text) for name, text in pairs if isinstance(text, str))
