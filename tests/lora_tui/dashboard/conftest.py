from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from textual.pilot import Pilot

from core.runs.paths import RunsFolder
from core.system.locks import is_held
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.widgets.lines_view import LinesView


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dashboard_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


recorded = _module("recorded")
NOBODY = ("true",)
"""A supervisor that ends at once: the queue stays as it is."""
FAKE = (sys.executable, str(Path(__file__).parents[2] / "core" / "queue" / "fake_supervisor.py"))
"""A real supervisor whose trainers are FakeTrainers."""


@pytest.fixture
def fake_supervisor() -> tuple[str, ...]:
    return FAKE


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


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Any]:
    def make(experiment: str = "2.1", identity: str = "0123456789", **options: Any) -> Any:
        return recorded.RecordedRun(tmp_path / "runs", experiment, identity, **options)

    return make


@pytest.fixture
def make_app(tmp_path: Path) -> Callable[..., Dashboard]:
    def make(plan: Path | None = None, **options: Any) -> Dashboard:
        runs = RunsFolder(tmp_path / "runs", tmp_path / "runs")
        opened = Options(plan=plan, refresh_s=0.05, **options)
        source = FolderSource(runs, PlanRows(plan, runs) if plan is not None else None)
        return Dashboard(source, opened, lambda: Actions(opened, runs))

    return make


@pytest.fixture
def queue_app(folder: Any) -> Iterator[Callable[..., Dashboard]]:
    """A dashboard over `folder`'s plan, runs and queue. `supervisor=FAKE`: with FakeTrainers; else none comes up."""

    def make(**options: Any) -> Dashboard:
        opened = Options(plan=folder.plan, refresh_s=0.05, **({"supervisor": NOBODY} | options))
        source = FolderSource(folder.runs, PlanRows(folder.plan, folder.runs))
        return Dashboard(source, opened, lambda: Actions(opened, folder.runs), folder.runs.dashboard_memory)

    yield make
    births = [run.root / "births.txt" for run in folder.runs.runs()]
    pids = [int(pid) for path in births if path.exists() for pid in path.read_text().split()]
    if is_held(folder.runs.supervisor_lock):
        pids.append(int(folder.runs.supervisor_lock.read_text()))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def eyes() -> type[Eyes]:
    return Eyes
