"""A row as every face tells it: one word for where it stands, one reason, one set of figures. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from core.runs.status import Status
from core.scoring.luck import Tried
from core.scoring.signs import signed
from core.scoring.units import Unit

if TYPE_CHECKING:
    from core.plan.schema import Row as PlanRow
    from core.runs.judged import Judged
    from core.runs.paths import RunPaths
    from core.scoring.evidence import Criterion, Verdict
    from core.scoring.standing import Standing


# How figures are written. No figure is a dash, never 0

NONE = "–"
"""Printed where there is no figure. Never 0."""


def no_number(criterion: Criterion) -> str:
    """What stands for a criterion's number where it has none: `matches` of an adapter that is the one scored."""
    return "matches" if criterion.name == "integrity" and criterion.state.value == "PASS" else NONE


def clock(seconds: float) -> str:
    """`1:32`, `2:07:05`."""
    whole = max(0, round(seconds))
    head = f"{whole // 3600}:{whole % 3600 // 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return f"{head}:{whole % 60:02d}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def from_to(before: float | None, after: float | None) -> str:
    """`39.40 → 23.00`, in percent."""
    if before is None and after is None:
        return NONE
    return f"{percent(before)} → {percent(after)}"


def percent(value: float | None) -> str:
    """`39.40`, of a value in percent."""
    return NONE if value is None else f"{value:.2f}"


def points(change: float | None) -> str:
    """A change of an error rate in points, with its sign."""
    return NONE if change is None else signed(change)


# The row


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
    measured_here: bool = False
    """Whether its newest attempt was of this machine, so that its times tell how long others take."""
    standing: Standing | None = None
    """Where the run stands by its evidence; None: nothing has begun, or it is not known."""
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
    same_as: str = ""
    """Of a row of a plan: the row before it whose run it shares, as far as both are known."""
    near: str = ""
    """Of a row without a run: which runs of its experiment are nearly its own, and in what they differ."""
    tried: Tried | None = None
    """How many runs were judged on its sets; None: not counted."""
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
    def retriable(self) -> bool:
        """Whether `retry` means anything: it ended, or is held, removed or closed; of one that goes on it forgives."""
        if self.active or self.status in (Status.DONE, Status.NOT_RUN, Status.HISTORY, Status.UNREAD):
            return False
        return self.run is not None or not self.status.in_turn

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


def shown_settings(bare: Row, of_run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the row's plan, where it has any: a run has absolute paths, and what the plan leaves open is resolved.

    By them rows are told apart, those that have a run from those that have none. What the plan leaves to the results
    of others is the run's.
    """
    planned, adapter = bare.figures.settings, of_run.get("adapter")
    if not planned or bare.wanted is None:
        return of_run or planned
    if not bare.wanted.adapter_from or not isinstance(adapter, Mapping):
        return planned
    return {**planned, "adapter": {**planned["adapter"], "target_modules": adapter.get("target_modules")}}


def rate_of(rows: Iterable[Row]) -> str:
    """What stands over their error rates: WER, or CER; `WER/CER` where runs that no plan asks for count otherwise."""
    units = dict.fromkeys(row.figures.unit for row in rows if row.figures.unit is not None)
    return "/".join(unit.rate for unit in units) or Unit.WORD.rate


def of_plan(wanted: PlanRow, settings: str, unit: Unit | None = None, of: str = "plan") -> Row:
    """A row of a plan before anybody has looked at its run.

    `settings`: of it, as people read them; `unit`: of its plan's error rates, None: not known; `of`: begins its id.
    """
    train = wanted.settings.train
    figures = Figures(steps_planned=train.steps, learning_rate=train.learning_rate, unit=unit)
    return Row(f"{of}:{wanted.key}", wanted.key, title=wanted.title, settings=settings, wanted=wanted, figures=figures)


def told_by_plan(row: Row) -> Row:
    """A row in whose run no trainer has worked, with what it depends on by its plan, where no other reason is known."""
    if row.status not in (Status.NOT_RUN, Status.QUEUED) or row.reason or row.wanted is None:
        return row
    after = [f"after {', '.join(row.wanted.after)}"] if row.wanted.after else []
    when = [f"if {row.wanted.when}"] if row.wanted.when else []
    return replace(row, reason="; ".join([*after, *when]))
