"""The plots of the board: one widget for each, one range of steps and one cursor for all of them.

A widget draws a `Plot` value, and tells what the mouse does over it in units of its x axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from textual.app import ComposeResult
from textual.containers import Grid
from textual.events import Click, MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.message import Message

from lora_tui.cells import Pieces, plain
from lora_tui.dashboard.plots.view import (
    SMOOTHING,
    STRIPS,
    Pin,
    PlotStyle,
    View,
    closer,
    move_cursor,
    pan,
    pan_by,
    snap_cursor,
    zoom,
)
from lora_tui.dashboard.reading.snapshots import RunView
from lora_tui.dashboard.widgets.lines_view import LinesView

if TYPE_CHECKING:
    from lora_tui.dashboard.plots.plot import Plot
    from lora_tui.dashboard.plots.trade_off import TradeOff


Choice = TypeVar("Choice", int, str)


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


class TradeOffView(LinesView):
    """The trade-off. A click puts the cursor on the interval that is drawn closest to it."""

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.plot: TradeOff | None = None
        self.view = View()

    def show(self, plot: TradeOff | None, view: View) -> None:
        """Another trade-off, or another look at it."""
        self.plot, self.view = plot, view
        self.update()

    def paint(self, width: int, height: int) -> list[Pieces]:
        """All cells of the plot."""
        if self.plot is None:
            return [[(TITLES["trade-off"], "title")]]
        from lora_tui.dashboard.plots.trade_off import draw_trade_off

        lines = draw_trade_off(self.plot, width, height, self.view, ascii_only=self._ascii)
        if not self._ascii:
            return list(lines)
        return [[(plain(character, True) or " ", role) for character, role in line] for line in lines]

    def on_click(self, event: Click) -> None:
        """Read this interval's numbers; two clicks show all again."""
        if self.plot is None:
            return
        from lora_tui.dashboard.plots.trade_off import nearest

        point = nearest(self.plot, self.size.width, self.size.height, self.view, (event.x, event.y))
        if point is not None:
            self.post_message(PlotView.Pointed(point.x, twice=event.chain > 1))


_MOUSE_ZOOM = 0.8
_NARROWEST = 20
"""Columns of a plot, at least."""
TITLES = {"trade-off": "trade-off", "loss": "loss", "domain": "domain, %", "heldout": "heldout, points"}
"""What stands over a plot as long as there is nothing to draw."""


def _next(choices: tuple[Choice, ...], now: Choice) -> Choice:
    """The one after this one, all round."""
    return choices[((choices.index(now) if now in choices else 0) + 1) % len(choices)]


class Plots(Grid):
    """Trade-off, loss and the error rates on domain and heldout of the selected run, with the pinned runs over it."""

    DEFAULT_CSS = """
    Plots { grid-gutter: 0 1; grid-rows: 1fr; }
    Plots.row { grid-size: 4 1; }
    Plots.block { grid-size: 3 2; grid-rows: 1fr 1fr; }
    Plots.block #trade-off, Plots.block #loss { row-span: 2; }
    Plots.first { grid-size: 2 1; }
    Plots.first #domain, Plots.first #heldout { display: none; }
    Plots.rates { grid-size: 3 1; }
    Plots.rates-block { grid-size: 2 2; grid-rows: 1fr 1fr; }
    Plots.rates-block #loss { row-span: 2; }
    Plots.rates #trade-off, Plots.rates-block #trade-off { display: none; }
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
        yield TradeOffView(ascii_only=self._ascii, id="trade-off")
        for name in ("loss", "domain", "heldout"):
            yield PlotView(ascii_only=self._ascii, id=name)

    def stand(self, arrangement: str, width: int, wider: int) -> None:
        """How the plots stand (`layout.Layout`) on a screen `width` wide. `wider`: columns more for the first one."""
        self.set_classes([arrangement])
        others = {"row": 3, "block": 2, "first": 1, "rates": 2, "rates-block": 1}[arrangement]
        first = min(max(_NARROWEST, width // (others + 1) + wider), width - others * (_NARROWEST + 1))
        self.styles.grid_columns = " ".join([str(first) if wider else "1fr", *["1fr"] * others])

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
        view = self._viewed(what, by)
        if view is not None:
            self._look_at(view)
        said = self._styled(what)
        self._draw()
        self.post_message(self.Changed())
        if what == "near" and self.view.near:
            return "y around target and guardrail"
        return "all of y, outliers too" if what == "closer" and self.view.closer < 0 else said

    def _viewed(self, what: str, by: float) -> View | None:
        """What the keys of zoom and cursor make of the view."""
        from lora_tui.dashboard.plots.charts import interval_places

        whole, view = self._whole(), self.view
        makes: dict[str, Callable[[], View]] = {
            "zoom": lambda: zoom(view, whole, by),
            "pan": lambda: pan(view, whole, round(by)),
            "reset": lambda: View(cursor=view.cursor),
            "cursor": lambda: move_cursor(view, whole, round(by)),
            "interval": lambda: snap_cursor(view, whole, interval_places(self._run, self.look), round(by)),
            "closer": lambda: closer(view, round(by)),
            "near": lambda: replace(view, near=not view.near, closer=0),
            # A zoom in steps means nothing in minutes.
            "time": lambda: View(closer=view.closer, near=view.near),
        }
        return makes[what]() if what in makes else None

    def _styled(self, what: str) -> str:
        """Draw in another way; what is to be said about it."""
        match what:
            case "log_y":
                self.log_y = not self.log_y
            case "time":
                self.look = replace(self.look, by_time=not self.look.by_time)
            case "smoothing":
                self.look = replace(self.look, smoothing=_next(SMOOTHING, self.look.smoothing))
                return "smoothing is off" if self.look.smoothing == 1 else f"mean of {self.look.smoothing} steps"
            case "strips":
                self.look = replace(self.look, strips=_next(STRIPS, self.look.strips))
                both = "gradient norm and learning rate where there is room"
                return f"below the losses: {both if self.look.strips == STRIPS[0] else self.look.strips}"
        return ""

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
            self.query_one(TradeOffView).show(None, self.view)
            for widget in self.query(PlotView):
                widget.show_title(TITLES[widget.id or ""])
            return
        from lora_tui.dashboard.plots.charts import domain_plot, heldout_plot, loss_plot, trade_off

        self.query_one(TradeOffView).show(trade_off(self._run, self.look, self._pins), self.view)

        plots = {"loss": loss_plot, "domain": domain_plot, "heldout": heldout_plot}
        for name, plot in plots.items():
            view = replace(self.view, log_y=self.log_y and name == "loss")
            self.query_one(f"#{name}", PlotView).show(plot(self._run, self.look, self._pins), view)
