"""Trainers on GPUs of their own: locks, places, several supervisors. Real processes with FakeTrainers and FakeNvml."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from nvml_file import FakeNvml
from plan_folder import PlanFolder
from waiting import wait_for

from core.queue.gpu.available import holder_of, lock_gpu
from core.queue.gpu.choice import GIB, Devices, Gpu
from core.queue.rows import queue_rows
from core.queue.supervisor import Supervisor
from core.runs.paths import RunPaths
from core.system.locks import KernelLock, is_held
from core.system.process import Wakeups

A = Gpu("GPU-aaaa1111", "GPU 0", 0, "H100", 80 * GIB, 79 * GIB)

THREE = "".join(f'[[experiment]]\nid = "{name}"\ntrain.seed = {n}\n' for n, name in enumerate("abc"))


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("nvml")  # for a temporary folder of its own
def test_a_full_temporary_folder_pauses_nothing_and_costs_no_gpu(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KernelLock, "write_owner", no_space)
    folder.write(THREE, queue='until = "all"')
    folder.db.submit(folder.submission())
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    with Wakeups() as wakeups:
        Supervisor(folder.runs, lock.release, folder.executor, lambda: Devices((A,))).run(wakeups)
    assert not folder.decisions("pause")
    assert [(d.row, d.gpu) for d in folder.decisions("start")] == [(name, A.uuid) for name in "abc"]


@pytest.mark.usefixtures("nvml")
def test_a_run_on_two_gpus_has_both_to_itself_and_waits_until_both_are_free(folder: PlanFolder) -> None:
    other = replace(A, uuid="GPU-bbbb2222", name="GPU 1", index=1)
    two = "train.devices = 2\ntrain.accumulation = 2\n"
    folder.write(THREE.replace('"b"\n', f'"b"\n{two}'), queue='until = "all"')
    folder.db.submit(folder.submission())
    lock = KernelLock.acquire(folder.runs.supervisor_lock)
    assert lock is not None
    with Wakeups() as wakeups:
        Supervisor(folder.runs, lock.release, folder.executor, lambda: Devices((A, other))).run(wakeups)
    given = {d.row: d.gpu for d in folder.decisions("start")}
    assert given["a"] in (A.uuid, other.uuid)
    assert sorted(str(given["b"]).split(",")) == [A.uuid, other.uuid]
    assert gpu_of(folder, "b") == [given["b"]]
    [waits] = {d.reason for d in folder.decisions("wait") if "train.devices" in d.reason}
    assert waits == f"train.devices asks for 2 GPUs, and 1 can be had: GPU 0 trains {folder.run('a').name}"
    assert [holder_of(folder.runs, gpu.uuid) for gpu in (A, other)] == [None, None]


@pytest.mark.usefixtures("nvml")
def test_a_gpu_for_which_no_trainer_could_be_started_is_free_again(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(KernelLock, "write_owner", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock_gpu(folder.runs, A.uuid, RunPaths(folder.runs.root / "a-1"))
    assert holder_of(folder.runs, A.uuid) is None


def gpu_of(folder: PlanFolder, experiment: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES was for each trainer of the experiment's run."""
    runs = [run for run in folder.runs.runs() if run.name.startswith(f"{experiment}-")]
    path = runs[0].root / "gpus.txt" if runs else None
    return path.read_text().split() if path is not None and path.exists() else []


def trains(folder: PlanFolder, experiment: str) -> bool:
    return bool(gpu_of(folder, experiment)) and folder.snapshot(experiment).steps_completed == 10


@pytest.fixture
def clean(folder: PlanFolder) -> Iterator[None]:
    yield
    folder.end_all()


@pytest.mark.usefixtures("clean")
def test_two_trainers_at_once_on_their_own_gpus_through_the_supervisors_death(
    folder: PlanFolder, nvml: FakeNvml
) -> None:
    nvml.add("GPU-a")
    nvml.add("GPU-b", 78)
    folder.write(THREE, queue='until = "all"')
    folder.script(a=["wait", "good"], b=["wait", "good"])
    client = folder.client
    submission = client.submit(folder.submission())
    wait_for(lambda: trains(folder, "a") and trains(folder, "b"))
    assert [d.gpu for d in folder.decisions("start")] == ["GPU-a", "GPU-b"]
    assert gpu_of(folder, "a") == ["GPU-a"] and gpu_of(folder, "b") == ["GPU-b"]
    [waits] = [d for d in folder.decisions("wait") if d.reason]
    assert waits.reason == f"GPU 0 trains {folder.run('a').name}; GPU 1 trains {folder.run('b').name}"

    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    client._child.wait()
    # What the decisions say may be lost; the trainers' environments and the locks of their GPUs are not.
    kept = [line for line in folder.runs.decisions.read_text().splitlines(True) if '"start"' not in line]
    folder.runs.decisions.write_text("".join(kept))
    client.ensure_supervisor()
    wait_for(lambda: len(folder.decisions("adopt")) == 2)
    folder.looked_at_again(submission.id, "c")
    assert gpu_of(folder, "c") == []

    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("finish") or len(gpu_of(folder, "b")) == 2 or gpu_of(folder, "c"))
    os.kill(folder.births("a")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("finish"))
    client._child.wait()
    assert "GPU-a" not in gpu_of(folder, "b")[:1] and gpu_of(folder, "a")[0] == "GPU-a"
    assert all(gpu in ("GPU-a", "GPU-b") for name in "abc" for gpu in gpu_of(folder, name))


@pytest.mark.usefixtures("clean")
def test_an_adopted_trainer_keeps_its_gpu(folder: PlanFolder, nvml: FakeNvml) -> None:
    nvml.add("GPU-a", 78)
    nvml.add("GPU-b")
    folder.write(THREE, queue='until = "all"')
    folder.script(a=["wait", "good"], b=["wait", "good"])
    client = folder.client
    client.submit(folder.submission())
    wait_for(lambda: trains(folder, "a") and trains(folder, "b"))
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    client._child.wait()
    client.ensure_supervisor()
    wait_for(lambda: len(folder.decisions("adopt")) == 2)
    assert {d.row: d.gpu for d in folder.decisions("adopt")} == {"a": "GPU-b", "b": "GPU-a"}
    os.kill(folder.births("a")[0], signal.SIGTERM)
    wait_for(lambda: len(gpu_of(folder, "a")) == 2)
    assert gpu_of(folder, "a")[1] == "GPU-b"  # the only one that is free
    os.kill(folder.births("b")[0], signal.SIGTERM)
    wait_for(lambda: folder.decisions("finish"))
    client._child.wait()


@pytest.mark.usefixtures("clean")
def test_supervisors_of_two_runs_folders_never_give_the_same_gpu(
    folder: PlanFolder, nvml: FakeNvml, tmp_path: Path
) -> None:
    nvml.add("GPU-a")  # NVML goes on calling it empty: a trainer takes memory seconds after its start
    other = type(folder)(tmp_path / "other")
    clients = []
    for each in (folder, other):
        each.write()
        each.script(a=["wait", "good"])
        clients.append(each.client)
        clients[-1].submit(each.submission())
    wait_for(lambda: trains(folder, "a") or trains(other, "a"))
    first, second = (folder, other) if trains(folder, "a") else (other, folder)
    wait_for(lambda: second.decisions("wait"))
    assert second.decisions("wait")[-1].reason == f"GPU 0 trains {first.run('a').root}"
    assert not second.decisions("start")
    os.kill(first.births("a")[0], signal.SIGTERM)
    wait_for(lambda: trains(second, "a"))
    os.kill(second.births("a")[-1], signal.SIGTERM)
    for each, client in zip((folder, other), clients, strict=True):
        wait_for(lambda each=each: each.decisions("finish"))
        client._child.wait()


@pytest.mark.usefixtures("clean")
def test_a_gpu_that_somebody_fills_is_waited_for_and_the_reason_is_shown(folder: PlanFolder, nvml: FakeNvml) -> None:
    nvml.add("GPU-a", 3.1, pids=[4711])
    folder.write()
    client = folder.client
    client.submit(folder.submission())
    reason = "GPU 0 has 3.1 of 80.0 GiB free, a run needs 64.0; another process (pid 4711) holds it"
    wait_for(lambda: any(d.reason == reason for d in folder.decisions("wait")))
    [entry] = queue_rows(folder.runs).rows
    assert (entry.status, entry.reason) == ("waiting", reason)
    looks = nvml.looks()
    wait_for(lambda: nvml.looks() > looks + 2)
    assert not folder.decisions("start") and len(folder.decisions("wait")) == 1
    nvml.gpus.clear()
    nvml.add("GPU-a", 79)
    wait_for(lambda: folder.decisions("finish"))
    assert gpu_of(folder, "a") == ["GPU-a"]
    client._child.wait()


@pytest.mark.usefixtures("clean")
def test_a_child_that_a_trainer_left_behind_keeps_the_gpu_taken(folder: PlanFolder, nvml: FakeNvml) -> None:
    nvml.add("GPU-a")
    folder.runs.state.mkdir(parents=True)
    lock = folder.runs.gpu_lock("GPU-a")
    lock.parent.mkdir()
    holder = subprocess.Popen(["flock", "-F", "-x", str(lock), "sleep", "60"])
    try:
        wait_for(lambda: is_held(lock))
        folder.write()
        client = folder.client
        client.submit(folder.submission())
        wait_for(lambda: folder.decisions("wait"))
        assert "GPU 0 trains a run that this supervisor did not start" in folder.decisions("wait")[0].reason
        holder.kill()
        holder.wait()
        wait_for(lambda: folder.decisions("finish"))
        client._child.wait()
    finally:
        holder.kill()
