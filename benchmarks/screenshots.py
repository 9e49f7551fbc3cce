"""Pictures of every screen, from a recorded run: `python -m benchmarks.screenshots [OUT_DIR]`, about a minute.

SVG, at 80×24, 120×40 and 200×60. OUT_DIR is `build/screenshots` unless named; with `--readme` only the picture of the
README, docs/board.svg, is made again. The recording is a run of the shipped plan, in docs/recorded; another one is
played with `--run RUN_DIR`. The same recording gives the same pictures, but for times of day.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from core.runs.paths import RunsFolder
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.plots.board_plots import Plots
from lora_tui.dashboard.reading.replay import ReplaySource

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "recorded" / "2.1-4f401991be.tar.xz"
README_PICTURE = ROOT / "docs" / "board.svg"
SIZES = ((80, 24), (120, 40), (200, 60))
README_SIZE = (132, 38)
TRAINING, DONE = 0.6, 1.1
"""Moments, as shares of the recording."""
PAGES = ("intervals", "settings", "log", "transcripts", "data")
KEYS = {
    "learning-rate": ("r",),
    "log-y": ("y",),
    "zoomed-by-time": ("x", "plus", "plus", "comma"),
    "plots-layout": ("z",),
    "light": ("ctrl+t",),
    "colour-blind": ("ctrl+t", "ctrl+t"),
}
"""Picture of the board → keys before it."""
SETTLE_S = 1.0
"""A screen that stays the same for so long is ready."""
_LOOK_S, _LONGEST_S = 0.2, 60.0
_WEB_FONTS = re.compile(r"\n *@font-face {.*?}", re.DOTALL)
"""What Rich writes into a picture: fonts that a browser would fetch. The reader's own monospaced font will do."""


class Studio:
    """A dashboard over a replay whose clock is set by hand."""

    def __init__(self, run: Path, size: tuple[int, int], *, ascii_only: bool = False) -> None:
        self._now = 0.0
        self._size = size
        self.replay = ReplaySource(run, 1.0, lambda: self._now)
        options = Options(readonly=True, refresh_s=0.1, replay=run, ascii_only=ascii_only)
        self.app = Dashboard(self.replay, options, lambda: Actions(options, RunsFolder(run.parent, run.parent)))

    async def shoot(self, moment: float, shots: list[tuple[tuple[str, ...], Path]]) -> None:
        """At this moment of the run: press the keys, take the picture, one after the other."""
        try:
            async with self.app.run_test(size=self._size) as pilot:
                await self._settle(pilot, " 0 %")
                self._now = moment * self.replay.length_s
                await self._settle(pilot, f" {100 * min(1.0, moment):.0f} %")
                for keys, path in shots:
                    await pilot.press(*keys)
                    await self._settle(pilot)
                    picture = _WEB_FONTS.sub("", self.app.export_screenshot(title="lora-tui"))
                    path.write_text(picture, encoding="utf-8")
                    print(path)
                assert self.app.screen_stack[1].query_one(Plots) is not None
        finally:
            self.replay.close()

    async def _settle(self, pilot: Pilot[None], wanted: str = "") -> None:
        """Until `wanted` is on the screen, and the screen stays as it is for a while: a busy machine takes longer."""
        before, same = "", 0
        for _ in range(round(_LONGEST_S / _LOOK_S)):
            await pilot.pause(_LOOK_S)
            strips = self.app.screen._compositor.render_strips(self.app.size)
            shown = "\n".join("".join(segment.text for segment in strip) for strip in strips)
            same = same + 1 if shown == before else 0
            before = shown
            if wanted in shown and same * _LOOK_S >= SETTLE_S and "reading and aligning" not in shown:
                return
        raise TimeoutError(f"the screen never came to rest with {wanted!r}")


def shoot(run: Path, size: tuple[int, int], moment: float, *shots: tuple[tuple[str, ...], Path]) -> None:
    """One session."""
    asyncio.run(Studio(run, size).shoot(moment, list(shots)))


def every_screen(run: Path, out: Path) -> None:
    """All pictures."""
    out.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        name: Callable[[str], Path] = lambda what, s=size: out / f"{what}-{s[0]}x{s[1]}.svg"  # type: ignore[misc]  # noqa: E731
        shoot(run, size, TRAINING, ((), name("board-training")))
        shoot(
            run, size, DONE,
            ((), name("board-done")),
            (("enter",), name("run-intervals")),
            *(((str(i),), name(f"run-{page}")) for i, page in enumerate(PAGES[1:], 2)),
            (("escape", "M"), name("matrix")),
            (("escape", "question_mark"), name("help")),
        )  # fmt: skip
    for what, keys in KEYS.items():
        shoot(run, SIZES[1], DONE, (keys, out / f"board-{what}-120x40.svg"))
    asyncio.run(Studio(run, SIZES[1], ascii_only=True).shoot(DONE, [((), out / "board-ascii-120x40.svg")]))


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--run", type=Path, help="a run folder; default: the recorded one")
    parser.add_argument("--readme", action="store_true", help="only docs/board.svg")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lora-tui-pictures-") as folder:
        if args.run is None:
            with tarfile.open(RECORDED) as archive:
                archive.extractall(folder, filter="data")
        run = args.run or Path(folder) / RECORDED.name.partition(".tar")[0]
        if args.readme:
            shoot(run, README_SIZE, TRAINING, ((), README_PICTURE))
        else:
            every_screen(run, args.out)


if __name__ == "__main__":
    main()
