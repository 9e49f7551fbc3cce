"""One run folder under watch: read again only where its files changed, with how heldout changed at each interval."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from core.runs.chances import half_interval
from core.runs.judged import Judged, judged
from core.runs.paths import RunPaths, RunsFolder
from core.runs.position import read_positions
from core.runs.row import Outcome, Row
from core.runs.run_figures import change, of_run
from core.runs.snapshot import RunSnapshot
from core.runs.status import Status
from core.runs.store import RunFollower
from core.scoring.evidence import Thresholds
from core.scoring.luck import Tried
from lora_tui.dashboard.reading.log_text import last_lines
from lora_tui.dashboard.reading.row_index import EVENTS, RowIndex, Stamps, stamp_of, stamps_of, with_figures
from lora_tui.dashboard.reading.snapshots import IntervalChange, RunView


def set_changes(found: Judged, name: str) -> tuple[IntervalChange, ...]:
    """The error rate of each interval on a set against interval 0, with its uncertainty.

    The verdict's own where it has judged that interval: corrected for the choice, it need not be the same on both sides
    of the change, and half its width is told.
    """
    intervals, paths = found.snapshot.intervals, found.snapshot.paths
    base = next((i for i in intervals if i.step == 0), None)
    if base is None:
        return ()
    judged = None if found.snapshot.chosen is not None else found.verdict.best_step
    changes = []
    for one in intervals:
        before, after = (score.domain if name == "domain" else score.heldout for score in (base, one))
        rise = change(before.counts, after.counts)
        if rise is None:
            continue
        half = 0.0 if one.step == 0 else _verdicts(found, name) if one.step == judged else None
        half = half_interval(paths, name, one.step, found.thresholds) if half is None else half
        changes.append(IntervalChange(one.step, rise, half))
    return tuple(changes)


def _verdicts(found: Judged, name: str) -> float | None:
    """Half the 95 % interval that the verdict gives, if it has one."""
    sure = found.evidence.significance
    one = None if sure is None else sure.domain if name == "domain" else sure.heldout
    return None if one is None else (one.high_pp - one.low_pp) / 2


def candidate_widths(found: Judged) -> dict[str, tuple[float | None, float | None]]:
    """Half widths of the changes on domain and heldout of the candidate made of intervals that the run ships."""
    one = found.snapshot.chosen
    if one is None or not any(i.step == 0 for i in found.snapshot.intervals):
        return {}
    known = [_verdicts(found, name) for name in ("domain", "heldout")]
    told = [half_interval(found.snapshot.paths, name, one.name, found.thresholds) for name in ("domain", "heldout")]
    domain, heldout = (other if half is None else half for half, other in zip(known, told, strict=True))
    return {one.name: (domain, heldout)}


class Watch:
    """Reads one run. `refresh` says whether anything changed since the last call."""

    def __init__(self, paths: RunPaths, caches: RunsFolder | None = None) -> None:
        """`caches`: the folder in whose state a long history may be kept folded."""
        self.paths, self._caches = paths, caches
        self._events = str(paths.events)
        self._stamps: Stamps | None = None
        self._judged_by: tuple[Thresholds, str | None] | None = None
        self._kept: Row | None = None
        """Figures from the index, as long as the files are what they came from and nobody looks at the run."""
        self._view: RunView | None = None
        self._row: tuple[Row, Row] | None = None
        self.reading = False
        self.restless = True
        """Whether it may change without its files changing, as a trainer that fell silent does, or is yet to begin."""
        self.snapshot: RunSnapshot | None = None
        self.judged: Judged | None = None

    @cached_property
    def _follower(self) -> RunFollower:
        """Made when the run is read first: of a thousand, few are."""
        return RunFollower(self.paths, None if self._caches is None else self._caches.history_cache(self.paths.name))

    @property
    def unread(self) -> bool:
        """Whether nothing is known of it yet."""
        return self.snapshot is None and self._kept is None

    def _is_restless(self) -> bool:
        if self._kept is not None:
            return False
        return self.snapshot is None or self.snapshot.state.active or not self.snapshot.attempts

    @property
    def experiment(self) -> str:
        """The experiment that made the run; the folder's name as long as that is not known."""
        if self.snapshot is not None:
            return self.snapshot.experiment
        return self._kept.key if self._kept is not None else self.paths.name

    @property
    def touched(self) -> bool:
        """Whether its events are others than those that were read: the cheapest look at a run."""
        return self._stamps is None or stamp_of(self._events) != self._stamps[EVENTS]

    def recall(self, index: RowIndex, judged_by: str) -> None:
        """Take the figures from the index, if they hold."""
        if self.snapshot is None:
            # Thousands of runs that are in no index are not looked at for it.
            found = stamps_of(self.paths) if self.paths.name in index else None
            self._kept = None if found is None else index.find(self.paths.name, found, judged_by)
            self._stamps = found if self._kept is not None else None
            self.restless = self._is_restless()

    def keep_figures(self, index: RowIndex, judged_by: str) -> None:
        """Give them to the index, if the run has ended."""
        if self._stamps is None or self.snapshot is None or self.judged is None:
            return
        if self.snapshot.attempts and not self.snapshot.state.active:
            index.keep(self.paths.name, self._stamps, judged_by, of_run(Row("", self.experiment), self.judged))

    def refresh(
        self, thresholds: Thresholds, gave_up: str | None = None, until: float = math.inf, *, whole: bool = True
    ) -> bool:
        """Read what is new. Never raises for what is in the files.

        A long history is read until `time.monotonic()` is `until`; `reading` says that there is more. Not `whole`:
        the figures of the index will do, if they hold.
        """
        try:
            return self._refresh(thresholds, gave_up, until, whole)
        finally:
            self.restless = self._is_restless()

    def _refresh(self, thresholds: Thresholds, gave_up: str | None, until: float, whole: bool) -> bool:
        found = stamps_of(self.paths)
        same_files = found == self._stamps
        if self._kept is not None:
            if same_files and not whole:
                return False
            if not same_files:
                self._kept = self._stamps = None
        ended = self.snapshot is not None and not self.snapshot.state.active
        if same_files and ended and self._judged_by == (thresholds, gave_up):
            return False
        self.reading = not self._follower.advance(until)
        if self.reading:
            return False
        old = self.snapshot
        self.snapshot = snapshot = self._follower.refresh()
        seen = (snapshot.state, snapshot.last_event_time, len(snapshot.steps), snapshot.progress)
        same = old is not None and seen == (old.state, old.last_event_time, len(old.steps), old.progress)
        if same and same_files and self._judged_by == (thresholds, gave_up):
            self.snapshot = old
            return False
        self._stamps, self._judged_by = found, (thresholds, gave_up)
        self._view = self._row = self._kept = None
        self.judged = judged(snapshot, thresholds, gave_up)
        return True

    def keep(self) -> bool:
        """Write a long history down for the next reader; whether that was done."""
        return not self.reading and self.snapshot is not None and self._follower.keep()

    def row(self, row: Row) -> Row:
        """`row` with all that the run says. The same object as long as nothing of it changes."""
        if self.judged is None:
            if self._kept is not None:
                if self._row is None or self._row[0] != row:
                    self._row = row, with_figures(replace(row, run=self.paths), self._kept)
                return self._row[1]
            said = f"reading, {100 * self._follower.share_read:.0f} %" if self.reading else row.reason
            return replace(row, run=self.paths, status=Status.UNREAD, reason=said)
        if self._row is None or (self._row[0] is not row and self._row[0] != row):
            self._row = row, of_run(row, self.judged)
        return self._row[1]

    def view(self, row: Row, tried: Tried | None = None) -> RunView | None:
        """The run as the plots and the panels show it, with the verdict on this row.

        `tried`: how many runs were judged on its sets.
        """
        found, verdict = self.judged, row.verdict
        if found is None or verdict is None:
            return None
        view, log = self._view, last_lines(self.paths.log)
        stands = row.figures.standing
        ships = stands is not None and stands.word.ships and (row.seeds is None or row.outcome is Outcome.ACCEPTED)
        if view is None or _told(view) != (row.id, row.name, log, verdict, ships, tried):
            self._view = view = RunView(
                row.id, row.name, found, verdict, found.so_far(),
                set_changes(found, "heldout"),
                log,
                set_changes(found, "domain"),
                read_positions(self.paths)[0],
                ships,
                tried,
                candidate_widths(found),
            )  # fmt: skip
        return view


def _told(view: RunView) -> tuple[object, ...]:
    """What of a view may change although the run's own files stay as they are."""
    return view.row_id, view.label, view.log, view.verdict, view.ships, view.tried
