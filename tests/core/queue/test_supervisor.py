"""The supervisor with FakeTrainers: real processes, real files."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.manifests import hashing
from core.manifests.hashing import HashCache
from core.queue import __main__ as queue_main
from core.queue.__main__ import supervise
from core.queue.requests import QueueDb, Target
from core.runs.status import Status
from core.system.locks import KernelLock, is_held

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'


def test_the_first_accepted_run_ends_the_plan(folder: PlanFolder) -> None:
    folder.write(TWO)
    finish = folder.work()
    assert finish["complete"] and finish["reason"] == "a was accepted"
    assert finish["not_run"] == {"b": "a was accepted"}
    assert folder.starts() == ["a"]
    assert folder.snapshot("a").state is Status.DONE
    config = folder.snapshot("a").config
    assert config is not None and Path(config["settings"]["data"]["train"]).is_absolute()
    assert config["identity"] == folder.run("a").name.rpartition("-")[2]
    assert not is_held(folder.runs.supervisor_lock)


def test_run_again_does_nothing_twice(folder: PlanFolder) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.work()
    before = {path: path.stat().st_mtime_ns for path in folder.runs.root.glob("*-*/**/*")}
    assert folder.work()["complete"]
    assert folder.starts() == ["a", "b"]
    assert before == {path: path.stat().st_mtime_ns for path in folder.runs.root.glob("*-*/**/*")}


def test_a_rejected_run_lets_the_next_one_start(folder: PlanFolder) -> None:
    folder.write(TWO)
    folder.script(a=["poor"])
    assert folder.work()["complete"]
    assert folder.starts() == ["a", "b"]


def test_a_crash_is_resumed_from_the_checkpoint(folder: PlanFolder) -> None:
    folder.write()
    folder.script(a=["crash", "stillborn", "good"])
    assert folder.work()["complete"]
    exits = [(d.outcome, d.status, d.message) for d in folder.decisions("exit")]
    assert exits == [("crashed", -9, ""), ("crashed", 1, "before its first event"), ("done", 0, "")]
    assert [attempt.resumed_from for attempt in folder.snapshot("a").attempts] == [None, 5]


def test_what_a_trainer_killed_after_its_result_left_is_swept_away(folder: PlanFolder) -> None:
    folder.write()
    folder.script(a=["last_breath"])
    assert folder.work()["complete"] and len(folder.births("a")) == 1
    assert folder.run("a").result.exists() and not list(folder.run("a").checkpoints.iterdir())
    assert folder.decisions("exit")[0].outcome == "done"


def test_a_run_that_crashes_too_often_is_given_up_and_tried_again_when_submitted_again(folder: PlanFolder) -> None:
    folder.write(TWO, queue="retries = 1")
    folder.script(a=["crash"], b=["good"])
    finish = folder.work()
    assert folder.starts() == ["a", "a", "b"]
    assert finish["not_run"]["a"] == "crashed 2 times: not resumed again (queue.retries = 1)"
    folder.script(a=["good"])
    folder.work("queue.until=all")
    assert folder.snapshot("a").state is Status.DONE


@pytest.mark.parametrize("end", ["diverge", "oom", "error"])
def test_a_failed_run_is_not_retried_and_the_next_one_starts(folder: PlanFolder, end: str) -> None:
    folder.write(TWO)
    folder.script(a=[end])
    finish = folder.work()
    assert folder.starts() == ["a", "b"]
    assert finish["complete"]
    assert "not retried" in finish["not_run"]["a"]


def test_what_diverged_does_not_run_again_but_an_error_does(folder: PlanFolder) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["diverge"], b=["error", "good"])
    folder.work()
    folder.work()
    assert folder.starts() == ["a", "b", "b"]


def test_equal_identity_is_one_run(folder: PlanFolder) -> None:
    folder.write('[[experiment]]\nid = "a"\n[[experiment]]\nid = "same"\n', queue='until = "all"')
    folder.work()
    assert folder.starts() == ["a"]
    assert [d.run for d in folder.decisions("run")] == [folder.run("a").name] * 2
    assert len(folder.runs.runs()) == 1


def test_a_condition_is_decided_on_results_and_recorded_with_its_inputs(folder: PlanFolder) -> None:
    folder.write(TWO + 'after = "a"\nwhen = "rejected"\n', queue='until = "all"')
    finish = folder.work()
    assert folder.starts() == ["a"]
    [skip] = folder.decisions("skip")
    assert skip.inputs == {"a:rejected": False} and finish["not_run"]["b"] == skip.reason


def test_a_row_whose_data_is_missing_is_named_and_the_others_run(folder: PlanFolder) -> None:
    folder.write(TWO + 'data.train = "gone.jsonl"\n', queue='until = "all"')
    finish = folder.work()
    assert folder.starts() == ["a"]
    assert "gone.jsonl" in finish["not_run"]["b"]


def test_only_starts_nothing_else(folder: PlanFolder) -> None:
    folder.write(TWO)
    folder.work(only=("b",))
    assert folder.starts() == ["b"]


def test_the_budget_counts_runs_and_a_resumed_one_once(folder: PlanFolder) -> None:
    folder.write(TWO, queue='until = "all"\nmax_runs = 1')
    folder.script(a=["crash", "good"])
    finish = folder.work()
    assert folder.starts() == ["a", "a"]
    assert "queue.max_runs" in finish["not_run"]["b"]


def test_a_disk_that_is_full_for_the_supervisor_ends_it_with_a_clear_message(folder: PlanFolder) -> None:
    folder.write()
    folder.db.submit(folder.submission())
    arguments = [str(folder.runs.root), "--state", str(folder.runs.state)]
    folder.runs.root.mkdir()
    full = b"foreign\n" * 4096
    folder.runs.decisions.write_bytes(full)
    fake = Path(__file__).with_name("fake_supervisor.py")
    limited = ["bash", "-c", 'ulimit -f 32; exec "$@"', "-", sys.executable, str(fake), *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    ended = subprocess.run(limited, capture_output=True, text=True, env=environment)
    assert ended.returncode == 3 and "the disk is full" in ended.stderr and "Traceback" not in ended.stderr
    assert folder.runs.decisions.read_bytes() == full
    assert supervise(folder.runs, folder.executor) == 0
    assert folder.snapshot("a").state is Status.DONE


def test_waiting_for_space_leaves_no_descriptors_open(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_main, "LOOK_S", 0.01)
    folder.write()
    folder.script(a=["wait", "good"])
    submission = folder.db.submit(folder.submission())
    close_request, pidfds = QueueDb.close_request, []

    def full(db: QueueDb, number: int) -> None:
        thread.join()  # it opens and closes files of its own
        links = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        pidfds.append(sum("pidfd" in str(link) for link in links))
        if len(pidfds) < 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        close_request(db, number)
        os.kill(folder.births("a")[0], signal.SIGTERM)

    def person() -> None:
        wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
        folder.db.ask("retry", [Target(submission.id, "a")])

    monkeypatch.setattr(QueueDb, "close_request", full)
    thread = threading.Thread(target=person)
    thread.start()
    assert supervise(folder.runs, folder.executor) == 0
    assert len(pidfds) >= 6 and len(set(pidfds)) == 1


def test_a_plan_that_cannot_be_read_ends_with_the_reason(folder: PlanFolder) -> None:
    folder.write("[[experiment]]\nid = 'a'\ntrain.stepps = 3\n")
    finish = folder.work()
    assert not finish["complete"] and "stepps" in finish["reason"]


def test_what_a_face_has_hashed_is_not_hashed_again_by_a_supervisor_that_was_there(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write()
    folder.script(**{"a": ["wait", "good"], "a@seed9": ["good"]})
    folder.db.submit(folder.submission())
    reads: list[Path] = []
    real = hashing._read
    monkeypatch.setattr(hashing, "FRESH_NS", 0)
    monkeypatch.setattr(hashing, "_read", lambda path, cache: reads.append(path) or real(path, cache))

    def face() -> None:
        wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
        shutil.copy(folder.root / "train.wav", folder.root / "other.wav")
        manifest = folder.root / "other.jsonl"
        manifest.write_text((folder.root / "train.jsonl").read_text().replace("train.wav", "other.wav"))
        hashing.manifest_file_hashes(manifest, HashCache(folder.runs.hash_cache))
        submission = folder.db.submit(folder.submission("data.train=other.jsonl", "train.seed=9"))
        wait_for(lambda: any(d.submission == submission.id for d in folder.decisions("wait", "run")))
        os.kill(folder.births("a")[0], signal.SIGTERM)

    thread = threading.Thread(target=face)
    thread.start()
    supervise(folder.runs, folder.executor)
    thread.join()
    assert len(folder.decisions("finish")) == 2 and len(folder.runs.runs()) == 2
    assert reads.count(folder.root / "other.wav") == 1


def test_a_second_supervisor_refuses(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    assert supervise(folder.runs, folder.executor) == 4
    assert "another supervisor" in capsys.readouterr().err
    lock.release()


def test_a_lost_queue_is_filled_again_by_the_face(folder: PlanFolder) -> None:
    folder.write()
    folder.work()
    folder.runs.queue_db.write_bytes(b"this is no database" * 100)
    assert folder.work()["complete"]
    assert folder.starts() == ["a"]


def test_a_torn_decision_is_cut_off(folder: PlanFolder) -> None:
    folder.write()
    folder.work()
    with folder.runs.decisions.open("ab") as file:
        file.write(b'{"decision": "start", "ti')
    folder.work()
    assert b'"ti{' not in folder.runs.decisions.read_bytes()
    assert folder.starts() == ["a"]
