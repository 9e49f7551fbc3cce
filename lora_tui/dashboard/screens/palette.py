"""The command palette, which may be closed at any moment."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette

from lora_tui.dashboard.widgets.closing import ClosesOnce


class Palette(ClosesOnce, CommandPalette):
    """Textual's own (8.2) ends the program when its list is to be hidden after it was closed: Esc right after ^P."""

    def _watch__list_visible(self) -> None:
        if self.query(CommandList):
            super()._watch__list_visible()
