"""`lora-tui export` through the real command."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan_folder import PlanFolder

from core.queue.__main__ import supervise
from lora_tui.__main__ import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(folder: PlanFolder) -> Path:
    folder.write()
    folder.db.submit(folder.submission())
    assert supervise(folder.runs, folder.executor) == 0
    root: Path = folder.run("a").root
    return root


def test_event_files_of_a_finished_run(run: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["export", "tensorboard", str(run), "-o", str(tmp_path / "tb")]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "21 steps sent to tensorboard" in said.err
    assert list((tmp_path / "tb" / run.name).glob("events.out.tfevents.*"))
    assert not (run / "tensorboard").exists() and not (run / "sinks").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["tensorboard", "/nowhere"], "no run folder"), (["aim", "/nowhere"], "invalid choice"), (["tensorboard"], "RUN")],
)
def test_bad_usage_exits_4(arguments: list[str], says: str, capsys: Capture) -> None:
    assert main(["export", *arguments]) == 4
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1


def test_a_missing_package_is_named(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    assert main(["export", "wandb", str(run)]) == 4
    assert "pip install 'lora-tui[wandb]'" in capsys.readouterr().err
