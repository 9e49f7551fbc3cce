"""Ctrl-C in the middle of long data commands: they end at once, say so, and leave nothing half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from waiting import DEADLINE_S, wait_for

SLICES = 20_000


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Slices of a few files, so many that decoding them takes many seconds."""
    rng = np.random.default_rng(0)
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.flac", rng.standard_normal(16_000 * 60) * 0.1, 16_000)
    lines = []
    for number in range(SLICES):
        offset = round(0.5 + (number // 4) * 0.01, 3)
        line = {"audio": f"{number % 4}.flac", "text": f"text {number}", "offset": offset, "duration": 3.0}
        lines.append(json.dumps(line) + "\n")
    (tmp_path / "pool.jsonl").write_text("".join(lines))
    return tmp_path / "pool.jsonl"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("action", ["expand", "check"])
def test_ctrl_c_while_listening(pool: Path, action: str) -> None:
    folder = pool.parent
    train, out = folder / "train.jsonl", folder / "out.jsonl"
    train.write_text(json.dumps({"audio": "0.flac", "text": "of train", "offset": 55.0, "duration": 2.0}) + "\n")
    out.write_text("an earlier set\n")
    before = sorted(path.name for path in folder.iterdir())
    arguments = {
        "expand": ["--pool", pool, "--exclude", train, "--listen", "-o", out, "--force"],
        "check": [pool, "--report", out],
    }[action]
    command = [sys.executable, "-m", "core.cli", "manifest", action, *map(str, arguments)]
    process = subprocess.Popen(
        [*command, *(["--workers", "2"] if action == "check" else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(children(process.pid)) >= 2)
    workers = children(process.pid)
    assert process.poll() is None, "ended before it could be interrupted"
    os.killpg(process.pid, signal.SIGINT)
    told, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, told) == (2, "")
    assert said.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert out.read_text() == "an earlier set\n"
    assert sorted(path.name for path in folder.iterdir()) == before
    wait_for(lambda: not any(alive(pid) for pid in workers))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_import_of_samples_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    row = {"audio": {"array": [0.1, 0.2] * 2000, "sampling_rate": 16_000}, "text": "hi"}
    source, out = tmp_path / "arrays.jsonl", tmp_path / "set.jsonl"
    source.write_text((json.dumps(row) + "\n") * 4000)
    command = [sys.executable, "-m", "core.cli", "manifest", "import", "arrays", str(source), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    unfinished = tmp_path / ".set_audio.unfinished"
    wait_for(lambda: any(unfinished.glob("*")))
    assert process.poll() is None, "ended before it could be interrupted"
    # Python loses an interrupt that comes while an object is deleted; a person presses again.
    for _ in range(20):
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=1.0)
            break
        except subprocess.TimeoutExpired:
            continue
    assert process.returncode == (2 if number == signal.SIGINT else -number), said
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {source.name} | ({unfinished.name} if number == signal.SIGKILL else set())
    source.write_text((json.dumps(row) + "\n") * 3)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name, "set_audio"}
    assert len(list((tmp_path / "set_audio").iterdir())) == 3
