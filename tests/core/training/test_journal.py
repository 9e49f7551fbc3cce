from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import is_disk_full
from core.runs.events import Final, Heartbeat, Notice, Phase, decode
from core.training import journal as module
from core.training.journal import Journal


@contextmanager
def files_up_to(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def events(path: Path) -> list[object]:
    records = [decode(line) for line in path.read_text().splitlines()]
    return [record.event if record else None for record in records]


def test_a_torn_last_line_is_cut_before_a_new_attempt_writes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path, 1) as journal:
        journal.phase("training", 1)
    path.write_bytes(path.read_bytes() + b'{"event": "step", "attempt": 1, "los')
    with Journal(path, 2) as journal:
        journal.emit(Final("done"))
    assert events(path) == [Phase("training", 1), Final("done")]


def test_a_full_disk_leaves_no_half_line_for_the_next_to_grow_onto(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with Journal(path, 1) as journal:
        journal.emit(Notice("info", "fits"))
        with files_up_to(path.stat().st_size + 40), pytest.raises(OSError) as caught:
            journal.emit(Notice("info", "does not fit any more"))
        assert is_disk_full(caught.value)
        journal.emit(Final("disk_full"))
    assert events(path) == [Notice("info", "fits"), Final("disk_full")]


def test_a_silent_phase_still_shows_life_and_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    beaten = threading.Event()

    class Listening(Journal):
        def emit(self, event: object) -> None:
            super().emit(event)  # type: ignore[arg-type]
            if isinstance(event, Heartbeat) and event.done is not None:
                beaten.set()

    path = tmp_path / "events.jsonl"
    with Listening(path, 1) as journal:
        journal.phase("evaluating", 3)
        journal.progress(5, 9)
        assert beaten.wait(10)
    assert Heartbeat("evaluating", 5, 9) in events(path)


def test_what_is_not_a_number_is_still_a_line_of_strict_json(tmp_path: Path) -> None:
    from core.runs.events import Step

    path = tmp_path / "events.jsonl"
    with Journal(path, 1) as journal:
        journal.emit(Step(1, float("nan"), 0.1, float("inf"), 3, 1.0, 0.1))
    assert "NaN" not in path.read_text()
    [step] = events(path)
    assert isinstance(step, Step)
    assert step.loss != step.loss
