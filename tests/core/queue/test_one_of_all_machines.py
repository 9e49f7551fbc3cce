"""A runs folder that machines share has one supervisor: locks of a state folder are seen by one machine only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_folder import PlanFolder

from core.queue.__main__ import supervise
from core.queue.journal import claim
from core.queue.rows import queue_rows


def test_a_supervisor_does_not_work_beside_one_of_another_machine(
    folder: PlanFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write()
    folder.db.submit(folder.submission())
    there = claim(folder.runs.decisions)
    assert there is not None
    assert supervise(folder.runs, folder.executor) == 5
    assert "a supervisor on another machine works on" in capsys.readouterr().err and not folder.decisions("start")
    elsewhere = replace(folder.runs, state=folder.root / "state of another machine")
    assert queue_rows(elsewhere).supervised, "a face on any machine knows that somebody is at work"
    there.close()
    assert not queue_rows(elsewhere).supervised


def test_a_face_that_looks_does_not_keep_a_supervisor_from_its_work(folder: PlanFolder) -> None:
    assert not queue_rows(folder.runs).supervised
    first = claim(folder.runs.decisions)
    assert first is not None and claim(folder.runs.decisions) is None
    first.close()
    again = claim(folder.runs.decisions)
    assert again is not None
    again.close()
