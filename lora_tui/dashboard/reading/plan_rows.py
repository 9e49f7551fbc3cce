"""The rows of the plan, and which run folder each of them is. Finding that out may hash audio: a thread does it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.manifests.hashing import HashCache, UnsavedHashes
from core.plan.schema import Row as PlanRow
from core.queue.execution import PlanExecution
from core.queue.report import asked_repeats, caveats, surely
from core.queue.requests import Submission
from core.runs.matrix import differing_settings, history_row
from core.runs.paths import RunPaths, RunsFolder
from core.runs.resolve import ResolveLaterError
from core.runs.row import Row, of_plan
from core.scoring.evidence import Thresholds
from core.scoring.units import Unit
from core.scoring.verdict import thresholds_of
from core.system.files import is_file
from lora_tui.request import read_plan_text


class PlanRows:
    """The plan file as it is now: it is read again when it changes. Belongs to the reader thread."""

    def __init__(self, path: Path, runs: RunsFolder, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> None:
        self.path = path
        self.execution: PlanExecution | None = None
        self.problems: tuple[str, ...] = ()
        self.loading = ""
        """What the placing thread does; nothing when it is done."""
        self._runs, self._overrides, self._only = runs, tuple(overrides), tuple(only)
        self._stamp: tuple[int, int] | None = None
        self._placing: _Placing | None = None
        self._texts: tuple[str, ...] = ()
        self._values: tuple[Mapping[str, Any], ...] = ()
        self._doubts: dict[str, tuple[RunPaths, tuple[str, ...], str]] = {}
        """Row key → its run, the remarks on it, and why its verdict may be one on something else."""
        self._repeats: Mapping[str, int] = {}
        self._same: Mapping[str, str] = {}
        """Row key → the row before it whose run it shares."""
        self._same_of: object = None

    def refresh(self) -> None:
        """Read the plan again if its file changed, and take over what the placing thread has found."""
        try:
            found = self.path.stat()
            stamp = found.st_mtime_ns, found.st_size
        except OSError:
            stamp = (0, 0)
        if stamp != self._stamp:
            self._stamp = stamp
            self._load()
        placing = self._placing
        if placing is None:
            return
        self.loading = placing.doing
        if not placing.is_alive():
            placing.join()
            self._placing, self.loading = None, ""
            self.execution, self.problems = placing.execution, self._short(placing.problems)
            self._texts = ()
            self._doubts.clear()
            self._repeats = asked_repeats(self.execution)

    @property
    def thresholds(self) -> Thresholds | None:
        """The thresholds of the plan's `[gate]`."""
        return None if self.execution is None else thresholds_of(asdict(self.execution.plan.gate))

    def rows(self) -> list[tuple[Row, RunPaths | None]]:
        """The wanted rows in the plan's order, without the figures of their runs."""
        execution = self.execution
        if execution is None:
            return []
        wanted = execution.shown_rows()
        if self._same_of != (known := (len(wanted), len(execution.assigned))):
            self._same_of, self._same = known, _same_runs(execution, wanted)
        if len(self._texts) != len(wanted):
            self._values = tuple(asdict(row.settings) for row in wanted)
            self._texts = differing_settings(self._values)
        each = zip(wanted, self._texts, self._values, strict=True)
        return [(self._row(row, text, settings), self._folder(row)) for row, text, settings in each]

    @property
    def repeats(self) -> Mapping[str, int]:
        """Row key → repeats with other seeds that it needs once it is accepted."""
        return self._repeats

    @property
    def ends(self) -> tuple[str, ...]:
        """What ends the plan, or a run of it, before all has run, a phrase each."""
        if self.execution is None:
            return ()
        queue, gate = self.execution.plan.queue, self.execution.plan.gate
        said = ["at the first accepted run"] if queue.until == "accepted" else ["when all have run"]
        said.append(f"after {queue.max_runs} runs or {queue.max_hours:g} hours of training")
        if gate.early_stop is not None:
            rate = Unit(gate.unit).rate
            what = f"heldout {rate} is more than {gate.early_stop:g} points up in {gate.early_stop_intervals} intervals"
            said.append(f"a run by itself when {what} in a row")
        return tuple(said)

    def history(self) -> tuple[Row, ...]:
        """Earlier results made elsewhere."""
        if self.execution is None:
            return ()
        plan = self.execution.plan
        return tuple(history_row(number, entry, Unit(plan.gate.unit)) for number, entry in enumerate(plan.history))

    def sure(self, row: Row) -> Row:
        """The row with what must be known before its verdict is believed: it may be one on something else."""
        execution, thresholds = self.execution, self.thresholds
        if execution is None or thresholds is None or row.run is None or not row.planned:
            return row
        known = self._doubts.get(row.key)
        if known is None or known[0] != row.run:
            known = self._doubts[row.key] = row.run, *caveats(execution, row.key, thresholds)
        return surely(row, *known[1:])

    def forget(self, run: RunPaths) -> None:
        """The run's files changed: what depends on its result is decided again."""
        if self.execution is not None and self._placing is None:
            self.execution.forget(run)
            self.execution.assign_decided()
            self._doubts.clear()

    def submission(self) -> Submission:
        """The plan as it is now, to be queued. UserError when it cannot be read."""
        return Submission.create(self.path, read_plan_text(self.path), self._overrides, self._only)

    def _load(self) -> None:
        hashes = (HashCache if self._runs.state.is_dir() else UnsavedHashes)(self._runs.hash_cache)
        try:
            execution = PlanExecution(self.submission(), self._runs, hashes)
            placing = _Placing(self.submission(), self._runs, hashes)
        except UserError as error:
            self.problems, self._placing, self.loading = self._short(str(error).splitlines()), None, ""
            return
        self.problems = ()
        if self.execution is None:
            self.execution = execution
        self._placing = placing
        placing.start()

    def _short(self, problems: Sequence[str]) -> tuple[str, ...]:
        """Without the folder of the plan, which stands on the screen already."""
        return tuple(problem.replace(f"{self.path.absolute().parent}/", "") for problem in problems)

    def _row(self, row: PlanRow, text: str, settings: Mapping[str, Any]) -> Row:
        bare = of_plan(row, text, None if self.execution is None else Unit(self.execution.plan.gate.unit))
        return replace(bare, figures=replace(bare.figures, settings=settings), same_as=self._same.get(row.key, ""))

    def _folder(self, row: PlanRow) -> RunPaths | None:
        execution = self.execution
        assigned = execution.assigned.get(row.key) if execution is not None else None
        if execution is None or assigned is None:
            return None
        run = execution.folder(assigned)
        return run if is_file(run.config) else None


def _same_runs(execution: PlanExecution, wanted: Sequence[PlanRow]) -> dict[str, str]:
    first, found = dict[str, str](), dict[str, str]()
    for row in wanted:
        assigned = execution.assigned.get(row.key)
        if assigned is not None and first.setdefault(assigned.identity, row.key) != row.key:
            found[row.key] = first[assigned.identity]
    return found


class _Placing(threading.Thread):
    """Finds the runs of a plan's rows: reads manifests, and audio that was never hashed before."""

    def __init__(self, submission: Submission, runs: RunsFolder, hashes: HashCache) -> None:
        super().__init__(name="placing", daemon=True)
        self.doing = "reading the plan's data"
        self.execution = PlanExecution(submission, runs, hashes, self._progress)
        self.problems: tuple[str, ...] = ()
        self._runs = runs

    def run(self) -> None:
        """Place the rows; this is the body of the thread."""
        try:
            problems: Mapping[str, UserError] = self.execution.assign_all()
            self.execution.assign_decided()
        except Exception as error:  # a thread has nobody to raise to: the board says it
            self.problems = (f"the plan's data cannot be read: {error}",)
            return
        wrong = [problem for problem in problems.values() if not isinstance(problem, ResolveLaterError)]
        lines = [line for problem in wrong for line in str(problem).splitlines()]
        self.problems = tuple(dict.fromkeys([*self.execution.plan.warnings, *lines]))

    def _progress(self, manifest: str, done: int, total: int) -> None:
        self.doing = f"reading the audio of data.{manifest}: {done}/{total}"
