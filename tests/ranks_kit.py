"""Processes of a run on several devices, forked with their imports done, and found by each other as under torchrun."""

from __future__ import annotations

import os
import pickle
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked_trainer import run_and_end, use_warm_lora_cli
from training_kit import TrainingRun

ONE_MACHINE = {
    "MASTER_ADDR": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RUN_ID": "of the test",
}
"""What torchrun and `core.training.launch` tell the processes of one machine."""


def forked(size: int, log: Path, work: Callable[[int], Any]) -> dict[int, int]:
    """rank → wait status of processes that do `work(rank)`; as under torchrun, one that fails ends the others."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
    pids: dict[int, int] = {}
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": store.port}
            os.environ.update(ONE_MACHINE | {name: str(number) for name, number in numbers.items()})
            run_and_end(log, lambda rank=rank: work(rank))  # type: ignore[misc]
        pids[pid] = rank
    statuses: dict[int, int] = {}
    living = {os.pidfd_open(pid): pid for pid in pids}
    while living:
        for descriptor in select.select(list(living), [], [])[0]:
            _, status = os.waitpid(pid := living.pop(descriptor), 0)
            os.close(descriptor)
            statuses[pids[pid]] = status
            for other in living.values() if status else ():
                os.kill(other, signal.SIGTERM)
    return statuses


def on_ranks(size: int, folder: Path, work: Callable[[Any], Any]) -> list[Any]:
    """What `work(ranks)` gives in each of `size` joined processes, or the exception that it raises."""

    def answer(rank: int) -> int:
        from core.training.distributed import Ranks
        from core.training.stopping import StopFlag

        ranks = Ranks.of_environment(os.environ, StopFlag())
        ranks.join()
        try:
            made = work(ranks)
        except Exception as error:  # the test asserts on it
            made = error
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(made))
        ranks.agree("that all are done", "")  # nobody ends while another one needs it
        return 0

    statuses = forked(size, folder / "log.txt", answer)
    assert set(statuses.values()) == {0}, (folder / "log.txt").read_text()
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]  # noqa: S301 - our own


def train_on(size: int, run: TrainingRun, prepare: Callable[[int], None] = lambda rank: None) -> dict[int, int]:
    """rank → wait status of an attempt at the run. `prepare(rank)` runs in each process before it begins."""
    import torch

    from core.training.evaluation import normalisation_fingerprint

    torch.set_num_threads(1)
    data = run.config["settings"]["data"]
    normalisation_fingerprint(data["target_rms"], data["normaliser"])

    def attempt(rank: int) -> int:
        from core.training.__main__ import main

        use_warm_lora_cli()
        prepare(rank)
        return main([str(run.paths.root)])

    return forked(size, run.paths.log, attempt)


def assert_same_result(run: TrainingRun, other: TrainingRun) -> None:
    """Adapters, evaluations and links are the same bytes, and so is what the steps came to."""
    ours, theirs = run.result(), other.result()
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    for name in ("loss", "grad_norm", "intervals", "adapters"):
        assert run.history()[name] == other.history()[name], name
