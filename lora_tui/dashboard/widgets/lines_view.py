"""The widgets that put outside text on the screen: lines of (text, role). No markup is ever read.

A line is written to the terminal only when it differs from what stands there. Lines that are longer or more than fit
are scrolled by keys and mouse; screens that are made of lines have the same base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from lora_tui.cells import Pieces, broken, cut, padded, plain, width_of
from lora_tui.dashboard.themes import style_of


class LinesView(Widget):
    """Shows what `paint` gives for its size. `update` after anything that `paint` reads has changed."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] = []
        self._lines: list[Pieces] = []
        """What the strips were made of, if that is known: those of lines that are the same are used again."""

    def paint(self, width: int, height: int) -> Sequence[Pieces]:
        """The lines for this size. Texts must be sanitised."""
        raise NotImplementedError

    def update(self) -> None:
        """Paint again, and have the lines written that changed."""
        width, height = self.size
        if width <= 0 or height <= 0:
            return
        lines = list(self.paint(width, height))[:height]
        lines += [()] * (height - len(lines))
        base = self.rich_style
        styles: dict[str, Style] = {}
        old, before = self._strips, self._lines if len(self._strips) == height else [None] * height
        strips = [
            old[y] if line == before[y] else self._strip(line, width, base, styles) for y, line in enumerate(lines)
        ]
        self._strips, self._lines = strips, lines
        if len(old) != len(strips):
            self.refresh()
            return
        changed = [Region(0, y, width, 1) for y, strip in enumerate(strips) if strip is not old[y] and strip != old[y]]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """Textual asks for one line."""
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.rich_style)

    def on_resize(self, event: Resize) -> None:
        """The size is part of what is painted."""
        self._strips = []
        self.update()

    def notify_style_update(self) -> None:
        """The theme changed: colours are part of the lines."""
        super().notify_style_update()
        self._strips = []
        if self.is_attached:
            self.update()

    def style_for(self, role: str, base: Style) -> Style:
        """The style of a role on this widget's background; `on:` before it is reversed."""
        app = self.app
        plain = style_of(role, app.theme, app.current_theme.dark)
        return base + Style.parse(plain) if plain else base

    def _strip(self, pieces: Pieces, width: int, base: Style, styles: dict[str, Style]) -> Strip:
        """`styles`: those of the roles that were met, worked out once for all lines."""
        segments: list[Segment] = []
        run, run_role = "", ""
        for text, role in pieces:
            if role != run_role and run:
                segments.append(Segment(run, self._style(run_role, base, styles)))
                run = ""
            run, run_role = run + text, role
        if run:
            segments.append(Segment(run, self._style(run_role, base, styles)))
        return Strip(segments).adjust_cell_length(width, base)

    def _style(self, role: str, base: Style, styles: dict[str, Style]) -> Style:
        if role not in styles:
            styles[role] = self.style_for(role, base)
        return styles[role]


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
        """The wheel scrolls."""
        self.action_scroll_by(3)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """The wheel scrolls."""
        self.action_scroll_by(-3)

    def _break(self, width: int) -> None:
        self._width = width
        self.lines = [part for line in self._whole for part in broken(line, width)]

    def _last_top(self) -> int:
        return max(0, len(self.lines) - max(1, self.size.height))
