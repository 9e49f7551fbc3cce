"""The one widget that puts outside text on the screen: lines of (text, role). No markup is ever read.

A line is written to the terminal only when it differs from what stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from lora_tui.cells import Pieces
from lora_tui.dashboard.themes import style_of

Painter = Callable[[int, int], Sequence[Pieces]]
"""(width, height) → lines; more than fit are cut off."""


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
