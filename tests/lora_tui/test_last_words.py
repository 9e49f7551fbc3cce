"""What a closed submission said of rows without a run: every face says it still, and of no other row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from lora_tui.__main__ import main
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want

WHY = "its condition does not hold (failed): a:failed = false"
ROWS = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "c"\ntrain.seed = 1\nafter = ["a"]\nwhen = "failed"\n'


def board(folder: PlanFolder, plan: Path) -> dict[str, tuple[str, str]]:
    source = FolderSource(folder.runs, PlanRows(plan, folder.runs))
    wait_for(lambda: (found := source.read(Want())) and not found.loading and any(r.run for r in found.rows))
    return {row.key: (row.status.value, row.reason) for row in source.read(Want()).rows if row.planned}


def status(folder: PlanFolder, plan: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    capsys.readouterr()
    assert (
        main(["status", str(plan), "--json", "--runs", str(folder.runs.root), "--state", str(folder.runs.state)]) == 0
    )
    return {row["key"]: (row["state"], row["reason"]) for row in json.loads(capsys.readouterr().out)["rows"]}


def test_a_skipped_row_stays_skipped_and_says_why(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ROWS, 'until = "all"')
    assert folder.work()["complete"]
    assert status(folder, folder.plan, capsys)["c"] == ("skipped", WHY)
    assert board(folder, folder.plan)["c"] == ("skipped", WHY)
    files = [folder.root / f"matrix.{ending}" for ending in ("json", "csv", "md", "xml")]
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    main(["--headless", "--no-train", str(folder.plan), *where, *(f"--export={path}" for path in files)])
    for path in files:
        assert WHY.replace("_", r"\_") in path.read_text() or WHY in path.read_text(), path
    assert f'<skipped message="skipped: {WHY}"/>' in files[-1].read_text()


def test_another_plan_and_an_edited_row_inherit_nothing(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ROWS, 'until = "all"')
    folder.work()
    other = folder.root / "other.toml"
    other.write_text(folder.plan.read_text().replace("failed", "finished").replace("seed = 1", "seed = 2"))
    for plan in (other, folder.plan):
        assert status(folder, plan, capsys)["c"][0] == ("not run" if plan == other else "skipped")
    assert board(folder, other)["c"] == ("not run", "after a; if finished")
    folder.plan.write_text(other.read_text())
    assert status(folder, folder.plan, capsys)["c"] == ("not run", "after a; if finished")
    assert board(folder, folder.plan)["c"] == ("not run", "after a; if finished")


def test_the_newest_submission_with_the_row_tells(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write(ROWS, 'until = "all"')
    folder.work()
    folder.work(only=("a",))
    assert status(folder, folder.plan, capsys)["c"] == ("skipped", WHY), "the newest one did not ask for it"
    queued = folder.db.submit(folder.submission())
    assert status(folder, folder.plan, capsys)["c"][0] == "queued", "what is queued is told by the queue"
    with folder.db.closing(queued.id, at_once=True):
        pass
    folder.runs.queue_db.unlink()
    last = status(folder, folder.plan, capsys)["c"]
    assert last == ("not run", "after a; if failed"), "nobody knows which row it was"
