from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder
from recorded import RecordedRun

from core.runs.paths import RunsFolder
from core.system.locks import is_held
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.app import Dashboard
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource

NOBODY = ("true",)
"""A supervisor that ends at once: the queue stays as it is."""
FAKE = (sys.executable, str(Path(__file__).parents[2] / "core" / "queue" / "fake_supervisor.py"))
"""A real supervisor whose trainers are FakeTrainers."""


@pytest.fixture
def fake_supervisor() -> tuple[str, ...]:
    return FAKE


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RecordedRun]:
    def make(experiment: str = "2.1", identity: str = "0123456789", **options: Any) -> RecordedRun:
        return RecordedRun(tmp_path / "runs", experiment, identity, **options)

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
def queue_app(folder: PlanFolder) -> Iterator[Callable[..., Dashboard]]:
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
