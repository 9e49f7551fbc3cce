"""A row as every face tells it: one word for where it stands, one reason, one set of figures. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from core.scoring.units import Unit

if TYPE_CHECKING:
    from core.plan.schema import Row as PlanRow
    from core.runs.judged import Judged
    from core.runs.paths import RunPaths
    from core.scoring.evidence import Verdict


class Status(StrEnum):
    """The one word for a row: that of its run (`core.runs.snapshot.RunState`), or the queue's."""

    NOT_RUN = "not run"
    """No run was made of it, and no open submission asks for it."""
    QUEUED = "queued"
    """It is started, or its run is resumed, when its turn comes."""
    WAITING = "waiting"
    """As queued, and it is known why it does not start."""
    HELD = "held"
    REMOVED = "removed"
    SKIPPED = "skipped"
    STARTING = "starting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    CHECKPOINTING = "checkpointing"
    SAVING = "saving"
    FINISHING = "finishing"
    STALLED = "stalled"
    STOPPED = "stopped"
    KILLED = "killed"
    """Its trainer was killed on request. Its folder alone tells a crash; it is resumed alike."""
    CRASHED = "crashed"
    DIVERGED = "diverged"
    STOPPED_EARLY = "stopped_early"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    FAILED = "failed"
    DAMAGED = "damaged"
    DONE = "done"
    HISTORY = "history"
    """An earlier result made elsewhere, of which the plan tells."""
    UNREAD = "…"
    """Its run was not read yet."""

    @property
    def text(self) -> str:
        """As people read it."""
        return self.value.replace("_", " ")

    @property
    def active(self) -> bool:
        """Whether a trainer is, or seems to be, at work."""
        return self in _ACTIVE

    @property
    def in_turn(self) -> bool:
        """Whether it is started when its turn comes."""
        return self in (Status.QUEUED, Status.WAITING)

    @property
    def goes_on(self) -> bool:
        """Whether it trains, or is to: what its verdict would be now is not the last word."""
        return self.active or self.in_turn or self is Status.HELD


_ACTIVE = frozenset(
    {
        Status.STARTING,
        Status.TRAINING,
        Status.EVALUATING,
        Status.CHECKPOINTING,
        Status.SAVING,
        Status.FINISHING,
        Status.STALLED,
    }
)


class Outcome(StrEnum):
    """What a row comes to, for the exit code."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNDECIDED = "undecided"
    """Started, and either not ended or lacking evidence."""
    PENDING = "pending"
    """Never started."""
    SKIPPED = "skipped"
    """Its condition did not hold: it is no run."""


@dataclass(frozen=True, slots=True)
class Wer:
    """The error rate of one set by the gate's unit, in percent, and its change in points. What is not known is None."""

    baseline: float | None = None
    tuned: float | None = None
    """By the tuned score."""
    now: float | None = None
    """By the tuned score, else at the best interval so far."""
    change: float | None = None
    """From the baseline to `now`; None too where the two were scored on different words."""
    limit: float | None = None
    """That the gate asks for: the most that `now` may be."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run's files say in figures (`core.runs.run_figures`). What is not known is None."""

    attempts: int = 0
    steps: int | None = None
    steps_planned: int | None = None
    pace_s: float | None = None
    """Seconds of a step, evaluations left out: the median."""
    eta_s: float | None = None
    best_step: int | None = None
    domain: Wer = Wer()
    heldout: Wer = Wer()
    word: str | None = None
    """accepted, rejected, undecided or failed: the verdict, once there is anything to judge."""
    criteria: tuple[tuple[str, str], ...] = ()
    """(name, PASS, FAIL or UNKNOWN) of the verdict."""
    note: str = ""
    """Why the verdict is not ACCEPTED: how the run failed, else the first criterion that is not PASS."""
    duration_s: float | None = None
    adapter_hash: str | None = None
    learning_rate: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings, by section."""
    unit: Unit | None = None
    """What its error rates count."""


@dataclass(frozen=True, slots=True)
class Queued:
    """What an open submission says of a row that it has."""

    submission: str = ""
    """Empty: no open submission has the row."""
    plan_path: str = ""
    asked: str = ""
    """What its trainer was asked for, in words."""
    ending: bool = False
    """Whether somebody asked the submission to end: only the plan, submitted again, goes on with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a plan, or a run that no plan at hand asks for. Text is as it is in files."""

    id: str
    """Unique among those shown together: `plan:KEY`, `run:FOLDER`, `queue:SUBMISSION:KEY`, `history:NUMBER`."""
    key: str
    """The row of the plan, or the experiment that made the run."""
    status: Status = Status.NOT_RUN
    reason: str = ""
    """Why it is in its status, where the word alone does not tell."""
    title: str = ""
    settings: str = ""
    """Those in which the rows of the plan differ."""
    wanted: PlanRow | None = None
    """The row as the plan has it."""
    planned: bool = True
    """Whether the plan at hand asks for it; else it is only in the folder, or queued by another plan."""
    run: RunPaths | None = None
    figures: Figures = Figures()
    verdict: Verdict | None = field(default=None, compare=False)
    """On the row: its run's own, unless that may be one on something else. None too where only figures are known."""
    outcome: Outcome = Outcome.PENDING
    """What it comes to, its repeats with other seeds counted."""
    seeds: tuple[int, int] | None = None
    """(k, n): k of the n repeats with other seeds that `gate.confirm_seeds` asks for were accepted."""
    repeats: tuple[tuple[str, str], ...] = ()
    """(key, what came of it) of those repeats."""
    queued: Queued = Queued()
    near: str = ""
    """Of a row without a run: which runs of its experiment are nearly its own, and in what they differ."""
    judged: Judged | None = field(default=None, compare=False)
    """The run at this moment and the verdict on it, for whoever shows more than figures."""

    @property
    def active(self) -> bool:
        """Whether a trainer works on it."""
        return self.status.active

    @property
    def goes_on(self) -> bool:
        """Whether it trains, or is to."""
        return self.status.goes_on

    @property
    def experiment(self) -> str:
        """The experiment that it is a row of, or that made the run."""
        return self.key if self.wanted is None else self.wanted.experiment

    @property
    def confirms(self) -> str | None:
        """The key of the row that this one repeats with another seed."""
        return None if self.wanted is None else self.wanted.confirms

    @property
    def word(self) -> str | None:
        """The verdict as faces call it: `failed` for a run that broke down, else what it comes to with its seeds."""
        return self.figures.word if self.seeds is None else self.outcome.value

    @property
    def name(self) -> str:
        """Key and title."""
        return f"{self.key} {self.title}".strip()

    @property
    def failed(self) -> bool:
        """Whether it ended, or could not even start, for another reason than its result: an error, no memory."""
        if self.judged is not None:
            return self.judged.evidence.broke_down
        return self.status is Status.FAILED

    @property
    def gave_up(self) -> str | None:
        """Why the queue does not go on with a run that did not end by itself."""
        return None if self.judged is None else self.judged.gave_up

    @property
    def remarks(self) -> tuple[str, ...]:
        """What must be known before its verdict is believed: every report shows it at its head."""
        return () if self.verdict is None else self.verdict.remarks

    @property
    def note(self) -> str:
        """The reason, where it has no run or none is known; else why the verdict on its run is not ACCEPTED."""
        if self.run is not None:
            return self.figures.note
        return "; ".join(filter(None, (self.reason, self.near)))


def rate_of(rows: Iterable[Row]) -> str:
    """What stands over their error rates: WER, or CER; `WER/CER` where runs that no plan asks for count otherwise."""
    units = dict.fromkeys(row.figures.unit for row in rows if row.figures.unit is not None)
    return "/".join(unit.rate for unit in units) or Unit.WORD.rate


def told_by_plan(row: Row) -> Row:
    """A row without a run, with what it depends on by its plan, where no other reason is known."""
    if row.run is not None or row.reason or row.wanted is None:
        return row
    after = [f"after {', '.join(row.wanted.after)}"] if row.wanted.after else []
    when = [f"if {row.wanted.when}"] if row.wanted.when else []
    return replace(row, reason="; ".join([*after, *when]))
