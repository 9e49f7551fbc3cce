"""The board, read from files: plan rows, run folders, the queue. For the reader thread."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from core.plan.schema import GateSettings
from core.runs.files import read_json
from core.runs.paths import RunPaths, RunsFolder
from core.scoring.evidence import Thresholds
from core.scoring.verdict import thresholds_of
from lora_tui.dashboard.confirmation import with_seeds
from lora_tui.dashboard.machine import Resources
from lora_tui.dashboard.plan_rows import PlanRows
from lora_tui.dashboard.queue_state import QueueState, with_entry
from lora_tui.dashboard.resources import ResourceReader
from lora_tui.dashboard.snapshots import Board, BoardRow, RunView, Want
from lora_tui.dashboard.watch import Watch

BUDGET_S = 0.3
"""Reading in one round; what is left comes in the next, so that a folder of a thousand runs shows at once."""
_RESTING_A_ROUND = 40
"""Ended runs looked at again in one round."""
_RESOURCES_S = 2.0
_LISTING_S = 3.0


class FolderSource:
    """Boards from a runs folder and, when there is one, a plan. Used by one thread only."""

    def __init__(self, runs: RunsFolder, plan: PlanRows | None, *, caches: bool = True) -> None:
        """`caches`: whether long histories may be kept folded in the state folder."""
        self._runs, self._plan = runs, plan
        self._caches = caches and runs.state.is_dir()
        self.pending = False
        self._queue = QueueState(runs)
        self._watches: dict[str, Watch] = {}
        self._gates: dict[str, Thresholds] = {}
        self._resting = 0
        self._resources = ResourceReader()
        self._machine = Resources()
        self._measured = float("-inf")
        self._listing: list[tuple[str, RunPaths]] = []
        self._other_rows: dict[str, BoardRow] = {}
        self._listed: tuple[float, int] = float("-inf"), 0

    def read(self, want: Want) -> Board:
        """The board now. Runs that were not read yet, for want of time, have the state `…`."""
        problems: tuple[str, ...] = ()
        planned: list[tuple[BoardRow, RunPaths | None]] = []
        if self._plan is not None:
            self._plan.refresh()
            problems = self._plan.problems
            planned = self._plan.rows()
        queue = self._queue.refresh()
        pairs = self._queue.in_order(planned, self._plan_path)
        pairs += self._others({run.name for _, run in pairs if run is not None})
        self._refresh([(row.id, run) for row, run in pairs if run is not None], want)
        rows = tuple(self._row(row, run) for row, run in pairs)
        if self._plan is not None:
            rows = with_seeds(rows, self._plan.confirm_seeds)
        by_id = {row.id: run for row, run in pairs}
        views = [self._view(row_id, rows, by_id.get(row_id)) for row_id in want.pinned]
        active = any(row.active for row in rows)
        return Board(
            where=str(self._runs.root),
            plan=None if self._plan is None else str(self._plan.path),
            rows=rows,
            queue=queue,
            selected=self._view(want.selected, rows, by_id.get(want.selected or "")),
            pinned=tuple(view for view in views if view is not None),
            resources=self._measure(active),
            problems=problems,
            loading=self._plan.loading if self._plan is not None else "",
            history=self._plan.history() if self._plan is not None else (),
        )

    @property
    def _plan_path(self) -> str | None:
        return None if self._plan is None else str(self._plan.path.absolute())

    def _others(self, known: set[str]) -> list[tuple[BoardRow, RunPaths | None]]:
        """Runs in the folder that the plan does not ask for."""
        if self._plan is not None and self._plan.loading:
            return []
        return [(self._other_row(name, run), run) for name, run in self._folders() if name not in known]

    def _other_row(self, name: str, run: RunPaths) -> BoardRow:
        """The same object in every round, as long as the run goes by the same name."""
        key = self._name_of(name)
        row = self._other_rows.get(name)
        if row is None or row.key != key:
            row = self._other_rows[name] = BoardRow(f"run:{name}", key, planned=False)
        return row

    def _folders(self) -> list[tuple[str, RunPaths]]:
        """The run folders; listed again when one came or went, and now and then, for a late run.json."""
        try:
            changed = self._runs.root.stat().st_mtime_ns
        except OSError:
            changed = 0
        if changed != self._listed[1] or time.monotonic() - self._listed[0] > _LISTING_S:
            self._listing = [(run.name, run) for run in self._runs.runs()]
            self._listed = time.monotonic(), changed
        return self._listing

    def _name_of(self, name: str) -> str:
        watch = self._watches.get(name)
        return watch.snapshot.experiment if watch is not None and watch.snapshot is not None else name

    def _refresh(self, runs: list[tuple[str, RunPaths]], want: Want) -> None:
        """Read what is wanted first, then what is alive or new, then a few of those that rest."""
        wanted = {want.selected, *want.pinned}
        first, restless, resting = [], [], []
        for row_id, run in runs:
            name = run.name
            watch = self._watches.get(name)
            if watch is None:
                watch = self._watches[name] = Watch(run, self._runs.history_cache(name) if self._caches else None)
            if row_id in wanted:
                first.append(watch)
            elif watch.restless:
                restless.append(watch)
            else:
                resting.append(watch)
        turn = self._resting % max(1, len(resting))
        some = [*resting[turn:], *resting[:turn]][:_RESTING_A_ROUND]
        self._resting = turn + len(some)
        deadline, self.pending = time.monotonic() + BUDGET_S, False
        read = [*first, *restless, *some]
        for watch in read:
            if time.monotonic() > deadline:
                self.pending = self.pending or watch.snapshot is None
                continue
            changed = watch.refresh(self._thresholds(watch.paths), until=deadline)
            if changed and self._plan is not None and not watch.restless:
                self._plan.forget(watch.paths)
            self.pending = self.pending or watch.reading
        if not self.pending:
            # Written down when everything is on the screen, one in a round.
            any(watch.keep() for watch in read)

    def _thresholds(self, run: RunPaths) -> Thresholds:
        """The plan's, else those that the run was submitted with."""
        planned = self._plan.thresholds if self._plan is not None else None
        if planned is not None:
            return planned
        if run.name not in self._gates:
            self._gates[run.name] = recorded_thresholds(run)
        return self._gates[run.name]

    def _row(self, row: BoardRow, run: RunPaths | None) -> BoardRow:
        entry = self._queue.entry(row, self._plan_path)
        watch = self._watches.get(run.name) if run is not None else None
        if watch is not None:
            return with_entry(watch.row(row if row.planned or not row.reason else replace(row, reason="")), entry)
        if entry is not None:
            return with_entry(row, entry)
        state, reason = self._queue.word(row.key)
        return replace(row, state=state, reason=reason or row.reason)

    def _view(self, row_id: str | None, rows: tuple[BoardRow, ...], run: RunPaths | None) -> RunView | None:
        row = next((row for row in rows if row.id == row_id), None)
        if row is None or run is None or run.name not in self._watches:
            return None
        label = f"{row.key} {row.title}".strip()
        return self._watches[run.name].view(row.id, label, self._thresholds(run))

    def _measure(self, active: bool) -> Resources:
        """Measured while something runs; an idle board stays as it is, so that nothing is written."""
        due = time.monotonic() - self._measured > _RESOURCES_S
        if due and (active or self._machine.cpu_percent is None):
            self._measured = time.monotonic()
            self._machine = self._resources.read()
        return self._machine


def recorded_thresholds(run: RunPaths) -> Thresholds:
    """Those in the run's own run.json, as far as they are numbers; else the defaults."""
    config, _ = read_json(run.config)
    gate = (config or {}).get("gate")
    known = asdict(GateSettings())
    numbers = (int, float)
    given = gate if isinstance(gate, dict) else {}
    good = {k: v for k, v in given.items() if k in known and (isinstance(v, numbers) or k == "accept_leakage")}
    try:
        return thresholds_of(good | {"slice": given.get("slice")})
    except (AttributeError, TypeError, ValueError, KeyError):
        return thresholds_of(good)
