"""The pipelines of docs/ci, step by step with a shell, in a fresh clone that has a finished run and no audio.

What a runner does is done here as its documentation tells: a shell for each step of GitHub (`bash -e`), one for all
lines of GitLab. Only the installation is left out: `.venv` leads to the environment that the tests run in, with the
clone's code first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from trained_checkout import Trained
from waiting import DEADLINE_S

from core.errors import ExitCode

pytestmark = pytest.mark.heavy
CI = Path(__file__).parents[2] / "docs" / "ci"
SURE, HOPELESS, UNSURE = {"gain": -100.0}, {"gain": 100.0}, {"gain": 0.0}
"""Thresholds under which the run is surely accepted, surely rejected, and undecided at 0.95 with its few clips."""


@pytest.fixture
def clone(tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CI machine's checkout: the plan, manifests without audio, an archive of the runs; nothing else is known."""
    folder = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(trained.folder), str(folder)], check=True)
    shutil.copytree(trained.folder / "speech", folder / "speech", ignore=shutil.ignore_patterns("*.flac"))
    with tarfile.open(tmp_path / "runs.tar", "w") as archive:
        archive.add(trained.folder / "runs", "runs")
    venv = folder / ".venv" / "bin"
    venv.mkdir(parents=True)
    for name in ("python", "lora-tui"):
        # Through a file of its own, as a link would find the environment that it leads to, and that one's code.
        module = " -m lora_tui" if name == "lora-tui" else ""
        (venv / name).write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}"{module} "$@"\n')
        (venv / name).chmod(0o755)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return folder


def thresholds(trained: Trained, clone: Path, asked: dict[str, float]) -> None:
    (clone / "experiments.toml").write_text(trained.plan(**asked))


def shell(script: str, folder: Path, more: dict[str, str], options: str) -> subprocess.CompletedProcess[str]:
    hidden = ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "CI")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    command = ["bash", "--noprofile", "--norc", options, "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=folder, env=env | more, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def installs(script: str) -> bool:
    return "-m venv" in script or "pip install" in script


def github(folder: Path, archive: Path) -> tuple[int, str, str]:
    """Exit code of the first step that fails, all that was printed, and the step summary."""
    document = yaml.safe_load((CI / "github-actions.yml").read_text())
    [job] = document["jobs"].values()
    summary = folder.with_name("summary.md")
    runner = {"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_WORKSPACE": str(folder)}
    runner |= {"RUNNER_TEMP": str(folder.parent)}
    variables = {"vars.RUNS_ARCHIVE": str(archive)}
    said = ""
    for step in job["steps"]:
        if "run" not in step or installs(step["run"]):
            continue
        env = {
            name: re.sub(r"\$\{\{ *(\S+) *\}\}", lambda found: variables[found.group(1)], value)
            for name, value in step.get("env", {}).items()
        }
        done = shell(step["run"], folder, runner | env | {"GITHUB_STEP_SUMMARY": str(summary)}, "-eo")
        said += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, said, summary.read_text() if summary.exists() else ""
    return 0, said, summary.read_text()


def gitlab(folder: Path, archive: Path) -> tuple[int, str]:
    """Exit code of the job, and all that was printed."""
    [job] = yaml.safe_load((CI / "gitlab-ci.yml").read_text()).values()
    lines = [line for line in (*job["before_script"], *job["script"]) if not installs(line)]
    done = shell("\n".join(lines), folder, {"CI": "true", "RUNS_ARCHIVE": str(archive)}, "-eo")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("asked", "code", "level"),
    [
        (SURE, ExitCode.ACCEPTED, "notice"),
        (HOPELESS, ExitCode.REJECTED, "error"),
        (UNSURE, ExitCode.UNDECIDED, "warning"),
    ],
    ids=["accepted", "rejected", "undecided"],
)
def test_github(
    trained: Trained, clone: Path, tmp_path: Path, asked: dict[str, float], code: ExitCode, level: str
) -> None:
    thresholds(trained, clone, asked)
    found, said, summary = github(clone, tmp_path / "runs.tar")
    assert found == code, said
    notes = re.findall(r"^::(\w+) file=([^,]*),line=(\d+),title=([^:]*)::(.*)$", said, re.MULTILINE)
    assert [note[0] for note in notes] == [level] and len(notes) <= 10
    line = (clone / notes[0][1]).read_text().splitlines()[int(notes[0][2]) - 1]
    assert notes[0][1] == "experiments.toml" and line in ("[[experiment]]", 'id = "a"')
    assert "| a " in summary and "Domain change" in summary
    assert "Not compared: data.domain: only the lines were compared" in said and "Not compared" in summary, (
        "what is not here is said"
    )
    kept(clone)


def kept(clone: Path) -> None:
    """What the pipelines keep is there, and of this verdict."""
    names = {file.name for file in clone.glob("run_matrix*")}
    assert names >= {"run_matrix.md", "run_matrix.xml", "run_matrix.html", "run_matrix_files"}
    assert list((clone / "run_matrix_files").glob("*.svg"))
    cases = [case.get("name", "") for case in ET.parse(clone / "run_matrix.xml").iter("testcase")]  # noqa: S314 - ours
    assert len(cases) >= 7 and any("duration" in name.lower() for name in cases), cases


@pytest.mark.parametrize(
    ("asked", "code"), [(SURE, ExitCode.ACCEPTED), (HOPELESS, ExitCode.REJECTED), (UNSURE, ExitCode.UNDECIDED)]
)
def test_gitlab(trained: Trained, clone: Path, tmp_path: Path, asked: dict[str, float], code: ExitCode) -> None:
    thresholds(trained, clone, asked)
    found, said = gitlab(clone, tmp_path / "runs.tar")
    assert found == code, said
    assert "Not compared: data.domain: only the lines were compared" in said
    assert not re.search(r"^::\w+ ", said, re.MULTILINE), "GitHub's commands are for GitHub"
    kept(clone)


def test_gitlab_lets_undecided_pass_and_keeps_what_is_written() -> None:
    [job] = yaml.safe_load((CI / "gitlab-ci.yml").read_text()).values()
    assert job["allow_failure"] == {"exit_codes": [int(ExitCode.UNDECIDED)]}
    assert job["artifacts"]["when"] == "always" and job["artifacts"]["reports"]["junit"] == "run_matrix.xml"
    assert {"run_matrix.*", "run_matrix_files/"} <= set(job["artifacts"]["paths"])


def test_the_clone_runs_its_own_code(clone: Path) -> None:
    script = ".venv/bin/python -c 'import core, lora_tui; print(core.__file__, lora_tui.__file__)'"
    done = shell(script, clone, {}, "-eo")
    assert done.stdout.count(str(clone)) == 2, done.stdout + done.stderr
