"""The smallest Textual application that shows something: what first paint is compared with."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Footer, Static


class Hello(App[None]):
    """One line and a footer."""

    BINDINGS = [("q", "quit", "Quit")]  # noqa: RUF012 - Textual's form

    def compose(self) -> ComposeResult:
        """The line."""
        yield Static("hello")
        yield Footer()


if __name__ == "__main__":
    Hello().run()
