"""Opening the dashboard. What the first frame does not need is imported after it, in the thread that reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.errors import ExitCode
from core.runs.paths import RunsFolder
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.row_index import RowIndex, first_rows
from lora_tui.dashboard.reading.snapshots import Board, Want
from lora_tui.diagnostics import say

if TYPE_CHECKING:
    from lora_tui.dashboard.actions import Actions
    from lora_tui.dashboard.reading.source import Source


class LateSource:
    """A source that is put together when it is read first, by the thread that reads it.

    `first` gives what can be shown before that, if there is anything.
    """

    def __init__(self, make: Callable[[], Source], first: Callable[[], Board | None] = lambda: None) -> None:
        self._make, self._first = make, first
        self._asked = False
        self._source: Source | None = None

    @property
    def pending(self) -> bool:
        """Whether more of what is there could be read at once."""
        return self._source is None or self._source.pending

    def read(self, want: Want) -> Board:
        """The board now."""
        if not self._asked:
            self._asked = True
            board = self._first()
            if board is not None:
                return board
        if self._source is None:
            self._source = self._make()
        return self._source.read(want)


def open_dashboard(options: Options, runs: RunsFolder) -> ExitCode:
    """Run until somebody quits. What trains goes on, and that is said."""

    def actions() -> Actions:
        from lora_tui.dashboard.actions import Actions

        return Actions(options, runs)

    if options.replay is not None:
        from lora_tui.dashboard.reading.replay import ReplaySource

        replay = ReplaySource(options.replay, options.speed)
        try:
            return _run(Dashboard(replay, options, actions))
        finally:
            replay.close()
    index = RowIndex(runs.board_index)
    source = LateSource(lambda: _folder_source(options, runs, index), lambda: _first_board(options, runs, index))
    app = Dashboard(source, options, actions, runs.dashboard_memory)
    ended = _run(app)
    if any(row.active for row in app.board.rows) or app.board.queue.works:
        say(
            "the dashboard is closed; training goes on. `lora-tui` opens it again, `lora-tui status` says how it stands"
        )
    return ended


def _run(app: Dashboard) -> ExitCode:
    app.run()
    if app.failure is not None:
        raise app.failure
    return ExitCode.INTERNAL if app.return_code else ExitCode.ACCEPTED


def _first_board(options: Options, runs: RunsFolder, index: RowIndex) -> Board | None:
    """The plan gives rows their order and their thresholds: with one, nothing is shown before it is read."""
    return first_rows(runs, index) if options.plan is None and len(index) else None


def _folder_source(options: Options, runs: RunsFolder, index: RowIndex) -> Source:
    from lora_tui.dashboard.reading.reader import FolderSource

    plan = None
    if options.plan is not None:
        from lora_tui.dashboard.reading.plan_rows import PlanRows

        plan = PlanRows(options.plan, runs, options.overrides, options.only)
    return FolderSource(runs, plan, caches=not options.readonly, index=index)
