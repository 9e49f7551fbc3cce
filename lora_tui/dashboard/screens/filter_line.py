"""The line in which a filter is typed."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from lora_tui.dashboard.text.filters import EXAMPLE
from lora_tui.dashboard.widgets.text_field import TextField


class FilterLine(TextField):
    """Filters as it is typed. The keys that end that are its own, so that the footer has them meanwhile."""

    DEFAULT_CSS = """
    FilterLine { height: 1; border: none; padding: 0 1; background: $panel; }
    FilterLine:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Keep filter"),
        Binding("escape", "screen.back", "Clear filter"),
    ]

    def __init__(self, value: str = "") -> None:
        super().__init__(value, placeholder=f"{EXAMPLE}. Enter keeps, Esc clears")
