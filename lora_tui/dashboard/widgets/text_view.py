"""Lines that are longer or more than fit: scrolled by keys and mouse. Also the base of the screens made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp

from lora_tui.cells import Pieces, broken, cut, padded, width_of
from lora_tui.dashboard.glyphs import plain
from lora_tui.dashboard.widgets.lines_view import LinesView


class TextView(LinesView, can_focus=True):
    """Shows `lines`; the first visible one is `top`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_by(1)", "Down", show=False),
        Binding("up,k", "scroll_by(-1)", "Up", show=False),
        Binding("pagedown,space,ctrl+d", "page(1)", "Page down", show=False),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", show=False),
        Binding("home,g", "scroll_by(-100000000)", "To the beginning", show=False),
        Binding("end,G", "scroll_by(100000000)", "To the end", show=False),
    ]

    def __init__(self, *, ascii_only: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self._ascii = ascii_only
        self.lines: Sequence[Pieces] = ()
        """Broken where they are longer than the view is wide."""
        self._whole: Sequence[Pieces] = ()
        self._width = 0
        self.top = 0
        self.follow = False
        """Stays at the end as lines are added, until somebody scrolls up."""

    def show(self, lines: Sequence[Pieces], *, top: int | None = None, follow: bool | None = None) -> None:
        """Other lines. The place is kept unless `top` says otherwise."""
        self._whole = lines
        self._break(self.size.width)
        if follow is not None:
            self.follow = follow
        if top is not None:
            self.top = top
        if self.follow:
            self.top = self._last_top()
        self.update()

    def paint(self, width: int, height: int) -> Sequence[Pieces]:
        """The visible lines."""
        if width != self._width:
            self._break(width)
            self.top = self._last_top() if self.follow else self.top
        self.top = max(0, min(self.top, self._last_top()))
        shown = self.lines[self.top : self.top + height]
        painted = [[(plain(text, self._ascii), role) for text, role in line] for line in shown]
        below = len(self.lines) - self.top - height
        if below > 0 and painted:
            told = f"  {below} more lines: j"
            last = cut(painted[-1], max(0, width - len(told)), plain("…", self._ascii))
            room = width - sum(width_of(text) for text, _ in last)
            painted[-1] = [*last, (padded(told, room, right=True), "muted")]
        return painted

    def action_scroll_by(self, by: int) -> None:
        """Scroll by lines."""
        self.top = max(0, min(self.top + by, self._last_top()))
        if by < 0:
            self.follow = False
        self.update()

    def action_page(self, by: int) -> None:
        """Scroll by screens."""
        self.action_scroll_by(by * max(1, self.size.height - 1))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """The wheel."""
        self.action_scroll_by(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel."""
        self.action_scroll_by(-3)

    def _break(self, width: int) -> None:
        self._width = width
        self.lines = [part for line in self._whole for part in broken(line, width)]

    def _last_top(self) -> int:
        return max(0, len(self.lines) - max(1, self.size.height))
