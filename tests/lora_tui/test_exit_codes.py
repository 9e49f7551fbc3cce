"""Every exit code, each reached through the real command as a process, exactly."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from plan_folder import PlanFolder
from waiting import DEADLINE_S, wait_for

from core.errors import ExitCode
from core.queue.__main__ import supervise
from core.queue.requests import QueueDb
from core.runs.state_folder import runs_folder
from core.system.files import make_private
from lora_tui.__main__ import main
from lora_tui.diagnostics import EXIT_CODES
from lora_tui.output import FORMATS

ROOT = Path(__file__).parents[2]
REAL = [sys.executable, "-m", "lora_tui"]
WITH_FAKE_TRAINERS = [sys.executable, str(Path(__file__).with_name("fake_command.py"))]
GATE = ("--gate", "--no-train")


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "LORA_TUI_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def start(folder: PlanFolder, *arguments: str, command: list[str] = REAL, **variables: str) -> subprocess.Popen[str]:
    runs = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    return subprocess.Popen(
        [*command, "--headless", str(folder.plan), *runs, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def ended(folder: PlanFolder, *arguments: str, **variables: str) -> tuple[int, str]:
    """(exit code, stderr)"""
    process = start(folder, *arguments, **variables)
    _out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, err


def trained(folder: PlanFolder, behaviour: str = "good") -> Any:
    """One run, `a`, that has ended."""
    folder.write()
    folder.script(a=[behaviour])
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    return folder.run("a")


def accepted(folder: PlanFolder) -> tuple[int, str]:
    trained(folder)
    return ended(folder, *GATE)


def rejected(folder: PlanFolder) -> tuple[int, str]:
    trained(folder, "poor")
    return ended(folder, *GATE)


def interrupted(folder: PlanFolder) -> tuple[int, str]:
    folder.write()
    folder.script(a=["wait"])
    process = start(folder, "--gate", command=WITH_FAKE_TRAINERS)

    def half_way() -> bool:
        assert process.poll() is None
        return bool(folder.runs.runs()) and folder.snapshot("a").steps_completed == 10

    wait_for(half_way)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, err


def internal_error(folder: PlanFolder) -> tuple[int, str]:
    """A bug, planted where the real command judges."""
    trained(folder)
    bug = folder.root / "bug"
    bug.mkdir()
    (bug / "sitecustomize.py").write_text(
        "from core.queue import report\n"
        "def broken(*arguments):\n"
        "    raise ZeroDivisionError('a bug')\n"
        "report.judge_run = broken\n"
    )
    return ended(folder, *GATE, PYTHONPATH=f"{bug}{os.pathsep}{ROOT}")


def bad_configuration(folder: PlanFolder) -> tuple[int, str]:
    folder.write('[[experiment]]\nid = "a"\ntrain.stepz = 3\n')
    return ended(folder, *GATE)


def nothing_to_judge(folder: PlanFolder) -> tuple[int, str]:
    folder.write()
    return ended(folder, *GATE)


def undecided(folder: PlanFolder) -> tuple[int, str]:
    trained(folder).tuned("heldout").unlink()
    return ended(folder, *GATE)


SITUATIONS: dict[ExitCode, tuple[Callable[[Any], tuple[int, str]], str]] = {
    ExitCode.ACCEPTED: (accepted, "gate: accepted (exit 0)"),
    ExitCode.REJECTED: (rejected, "gate: rejected (exit 1)"),
    ExitCode.INTERRUPTED: (interrupted, "The same command goes on from what was saved"),
    ExitCode.INTERNAL: (internal_error, "internal error: ZeroDivisionError: a bug (traceback in "),
    ExitCode.BAD_USAGE: (bad_configuration, "stepz"),
    ExitCode.NOTHING_TO_JUDGE: (nothing_to_judge, "gate: nothing to judge (exit 5)"),
    ExitCode.UNDECIDED: (undecided, "gate: undecided (exit 6)"),
}


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ("file", "--runs {}: {} is no folder: name another one with --runs"),
        ("file/runs", "--runs {}: {.parent} is no folder"),
        ("/proc/none", "--runs {}: no such folder, and none can be made there (No such file or directory)"),
    ],
)
def test_a_runs_folder_that_is_none_is_named(
    folder: PlanFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], runs: str, says: str
) -> None:
    folder.write()
    (tmp_path / "file").write_text("")
    root = tmp_path / runs
    for command in (["--headless", str(folder.plan)], ["queue", "add", str(folder.plan)]):
        assert main([*command, "--runs", str(root)]) == 4
        assert says.format(root, root) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "cannot be written (queue.sqlite3: Read-only file system): make it writable"),
        (errno.EACCES, "cannot be written (queue.sqlite3: Permission denied)"),
        (errno.EIO, "cannot be written (queue.sqlite3: Input/output error)"),
        (errno.EAGAIN, "another process has held it for long: run the command again"),
    ],
)
def test_a_runs_folder_that_cannot_be_written_is_named(
    folder: PlanFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, says: str
) -> None:
    folder.write()
    folder.runs.root.mkdir()
    state = runs_folder(folder.runs.root).state
    make_private(state)
    (state / folder.runs.queue_db.name).touch()

    @contextlib.contextmanager
    def transaction(database: QueueDb) -> Iterator[None]:
        raise OSError(number, os.strerror(number), str(database.path))
        yield

    monkeypatch.setattr(QueueDb, "transaction", transaction)
    for command in (["--headless", str(folder.plan)], ["queue", "add", str(folder.plan)], ["queue", "retry", "--all"]):
        assert main([*command, "--runs", str(folder.runs.root)]) == 4
        err = capsys.readouterr().err
        assert says in err and str(state) in err and "internal" not in err


def test_the_encoding_of_stdout_never_changes_the_code(folder: PlanFolder) -> None:
    run = trained(folder)
    folder.write('[[experiment]]\nid = "a"\ntitle = "✓ done"\n')
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    commands = (
        (["lora_tui", "--headless", str(folder.plan), *GATE, *where], "✓ done"),
        (["lora_tui", "plan", str(folder.plan), *where], "✓ done"),
        (["lora_tui", "verify", str(run.root)], "≤ 0.2"),
        (["core.cli", "errors", str(run.root)], "→"),
        (["core.cli", "transcribe", "--help"], "runs/…/lora_adapter_best"),
    )
    for command, shown in commands:
        codes = set()
        for encoding in ("utf-8", "ascii"):
            done = subprocess.run(
                [sys.executable, "-m", *command], capture_output=True, env=environment(PYTHONIOENCODING=encoding)
            )
            codes.add(done.returncode)
            assert shown.encode(encoding, "lora_tui_show") in done.stdout, (command, done)
        assert len(codes) == 1


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_never_changes_the_code(folder: PlanFolder, closed: str) -> None:
    trained(folder, "poor")
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    command = [*REAL, "--headless", str(folder.plan), *GATE, *where]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *command], env=environment(), check=False)
    assert done.returncode == ExitCode.REJECTED


def test_every_exit_code_has_its_situation() -> None:
    assert set(SITUATIONS) == set(ExitCode) and sorted(SITUATIONS) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("code", sorted(SITUATIONS), ids=lambda code: f"{int(code)}-{code.name.lower()}")
def test_the_real_command_exits_so(folder: PlanFolder, code: ExitCode) -> None:
    situation, says = SITUATIONS[code]
    found, err = situation(folder)
    assert found == code, err
    assert says in err and "Traceback" not in err


@pytest.mark.parametrize("export", [f"m{ending}" for ending in FORMATS])
def test_the_format_never_changes_the_code(folder: PlanFolder, export: str, tmp_path: Path) -> None:
    trained(folder, "poor")
    assert ended(folder, *GATE, "--json", "--export", str(tmp_path / export))[0] == ExitCode.REJECTED


def test_help_and_readme_tell_of_the_same_codes() -> None:
    told = dict(re.findall(r"^  (\d)  (.*)$", EXIT_CODES, re.MULTILINE))
    rows = re.findall(r"^\| (\d) \| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {code: text.replace("`", "") for code, text in rows} == told
    assert sorted(map(int, told)) == sorted(ExitCode)


def test_a_planted_leak_is_heard_and_never_passes(folder: PlanFolder) -> None:
    """A heldout recording, at half its level, in training: found by the real audit, judged by the real gate."""
    random = np.random.default_rng(0)
    sounds = {name: np.cumsum(random.normal(0, 0.02, 800_000)) for name in ("train", "domain", "heldout")}
    sounds["train"] = 0.5 * sounds["heldout"]
    for name, samples in sounds.items():
        soundfile.write(folder.root / f"{name}.wav", samples / np.abs(samples).max() / 2, 16_000)
    samples, rate = soundfile.read(folder.root / "heldout.wav")
    soundfile.write(folder.root / "train.wav", samples / 2, rate)
    for name, count in (("train", 1), ("domain", 50), ("heldout", 50)):  # of a twentieth of a second nobody could tell
        path = folder.root / f"{name}.jsonl"
        lines = [json.loads(line) | {"offset": float(n), "duration": 1.0} for n, line in enumerate(path.open())][:count]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = trained(folder)
    run.data_health.unlink()
    assert ended(folder, *GATE)[0] == ExitCode.UNDECIDED, "without an audit nothing passes either"
    audit = [sys.executable, "-m", "core.cli", "manifest", "check", "--run", str(run.root)]
    done = subprocess.run(audit, capture_output=True, text=True, env=environment(), timeout=DEADLINE_S)
    assert done.returncode == 1, done.stderr
    assert "LEAK" in done.stdout and json.loads(run.data_health.read_text())["shared"]
    code, err = ended(folder, *GATE)
    assert code == ExitCode.UNDECIDED and "heldout clip is in train" in err
