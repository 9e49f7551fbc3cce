"""lora-tui beside W&B LEET and terminalboard: the same recorded loss of a million steps.

About four minutes for lora-tui and terminalboard. A viewer that does not come to rest in ten minutes (LEET, so far)
has a row that says so: leave it out with `--only`, or take `--steps 100000`.

    python -m benchmarks.dashboard.compare_viewers [--leet PYTHON] [--terminalboard PYTHON] [--steps 1000000]
        [--rounds 3] [--recordings FOLDER] [--screens FOLDER] [--only NAME]

PYTHON is that of a virtual environment with `wandb` (LEET is a part of it), or with `terminalboard` and `tensorboardX`;
a viewer without one is left out. Recordings are made once, by each viewer's own library from the same events file,
and kept in FOLDER (some minutes). Each viewer is given the first million steps as a file that still grows, alone in
a pty of 160 × 50, and its screen is read by a terminal emulator: the times are those of what stands on it.

- first paint: from the start of the process until 40 characters stand on the screen;
- load: until the curve (its braille cells) stands as it stays; and the processor seconds spent by then;
- refresh: from 1 % more steps at the end of the file until the curve is another one. All viewers look at their
  file in intervals of their own; terminalboard's shortest that keeps the keys alive (`--interval 0.5`) is taken;
- memory: resident, of all its processes, with the million on screen, and the most that each of them ever had;
- spike: whether one step at 25, among losses below 3, is on the axis, or marked and counted beyond it (`↑1`): what a
  viewer that takes samples loses.

lora-tui's file holds six numbers a step, the others' one. LEET is opened on its run, as `wandb leet RUN` does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from benchmarks.dashboard.material import long_run
from benchmarks.dashboard.terminal import Terminal
from core.system.process import current_process

SIZE = (160, 50)
BATCHES = 5
"""Of 1 % of the steps each, written one after the other once all is on the screen."""
_REST_S, _STANDS_S, _LONGEST_S = 5.0, 20.0, 300.0
_BUSY = 0.3
"""Share of a core above which a viewer still works on something."""
_WRITER = Path(__file__).with_name("viewer_recordings.py")
_NUMBER = re.compile(r"(?<![\d.])(2[0-9])(?:\.\d+)?(?=\s*[│┤|├┼])")
_SPIKE = 25
# What a terminal answers to: its background colour, where the cursor is, what it is.
_ANSWERS = {b"\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x1b\\", b"\x1b[6n": b"\x1b[1;1R", b"\x1b[c": b"\x1b[?62;22c"}


@dataclass(frozen=True, slots=True)
class Viewer:
    """How one is opened on `grows`, the file that its recording is copied to step by step."""

    name: str
    recording: Path
    grows: Callable[[Path], Path]
    command: Callable[[Path], Sequence[str]]
    fresh: bool = True
    """Whether what it kept of an earlier opening is thrown away."""


@dataclass(slots=True)
class Seen:
    """All rounds of one viewer."""

    paint: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    refresh: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)
    spike: bool = False
    problem: str = ""


class Watched(Terminal):
    """A terminal whose screen is read: when its curve was another one for the last time."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.screen = pyte.Screen(*SIZE)
        self._stream = pyte.ByteStream(self.screen)
        self._read_chunks = 0
        self._curve = ""
        self._answered = 0
        self.painted: float | None = None
        self.changed: list[float] = []
        """Seconds since the start at which the curve became another one."""
        super().__init__(command, size=SIZE, cwd=cwd, env=env)

    def look(self) -> None:
        """Read what came, chunk by chunk."""
        for when, chunk in self.chunks[self._read_chunks :]:
            self._read_chunks += 1
            for question, answer in _ANSWERS.items():
                if question in chunk:
                    self.type(answer)
            # pyte takes a private mark for an argument that it does not know.
            self._stream.feed(re.sub(rb"\x1b\[[<=>?][0-9;:]*[a-zA-Z]|\x1b\[[0-9;]*\$[a-z]", b"", chunk))
            lines = self.screen.display
            if self.painted is None and sum(not c.isspace() for line in lines for c in line) >= 40:
                self.painted = when
            curve = "\n".join("".join(c if "\u2801" <= c <= "\u28ff" else " " for c in line) for line in lines)
            if curve != self._curve:
                self._curve = curve
                self.changed.append(when)

    def close(self) -> int:
        """End its processes too: they need not notice that their parent has gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        code = super().close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return code

    @property
    def has_curve(self) -> bool:
        """More braille than a spinner has."""
        return sum(c not in (" ", "\n") for c in self._curve) >= 20

    def settle(self) -> float | None:
        """Seconds from the start to the curve's last change, before a rest in which nothing more is worked on.

        Where a viewer never rests, a curve that has stood for `_STANDS_S` is taken. The screen is read in the rests:
        an emulator that is slower than a viewer's frames would hold it up.
        """
        began = time.monotonic()
        while time.monotonic() - began < _LONGEST_S and self.process.poll() is None:
            before, moment = tree_cpu_s(self.process.pid), time.monotonic()
            time.sleep(_REST_S)
            busy = (tree_cpu_s(self.process.pid) - before) / (time.monotonic() - moment)
            if busy >= _BUSY and time.monotonic() - began < _STANDS_S:
                continue
            self.look()
            stood = time.monotonic() - self.started - self.changed[-1] if self.changed else 0.0
            if self.has_curve and stood >= (_STANDS_S if busy >= _BUSY else _REST_S):
                return self.changed[-1]
        self.look()
        return None

    def next_change(self, seconds: float) -> float | None:
        """Seconds until the curve is another one."""
        began, changes = time.monotonic() - self.started, len(self.changed)
        while time.monotonic() - self.started - began < seconds:
            time.sleep(0.01)
            self.look()
            if len(self.changed) > changes:
                return self.changed[changes] - began
        return None


def tree(pid: int) -> list[int]:
    """The process and all that it started."""
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*/children"):
            try:
                left += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def tree_cpu_s(pid: int) -> float:
    """Processor seconds of the process and all that it started, those that ended included."""
    total = 0
    for one in tree(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def tree_mib(pid: int, what: str) -> float:
    """VmRSS or VmHWM of the process and all that it started."""
    total = 0
    for one in tree(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
    return total / 1024


def measure(viewer: Viewer, steps: int, seen: Seen, screens: Path | None) -> None:
    """One opening, with the appended steps."""
    share = [(steps + i * (steps // 100)) / _total(steps) for i in range(BATCHES + 1)]
    size = viewer.recording.stat().st_size
    cuts = [int(size * part) for part in share]
    with tempfile.TemporaryDirectory() as name, viewer.recording.open("rb") as source:
        folder = Path(name)
        home = folder / "home"
        home.mkdir()
        grows = viewer.grows(folder)
        grows.parent.mkdir(parents=True, exist_ok=True)
        with grows.open("wb") as target:
            target.write(_first_line(source.readline()) if viewer.name.startswith("lora") else b"")
            _copy(source, target, cuts[0])
        env = {"HOME": str(home), "COLORTERM": "truecolor", "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        command = viewer.command(folder)
        if not viewer.fresh:
            with Watched(command, folder, env) as terminal:
                if terminal.settle() is None:
                    seen.problem = "the first opening never came to rest"
                    return
                time.sleep(10.0)  # it keeps what it read, when there is time
        with Watched(command, folder, env) as terminal:
            loaded = terminal.settle()
            if screens is not None:
                screens.mkdir(parents=True, exist_ok=True)
                shown = "\n".join(line.rstrip() for line in terminal.screen.display)
                (screens / f"{viewer.name.replace(' ', '-')}.txt").write_text(shown + "\n")
            if loaded is None or terminal.painted is None:
                ended = terminal.process.poll()
                last = terminal.changed[-1] if terminal.changed else 0.0
                said = f"the curve still changed, or its processes worked, after {_LONGEST_S:.0f} s"
                said = "it ended" if ended is not None else f"{said}; its last change was after {last:.0f} s"
                seen.problem = f"{said}; the screen: {' '.join(' '.join(terminal.screen.display).split())[:200]}"
                return
            seen.paint.append(terminal.painted)
            seen.load.append(loaded)
            seen.processor.append(tree_cpu_s(terminal.process.pid))
            seen.memory.append(tree_mib(terminal.process.pid, "VmRSS"))
            shown = terminal.screen.display
            on_axis = any(_SPIKE <= float(found) + 1 <= 31 for found in _axis_numbers(shown))
            seen.spike = on_axis or any("↑1" in line for line in shown)
            with grows.open("ab") as target:
                for cut in cuts[1:]:
                    _copy(source, target, cut)
                    target.flush()
                    took = terminal.next_change(60.0)
                    if took is None:
                        seen.problem = "the curve did not change within 60 s of more steps"
                        break
                    seen.refresh.append(took)
                    terminal.settle()
            seen.peak.append(tree_mib(terminal.process.pid, "VmHWM"))


def _total(steps: int) -> int:
    return steps + BATCHES * (steps // 100)


def _axis_numbers(lines: Sequence[str]) -> list[str]:
    return [found for line in lines for found in _NUMBER.findall(line)]


def _first_line(line: bytes) -> bytes:
    """The trainer is this process: the run goes on."""
    event = json.loads(line)
    return json.dumps(event | {"process": current_process().to_json()}).encode() + b"\n"


def _copy(source: object, target: object, end: int) -> None:
    """Up to this byte of the source."""
    while (left := end - source.tell()) > 0:  # type: ignore[attr-defined]
        target.write(source.read(min(left, 1 << 22)))  # type: ignore[attr-defined]


def recordings(folder: Path, steps: int, leet: str | None, terminalboard: str | None) -> list[Viewer]:
    """What is not there yet is made."""
    total = _total(steps)
    ours = folder / f"{total}-lora-tui"
    if not ours.exists():
        shutil.rmtree(folder / "making", ignore_errors=True)
        long_run(folder / "making", total, ended=False)
        (folder / "making").rename(ours)
    (run,) = ours.iterdir()

    def grows(into: Path) -> Path:
        shutil.copytree(run, into / "runs" / run.name, ignore=lambda _, names: [n for n in names if "events" in n])
        return into / "runs" / run.name / "events.jsonl"

    board = [sys.executable, "-m", "lora_tui"]
    events = run / "events.jsonl"
    viewers = [
        Viewer("lora-tui, first opening", events, grows, lambda _: board),
        Viewer("lora-tui, opened before", events, grows, lambda _: board, fresh=False),
    ]
    if leet is not None:
        (found,) = _made(folder / f"{total}-wandb", leet, "wandb", events).rglob("run-*.wandb")
        where = Path("wandb") / found.parent.name / found.name
        viewers.append(
            Viewer("W&B LEET", found, lambda into: into / where,
                   lambda into: [leet, "-m", "wandb", "leet", "run", str((into / where).parent)])
        )  # fmt: skip
    if terminalboard is not None:
        (found_,) = _made(folder / f"{total}-tensorboard", terminalboard, "tensorboard", events).rglob("events.out*")
        tool = str(Path(terminalboard).with_name("terminalboard"))
        viewers.append(
            Viewer("terminalboard", found_, lambda into: into / "logs" / found_.name,
                   lambda into: [tool, "--interval", "0.5", "--smooth", "0", str(into / "logs")])
        )  # fmt: skip
    return viewers


def _made(folder: Path, python: str, kind: str, events: Path) -> Path:
    if not folder.exists():
        making = folder.with_name(f"{folder.name}-making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        print(f"writing {folder.name} with {kind} …", flush=True)
        subprocess.run([python, str(_WRITER), kind, str(events), str(making)], check=True)
        making.rename(folder)
    return folder


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leet", metavar="PYTHON")
    parser.add_argument("--terminalboard", metavar="PYTHON")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recordings", type=Path, default=Path(tempfile.gettempdir()) / "lora-tui-viewers")
    parser.add_argument("--screens", type=Path, help="where each viewer's screen is written, to be looked at")
    parser.add_argument("--only", help="names that hold this")
    args = parser.parse_args()
    viewers = recordings(args.recordings, args.steps, args.leet, args.terminalboard)
    machine = f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    print(f"{args.steps} logged steps, a pty of {SIZE[0]} × {SIZE[1]}, {args.rounds} rounds, medians (min to max)")
    print(machine)
    head = f"{'':24} {'first paint, s':>18} {'load, s':>20} {'processor, s':>13} {'refresh, s':>20}"
    print(f"{head} {'MiB':>6} {'most':>6}  spike")
    for viewer in viewers:
        if args.only and args.only not in viewer.name:
            continue
        seen = Seen()
        for _ in range(args.rounds):
            measure(viewer, args.steps, seen, args.screens)
        columns = [_spread(seen.paint, 18), _spread(seen.load, 20), _middle(seen.processor, 13, 1)]
        columns += [_spread(seen.refresh, 20), _middle(seen.memory, 6, 0), _middle(seen.peak, 6, 0)]
        print(f"{viewer.name:24} {' '.join(columns)}  {'kept' if seen.spike else 'not seen'}", flush=True)
        if seen.problem:
            print(f"{'':24} {seen.problem}", flush=True)
    return 0


def _spread(values: Sequence[float], width: int) -> str:
    if not values:
        return f"{'not measured':>{width}}"
    return f"{f'{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})':>{width}}"


def _middle(values: Sequence[float], width: int, digits: int) -> str:
    return f"{statistics.median(values):{width}.{digits}f}" if values else f"{'?':>{width}}"


if __name__ == "__main__":
    sys.exit(main())
