"""A run that is trained, exported and judged as it is served, by the real commands: it passes, and it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plan_kit import twelve_steps
from waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.heavy


def ran(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", module, *words]
    mine = {"XDG_STATE_HOME": str(folder / "state of this test")}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | mine, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def plan(gain: float, *, domain_is_train: str = 'accept_leakage = "so that a few steps teach it"') -> str:
    """Trained on the clips that it is judged on, it learns them in a dozen steps: a gain that an export can lose."""
    text = twelve_steps(ROOT / "data" / "base_model", gain=gain, more=f'{domain_is_train}\nruntime = "lora:float32"\n')
    return text.replace("train.jsonl", "domain.jsonl").replace("2e-3", "4e-3")


def gate(folder: Path, *words: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """(exit code, the criterion Runtime parity, the run's row) of the gate, which writes every report, too."""
    reports = (f"--export=matrix.{name}" for name in ("md", "html", "comment.md"))
    done = ran(folder, "lora_tui", "--headless", "--gate", "--json", *reports, *words)
    [row] = json.loads(done.stdout)["rows"]
    [criterion] = [one for one in row["criteria"] if one["name"] == "runtime"]
    return done.returncode, criterion, row


def test_the_gate_judges_what_is_served(tmp_path: Path) -> None:
    from benchmarks.kill_matrix.material import clips

    clips(tmp_path)
    (tmp_path / "experiments.toml").write_text(plan(gain=-100))
    code, criterion, _ = gate(tmp_path)
    assert (code, criterion["state"]) == (6, "UNKNOWN"), criterion
    assert "No export of this adapter as lora:float32 was heard by its runtime" in criterion["reason"]
    [run] = tmp_path.glob("runs/a-*")

    whole, weak = tmp_path / "a plain LoRA", tmp_path / "of a lower rank"
    done = ran(tmp_path, "core.cli", "export", str(run), "--to", "lora", "-o", str(whole), "--largest-error", "0.01")
    assert done.returncode == 0, done.stderr
    code, criterion, row = gate(tmp_path, "--no-train")
    assert (code, criterion["state"]) == (0, "PASS"), criterion
    assert "As lora:float32, by transformers" in criterion["reason"]
    assert any(name == "lora:float32" for name, _ in row["findings"]["Exports"])
    for name in ("matrix.md", "matrix.html", "matrix.comment.md"):
        assert "Runtime" in (tmp_path / name).read_text()
    verified = ran(tmp_path, "lora_tui", "verify", str(run), "--serve", str(whole))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "Export lora:float32: domain " in verified.stdout and "Served: lora:float32, heard again" in verified.stdout

    done = ran(tmp_path, "core.cli", "export", str(run), "--to", "lora", "-o", str(weak), "--largest-error", "0.99")
    said = json.loads((run / "exports" / "lora-float32" / "export.json").read_text())
    lost, gained = said["sets"]["domain"]["rise_pp"], row["baseline_domain"] - row["tuned_domain"]
    assert gained > lost > 0, said
    (tmp_path / "experiments.toml").write_text(plan(gain=gained - lost / 2))
    code, criterion, row = gate(tmp_path, "--no-train")
    states = {one["name"]: one["state"] for one in row["criteria"]}
    assert (code, criterion["state"], states["domain_gain"]) == (1, "FAIL", "PASS"), criterion
    for name in ("matrix.md", "matrix.html", "matrix.comment.md"):
        assert "Runtime parity" in (tmp_path / name).read_text() and "FAIL" in (tmp_path / name).read_text()
