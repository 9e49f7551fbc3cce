"""Four plots of three long curves each, drawn by the dashboard's own widgets: for `million`, which presses the keys.

Space: two new steps on every curve. Enter: another part of them is looked at. The line below the plots counts both.
"""

from __future__ import annotations

import sys
from typing import ClassVar

import numpy as np
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.widgets import Static

from core.runs.steps import Lineage
from lora_tui.dashboard.plots.board_plots import PlotView
from lora_tui.dashboard.plots.plot import Curve, Plot
from lora_tui.dashboard.plots.series import Floats
from lora_tui.dashboard.plots.view import View
from lora_tui.dashboard.themes import THEMES

PLOTS, CURVES = 4, 3
_ROLES = ("train", "domain", "heldout")
_SMOOTHING = 30
_ROOM = 10_000
"""Steps that can be added."""


def views(steps: int) -> tuple[View, ...]:
    """All, a third of it, a twentieth, all with a log axis."""
    return (View(), View(0.2 * steps, 0.5 * steps), View(0.4 * steps, 0.45 * steps), View(log_y=True))


class FourPlots(App[None]):
    """The first curve of each plot is raw, the others are smoothed."""

    CSS = "Grid { grid-size: 2 2; height: 1fr; } #count { height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "grow"),
        Binding("enter", "look"),
        Binding("q", "quit"),
    ]

    def __init__(self, steps: int) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = THEMES[0].name
        random = np.random.default_rng(0)
        self._seen, self._run_status, self._views = steps, 0, views(steps)
        self._xs = np.arange(1, steps + _ROOM + 1)
        self._ys: list[tuple[Lineage, Floats]] = [
            (Lineage(), 2 * np.exp(-self._xs / steps) + 0.1 * random.normal(size=len(self._xs)))
            for _ in range(PLOTS * CURVES)
        ]
        self._grown = 0

    def compose(self) -> ComposeResult:
        """The plots above the count."""
        with Grid():
            for number in range(PLOTS):
                yield PlotView(ascii_only=False, id=f"plot-{number}")
        yield Static("", id="count")

    def on_mount(self) -> None:
        """The first picture."""
        self._draw()

    def action_grow(self) -> None:
        """Two steps more."""
        self._seen += 2
        self._grown += 1
        self._draw()

    def action_look(self) -> None:
        """Another part."""
        self._run_status += 1
        self._draw()

    def _draw(self) -> None:
        seen, view = self._seen, self._views[self._run_status % len(self._views)]
        for plot in range(PLOTS):
            three = self._ys[CURVES * plot : CURVES * (plot + 1)]
            curves = tuple(
                Curve(role, role, self._xs[:seen], ys[:seen], window=_SMOOTHING if i else 1, source=(lineage, "loss"))
                for i, (role, (lineage, ys)) in enumerate(zip(_ROLES, three, strict=True))
            )
            self.query_one(f"#plot-{plot}", PlotView).show(Plot("loss", curves), view)
        self.query_one("#count", Static).update(f"grown {self._grown:04d}, looked {self._run_status:04d}")


if __name__ == "__main__":
    FourPlots(int(sys.argv[1])).run()
