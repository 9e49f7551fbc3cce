"""One plot on the screen: drawn from a `Plot` value; what the mouse does over it is told in units of its x axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.events import Click, MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.message import Message

from lora_tui.cells import Pieces
from lora_tui.dashboard.glyphs import plain
from lora_tui.dashboard.plots.look import View
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
        """It ends."""
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
