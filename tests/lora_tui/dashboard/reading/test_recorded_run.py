"""The recorded run of docs/recorded, replayed through the screens: a real run, as the trainer left it."""

from __future__ import annotations

import asyncio
import tarfile
from pathlib import Path

from eyes import Eyes

from core.runs.paths import RunsFolder
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.replay import ReplaySource

RECORDED = Path(__file__).parents[4] / "docs" / "recorded" / "2.1-4f401991be.tar.xz"


def test_a_real_run_replays_from_training_to_its_verdict(tmp_path: Path, eyes: type[Eyes]) -> None:
    with tarfile.open(RECORDED) as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "2.1-4f401991be"
    now = [0.0]
    replay = ReplaySource(run, 1.0, lambda: now[0])
    options = Options(readonly=True, refresh_s=0.05, replay=run)

    async def look() -> None:
        app = Dashboard(replay, options, lambda: Actions(options, RunsFolder(tmp_path, tmp_path)))
        async with app.run_test(size=(120, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("replay", "▸ 2.1")
            now[0] = 0.6 * replay.length_s
            await seen.see(
                "training", "▲ on course", "on course: step 100 would ship, domain −1.67", "guardrail", "target"
            )
            now[0] = 1.1 * replay.length_s
            await seen.see("done", "✓ accepted", "51.91 −1.67", "4.62 +0.12", "last 3", "0.67 to spare", "✓ data ok")
            await pilot.press("enter", "4")
            await seen.see("domain: 110 words fixed, 56 broken, 500 clips; most fixed first")
            await pilot.press("o", "d")
            await seen.see("heldout: ", "most broken first")
            await pilot.press("escape", "M")
            await seen.see_on_screen("1 of 1 rows", "✓ accepted", "✓ PASS", "−1.67")
            await pilot.press("escape", "q")

    try:
        asyncio.run(look())
    finally:
        replay.close()
