"""Nights in which people ask for anything and anything dies, at random: real processes with FakeTrainers.

A night is repeated by its seed. NIGHTS in the environment: how many more than the few that are always seen.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.queue.journal import records
from core.queue.rows import queue_rows
from core.runs.status import Status
from core.runs.store import read_run
from core.system.locks import is_held
from core.system.process import session_of
from lora_tui import queue_command
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want

SUPERVISOR = Path(__file__).parents[1] / "core" / "queue" / "fake_supervisor.py"
ROWS = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n[[experiment]]\nid = "c"\nafter = ["a"]\n'
PLANS = {
    "first": ROWS + "train.seed = 2\n",
    "edited": ROWS + 'title = "edited"\ntrain.seed = 2\n',
    "other": ROWS.replace('"a"', '"x"') + "train.seed = 3\n",
}
"""`first` and `edited` have all runs in common, `other` the first two, of which one has another name there."""
QUEUE = 'until = "all"\nretries = 30\npause_after = 0'
"""More retries than a night has kills: on a slow machine all of them may hit one run."""
STEPS = list(range(1, 21))
ALLOWED = (0, 4, 5)
"""Exit codes of commands: done, not possible as things are, nothing of that name."""
NIGHTS = int(os.environ.get("NIGHTS", "0"))


class Faces:
    """What each of them says of the rows of the plans, at one moment."""

    def __init__(self, folder: PlanFolder) -> None:
        self._folder = folder
        plans = {name: PlanRows(folder.root / f"{name}.toml", folder.runs) for name in PLANS}
        self._boards = {name: FolderSource(folder.runs, rows) for name, rows in plans.items()}

    def disagreement(self, name: str) -> str:
        """What two of them say differently of the rows of a plan; empty: nothing.

        A trainer that was killed may take a moment to die: then they are looked at again.
        """
        plan = str(self._folder.root / f"{name}.toml")
        while True:
            before = self._status(plan)
            wrong = self._differing(name, plan, before)
            if not wrong or self._status(plan) == before:
                return wrong

    def _status(self, plan: str) -> dict[str, tuple[str, str]]:
        return {row["key"]: (row["state"], row["reason"]) for row in self._rows("status", plan, "--json")}

    def _differing(self, name: str, plan: str, status: dict[str, tuple[str, str]]) -> str:
        gate = self._rows("--headless", "--gate", "--no-train", plan, "--json")
        wrong = [f"gate: {one}" for one in gate if one["status"] != status[one["experiment"]][0]]
        for one in self._rows("queue", "list", "--json"):
            mine = one["plan"] == plan and one["row"] in status
            if mine and self._is_alone(plan) and (one["state"], one["reason"]) != status[one["row"]]:
                wrong.append(f"queue list: {one}")
        other: list[str] = []

        def agrees() -> bool:
            board = self._boards[name].read(Want())
            rows = [row for row in board.rows if row.planned]
            other[:] = [f"board: {row}" for row in rows if (row.status.value, row.reason) != status[row.key]]
            return bool(rows) and not board.loading and not other

        with contextlib.suppress(AssertionError):
            # It looks again every two seconds at what it is unsure of.
            wait_for(agrees, deadline_s=20.0)
        wrong += other
        return "\n".join([*wrong, f"status: {status}"]) if wrong else ""

    def _is_alone(self, plan: str) -> bool:
        """Whether no two open submissions are of this plan: each of them may tell another story of a row."""
        return sum(submission.plan_path == plan for submission in self._folder.db.open_submissions()) == 1

    def _rows(self, *command: str) -> list[dict[str, Any]]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main([*command, "--runs", str(self._folder.runs.root), "--state", str(self._folder.runs.state)])
        return list(json.loads(out.getvalue())["rows"])


class Night:
    def __init__(self, folder: PlanFolder, seed: int, slots: int) -> None:
        self.folder, self.luck, self.told = folder, random.Random(seed), [f"night {seed}"]
        self.eyes, self.faces = random.Random(seed), Faces(folder)
        self.slots = slots
        """As many trainers may live at a time, each on a GPU of its own where there are several."""
        self.beside: set[str] = set()
        """What was seen that must not be: more trainers than slots, two on one GPU or run."""
        folder.write()
        for name, rows in PLANS.items():
            text = folder.plan.read_text().replace('[[experiment]]\nid = "a"\n', rows)
            (folder.root / f"{name}.toml").write_text(text.replace("[queue]\n", f"[queue]\n{QUEUE}\n"))
        folder.script(**{key: ["paced"] for key in "abcx"})
        self._over = threading.Event()
        self._census = threading.Thread(target=self._count, daemon=True)
        self._census.start()

    def queue(self, *arguments: str) -> None:
        """A command as a person gives it."""
        self.told.append(" ".join(arguments))
        runs = ["--runs", str(self.folder.runs.root), "--state", str(self.folder.runs.state)]
        code = main(["queue", *arguments, *runs])
        assert code in ALLOWED, self.log(f"exit code {code}")

    def log(self, what: str) -> str:
        """For whoever reads of a failure."""
        decisions = self.folder.runs.decisions
        return f"{what}\n{'; '.join(self.told)}\n{decisions.read_text() if decisions.exists() else ''}"

    def trainers(self) -> list[tuple[int, str]]:
        """(pid, run) of those that live: each leads its session."""
        return [(pid, name) for pid, name in self.processes("fake_trainer.py") if session_of(pid) == pid]

    def processes(self, *scripts: str) -> list[tuple[int, str]]:
        """(pid, run or runs folder) of those of this night that live."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if len(words) < 3 or str(self.folder.root) not in words[2].decode():
                continue
            if Path(words[1].decode()).name in scripts:
                found.append((int(entry.name), Path(words[2].decode()).name))
        return found

    def something(self) -> None:
        """Any of what people do and what happens."""
        luck = self.luck
        submissions = [submission.id for submission in self.folder.db.open_submissions()]
        names = [*"abcx", *submissions, *(run.name for run in self.folder.runs.runs()), "--all"]
        deed = luck.choice(["add", "add", "wish", "wish", "wish", "move", "kill", "kill", "supervisor", "nothing"])
        if deed == "add":
            only = ["--only", luck.choice("bc")] if luck.random() < 0.2 else []
            self.queue("add", str(self.folder.root / f"{luck.choice(list(PLANS))}.toml"), *only)
        elif deed == "wish":
            wish = luck.choice(["stop", "kill", "hold", "release", "release", "retry", "remove"])
            sure = ["--yes"] if wish in ("kill", "remove") else []
            self.queue(wish, luck.choice(names), *sure)
        elif deed == "move":
            self.queue("move", luck.choice([*"abcx", *submissions]), luck.choice(["--first", "--last"]))
        elif deed == "kill" and (alive := self.trainers()):
            self.send(alive[0][0], luck.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        elif deed == "supervisor" and is_held(self.folder.runs.supervisor_lock):
            pid = int(self.folder.runs.supervisor_lock.read_text() or 0)
            self.send(pid, luck.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        time.sleep(luck.choice([0.0, 0.02, 0.1, 0.4]))  # noqa: TID251 - something is to happen in between

    def compare_faces(self) -> None:
        """While nothing moves: every process of the queue is stopped for as long as the faces are looked at."""
        stopped: set[int] = set()
        with contextlib.closing(sqlite3.connect(self.folder.runs.queue_db, timeout=600, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")  # none of them is in the middle of reading or writing, and keeps it locked
            while fresh := {pid for pid, _ in self.processes("fake_supervisor.py", "fake_trainer.py")} - stopped:
                self._signal(fresh, signal.SIGSTOP)  # the supervisor may have started a trainer just before
                stopped |= fresh
        try:
            wrong = self.faces.disagreement(self.eyes.choice(list(PLANS)))
            assert not wrong, self.log(f"two faces disagree: {wrong}")
        finally:
            self._signal(stopped, signal.SIGCONT)

    def _signal(self, pids: Iterable[int], number: signal.Signals) -> None:
        for pid in filter(None, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def send(self, pid: int, number: signal.Signals) -> None:
        self.told.append(f"{number.name} {pid}")
        try:
            if pid:
                os.kill(pid, number)
        except ProcessLookupError:
            return

    def morning(self) -> None:
        """Somebody asks for all of it once more, and again for what was still at its end then, and lets it work."""
        for name in PLANS:
            self.queue("add", str(self.folder.root / f"{name}.toml"))

        def over() -> bool:
            if self.folder.db.open_submissions() and not self.trainers():
                self.queue("retry", "--all")
            return not self.folder.db.open_submissions()

        wait_for(over, every_s=0.7)
        wait_for(lambda: not is_held(self.folder.runs.supervisor_lock) and not self.trainers())

    def check(self) -> None:
        """Nothing lost, nothing twice."""
        assert not self.beside, self.log(f"at the same time: {self.beside}")
        assert not self.folder.db.open_submissions() and not queue_rows(self.folder.runs).rows, self.log("still open")
        assert len(self.folder.runs.runs()) == 4
        for run in self.folder.runs.runs():
            snapshot = read_run(run)
            assert snapshot.state is Status.DONE, self.log(f"{run.name} {snapshot.state}")
            assert snapshot.steps.step.tolist() == STEPS and [i.step for i in snapshot.intervals] == [0, 5, 10, 15, 20]
        alive: Counter[str] = Counter()
        for decision in records(self.folder.runs.decisions):
            run = getattr(decision, "run", "")
            if decision.kind == "start":
                assert not alive[run], self.log(f"{run} was started beside itself")
                alive[run] = 1
            elif decision.kind == "exit":
                assert alive.pop(run, 0), self.log(f"{run} ended twice")
            elif decision.kind == "adopt":
                alive[run] = 1
        assert not +alive, self.log(f"no end of {alive} was told")

    def _count(self) -> None:
        while not self._over.wait(0.02):
            alive = self.trainers()
            if len(alive) < 2:
                continue
            # A child that a trainer has forked has its command line until it calls exec: they are looked at twice.
            again = sorted(set(alive) & set(self.trainers()))
            gpus = {gpu_of(pid) for pid, _ in again}
            if len(again) > self.slots or len({run for _, run in again}) < len(again) or len(gpus) < len(again):
                self.beside.add(f"{again} on {gpus}")

    def end(self) -> None:
        """Leave nothing behind."""
        self._over.set()
        self._census.join()
        pids = [pid for pid, _ in self.trainers()]
        if is_held(self.folder.runs.supervisor_lock):
            pids.append(int(self.folder.runs.supervisor_lock.read_text() or 0))
        for pid in pids:
            self.send(pid, signal.SIGKILL)


def gpu_of(pid: int) -> str:
    """What the process was told of GPUs; where it is gone, a word of its own."""
    try:
        words = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return f"{pid} is gone"
    return next((word.decode() for word in words if word.startswith(b"CUDA_VISIBLE_DEVICES=")), "none")


@pytest.fixture
def nights(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(queue_command, "SUPERVISOR_COMMAND", (sys.executable, str(SUPERVISOR)))
    made: list[Night] = []

    def night(seed: int, slots: int) -> Night:
        if slots > 1:
            gpus = [{"uuid": f"GPU-{n}", "total": 80 << 30, "free": (79 - n) << 30} for n in range(slots)]
            fake = folder.root / "fake_nvml.json"
            fake.write_text(json.dumps({"gpus": gpus, "error": ""}))
            monkeypatch.setenv("FAKE_NVML", str(fake))
            monkeypatch.setenv("TMPDIR", str(folder.root))  # where the locks of GPUs are
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        made.append(Night(folder, seed, slots))
        return made[-1]

    yield night
    for one in made:
        one.end()


@pytest.mark.heavy
@pytest.mark.parametrize("slots", [1, 2], ids=["cpu", "gpus"])
@pytest.mark.parametrize("seed", range(2 + NIGHTS))
def test_after_any_night_every_run_is_done_once(nights: Any, seed: int, slots: int) -> None:
    night = nights(seed, slots)
    for _ in range(30):
        night.something()
        night.compare_faces()
    night.morning()
    night.check()
