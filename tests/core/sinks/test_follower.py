"""Sinks as processes: what they are told, and that none of them can hold up or change a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import DEADLINE_S, wait_for

from core.queue import notify
from core.queue.__main__ import supervise
from core.queue.executor import child_environment
from core.runs.paths import RunPaths
from core.sinks.sink import opener

FAKE = Path(__file__).with_name("fake_sinks.py")
TESTS = FAKE.parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanFolder:
    monkeypatch.setattr(notify, "SINK_COMMAND", (sys.executable, str(FAKE)))
    return PlanFolder(tmp_path)


def work(folder: PlanFolder, *sinks: str, behaviours: list[str] | None = None) -> None:
    folder.write(queue=f"sinks = {json.dumps(sinks)}" if sinks else "")
    if behaviours:
        folder.script(a=behaviours)
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0


def start(name: str, run: RunPaths) -> subprocess.Popen[str]:
    command = [sys.executable, str(FAKE), name, str(run.root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment({}))


def sent(run: RunPaths) -> list[dict[str, Any]]:
    file = run.sink_folder("tensorboard") / "sent.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_sink_hears_the_whole_run(folder: PlanFolder) -> None:
    work(folder, "tensorboard")
    run = folder.run("a")
    wait_for(lambda: any("close" in line for line in sent(run)))
    first, *points, last = sent(run)
    assert first["open"] == run.name and first["facts"]["train.steps"] == 20
    # An interval that is scored after its step was sent comes as a point of its own.
    steps = [point["step"] for point in points]
    assert steps == sorted(steps) and set(steps) == set(range(21))
    assert sum("train/loss" in point for point in points) == 20
    assert [p["domain/wer"] for p in points if "domain/wer" in p] == [30.0, 20.0, 20.0, 20.0, 20.0]
    assert last["close"]["verdict"] == "accepted" and last["close"]["criterion.parity"] == "PASS"


def test_no_sink_can_stop_a_run(folder: PlanFolder) -> None:
    work(folder, "wandb", "mlflow", "trackio", behaviours=["good"])
    run = folder.run("a")
    assert folder.snapshot("a").state.value == "done" and len(folder.births("a")) == 1
    identity = json.loads(run.config.read_text())["identity"]
    other = PlanFolder(folder.root / "without")
    other.write()
    other.db.submit(other.submission())
    supervise(other.runs, other.executor)
    assert json.loads(other.run("a").config.read_text())["identity"] == identity, "sinks are no part of a run"


def test_what_goes_wrong_is_said_once(folder: PlanFolder, capfd: pytest.CaptureFixture[str]) -> None:
    plan = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
    folder.write(plan, queue='sinks = ["trackio"]\nuntil = "all"\nretries = 0')
    folder.script(a=["wait"], b=["wait"])
    folder.db.submit(folder.submission())
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISE, str(FAKE), str(folder.runs.root), str(folder.runs.state)],
        env=child_environment({"PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS / "core" / "queue")))}),
    )
    try:
        wait_for(lambda: folder.decisions("sink"))
        [decision] = folder.decisions("sink")
        assert "pip install" in str(decision.message) and folder.snapshot("a").state.active
    finally:
        supervisor.terminate()
        supervisor.wait(DEADLINE_S)


_SUPERVISE = """
import sys
from pathlib import Path
from core.queue import notify
from core.queue.__main__ import supervise
from core.queue.executor import LocalExecutor
from core.runs.paths import RunsFolder
import plan_folder
notify.SINK_COMMAND = (sys.executable, sys.argv[1])
runs = RunsFolder(Path(sys.argv[2]), Path(sys.argv[3]))
sys.exit(supervise(runs, LocalExecutor(runs, plan_folder.TRAINER, 0.5)))
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wandb", "ConnectionError: the tracker is away"),
        ("mlflow", "did not take what was left"),
        ("trackio", "pip install"),
    ],
)
def test_each_failure_ends_in_one_line(folder: PlanFolder, name: str, says: str) -> None:
    work(folder)
    follower = start(name, folder.run("a"))
    _, said = follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 1 and says in said and said.count("\n") == 1


def test_only_one_process_follows_a_run_and_the_next_goes_on(folder: PlanFolder) -> None:
    work(folder)
    run = folder.run("a")
    result = run.result.read_bytes()
    run.result.unlink()  # as if it went on: dead without a last word, it is crashed
    first, second = start("tensorboard", run), start("tensorboard", run)
    for follower in (first, second):
        follower.communicate(timeout=DEADLINE_S)
        assert follower.returncode == 0
    run.result.write_bytes(result)
    third = start("tensorboard", run)
    third.communicate(timeout=DEADLINE_S)
    lines = sent(run)
    assert [line["sent"] for line in lines if "open" in line] == [0, 20, 20]
    assert sum("train/loss" in line for line in lines) == 20, "nothing is sent twice"
    assert [line["close"] is None for line in lines if "close" in line] == [True, True, False]


def test_a_sink_that_is_not_there_is_named_by_its_extra() -> None:
    with pytest.raises(Exception, match="no such sink; there are tensorboard"):
        opener("aim")
