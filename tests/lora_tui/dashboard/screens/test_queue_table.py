"""Where the cursor is before anybody moved it, however slowly a folder is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eyes import Eyes

from core.runs.paths import RunsFolder
from core.runs.status import Status
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Board, Want

Make = Callable[..., Any]


class FakeSlowDisk(FolderSource):
    """A real folder, whose second run is not read until it is told to."""

    slow = True

    def read(self, want: Want) -> Board:
        board = super().read(want)
        rows = board.rows
        if self.slow:
            rows = tuple(replace(row, status=Status.UNREAD) if row.key == "2.2" else row for row in rows)
        return replace(board, rows=rows)


@pytest.mark.parametrize("moved", [False, True])
def test_the_cursor_goes_to_the_run_that_is_alive_unless_somebody_moved_it(
    make_run: Make, eyes: type[Eyes], tmp_path: Any, moved: bool
) -> None:
    make_run("2.1", "0" * 10).train(1000).finish()
    make_run("2.2", "1" * 10).train(300)
    runs, options = RunsFolder(tmp_path / "runs", tmp_path / "runs"), Options(plan=None, refresh_s=0.05)
    source = FakeSlowDisk(runs, None)

    async def look() -> None:
        app = Dashboard(source, options, lambda: Actions(options, runs))
        async with app.run_test(size=(120, 40)) as pilot:
            see = eyes(app, pilot).see
            await see("▸ 2.1", "✓ accepted", "2.2   a title")
            if moved:
                await pilot.press("k")
            source.slow = False
            await see("1 running", "▸ 2.1" if moved else "▸ 2.2", "training")
            assert app.screen.table.selected == ("run:2.1-0000000000" if moved else "run:2.2-1111111111")

    asyncio.run(look())
