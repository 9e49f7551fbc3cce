"""Pictures of the dashboard from a recorded run: `python benchmarks/screenshots.py RUN_DIR OUT_DIR`. SVG, three sizes.

The same recording gives the same pictures, but for the machine's figures, which are left out.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from core.runs.paths import RunsFolder
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.replay import ReplaySource

SIZES = ((80, 24), (120, 40), (200, 60))
MOMENTS = {"training": 0.6, "done": 1.1}
PAGES = {"intervals": "1", "transcripts": "4"}
SETTLE_S = 1.5


async def take(run: Path, out: Path, size: tuple[int, int], moment: str) -> None:
    """The board at this moment of the run; when it is done, its pages and the help too."""
    now = [0.0]
    replay = ReplaySource(run, 1.0, lambda: now[0])
    options = Options(readonly=True, refresh_s=0.1, replay=run)
    app = Dashboard(replay, options, Actions(options, RunsFolder(run.parent, run.parent)))
    name = f"{size[0]}x{size[1]}"
    try:
        async with app.run_test(size=size) as pilot:
            await pilot.pause(SETTLE_S)
            now[0] = MOMENTS[moment] * replay.length_s
            await pilot.pause(SETTLE_S)
            save(app, out / f"board-{moment}-{name}.svg")
            if moment == "done":
                await pilot.press("enter")
                for page, key in PAGES.items():
                    await pilot.press(key)
                    await pilot.pause(SETTLE_S)
                    save(app, out / f"run-{page}-{name}.svg")
                await pilot.press("escape", "question_mark")
                await pilot.pause(SETTLE_S)
                save(app, out / f"help-{name}.svg")
    finally:
        replay.close()


def save(app: Dashboard, path: Path) -> None:
    """One picture."""
    path.write_text(app.export_screenshot(title="lora-tui"), encoding="utf-8")
    print(path)


def main(run: Path, out: Path) -> None:
    """All pictures."""
    out.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        for moment in MOMENTS:
            asyncio.run(take(run, out, size, moment))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
