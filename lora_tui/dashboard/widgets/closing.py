"""Screens that may be told to close twice: keys that wait in a row are all handed to the screen that was on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.await_complete import AwaitComplete

if TYPE_CHECKING:
    from textual.screen import Screen as _Screen

    _Base = _Screen[Any]
else:
    _Base = object  # Textual takes a screen's style from its first base that is a node


class ClosesOnce(_Base):
    """Comes before the screen among the bases. Textual's (8.2) `dismiss` of a closed screen closes the one below it."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close, with the result, unless it is closed already or something lies on it."""
        return super().dismiss(result) if self.is_current else AwaitComplete()
