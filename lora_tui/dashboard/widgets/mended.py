"""Widgets of Textual, mended for long sessions: a footer, screens that may be told to close twice, a line to type in.

The footer shows the keys that do something now. Keys that wait in a row are all handed to the screen that was on top,
so it may be told to close more than once. The line takes keys in the order in which they were typed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.dom import DOMNode
from textual.events import Key, Resize
from textual.screen import Screen
from textual.widgets import Footer, Input

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


_PALETTE = 12
"""Cells of `^p palette`, with a blank on both sides."""


class KeysFooter(Footer):
    """Textual's own (8.2) never lets go of a key that it has shown, and is put together anew even for the same keys."""

    DEFAULT_CSS = """
    KeysFooter FooterKey.-command-palette { border-left: none; }
    """

    _composed: object = None
    """The keys that were put on the screen last."""

    def compose(self) -> ComposeResult:
        """The keys of the screen."""
        if self._bindings_ready:
            self._composed = self._keys()
        yield from (part for part in super().compose() if self._roomy or not part.has_class("-command-palette"))

    def on_resize(self, event: Resize) -> None:
        """The palette's key comes and goes with the room for it."""
        if self._bindings_ready and self._composed != self._keys():
            self.refresh(recompose=True)

    @property
    def _roomy(self) -> bool:
        """Whether the palette's key takes no other key's place."""
        shown = {key.binding.action: key.binding for key in self.screen.active_bindings.values() if key.binding.show}
        taken = sum(len(self.app.get_key_display(key)) + len(key.description) + 3 for key in shown.values())
        return taken + _PALETTE <= self.screen.size.width

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Draw the footer anew only when other keys are active."""
        if self._composed is None or (self.is_attached and screen is self.screen and self._composed != self._keys()):
            super().bindings_changed(screen)

    async def recompose(self) -> None:
        """The old keys go for good."""
        await super().recompose()
        let_go(self, "compact")

    def _keys(self) -> tuple[bool, list[tuple[str, str, bool]]]:
        active = self.screen.active_bindings.values()
        return self._roomy, [(a.binding.key, a.binding.description, a.enabled) for a in active if a.binding.show]


def let_go(watched: DOMNode, attribute: str) -> None:
    """Forget the widgets that watched an attribute and were removed since.

    Textual does so only when the attribute changes (Textualize/textual#6666): all day long, until then, they add up.
    """
    watchers = getattr(watched, "__watchers", {}).get(attribute, [])
    watchers[:] = [(node, callback) for node, callback in watchers if node is watched or node.is_attached]


class TextField(Input):
    """Textual's own (8.2) answers backspace after the letters behind it, when all are typed in one breath."""

    async def on_key(self, event: Key) -> None:
        """Its own keys at once, as it does with letters."""
        own = self._bindings.key_to_bindings.get(event.key)
        if own and not event.is_printable:
            event.stop()
            event.prevent_default()
            await self.run_action(own[0].action)
