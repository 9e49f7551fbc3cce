"""How torchrun is started for a run on several devices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ranks_kit import assert_same_result
from training_kit import TrainingRun
from waiting import wait_for

from core.runs.state_folder import STATE_VARIABLE
from core.runs.status import Status
from core.system.process import catches, identity_of
from core.training import __main__ as trainer
from core.training.launch import LaunchError, arguments, node
from core.training.stopping import StopFlag

RUN = Path("/runs/t-0123456789")


def test_on_one_machine_torchrun_needs_to_be_told_nothing() -> None:
    given = arguments(2, RUN, {})
    assert given[:5] == ["--nproc-per-node", "2", "--max-restarts", "0", "--standalone"]
    assert given[5:] == ["--no-python", sys.executable, "-P", "-m", "core.training", str(RUN)]
    assert node({"SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0"}) == 0


@pytest.mark.parametrize(
    "environment",
    [
        {"PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_MASTER_ADDR": "one", "PET_MASTER_PORT": "4711"},
        {"SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "1", "MASTER_ADDR": "one", "MASTER_PORT": "4711"},
    ],
    ids=["torchrun's variables", "srun's"],
)
def test_on_several_machines_each_has_its_share(environment: dict[str, str]) -> None:
    given = arguments(8, RUN, environment)
    assert given[:4] == ["--nproc-per-node", "4", "--max-restarts", "0"]
    told = ["--nnodes", "2", "--node-rank", "1", "--master-addr", "one", "--master-port", "4711"]
    assert given[4:12] == told
    assert node(environment) == 1


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"PET_NNODES": "3", "PET_MASTER_ADDR": "one"}, "cannot be shared out evenly over 3 machines"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "2"}, "name no machine of a run"),
        ({"PET_NNODES": "1:4"}, "name no machine of a run"),
        ({"SLURM_STEP_NUM_NODES": "2", "SLURM_NODEID": "0"}, "MASTER_ADDR does not name the first of them"),
    ],
)
def test_what_is_missing_is_said(environment: dict[str, str], what: str) -> None:
    with pytest.raises(LaunchError, match=what):
        arguments(2, RUN, environment)


@pytest.mark.parametrize(
    ("environment", "launched"),
    [({"RANK": "3", "WORLD_SIZE": "4"}, [2]), ({"RANK": "1", "TORCHELASTIC_RUN_ID": "none"}, [])],
    ids=["another launcher's", "torchrun's"],
)
def test_only_who_was_started_by_torchrun_is_one_of_the_processes_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], launched: list[int]
) -> None:
    """Variables of MPI or Slurm may stand in the environment of the queue."""
    found: list[int] = []
    run = tmp_path / "runs" / "t-0123456789"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"settings": {"train": {"devices": 2}}}))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in {STATE_VARIABLE: str(tmp_path / "state"), **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(trainer, "launch", lambda devices, *_: found.append(devices) or 0)
    for name in ("_follow", "end_with_parent", "wait_without_spinning"):
        monkeypatch.setattr(trainer, name, lambda *_: 0)
    monkeypatch.setattr(StopFlag, "install", lambda flag: None)
    assert trainer.main([str(run)]) == 0
    assert found == launched


def test_whether_a_process_would_hear_a_signal_is_seen_from_outside() -> None:
    script = "import signal; signal.signal(signal.SIGTERM, print); print('.', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert catches(process.pid, signal.SIGTERM) and not catches(process.pid, signal.SIGUSR1)
        process.kill()
    assert not catches(process.pid, signal.SIGTERM)


def ranks(parent: subprocess.Popen[bytes]) -> list[int]:
    """Pids of the processes of the run, those that hear signals, in the order in which torchrun started them."""
    import psutil

    found = [child.pid for child in psutil.Process(parent.pid).children()]
    return [pid for pid in found if catches(pid, signal.SIGTERM)]


@pytest.mark.heavy
@pytest.mark.long
def test_the_real_command_is_one_trainer_to_whoever_looks_after_it(
    two_devices: TrainingRun, finished_on_two: TrainingRun
) -> None:
    """A process that is killed, a stop, the death of the process that the queue knows: each time it goes on."""
    run = two_devices

    def reaches(step: int) -> None:
        wait_for(lambda: run.snapshot.steps.last_step >= step or process.poll() is not None)
        assert process.poll() is None, run.log

    process = run.start()
    reaches(2)
    assert run.snapshot.state.active
    assert run.snapshot.attempts[-1].process == identity_of(process.pid), "it holds the lock"
    first, second = ranks(process)
    os.kill(second, signal.SIGKILL)
    assert process.wait() == 1
    assert run.snapshot.state is Status.CRASHED
    assert identity_of(first) is None, "torchrun ended it"

    process = run.start()
    reaches(4)
    process.terminate()
    assert process.wait() == 0, run.log
    assert (run.final.outcome, run.snapshot.state) == ("stopped", Status.STOPPED)
    stopped = run.final.step

    process = run.start()
    wait_for(lambda: len(ranks(process)) == 2)
    left = ranks(process)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(identity_of, left)))
    assert run.snapshot.steps.last_step >= (stopped or 0)

    assert run.start().wait() == 0, run.log
    assert_same_result(run, finished_on_two)


@pytest.mark.heavy
@pytest.mark.long
def test_processes_on_two_machines_are_one_trainer_that_stops_on_either(
    two_devices: TrainingRun, finished_on_two: TrainingRun
) -> None:
    """Two machines are two torchruns here: each with one process, and the first with the run's lock."""
    run = two_devices

    def start() -> list[subprocess.Popen[bytes]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        told = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        return [run.start(**told, PET_NODE_RANK=rank) for rank in ("0", "1")]

    first, second = start()
    wait_for(lambda: run.snapshot.steps.last_step >= 2 or first.poll() is not None)
    second.terminate()
    assert (first.wait(), second.wait()) == (0, 0), run.log
    assert run.final.outcome == "stopped"
    assert [process.wait() for process in start()] == [0, 0], run.log
    assert_same_result(run, finished_on_two)
    assert [process.wait() for process in start()] == [0, 0], "a run that is complete is left alone"
