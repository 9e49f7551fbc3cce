"""What the reader thread hands to the screen: frozen values, compared before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from core.runs.row import Row
from lora_tui.dashboard.reading.machine import Resources

if TYPE_CHECKING:
    from core.runs.judged import Judged
    from core.runs.position import Position
    from core.runs.snapshot import RunSnapshot
    from core.scoring.evidence import Criterion, Thresholds, Verdict
    from core.scoring.luck import Tried


@dataclass(frozen=True, slots=True)
class IntervalChange:
    """One set at one interval against the base model, paired by utterance. In points."""

    step: int
    change: float
    half_width: float | None
    """Of the 95 % interval; None where the utterances' scores cannot be read."""


@dataclass(frozen=True, slots=True, eq=False)
class RunView:
    """Everything that is shown of one run. The same object as long as nothing of it changes."""

    row_id: str
    label: str
    judged: Judged
    verdict: Verdict
    """With what must be known of the row before it is believed."""
    so_far: Mapping[str, Criterion]
    """Criteria as they would be if the best interval so far were the tuned score; only where that says more."""
    heldout: tuple[IntervalChange, ...]
    log: tuple[str, ...] = ()
    """The last lines of the log that have anything on them."""
    domain: tuple[IntervalChange, ...] = ()
    positions: tuple[Position, ...] = ()
    """What the order of the evaluation sets does to their WER."""
    ships: bool = False
    """Whether its best interval, or the candidate that was chosen, ships, or would now."""
    tried: Tried | None = None
    """How many runs were judged on its sets; None: not counted, or none was."""
    candidates: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Half widths of the 95 % intervals on domain and heldout of the candidate made of intervals that ships."""

    @property
    def log_line(self) -> str:
        """The last of them, or nothing."""
        return self.log[-1] if self.log else ""

    @property
    def snapshot(self) -> RunSnapshot:
        """The run at this moment."""
        return self.judged.snapshot

    @property
    def thresholds(self) -> Thresholds:
        """What the verdict was passed by."""
        return self.judged.thresholds


@dataclass(frozen=True, slots=True)
class Queue:
    """Whether a supervisor works, and what it said last."""

    works: bool = False
    submissions: tuple[str, ...] = ()
    """Open ones."""
    last_action: str = ""
    paused: str = ""
    """Why it has paused by itself."""
    note: str = ""
    """What people should know of the supervisor at work."""

    @property
    def stands_still(self) -> bool:
        """Whether there is something to do, and nobody who does it: the machine was restarted, say."""
        return bool(self.submissions) and not self.works


@dataclass(frozen=True, slots=True)
class Board:
    """The whole screen's contents at one moment."""

    where: str
    """The runs folder."""
    plan: str | None = None
    rows: tuple[Row, ...] = ()
    queue: Queue = Queue()
    selected: RunView | None = None
    pinned: tuple[RunView, ...] = ()
    resources: Resources = field(default_factory=Resources)
    problems: tuple[str, ...] = ()
    """Of the plan, or of reading it."""
    loading: str = ""
    unread: int = 0
    """Runs of which nothing is known yet."""
    history: tuple[Row, ...] = ()
    """Earlier results made elsewhere, by the plan."""
    upcoming: str = ""
    """What is started next, in a sentence."""
    ends: tuple[str, ...] = ()
    """What ends the plan, or a run of it, before all has run, a phrase each."""
    replay: str = ""
    """Where a replay stands; empty without one."""

    @property
    def problems_only(self) -> bool:
        """Whether the plan could never be read."""
        return bool(self.problems) and not any(row.planned for row in self.rows)

    def row(self, row_id: str | None) -> Row | None:
        """The row with this id."""
        return next((row for row in self.rows if row.id == row_id), None)


@dataclass(frozen=True, slots=True)
class Want:
    """What the screen asks the reader for."""

    selected: str | None = None
    pinned: tuple[str, ...] = field(default=())
