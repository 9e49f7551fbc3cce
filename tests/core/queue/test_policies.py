"""What the queue does by itself: pauses, budgets, memory, notifications. Real processes with FakeTrainers."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests.hashing import HashCache
from core.queue import pauses
from core.queue.execution import PlanExecution
from core.queue.gpu.choice import Devices, Gpu
from core.queue.journal import Exit, Halve, Journal, Record
from core.queue.notify import Notifier
from core.queue.pauses import MOST_BYTES, Pauses, has_space
from core.queue.report import report
from core.queue.requests import Target
from core.queue.state import FailureSeries, QueueState
from core.queue.supervisor import Supervisor
from core.runs.row import Outcome
from core.runs.status import Status
from core.system.files import read_json
from core.system.locks import KernelLock, is_held
from core.system.process import Wakeups, identity_of, is_alive

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
FOUR = TWO + '[[experiment]]\nid = "c"\ntrain.seed = 2\n[[experiment]]\nid = "d"\ntrain.seed = 3\n'
HEARING = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def series(*ends: tuple[str, str, str]) -> FailureSeries:
    found = FailureSeries()
    for run, outcome, message in ends:
        found.add(Exit(run=run, outcome=outcome, message=message))
    return found


def made_pauses(folder: Path, *earlier: Record) -> Pauses:
    """Of a supervisor that comes after these records."""
    state = QueueState(earlier)
    return Pauses(folder, Journal(folder / "decisions.jsonl", on_append=state.apply), state)


def test_a_series_is_different_runs_that_failed_alike() -> None:
    alike = series(("a", "error", "line 3: no"), ("b", "error", "line 14: no"), ("c", "error", "line 5: no"))
    assert alike.reason(3) == "3 runs in a row failed alike (a, b, c): error: line 5: no"
    assert alike.reason(4) is None and alike.reason(0) is None


@pytest.mark.parametrize(
    "ends",
    [
        [("a", "error", "x"), ("a", "error", "x"), ("a", "error", "x")],
        [("a", "error", "x"), ("b", "error", "y"), ("c", "error", "x")],
        [("a", "error", "x"), ("b", "error", "x"), ("good", "done", ""), ("c", "error", "x")],
        [("a", "diverged", "x"), ("b", "diverged", "x"), ("c", "diverged", "x")],
    ],
)
def test_what_is_no_series(ends: list[tuple[str, str, str]]) -> None:
    assert series(*ends).reason(3) is None


def test_a_stop_neither_makes_nor_breaks_a_series() -> None:
    ends = [("a", "crashed", ""), ("b", "crashed", ""), ("x", "rebooted", ""), ("c", "crashed", "")]
    assert series(*ends).reason(3) is not None


def test_three_runs_that_fail_alike_pause_the_queue_until_somebody_lets_it_go_on(folder: PlanFolder) -> None:
    folder.write(FOUR, queue='until = "all"')
    folder.script(a=["error"], b=["error"], c=["error"])
    client = folder.client
    submission = client.submit(folder.submission())
    try:
        wait_for(lambda: folder.decisions("pause"))
        [pause] = folder.decisions("pause")
        assert pause.cause == "failures" and "3 runs in a row failed alike" in pause.reason
        assert folder.starts() == ["a", "b", "c"]
        # A new supervisor knows of it, too.
        os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
        client._child.wait()
        wait_for(lambda: not is_held(folder.runs.supervisor_lock))
        client.ensure_supervisor()
        folder.looked_at_again(submission.id, "d")
        assert folder.starts() == ["a", "b", "c"] and len(folder.decisions("pause")) == 1
        folder.db.ask("release", [Target(submission.id)])
        wait_for(lambda: folder.decisions("supervisor_ended"))
        assert folder.starts() == ["a", "b", "c", "d"] and folder.decisions("resume")
    finally:
        client._child.kill()
        client._child.wait()


def test_what_went_on_with_smaller_micro_batches_is_no_series_for_the_next_supervisor(tmp_path: Path) -> None:
    def memory(run: str) -> Exit:
        return Exit(run=run, outcome="out_of_memory", message="no memory")

    earlier: list[Record] = [memory("a-1"), Halve(run="a-1"), memory("a-2"), Halve(run="a-2")]
    assert made_pauses(tmp_path, *earlier).before_start(2, 0) == ""
    others = memory("b"), memory("c")  # of plans that do not have it so
    assert "2 runs in a row failed alike (b, c)" in made_pauses(tmp_path, *earlier, *others).before_start(2, 0)


def test_nothing_left_to_start_needs_no_pause(folder: PlanFolder) -> None:
    folder.write(FOUR.rpartition("[[")[0], queue='until = "all"')
    folder.script(a=["error"], b=["error"], c=["error"])
    assert folder.work()["complete"] and not folder.decisions("pause")


def test_a_full_disk_pauses_the_queue_until_there_is_space(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LOOK_S", 0.05)
    answers = iter([True, False, False])
    monkeypatch.setattr(pauses, "has_space", lambda path, size: next(answers, True))
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["disk_full", "good"])
    assert folder.work()["complete"]
    assert folder.starts() == ["a", "a", "b"]
    [pause], [resume] = folder.decisions("pause"), folder.decisions("resume")
    assert pause.cause == "disk" and "the disk is full" in pause.reason
    assert "space" in resume.reason and next(answers, None) is None


def test_a_small_disk_never_waits_for_more_than_it_can_have(tmp_path: Path) -> None:
    pauses = made_pauses(tmp_path)
    for _ in range(20):
        pauses.disk_full("the disk is full (a)")
    assert pauses.reason.startswith("the disk is full (a); goes on when 67 to 134 MB are free in ")
    assert pauses._needed == MOST_BYTES


def test_what_is_waited_for_after_a_full_disk_falls_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.queue.pauses.LOOK_S", 0.0)
    free = 100 << 20
    monkeypatch.setattr("core.queue.pauses.has_space", lambda path, size: size <= free)
    pauses = made_pauses(tmp_path)
    for _ in range(20):
        pauses.disk_full("the disk is full (a)", written=5000)
    for _ in range(10):
        pauses.look()
    assert pauses.cause is None, "a tiny run, and 100 MB are free"
    assert pauses.before_start(0, 1000) == "", "nor does the next one wait for what the last one wanted"


def test_a_run_that_wrote_much_waits_for_as_much_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("core.queue.pauses.LOOK_S", 0.0)
    monkeypatch.setattr("core.queue.pauses.has_space", lambda path, size: asked.append(size))
    pauses = made_pauses(tmp_path)
    pauses.disk_full("the disk is full (a)", written=600 << 20)
    for _ in range(6):
        pauses.look()
        assert pauses.cause == "disk"
    assert [size >> 20 for size in asked] == [600, 300, 150, 75, 64, 64]


def test_a_large_run_of_the_plan_makes_no_small_one_wait(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast of each goes by its own settings; what the large one took beyond its own counts as a share."""
    folder.write(TWO, queue='until = "all"')
    folder.work()
    with (folder.run("a").root / "weights").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 50_000_000)
    sizes = {0: 40_000_000, 1: 1000}
    monkeypatch.setattr("core.queue.execution.forecast_bytes", lambda settings: sizes[settings.train.seed])
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    large, small = execution.assigned.values()
    assert 50_000_000 <= execution.expected_bytes(large) < 60_000_000
    assert execution.expected_bytes(small) <= 16 * 1000


def test_no_run_is_started_on_a_disk_that_it_would_fill(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LOOK_S", 0.05)
    asked: list[int] = []
    monkeypatch.setattr(pauses, "has_space", lambda path, size: not asked.append(size) and len(asked) > 1)
    folder.write()
    assert folder.work()["complete"]
    assert folder.starts() == ["a"] and "a run needs about 67 MB" in folder.decisions("pause")[0].reason


def test_a_run_that_has_most_of_its_files_needs_space_for_the_rest_only(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(queue="retries = 0")
    folder.script(a=["crash", "good"])
    folder.work()
    assert folder.snapshot("a").state is Status.CRASHED
    with (folder.run("a").root / "weights").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000_000)
    asked: list[int] = []
    monkeypatch.setattr(pauses, "LOOK_S", 0.05)
    monkeypatch.setattr(pauses, "has_space", lambda path, size: not asked.append(size) and (size < 1.5e8 or asked[1:]))
    monkeypatch.setattr("core.queue.execution.forecast_bytes", lambda settings: 200_000_000)
    assert folder.work()["complete"]
    assert folder.starts() == ["a", "a"] and not folder.decisions("pause")
    assert 67_000_000 < asked[0] <= 100_000_000


def test_space_is_what_can_really_be_had(tmp_path: Path) -> None:
    assert has_space(tmp_path, 1 << 20)
    assert not has_space(tmp_path, 1 << 60)
    assert not has_space(tmp_path / "missing", 1)


def test_running_siblings_of_an_accepted_run_are_stopped_if_the_plan_says_so(folder: PlanFolder) -> None:
    folder.write(TWO, queue='on_accept = "stop"')
    folder.script(a=["good"], b=["wait"])
    folder.db.submit(folder.submission())
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    two = Devices(tuple(Gpu(f"GPU-{n}", f"GPU {n}", n) for n in range(2)))
    with Wakeups() as wakeups:
        Supervisor(folder.runs, lock.release, folder.executor, lambda: two).run(wakeups)
    [finish] = folder.decisions("finish")
    assert finish.complete and finish.reason == "a was accepted"
    [end] = [d for d in folder.decisions("exit") if d.run == folder.run("b").name]
    assert end.asked
    [stop] = folder.decisions("stop")
    assert stop.row == "b" and stop.reason == "a was accepted"


def test_the_hours_of_the_budget_end_what_runs(folder: PlanFolder) -> None:
    folder.write(queue="max_hours = 0.0004")
    folder.script(a=["wait"])
    finish = folder.work()
    assert finish["complete"] and "queue.max_hours" in finish["reason"]
    assert folder.snapshot("a").state is Status.STOPPED and folder.starts() == ["a"]


def test_a_run_that_is_too_big_goes_on_with_smaller_micro_batches(folder: PlanFolder) -> None:
    folder.write(queue='on_out_of_memory = "halve"')
    folder.script(a=["big"])
    finish = folder.work()
    assert finish["complete"] and finish["reason"] == "a was accepted"
    assert folder.starts() == ["a", "a", "a"]
    folders = [str(d.run) for d in folder.decisions("start")]
    configs = [read_json(folder.runs.root / name / "run.json")[0] for name in folders]
    assert [config["settings"]["train"]["accumulation"] for config in configs if config] == [1, 2, 4]
    assert [(d.run, d.accumulation) for d in folder.decisions("halve")] == [
        (folders[0], 2),
        (folders[1], 4),
    ]
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    [row] = report(execution, {})
    assert row.outcome is Outcome.ACCEPTED and row.run is not None and row.run.name == folders[2]
    assert folder.work()["complete"] and len(folder.starts()) == 3


def test_without_the_rule_a_run_out_of_memory_is_given_up(folder: PlanFolder) -> None:
    folder.write()
    folder.script(a=["big"])
    folder.work()
    assert folder.starts() == ["a"] and not folder.decisions("halve")


def test_a_run_that_was_stopped_early_is_rejected_and_not_resumed(folder: PlanFolder) -> None:
    folder.write(TWO)
    folder.script(a=["stopped_early"])
    finish = folder.work()
    assert folder.starts() == ["a", "b"] and "stopped early" in finish["not_run"]["a"]
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    first = report(execution, {})[0]
    assert first.outcome is Outcome.REJECTED and not first.failed
    assert first.judged is not None and "gate.early_stop" in str(first.judged.evidence.failure)


def test_the_plans_program_hears_of_ends(folder: PlanFolder) -> None:
    heard = folder.root / "heard; $(touch x)"
    folder.write(queue=f"notify = {json.dumps([sys.executable, '-c', HEARING, str(heard)])}")
    folder.work()
    ended, finished = [json.loads(line) for line in heard.read_text().splitlines()]
    assert ended["event"] == "run_ended" and ended["outcome"] == "done" and ended["accepted"] is True
    assert ended["run"] == folder.run("a").name and ended["rows"] == ["a"] and ended["plan"] == str(folder.plan)
    assert finished["event"] == "finished" and finished["reason"] == "a was accepted"


def test_a_program_that_does_not_end_is_killed_and_holds_nothing_up(tmp_path: Path) -> None:
    notifier, told = Notifier(timeout_s=0.3), tmp_path / "pid"
    notifier.send(["sh", "-c", f"echo $$ > {told}; exec sleep 600"], tmp_path, "paused", {})
    notifier.send(["/no/such/program"], tmp_path, "paused", {})
    wait_for(lambda: told.exists() and told.read_text().endswith("\n"))
    alive = identity_of(int(told.read_text()))
    notifier.close()
    wait_for(lambda: alive is None or not is_alive(alive))
