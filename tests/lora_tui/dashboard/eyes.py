"""What a person at the dashboard would read, and the keys that one would press."""

from __future__ import annotations

from collections.abc import Callable

from textual.pilot import Pilot

from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.widgets.lines_view import LinesView


class Eyes:
    """What a person at the terminal would read."""

    def __init__(self, app: Dashboard, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    def text(self) -> str:
        """All lines on the newest screen, top to bottom, of the parts that are shown."""
        lines = []
        for part in self.app.screen.query(LinesView):
            if part.display and part.region.height:
                lines += ["".join(segment.text for segment in part.render_line(y)) for y in range(part.size.height)]
        return "\n".join(lines)

    def whole(self) -> str:
        """Everything on the screen: tables, inputs, the footer, messages."""
        strips = self.app.screen._compositor.render_strips(self.app.size)
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def see_on_screen(self, *wanted: str) -> str:
        """Wait until all of it is anywhere on the screen."""
        return await self._wait(self.whole, wanted)

    async def see(self, *wanted: str) -> str:
        """Wait until all of it is on the screen."""
        return await self._wait(self.text, wanted)

    async def gone(self, *unwanted: str) -> str:
        """Wait until none of it is on the screen."""
        for _ in range(400):
            text = self.whole()
            if not any(item in text for item in unwanted):
                return text
            await self.pilot.pause(0.05)
        raise AssertionError(f"{unwanted} still on the screen:\n{self.whole()}")

    async def press(self, *keys: str) -> None:
        """Press keys as a person does: each when it does something, as the footer says."""
        for key in keys:
            for _ in range(400):
                if key in self.app.screen.active_bindings:
                    break
                await self.pilot.pause(0.05)
            await self.pilot.press(key)

    async def _wait(self, read: Callable[[], str], wanted: tuple[str, ...]) -> str:
        for _ in range(400):
            text = read()
            if all(item in text for item in wanted):
                return text
            await self.pilot.pause(0.05)
        missing = [item for item in wanted if item not in read()]
        raise AssertionError(f"{missing} not on the screen:\n{read()}")
