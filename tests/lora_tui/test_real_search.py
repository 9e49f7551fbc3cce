"""Search and repeats with other seeds: real command, supervisor, trainer and trained model, on a few embedded clips."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plan_kit import twelve_steps
from waiting import DEADLINE_S

from benchmarks.kill_matrix.material import ROOT, clips

SEARCH = """\
[queue]
then = "search"
max_runs = 3
[search]
adapter.rank = [4, 8, 16]
adapter.method = ["lora", "dora"]
"""


def gate(
    folder: Path, gain: float, more: str = "", sampler: str = "random"
) -> tuple[int, str, str, list[dict[str, Any]]]:
    """Exit code, run matrix, what was said, and settings of the runs in the order in which they began."""
    clips(folder)
    plan = twelve_steps(
        ROOT / "data" / "base_model",
        gain=gain,
        more=more + SEARCH.replace("[search]", f'[search]\nsampler = "{sampler}"'),
    )
    (folder / "plan.toml").write_text(plan)
    command = [sys.executable, "-m", "lora_tui", "--headless", "plan.toml", "--gate", "--export", "matrix.md"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    decisions = map(json.loads, (folder / "runs" / "decisions.jsonl").read_text().splitlines())
    runs = [item["run"] for item in decisions if item["decision"] == "start"]
    settings = [json.loads((folder / "runs" / run / "run.json").read_text())["settings"] for run in runs]
    return done.returncode, (folder / "matrix.md").read_text(), done.stderr, settings


@pytest.mark.heavy
@pytest.mark.parametrize("sampler", [pytest.param("random", marks=pytest.mark.long), "tpe"])
def test_search_trains_other_settings_until_the_budget_is_used_up(sampler: str, tmp_path: Path) -> None:
    code, matrix, said, settings = gate(tmp_path, gain=99, sampler=sampler)
    assert code == 1
    rows = re.findall(r"^\| (\S+)", matrix, re.MULTILINE)
    assert rows[2] == "a" and [row.partition("#")[0] for row in rows[3:5]] == ["search"] * 2
    assert sampler == "tpe" or (rows[3:5] == ["search#1", "search#2"] and "search#3" not in rows)
    adapters = [(run["adapter"]["rank"], run["adapter"]["method"]) for run in settings]
    assert len(adapters) == len(set(adapters)) == 3
    assert "max_runs" in said or "budget" in said, said


@pytest.mark.heavy
def test_an_accepted_run_is_trained_again_with_another_seed(tmp_path: Path) -> None:
    code, matrix, _said, settings = gate(tmp_path, gain=-100, more="confirm_seeds = 1\n")
    assert code == 0
    assert "seeds 1/1" in matrix
    seeds = [run["train"]["seed"] for run in settings]
    assert seeds == [0, 1]
