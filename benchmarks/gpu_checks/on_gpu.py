"""The checks that only a GPU can show: slots by NVML, and memory that runs out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu_checks.scene import RUN_S, Scene
from benchmarks.gpu_checks.table import Table
from benchmarks.kill_matrix.material import ROOT
from benchmarks.kill_matrix.world import Failed, World
from core.queue.executor import child_environment
from core.queue.gpu.choice import GIB, Gpu
from core.runs.store import read_run

STEP_BYTES = 6 * GIB
"""What a step that will not fit takes: so much that a CUDA context and fragments hardly matter beside it."""
_FREE_APART = 2 * GIB
"""Of NVML's and CUDA's free memory: contexts come and go."""
_LIMIT_S = 20.0


@contextmanager
def _filled(world: World, leave: int) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Another process holds the GPU's memory but `leave` bytes; what it saw."""
    command = [sys.executable, "-m", "benchmarks.gpu_checks.filler", str(leave)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=world.environment, cwd=ROOT
    ) as filler:
        try:
            line = filler.stdout.readline() if filler.stdout else b""
            if not line:
                raise Failed("the process that was to fill the GPU died")
            yield filler, json.loads(line)
        finally:
            filler.kill()


def slots(scene: Scene, gpu: Gpu, table: Table) -> None:
    """NVML against CUDA; a run that waits while somebody else fills the GPU, and starts on it afterwards."""
    world, total, free = scene.world, gpu.total or 0, gpu.free or 0
    with _filled(world, total // 2) as (filler, seen):
        same = seen["uuid"] == gpu.uuid and abs(seen["free"] - free) < _FREE_APART
        text = f"NVML: {gpu.uuid}, {free / GIB:.1f} GiB free; CUDA: {seen['uuid']}, {seen['free'] / GIB:.1f} GiB"
        table.add("d. NVML and CUDA mean the same GPU", text, "the same UUID, free within 2 GiB", same)
        scene.start("--detach")
        row = world.until("a row that waits", lambda: _waiting(world), 60, 0.5)
        told = "free, a run needs" in row["reason"] and world.trainer() is None
        table.add("d. filled by another process", f"{row['state']}: {row['reason']}", "waits, with the reason", told)
        filler.kill()
        filler.wait()
        left = time.monotonic()
        pid = world.until("a trainer", world.trainer, 60, 0.05)
        took = time.monotonic() - left
    table.add("d. starts when the other leaves", f"{took:.1f} s after its end", f"{_LIMIT_S:.0f} s", took <= _LIMIT_S)
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    given = next((v.decode() for v in variables if v.startswith(b"CUDA_VISIBLE_DEVICES=")), "no CUDA_VISIBLE_DEVICES")
    world.until("an attempt", lambda: _attempts(world), RUN_S, 0.2)
    device = read_run(world.the_run()).attempts[-1].device
    right = given == f"CUDA_VISIBLE_DEVICES={gpu.uuid}" and device.startswith("cuda")
    table.add("d. the trainer's GPU", f"{given}, trains on {device}", "the UUID by NVML", right)
    world.queue("kill", "--all", "--yes")


def _waiting(world: World) -> dict[str, Any] | None:
    try:
        row = world.listed()
    except Failed:
        return None  # it is not submitted yet
    return row if row["state"] == "waiting" else None


def _attempts(world: World) -> bool:
    run = world.run()
    return run is not None and bool(read_run(run).attempts)


def appetite(environment: dict[str, str], model: Path) -> dict[str, int]:
    """What `appetite.py` says of this GPU. `environment`: what differs from this process's."""
    command = [sys.executable, "-m", "benchmarks.gpu_checks.appetite", str(model), str(STEP_BYTES)]
    variables = child_environment(environment)
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=ROOT, check=False)
    if done.returncode:
        raise Failed(f"the memory of a step could not be measured: {done.stderr.strip()[-400:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory(scene: Scene, needs: dict[str, int], table: Table) -> None:
    """A batch that does not fit: its own state, not tried again; with the halving rule the same step in halves."""
    world, leave = scene.world, needs["context"] + (needs["peak"] + needs["half"]) // 2
    with _filled(world, leave):
        scene.start()
        world.faces[-1].wait(RUN_S)
        first = world.the_run()
        state, said = world.listed()["state"], read_run(first).final
        text = f"{needs['seconds']} s of audio in {leave / GIB:.1f} GiB: {state}: {said.message if said else ''}"
        table.add("e. a batch that does not fit", text, "out of memory", state == "out_of_memory")
        starts = len(world.starts())
        table.add("e. not tried again unchanged", f"{starts} start", "1", starts == 1)
        scene.start("--set", 'queue.on_out_of_memory="halve"')
        world.faces[-1].wait(RUN_S)
    runs = [read_run(run) for run in world.runs.runs()]
    done = [run for run in runs if run.result is not None]
    if not done or len(world.starts()) != len(runs):
        text = "; ".join(f"accumulation {_accumulation(run)}: {run.state.value}" for run in runs)
        table.add("e. the halving rule", f"{text}; {len(world.starts())} starts", "goes on with half the batch", False)
        return
    again = done[-1]
    audio = float(again.steps.audio_s.mean())
    same = abs(audio / needs["seconds"] - 1) < 0.1 and _accumulation(again) > 1
    text = f"done with accumulation {_accumulation(again)}, {audio:.0f} s of audio a step"
    table.add("e. the halving rule", text, f"the same step: {needs['seconds']} s, 10 %", same)


def _accumulation(run: Any) -> int:
    return int(run.settings.get("train", {}).get("accumulation", 0))
