"""Opening the dashboard: everything that imports Textual is imported from here on."""

from __future__ import annotations

from core.errors import ExitCode
from core.runs.paths import RunsFolder
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.plan_rows import PlanRows
from lora_tui.dashboard.reader import FolderSource
from lora_tui.dashboard.replay import ReplaySource
from lora_tui.diagnostics import say


def open_dashboard(options: Options, runs: RunsFolder) -> ExitCode:
    """Run until somebody quits. What trains goes on, and that is said."""
    if options.replay is not None:
        replay = ReplaySource(options.replay, options.speed)
        try:
            Dashboard(replay, options, Actions(options, runs)).run()
        finally:
            replay.close()
        return ExitCode.ACCEPTED
    plan = None
    if options.plan is not None:
        plan = PlanRows(options.plan, runs, options.overrides, options.only)
    source = FolderSource(runs, plan, caches=not options.readonly)
    app = Dashboard(source, options, Actions(options, runs), runs.dashboard_memory)
    app.run()
    if any(row.active for row in app.board.rows) or app.board.queue.works:
        say(
            "the dashboard is closed; training goes on. `lora-tui` opens it again, `lora-tui status` says how it stands"
        )
    return ExitCode(app.return_code or 0)
