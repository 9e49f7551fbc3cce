"""Contestants that take turns, each in a process of its own, and what their times come to.

A contestant is a script that loads what it needs and then calls `serve(work)`: for each line on its stdin it does the
work once and answers with a line of JSON, its times and what came of it. So imports and loading are not counted, other
load on the machine meets all contestants alike, and two versions of this project can be compared: each with a checkout
of its own in PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Turn:
    """The work done once."""

    cpu_s: float
    """Processor time of all threads of the process, user and system."""
    wall_s: float
    peak_bytes: int
    """The largest size that the process has had so far, imports included."""
    outcome: Any
    """What came of the work, such as transcripts: JSON."""


def serve(work: Callable[[], Any]) -> None:
    """A contestant's main loop: do the work for each line on stdin. What the work prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write("ready\n")
    answers.flush()
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        outcome = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answers.write(json.dumps(asdict(Turn(cpu, wall, peak, outcome))) + "\n")
        answers.flush()


class Contestant:
    """A process that serves. RuntimeError when it ends before its answer."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name, self.command = name, list(command)
        self.environment = os.environ | THREADS | dict(environment or {})

    def __enter__(self) -> Self:
        """Start it, and wait until it has loaded."""
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment, text=True
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        """End it: it has no more lines to read."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def turn(self) -> Turn:
        """Have the work done once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Turn(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}; its message is above")
        return line


THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
"""One thread, unless the environment that a contestant is given says otherwise."""


def in_turns(contestants: Iterable[Contestant], rounds: int, warm: int = 1) -> dict[str, list[Turn]]:
    """The turns of each contestant. All do the work once, then all a second time, …; `warm` rounds are not counted.

    Every other round goes backwards, so that nobody always comes after the same one.
    """
    with ExitStack() as stack:
        started = [stack.enter_context(one) for one in contestants]
        turns: dict[str, list[Turn]] = {one.name: [] for one in started}
        for number in range(warm + rounds):
            for one in started if number % 2 == 0 else reversed(started):
                turn = one.turn()
                if number >= warm:
                    turns[one.name].append(turn)
    return turns


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some values, and the least and the largest."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        """As docs have it: `1.47 (1.03–1.61)`."""
        return f"{self.median:.2f} ({self.least:.2f}–{self.most:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(median(values), min(values), max(values))


def times_as_fast(ours: Sequence[Turn], theirs: Sequence[Turn], *, by: str = "cpu_s") -> Spread:
    """How many times as fast we are as they: the ratio of medians, and the range of the ratios of the pairs."""
    pairs = [getattr(they, by) / getattr(we, by) for we, they in zip(ours, theirs, strict=True)]
    medians = median(getattr(they, by) for they in theirs) / median(getattr(we, by) for we in ours)
    return Spread(medians, min(pairs), max(pairs))


def differing(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many transcripts are not the same, word for word, whatever spaces are between the words."""
    return sum(one.split() != other.split() for one, other in zip(ours, theirs, strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; columns after the first are figures and stand at the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def machine() -> dict[str, Any]:
    """What the figures were taken on, the load beside them, and matrix rates on one thread: torch's, and our own."""
    import torch
    import transformers

    from core.training.products import product

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "matrix_gflops": round(matrix_rate() / 1e9, 1),
        "product_gflops": round(matrix_rate(product) / 1e9, 1),
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def matrix_rate(multiply: Callable[[Any, Any], Any] | None = None, size: int = 1024, rounds: int = 9) -> float:
    """Floating-point operations of a second of CPU time that products of large fp32 matrices reach on one thread.

    `multiply`: by what they are computed; default: torch's own.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one, other = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(rounds + 1):
        started = time.process_time()
        (multiply or torch.mm)(one, other)
        times.append(time.process_time() - started)
    torch.set_num_threads(before)
    return 2.0 * size**3 / median(times[1:])


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Keep the figures, with the machine that they were taken on."""
    path.write_text(json.dumps({"machine": machine(), **figures}, indent=1, ensure_ascii=False) + "\n")
