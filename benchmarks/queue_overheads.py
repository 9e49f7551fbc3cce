"""What the queue costs: the supervisor's memory and CPU, the pause between two runs, `queue list` beside 10,000 runs.

    .venv/bin/python -m benchmarks.queue_overheads [--part supervisor|list]… [--runs 10000] [--keep FOLDER]

Takes about 4 minutes on two quiet cores.

- *supervisor*: the real supervisor process trains real runs one after the other (the embedded model, clips and trainer;
  few steps). Its memory (largest) and CPU (mean) are read from /proc while trainers live; the pause is from the end of
  one trainer's process (pidfd) to the start of the next one's (/proc, to 10 ms), and from the trainer's last event.
- *list*: one of those runs is copied until there are 10,000, each with its own identity and decisions, and a plan is
  queued; `lora-tui queue list` is timed as a whole process, with and without --all, cold imports included.

Exit status 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kill_matrix.material import ROOT, clips
from core.queue.client import QueueClient
from core.queue.journal import JournalReader, encode
from core.queue.requests import QueueDb, Submission
from core.runs.paths import RunPaths, RunsFolder
from core.runs.store import read_run

MEMORY_LIMIT_MB = 60.0
CPU_LIMIT_PERCENT = 1.0
PAUSE_LIMIT_S = 1.0
LIST_LIMIT_S = 1.0
SEEDS = 4
REPEATS = 7
_TICKS = os.sysconf("SC_CLK_TCK")
PLAN = """
[model]
id = "{model}"
[data]
train = "train.jsonl"
replay = "replay.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
[train]
steps = 20
eval_every = 10
threads = 1
replay_share = 0.5
[queue]
until = "all"
[[experiment]]
id = "overheads"
sweep."train.seed" = [{seeds}]
"""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    values: Sequence[float]
    unit: str
    limit: float | None = None
    worst: bool = False
    """Whether the limit is held against the largest value instead of the median."""

    def line(self) -> str:
        """Median, spread, count and, where there is a limit, PASS or FAIL."""
        spread = f"[{min(self.values):.3f} … {max(self.values):.3f}] n={len(self.values)}"
        text = f"{self.name:<50} {statistics.median(self.values):9.3f} {self.unit:<3} {spread}"
        if self.limit is None:
            return text
        return f"{text}  limit {self.limit:g}: {'PASS' if self.passed else 'FAIL'}"

    @property
    def passed(self) -> bool:
        """Within the limit, if there is one."""
        judged = max(self.values) if self.worst else statistics.median(self.values)
        return self.limit is None or judged <= self.limit


def write_plan(folder: Path) -> Path:
    """A plan over a few embedded clips."""
    clips(folder)
    path = folder / "experiments.toml"
    path.write_text(PLAN.format(model=ROOT / "data" / "base_model", seeds=", ".join(map(str, range(SEEDS)))))
    return path


@dataclass
class Watched:
    """A trainer while it lives. Times are of CLOCK_BOOTTIME, in seconds."""

    run: str
    started: float
    ended: float = 0.0


def watch(client: QueueClient, supervisor: int) -> tuple[list[Watched], list[tuple[float, float, float]], float]:
    """Until the supervisor ends: the trainers; (RSS, PSS, USS) in MB, once a second; CPU in percent of a core."""
    reader, trainers = JournalReader(client.runs.decisions), list[Watched]()
    memory: list[tuple[float, float, float]] = []
    poll, open_fds = select.poll(), dict[int, Watched]()
    first: tuple[float, float] | None = None
    last, sampled = (0.0, 0.0), 0.0
    while client.supervisor_works():
        for decision in reader.read():
            if decision.kind == "start":
                pid = int(decision.process["pid"])
                trainers.append(Watched(str(decision.run), int(decision.process["start_time"]) / _TICKS))
                descriptor = os.pidfd_open(pid)
                open_fds[descriptor] = trainers[-1]
                poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(50):
            open_fds.pop(descriptor).ended = time.clock_gettime(time.CLOCK_BOOTTIME)
            poll.unregister(descriptor)
            os.close(descriptor)
        now = time.monotonic()
        if open_fds and now - sampled >= 1:
            sampled = now
            try:
                memory.append(memory_mb(supervisor))
                last = now, cpu_seconds(supervisor)
            except OSError:
                break
            first = first or last
    first = first or last
    return trainers, memory, 100 * (last[1] - first[1]) / max(last[0] - first[0], 1e-9)


def memory_mb(pid: int) -> tuple[float, float, float]:
    """(RSS, PSS, USS) of a process in MB (10^6 bytes)."""
    kib: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    return tuple(size * 1024 / 1e6 for size in (kib["Rss"], kib["Pss"], kib["Private_Clean"] + kib["Private_Dirty"]))  # type: ignore[return-value]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def owner(runs: RunsFolder) -> int:
    """Pid of the supervisor, which writes it a moment after it has the lock."""
    deadline = time.monotonic() + 10
    while not (text := runs.supervisor_lock.read_text().strip()):
        if time.monotonic() > deadline:
            raise SystemExit(f"nobody says in {runs.supervisor_lock} who holds it")
        time.sleep(0.01)
    return int(text)


def measure_supervisor(folder: Path) -> tuple[list[Figure], RunPaths]:
    """The figures, and a run that ended well."""
    plan, runs = write_plan(folder), RunsFolder(folder / "runs", folder / "state")
    client = QueueClient(runs)
    client.submit(Submission.create(plan, plan.read_text()))
    supervisor = owner(runs)
    trainers, memory, cpu = watch(client, supervisor)
    finished = [run for run in runs.runs() if run.result.exists()]
    if not finished or len(trainers) < 2:
        raise SystemExit(f"no run ended well; see {runs.supervisor_log} and log.txt in {runs.root}")
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    pauses, spoken = [], []
    for before, after in itertools.pairwise(trainers):
        said = read_run(RunPaths(runs.root / before.run)).attempts[-1].last_event
        pauses.append(after.started - before.ended)
        spoken.append(after.started - (said - boot))
    span = trainers[-1].ended - trainers[0].started
    print(f"{len(trainers)} real runs, {span:.0f} s, {len(memory)} samples")
    rss, pss, uss = zip(*memory, strict=True)
    return [
        Figure("supervisor RSS, largest counts", rss, "MB", MEMORY_LIMIT_MB, worst=True),
        Figure("supervisor PSS", pss, "MB"),
        Figure("supervisor USS", uss, "MB"),
        Figure("supervisor CPU while training", [cpu], "%", CPU_LIMIT_PERCENT, worst=True),
        Figure("end of a trainer's process → next one's start", pauses, "s", PAUSE_LIMIT_S, worst=True),
        Figure("trainer's last event → next one's start", spoken, "s", PAUSE_LIMIT_S, worst=True),
    ], finished[0]


def multiply(run: RunPaths, runs: RunsFolder, count: int) -> None:
    """`count` copies of what a finished run's folder holds beside weights and evaluations, and their decisions."""
    runs.root.mkdir(parents=True)
    identity, own = run.name.rpartition("-")[2], JournalReader(run.root.parent / "decisions.jsonl")
    lines = [encode(record).decode().rstrip() for record in own.read() if getattr(record, "run", None) == run.name]
    files = {path.name: path.read_text() for path in (run.config, run.events, run.result, run.log)}
    with runs.decisions.open("w") as decisions:
        for number in range(count):
            other = f"{number:010x}"
            copy = RunPaths(runs.root / run.name.replace(identity, other))
            copy.root.mkdir()
            for name, text in files.items():
                (copy.root / name).write_text(text.replace(identity, other))
            decisions.writelines(
                f"{line.replace(identity, other).replace('overheads#', f'old{number}#')}\n" for line in lines
            )


def timed(command: Sequence[str]) -> Iterator[float]:
    """Wall seconds of the whole process."""
    for _ in range(REPEATS):
        before = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        yield time.perf_counter() - before


def measure_list(folder: Path, run: RunPaths, count: int) -> list[Figure]:
    """`lora-tui queue list` beside `count` finished runs."""
    runs = RunsFolder(folder / "many", folder / "state")
    multiply(run, runs, count)
    plan = folder / "experiments.toml"
    QueueDb(runs.queue_db).submit(Submission.create(plan, plan.read_text()))
    command = [str(Path(sys.executable).with_name("lora-tui")), "queue", "list"]
    command += ["--runs", str(runs.root), "--state", str(runs.state)]
    first = next(timed([*command, "--all"]))
    shown = subprocess.run([*command, "--all"], check=True, capture_output=True, text=True).stdout
    if shown.count(" done ") < count:
        raise SystemExit(f"`queue list --all` shows {shown.count(' done ')} finished runs instead of {count}")
    return [
        Figure(f"queue list, {count} finished runs in the folder", list(timed(command)), "s", LIST_LIMIT_S),
        Figure("queue list --all, the first time", [first], "s"),
        Figure("queue list --all", list(timed([*command, "--all"])), "s", LIST_LIMIT_S),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a limit is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.queue_overheads", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--part", action="append", choices=("supervisor", "list"), help="default: both")
    parser.add_argument("--runs", type=int, default=10_000, help="finished runs in the folder; default: %(default)s")
    parser.add_argument("--run", type=Path, help="for --part list: a finished run to copy, instead of training one")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    arguments = parser.parse_args(argv)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="queue-overheads-"))
    folder.mkdir(parents=True, exist_ok=True)
    parts = arguments.part or ["supervisor", "list"]
    figures: list[Figure] = []
    try:
        run = None if arguments.run is None else RunPaths(arguments.run.absolute())
        if "supervisor" in parts or run is None:
            found, run = measure_supervisor(folder)
            figures += found
        elif not (folder / "experiments.toml").exists():
            write_plan(folder)
        if "list" in parts:
            figures += measure_list(folder, run, arguments.runs)
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    for figure in figures:
        print(figure.line())
    return 0 if all(figure.passed for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
