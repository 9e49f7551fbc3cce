"""Pictures of every screen and of the board in every state: `python -m benchmarks.screenshots [OUT_DIR]`.

SVG, at 80×24, 120×40, 160×50 and 200×60, in about ten minutes on a quiet machine. OUT_DIR is `build/screenshots`
unless named; with `--readme` only the picture of the README, docs/board.svg, is made again. Screens come from a
recording, a run of the shipped plan in docs/recorded; another one is played with `--run RUN_DIR`. States are those of
`benchmarks.scenes`, in all sizes, and at 120×40 in the other themes, in ASCII and without colour; `--scene NAME` makes
those of one only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from benchmarks.scenes import SCENES, Scene
from core.runs.paths import RunsFolder
from lora_tui.cells import plain
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.plots.board_plots import Plots
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.replay import ReplaySource
from tests.core.queue.plan_folder import PlanFolder

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "recorded" / "2.1-4f401991be.tar.xz"
README_PICTURE = ROOT / "docs" / "board.svg"
SIZES = ((80, 24), (120, 40), (160, 50), (200, 60))
README_SIZE = (132, 38)
TRAINING, DONE = 0.6, 1.1
"""Moments, as shares of the recording."""
PAGES = ("intervals", "settings", "log", "transcripts", "data")
KEYS = {
    "learning-rate": ("r",),
    "guardrail": ("b",),
    "log-y": ("y",),
    "zoomed-by-time": ("x", "plus", "plus", "comma"),
    "plots-layout": ("z",),
    "light": ("ctrl+t",),
    "colour-blind": ("ctrl+t", "ctrl+t"),
}
"""Picture of the board → keys before it."""
SETTLE_S = 1.0
"""A screen that stays the same for so long is ready."""
_LOOK_S, _LONGEST_S = 0.2, 900.0
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
                    save(self.app, path)
                assert self.app.screen_stack[1].query_one(Plots) is not None
        finally:
            self.replay.close()

    async def _settle(self, pilot: Pilot[None], wanted: str = "") -> None:
        await settle(self.app, pilot, wanted)


async def settle(app: Dashboard, pilot: Pilot[None], wanted: str = "", rest_s: float = SETTLE_S) -> None:
    """Until `wanted` is on the screen, and the screen stays as it is for a while: a busy machine takes longer.

    The machine's figures, in the first line, may change.
    """
    before, same = "", 0
    for _ in range(round(_LONGEST_S / _LOOK_S)):
        await pilot.pause(_LOOK_S)
        strips = app.screen._compositor.render_strips(app.size)
        shown = "\n".join("".join(segment.text for segment in strip) for strip in strips[1:])
        same = same + 1 if shown == before else 0
        before = shown
        whole = shown + "".join(segment.text for segment in strips[0])
        if wanted in whole and same * _LOOK_S >= rest_s and "reading" not in whole and "…/" not in whole:
            return
    raise TimeoutError(f"the screen never came to rest with {wanted!r}:\n{before}")


def save(app: Dashboard, path: Path) -> None:
    """The picture of the screen as it is."""
    path.write_text(_WEB_FONTS.sub("", app.export_screenshot(title="lora-tui")), encoding="utf-8")
    print(path, flush=True)


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


LOOKS = {"dark": 0, "light": 1, "colour-blind": 2, "ascii": 0, "no-colour": 0}
"""Ways of looking → presses of the key for the next theme."""


def every_state(scene: Scene, out: Path) -> None:
    """The board in one state: in all sizes, and at 120×40 in every look."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lora-tui-scene-") as name:
        folder = PlanFolder(Path(name))
        if scene.plan:
            folder.write(scene.plan, f'until = "{scene.until}"')
            # By the gate's own thresholds.
            folder.plan.write_text(folder.plan.read_text().replace("stability_min_steps = 0\n", ""))
        held = scene.make(folder)
        for look, presses in LOOKS.items():
            asyncio.run(_look(scene, folder.runs, folder.plan if scene.plan else None, look, presses, out))
        if held is not None:
            held.release()


async def _look(scene: Scene, runs: RunsFolder, plan: Path | None, look: str, presses: int, out: Path) -> None:
    options = Options(plan=plan, refresh_s=0.1, ascii_only=look == "ascii")
    source = FolderSource(runs, None if plan is None else PlanRows(plan, runs), caches=False)
    before = os.environ.pop("NO_COLOR", None)
    if look == "no-colour":
        os.environ["NO_COLOR"] = "1"
    try:
        app = Dashboard(source, options, lambda: Actions(options, runs))
    finally:
        os.environ.pop("NO_COLOR", None)
        if before is not None:
            os.environ["NO_COLOR"] = before
    sizes = SIZES if look == "dark" else SIZES[1:2]
    async with app.run_test(size=sizes[0]) as pilot:
        await settle(app, pilot, plain(scene.sees, ascii_only=look == "ascii"))
        await pilot.press(*["ctrl+t"] * presses)
        for width, height in sizes:
            await pilot.resize_terminal(width, height)
            await settle(app, pilot, rest_s=_LOOK_S)
            suffix = "" if look == "dark" else f"-{look}"
            save(app, out / f"state-{scene.name}{suffix}-{width}x{height}.svg")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--run", type=Path, help="a run folder; default: the recorded one")
    parser.add_argument("--readme", action="store_true", help="only docs/board.svg")
    parser.add_argument("--scene", choices=[scene.name for scene in SCENES], help="only the board in this state")
    args = parser.parse_args()
    if args.scene is not None:
        every_state(next(scene for scene in SCENES if scene.name == args.scene), args.out)
        return
    with tempfile.TemporaryDirectory(prefix="lora-tui-pictures-") as folder:
        if args.run is None:
            with tarfile.open(RECORDED) as archive:
                archive.extractall(folder, filter="data")
        run = args.run or Path(folder) / RECORDED.name.partition(".tar")[0]
        if args.readme:
            shoot(run, README_SIZE, TRAINING, ((), README_PICTURE))
            return
        every_screen(run, args.out)
    for scene in SCENES:
        every_state(scene, args.out)


if __name__ == "__main__":
    main()
