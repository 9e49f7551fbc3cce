"""`--start`, or its key: the plan is queued once its data is read, so that the supervisor finds all hashes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder

from core.manifests import hashing
from core.queue.requests import QueueDb

Make = Callable[..., Any]


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Files are not read to be hashed before it is set."""
    let_on = threading.Event()
    read = hashing._read

    def fake_slow_read(path: Path, cache: hashing.HashCache) -> str:
        let_on.wait(20)
        return read(path, cache)

    monkeypatch.setattr(hashing, "_read", fake_slow_read)
    return let_on


def queued(folder: PlanFolder) -> int:
    return len(QueueDb(folder.runs.queue_db).open_submissions()) if folder.runs.queue_db.exists() else 0


@pytest.mark.parametrize("by_key", [False, True])
def test_a_plan_is_queued_when_its_data_is_read(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], slow_disk: threading.Event, by_key: bool
) -> None:
    folder.write()

    async def look() -> None:
        app = queue_app(start=not by_key)
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see_on_screen("reading the plan's data", *(["▸ a"] if by_key else []))
            if by_key:
                await eyes(app, pilot).press("s")
                await eyes(app, pilot).press("y")
            await pilot.pause(0.3)
            assert queued(folder) == 0
            slow_disk.set()
            await eyes(app, pilot).see_on_screen("▸ a ", "not started: queued", "queue stands still")
            assert queued(folder) == 1

    asyncio.run(look())


def test_quitting_before_that_queues_it_too(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], slow_disk: threading.Event
) -> None:
    folder.write()

    async def look() -> None:
        app = queue_app(start=True)
        async with app.run_test(size=(120, 40)) as pilot:
            await eyes(app, pilot).see_on_screen("reading the plan's data")
            await pilot.press("q")

    asyncio.run(look())
    assert queued(folder) == 1
    slow_disk.set()
