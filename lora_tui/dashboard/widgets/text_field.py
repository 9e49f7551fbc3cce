"""A line to type in that takes keys in the order in which they were typed."""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input


class TextField(Input):
    """Textual's own (8.2) answers backspace after the letters behind it, when all are typed in one breath."""

    async def on_key(self, event: Key) -> None:
        """Its own keys at once, as it does with letters."""
        own = self._bindings.key_to_bindings.get(event.key)
        if own and not event.is_printable:
            event.stop()
            event.prevent_default()
            await self.run_action(own[0].action)
