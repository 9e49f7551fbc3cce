"""The three plots of the board: one widget for each, one x range and one cursor for all of them.

A widget draws a `Plot` value, and tells what the mouse does over it in units of its x axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Grid
from textual.events import Click, MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.message import Message

from lora_tui.cells import Pieces, plain
from lora_tui.dashboard.plots.view import SMOOTHING, Pin, PlotStyle, View, move_cursor, pan, pan_by, snap_cursor, zoom
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.widgets.lines_view import LinesView

if TYPE_CHECKING:
    from lora_tui.dashboard.plots.plot import Plot


class PlotView(LinesView):
    """`view` is the part of the plot that is looked at; new data does not change that."""

    class Wheel(Message):
        """The wheel was turned over x."""

        def __init__(self, x: float, *, up: bool) -> None:
            super().__init__()
            self.x, self.up = x, up

    class Dragged(Message):
        """What lies under the pointer is to move with it: `distance` of x to the left."""

        def __init__(self, distance: float) -> None:
            super().__init__()
            self.distance = distance

    class Pointed(Message):
        """x was clicked, once or twice."""

        def __init__(self, x: float, *, twice: bool) -> None:
            super().__init__()
            self.x, self.twice = x, twice

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.plot: Plot | None = None
        self._title = ""
        self.view = View()
        self._from: int | None = None
        """Column at which a button went down, or was seen last while it is held."""
        self._moved = False

    def show(self, plot: Plot, view: View) -> None:
        """A new plot, or another part of it."""
        self.plot, self.view = plot, view
        self.update()

    def show_title(self, title: str) -> None:
        """Nothing but this, as long as there is nothing to draw."""
        self.plot, self._title = None, title
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """All cells of the plot."""
        if self.plot is None:
            return [[(self._title, "title")]]
        from lora_tui.dashboard.plots.drawing import draw  # brings numpy, which no first frame needs

        lines = draw(self.plot, width, height, self.view, ascii_only=self._ascii)
        if not self._ascii:
            return list(lines)
        return [[(plain(character, True) or " ", role) for character, role in line] for line in lines]

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Zoom in."""
        event.stop()
        self.post_message(self.Wheel(self._x(event.x), up=True))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Zoom out."""
        event.stop()
        self.post_message(self.Wheel(self._x(event.x), up=False))

    def on_mouse_down(self, event: MouseDown) -> None:
        """A drag may begin."""
        self._from, self._moved = event.x, False
        self.capture_mouse()

    def on_mouse_move(self, event: MouseMove) -> None:
        """The drag goes on."""
        if self._from is not None and event.x != self._from:
            distance = self._x(self._from) - self._x(event.x)
            self._from, self._moved = event.x, True
            self.post_message(self.Dragged(distance))

    def on_mouse_up(self, event: MouseUp) -> None:
        """The drag ends."""
        self._from = None
        self.release_mouse()

    def on_click(self, event: Click) -> None:
        """A click, unless it was the end of a drag."""
        if not self._moved:
            self.post_message(self.Pointed(self._x(event.x), twice=event.chain > 1))

    def _x(self, column: int) -> float:
        if self.plot is None:
            return 0.0
        from lora_tui.dashboard.plots.plot import x_at

        return x_at(self.plot, self.view, self.size.width, column)


_MOUSE_ZOOM = 0.8
TITLES = {"loss": "loss", "domain": "domain, %", "heldout": "heldout, points"}
"""What stands over a plot as long as there is nothing to draw."""


class Plots(Grid):
    """Loss and the error rates on domain and heldout of the selected run, with the pinned runs laid over it."""

    DEFAULT_CSS = """
    Plots { grid-size: 3 1; grid-gutter: 0 1; }
    Plots.stacked { grid-size: 2 2; grid-columns: 1fr 1fr; grid-rows: 1fr 1fr; grid-gutter: 0 2; }
    Plots.stacked #loss { row-span: 2; }
    """

    class Changed(Message):
        """Zoom, cursor, or the way of drawing is another now."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.look = PlotStyle(ascii_only=ascii_only)
        self.view = View()
        self.log_y = False
        self._run: RunView | None = None
        self._pins: Sequence[Pin] = ()

    def compose(self) -> ComposeResult:
        """One widget a plot."""
        for name in TITLES:
            yield PlotView(ascii_only=self._ascii, id=name)

    def show(self, run: RunView | None, pins: Sequence[Pin]) -> None:
        """Another run, or new data of it. The part that is looked at stays."""
        same = run is self._run and [(p.letter, p.view) for p in pins] == [(p.letter, p.view) for p in self._pins]
        if not same or run is None:
            self._run, self._pins = run, pins
            self._draw()

    def look_as(self, look: PlotStyle, *, log_y: bool) -> None:
        """Draw in this style from now on."""
        self.look, self.log_y = look, log_y
        self._draw()

    def do(self, what: str, by: float) -> str:
        """What a key asks for. Gives what is to be said about it, if anything."""
        from lora_tui.dashboard.plots.charts import interval_places

        whole = self._whole()
        match what:
            case "zoom":
                self._look_at(zoom(self.view, whole, by))
            case "pan":
                self._look_at(pan(self.view, whole, round(by)))
            case "reset":
                self._look_at(replace(self.view, low=None, high=None))
            case "cursor":
                self._look_at(move_cursor(self.view, whole, round(by)))
            case "interval":
                self._look_at(snap_cursor(self.view, whole, interval_places(self._run, self.look), round(by)))
            case "log_y":
                self.log_y = not self.log_y
            case "learning_rate":
                self.look = replace(self.look, learning_rate=not self.look.learning_rate)
            case "time":
                # A zoom in the one means nothing in the other.
                self.view, self.look = View(), replace(self.look, by_time=not self.look.by_time)
            case "smoothing":
                index = SMOOTHING.index(self.look.smoothing) if self.look.smoothing in SMOOTHING else 0
                self.look = replace(self.look, smoothing=SMOOTHING[(index + 1) % len(SMOOTHING)])
        self._draw()
        self.post_message(self.Changed())
        if what != "smoothing":
            return ""
        return "smoothing is off" if self.look.smoothing == 1 else f"mean of {self.look.smoothing} steps"

    def clear_view(self) -> bool:
        """All of x and no cursor; whether that changed anything."""
        changed = self.view != View()
        self._look_at(View())
        return changed

    def on_plot_view_wheel(self, message: PlotView.Wheel) -> None:
        """The wheel zooms around the pointer."""
        factor = _MOUSE_ZOOM if message.up else 1 / _MOUSE_ZOOM
        self._look_at(zoom(self.view, self._whole(), factor, message.x))

    def on_plot_view_dragged(self, message: PlotView.Dragged) -> None:
        """Dragging moves what is seen."""
        self._look_at(pan_by(self.view, self._whole(), message.distance))

    def on_plot_view_pointed(self, message: PlotView.Pointed) -> None:
        """A click puts the cursor there; two show all of x again."""
        if message.twice:
            self._look_at(View())
        else:
            self._look_at(replace(self.view, cursor=min(max(0.0, message.x), self._whole())))

    def _look_at(self, view: View) -> None:
        if view != self.view:
            self.view = view
            self._draw()
            self.post_message(self.Changed())

    def _whole(self) -> float:
        """The end of the x axis, which the three plots share."""
        from lora_tui.dashboard.plots.charts import loss_plot
        from lora_tui.dashboard.plots.plot import x_range

        return x_range(loss_plot(self._run, self.look), View())[1]

    def _draw(self) -> None:
        if self._run is None and not self._pins:
            for name, title in TITLES.items():
                self.query_one(f"#{name}", PlotView).show_title(title)
            return
        from lora_tui.dashboard.plots.charts import domain_plot, heldout_plot, loss_plot

        plots = {"loss": loss_plot, "domain": domain_plot, "heldout": heldout_plot}
        for name, plot in plots.items():
            view = replace(self.view, log_y=self.log_y and name == "loss")
            self.query_one(f"#{name}", PlotView).show(plot(self._run, self.look, self._pins), view)
