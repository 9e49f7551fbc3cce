"""A trainer that has said nothing yet, and accepted runs that are repeated with other seeds, on board and in status."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eyes import Eyes
from plan_folder import PlanFolder

from core.manifests.hashing import HashCache
from core.plan.schema import Row as PlanRow
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Request, Start, Wait
from core.queue.rows import queue_rows
from core.runs.events import Final
from core.runs.row import Figures, Outcome, Row
from core.runs.run_figures import with_seeds
from core.runs.status import Status
from core.system.locks import KernelLock
from core.system.process import identity_of
from lora_tui import status_command
from lora_tui.dashboard.screens.panels import seeds_pieces

Make = Callable[..., Any]


@pytest.fixture
def silent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives and writes no event, as a trainer does while it imports torch."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def begun(folder: PlanFolder, pid: int) -> None:
    """What the queue writes when it starts the trainer of `a`."""
    folder.write()
    submission = folder.submission()
    folder.runs.root.mkdir(exist_ok=True)
    folder.db.submit(submission)
    execution = PlanExecution(submission, folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    run = execution.folder(execution.assigned["a"])
    run.root.mkdir()
    row: PlanRow = execution.rows[0]
    config = {"schema": 1, "experiment": row.experiment, "identity": run.name.rpartition("-")[2], "settings": {}}
    run.config.write_text(json.dumps(config | {"hashes": {}, "gate": {}}))
    process = identity_of(pid)
    assert process is not None
    start = Start(submission=submission.id, row="a", run=run.name, reason="first", process=process.to_json())
    Journal(folder.runs.decisions).append(start)


def status(folder: PlanFolder, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    parser = argparse.ArgumentParser()
    status_command.add_arguments(parser)
    where = [str(folder.plan), "--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    assert status_command.run(parser.parse_args([*where, *options])) == 0
    return capsys.readouterr().out


def test_a_trainer_without_an_event_is_starting_and_can_be_stopped(
    folder: PlanFolder, queue_app: Make, eyes: type[Eyes], silent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(folder, silent.pid)

    async def look() -> None:
        app = queue_app()
        async with app.run_test(size=(160, 40)) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "starting", "1 running")
            await seen.see_on_screen("Stop", "Open")
            await seen.press("enter")
            title = (await seen.see("[1 intervals]")).splitlines()[0]
            assert title.rstrip().endswith("  starting"), title
            silent.kill()
            silent.wait()
            await seen.gone("starting")
            await seen.press("escape")
            await seen.gone("starting", "1 running")

    shown = status(folder, capsys)
    assert "starting" in shown
    assert json.loads(status(folder, capsys, "--json"))["rows"][0]["state"] == "starting"
    asyncio.run(look())
    assert "starting" not in status(folder, capsys)


def test_a_released_run_waits_for_its_turn_and_is_not_told_as_it_ended_before(
    folder: PlanFolder, make_run: Make, silent: Any
) -> None:
    begun(folder, silent.pid)
    silent.kill()
    silent.wait()
    [started] = folder.runs.runs()
    run = make_run("a", started.name.rpartition("-")[2]).train(500)
    run.say(Final("stopped", step=500))
    run.flush()
    submission = folder.db.open_submissions()[0].id
    log = Journal(folder.runs.decisions)
    [before] = queue_rows(folder.runs).rows
    assert before.status == "stopped" and "no supervisor is at work" in before.reason
    lock = KernelLock.acquire(folder.runs.supervisor_lock)  # as a supervisor does
    assert lock is not None
    log.append(Request(request="release", submission=submission, row="a"))
    [released] = queue_rows(folder.runs).rows
    assert released.status == "queued" and released.reason == "stopped before, is started again"
    log.append(Wait(submission=submission, reason="the trainer of another run has the CPU"))
    [waits] = queue_rows(folder.runs).rows
    assert waits.status == "waiting" and "has the CPU; stopped before" in waits.reason
    lock.release()


def row(key: str, word: str | None, confirms: str | None = None, **more: Any) -> Row:
    wanted: Any = SimpleNamespace(confirms=confirms, experiment=key)
    outcome = Outcome.UNDECIDED if word is None else Outcome(word)
    return Row(f"plan:{key}", key, wanted=wanted, figures=Figures(word=word), outcome=outcome, **more)


@pytest.mark.parametrize(
    ("first", "second", "decision", "count"),
    [
        (None, None, "undecided", 0),
        ("accepted", None, "undecided", 1),
        ("accepted", "accepted", "accepted", 2),
        ("accepted", "rejected", "rejected", 1),
    ],
)
def test_an_accepted_run_stands_by_its_repeats(
    first: str | None, second: str | None, decision: str, count: int
) -> None:
    status = Status.TRAINING if second is None else Status.DONE
    repeats = [row("a@seed1", first, "a"), row("a@seed2", second, "a", status=status)]
    rows = with_seeds([row("a", "accepted"), *repeats, row("b", "rejected")], {"a": 2, "b": 2})
    assert (rows[0].word, rows[0].seeds) == (decision, (count, 2))
    told = "".join(text for text, _ in seeds_pieces(rows[0]))
    assert f"seeds {count}/2" in told and "a@seed2 " + (second or "training") in told
    assert rows[3].seeds is None and rows[1].seeds is None and seeds_pieces(rows[3]) == ()
    assert with_seeds([row("a", "accepted")], {})[0].seeds is None


def test_the_panel_and_status_say_how_many_seeds_confirm_a_run(
    folder: PlanFolder,
    queue_app: Make,
    eyes: type[Eyes],
    fake_supervisor: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder.write(queue="max_runs = 3")
    folder.plan.write_text(folder.plan.read_text().replace("[gate]\n", "[gate]\nconfirm_seeds = 2\n"))
    folder.script(**{"a": ["good"], "a@seed1": ["good"], "a@seed2": ["poor"]})

    async def look() -> None:
        app = queue_app(supervisor=fake_supervisor)
        async with app.run_test(size=(160, 40), notifications=True) as pilot:
            seen = eyes(app, pilot)
            await seen.see("▸ a", "not run")
            await seen.press("s")
            await seen.press("y")
            await seen.see("seeds 1/2", "a@seed1 accepted, a@seed2 rejected", "✗ seeds 1/2")

    asyncio.run(look())
    said = status(folder, capsys)
    assert "rejected, seeds 1/2" in said and "\nnext: nothing: " in said
    rows = json.loads(status(folder, capsys, "--json"))["rows"]
    assert rows[0]["seeds"] == {"accepted": 1, "of": 2} and rows[1]["seeds"] is None
