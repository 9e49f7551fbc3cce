"""The board, read from files: plan rows, run folders, the queue. For the reader thread.

Long histories and the figures of ended runs are kept for the next time; gone runs leave nothing behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from core.runs.documents import read_config
from core.runs.judged import recorded_thresholds
from core.runs.judged_sets import JudgedFolders
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row
from core.runs.run_figures import with_seeds
from core.scoring.evidence import Thresholds
from lora_tui.dashboard.reading.machine import ResourceReader, Resources
from lora_tui.dashboard.reading.no_queue import FollowedQueue, NoQueue, Placed, has_queue
from lora_tui.dashboard.reading.row_index import RECORDED, Listing, RowIndex
from lora_tui.dashboard.reading.snapshots import Board, Queue, RunView, Want
from lora_tui.dashboard.reading.watch import Watch

if TYPE_CHECKING:
    from lora_tui.dashboard.reading.plan_rows import PlanRows


_SAVE_S = 20.0


class Caches:
    """In the state folder. Used by the reader thread, when everything is on the screen."""

    def __init__(self, runs: RunsFolder, index: RowIndex, *, kept: bool) -> None:
        """`kept`: whether anything may be written."""
        self._runs, self._index, self.kept = runs, index, kept
        self._saved = float("-inf")
        self._swept: Sequence[str] | None = None

    def write_down(self, watches: Mapping[str, Watch], awake: Iterable[str], names: Sequence[str]) -> None:
        """A long history, one in a round; the index, and what is left of gone runs, now and then.

        `names`: of the run folders there are, the same object as long as they are the same.
        """
        if any(watches[name].keep() for name in awake):
            return
        if not self.kept or time.monotonic() - self._saved <= _SAVE_S:
            return
        self._saved = time.monotonic()
        self._index.save(watches.keys())
        # A folder without any run may be one that is not mounted.
        if names and names is not self._swept:
            self._swept = names
            for path in self._runs.histories_of_gone_runs():
                with suppress(OSError):
                    path.unlink()


BUDGET_S = 0.1
"""Reading in one round; what is left comes in the next, so that a folder of a thousand runs shows at once."""
_GLANCES_A_ROUND, _LOOKS_A_ROUND = 100, 8
"""Ended runs whose events, and all of whose files, are looked at again in one round."""
_RESOURCES_S = 2.0
_UPCOMING_S = 1.0
"""How often it is asked at most what is started next."""


class FolderSource:
    """Boards from a runs folder and, when there is one, a plan. Used by one thread only.

    Rows are made anew only for runs that changed: an idle round over a thousand runs costs about a millisecond.
    """

    def __init__(
        self, runs: RunsFolder, plan: PlanRows | None, *, caches: bool = True, index: RowIndex | None = None
    ) -> None:
        """`caches`: whether long histories and the figures of ended runs may be kept in the state folder."""
        self._runs, self._plan = runs, plan
        self.pending = self._active = False
        self._queue: FollowedQueue = NoQueue()
        self._index = index or RowIndex(runs.board_index)
        self._caches = Caches(runs, self._index, kept=caches and runs.state.is_dir())
        self._judged_by = RECORDED
        self._watches: dict[str, Watch] = {}
        self._gates: dict[str, Thresholds] = {}
        self._turn = 0
        self._resources = ResourceReader()
        self._machine = Resources()
        self._measured = float("-inf")
        self._listing = Listing(runs)
        self._arranged: object = None
        self._pairs: list[Placed] = []
        self._rows: list[Row] = []
        self._places: dict[str, list[int]] = {}
        """Folder name → where its rows are: rows may share a run."""
        self._ids: dict[str, int] = {}
        self._shown: tuple[Row, ...] = ()
        self._sets = JudgedFolders()
        self._upcoming = ""
        self._upcoming_of: object = None
        self._upcoming_asked = float("-inf")

    def read(self, want: Want) -> Board:
        """The board now. Runs that were not read yet, for want of time, have the state `…`."""
        plan = self._plan
        if plan is not None:
            plan.refresh()
            self._judge_by(plan.thresholds)
        # Before the plan's rows: a run that appears meanwhile is theirs, and not one more.
        names = self._listing.names()
        planned = [] if plan is None else plan.rows()
        queue = self._follow_queue()
        loading = plan.loading if plan is not None else ""
        arranged = (planned, self._queue.version, [] if loading else names)
        changed: Iterable[int] = ()
        if arranged != self._arranged:
            self._arranged = arranged
            self._arrange(planned, arranged[2])
            changed = range(len(self._pairs))
        told = self._refresh(want)
        if changed or told:
            self._make_rows(changed or [place for name in told for place in self._places.get(name, ())])
        if not loading and not self.pending:
            self._sets.look(names, self._listing.run, told, time.monotonic() + BUDGET_S)
            self._ask_upcoming()
        views = [self._view(row_id) for row_id in want.pinned]
        return Board(
            where=str(self._runs.root),
            plan=None if plan is None else str(plan.path),
            rows=self._shown,
            queue=queue,
            selected=self._view(want.selected),
            pinned=tuple(view for view in views if view is not None),
            resources=self._measure(self._active),
            problems=plan.problems if plan is not None else (),
            loading=loading,
            unread=sum(watch.unread for watch in self._watches.values()) if self.pending else 0,
            history=plan.history() if plan is not None else (),
            upcoming=self._upcoming,
            ends=plan.ends if plan is not None else (),
        )

    def _follow_queue(self) -> Queue:
        if isinstance(self._queue, NoQueue) and has_queue(self._runs):
            from lora_tui.dashboard.reading.queue_state import BoardQueue

            self._queue = BoardQueue(self._runs)
        return self._queue.refresh()

    @property
    def _plan_path(self) -> str | None:
        return None if self._plan is None else str(self._plan.path.absolute())

    def _arrange(self, planned: list[Placed], names: Sequence[str]) -> None:
        """Which rows there are, in which order; new runs are looked up in the index."""
        pairs = self._queue.in_order(planned, self._plan_path)
        known = {run.name for _, run in pairs if run is not None}
        pairs += [(Row(f"run:{name}", name, planned=False), self._listing.run(name)) for name in names
                  if name not in known]  # fmt: skip
        self._pairs, self._places = pairs, {}
        self._ids = {row.id: i for i, (row, _) in enumerate(pairs)}
        self._rows = [row for row, _ in pairs]
        for i, (_, run) in enumerate(pairs):
            if run is None:
                continue
            self._places.setdefault(run.name, []).append(i)
            if run.name not in self._watches:
                watch = Watch(run, self._runs if self._caches.kept else None)
                watch.recall(self._index, self._judged_by)
                self._watches[run.name] = watch

    def _make_rows(self, places: Iterable[int]) -> None:
        for place in places:
            self._rows[place] = self._row(*self._pairs[place])
        self._shown = with_seeds(self._rows, {} if self._plan is None else self._plan.repeats)
        self._active = any(row.active for row in self._shown)

    def _judge_by(self, planned: Thresholds | None) -> None:
        """Figures of the index that were judged by other thresholds do not hold."""
        judged_by = RECORDED if planned is None else repr(planned)
        if judged_by != self._judged_by:
            self._judged_by = judged_by
            for watch in self._watches.values():
                watch.recall(self._index, judged_by)
            self._arranged = None

    def _refresh(self, want: Want) -> list[str]:
        """Read what is wanted first, then what is alive or new, then glance at those that rest.

        The names of the folders whose rows are to be made anew.
        """
        wanted = [self._run_of(row_id) for row_id in dict.fromkeys([want.selected, *want.pinned])]
        first = [run.name for run in wanted if run is not None]
        restless = [name for name in self._places if self._watches[name].restless]
        resting = [] if len(restless) == len(self._places) else self._some(first, restless)
        deadline, was_pending, self.pending = time.monotonic() + BUDGET_S, self.pending, False
        changed: list[str] = []
        for name in dict.fromkeys([*first, *restless, *resting]):
            watch = self._watches[name]
            if time.monotonic() > deadline:
                self.pending = self.pending or watch.unread
                continue
            told = watch.reading
            if watch.refresh(self._thresholds(watch.paths), until=deadline, whole=name in first):
                changed.append(name)
                watch.keep_figures(self._index, self._judged_by)
                if self._plan is not None and not watch.restless:
                    self._plan.forget(watch.paths)
            elif told or watch.reading:
                changed.append(name)
            self.pending = self.pending or watch.reading
        if not self.pending and not was_pending:  # what was read last is on the screen first
            self._caches.write_down(self._watches, [*first, *restless], self._listing.names())
        return changed

    def _some(self, first: Sequence[str], restless: Sequence[str]) -> list[str]:
        """Ended runs that are to be looked at now: those with new events, those just started, a few others."""
        started = self._queue.started & self._places.keys()
        self._queue.started.clear()
        names = list(self._places)
        turn = self._turn % len(names)
        glances = [*names[turn:], *names[:turn]][:_GLANCES_A_ROUND]
        self._turn = turn + len(glances)
        skipped = {*first, *restless}
        touched = [name for name in glances if name not in skipped and self._watches[name].touched]
        looks = [name for name in glances if name not in skipped][:: max(1, _GLANCES_A_ROUND // _LOOKS_A_ROUND)]
        return [*started, *touched, *looks]

    def _run_of(self, row_id: str | None) -> RunPaths | None:
        place = self._ids.get(row_id or "")
        return None if place is None else self._pairs[place][1]

    def _thresholds(self, run: RunPaths) -> Thresholds:
        """The plan's, else those that the run was submitted with."""
        planned = self._plan.thresholds if self._plan is not None else None
        if planned is not None:
            return planned
        if run.name not in self._gates:
            self._gates[run.name] = recorded_thresholds(read_config(run)[0])
        return self._gates[run.name]

    def _row(self, row: Row, run: RunPaths | None) -> Row:
        watch = self._watches.get(run.name) if run is not None else None
        if watch is not None and row.key != watch.experiment and row.id == f"run:{watch.paths.name}":
            row = replace(row, key=watch.experiment)
        told = row if watch is None else watch.row(row)
        if watch is not None and self._plan is not None:
            told = self._plan.sure(told)
        return self._queue.row(told, self._plan_path)

    def _view(self, row_id: str | None) -> RunView | None:
        run = self._run_of(row_id)
        if run is None or run.name not in self._watches:
            return None
        tried = self._sets.tried(run, self._thresholds(run).confidence)
        return self._watches[run.name].view(self._shown[self._ids[row_id or ""]], tried)

    def _ask_upcoming(self) -> None:
        """What is started next, where anything has changed that it could depend on."""
        statuses = tuple((row.key, row.status, row.outcome) for row in self._shown)
        depends = (self._queue.version, statuses, None if self._plan is None else id(self._plan.execution))
        now = time.monotonic()
        if depends == self._upcoming_of or now - self._upcoming_asked < _UPCOMING_S:
            return
        self._upcoming_of, self._upcoming_asked = depends, now
        self._upcoming = self._queue.upcoming(None if self._plan is None else self._plan.execution)

    def _measure(self, active: bool) -> Resources:
        """Measured while something runs; an idle board stays as it is, so that nothing is written."""
        due = time.monotonic() - self._measured > _RESOURCES_S
        if due and (active or self._machine.cpu_percent is None):
            self._measured = time.monotonic()
            self._machine = self._resources.read()
        return self._machine
