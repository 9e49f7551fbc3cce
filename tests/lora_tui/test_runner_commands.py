"""What a plan or a run folder calls itself is no workflow command, whichever command shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_folder import PlanFolder

from core.cli.__main__ import main as lora_cli
from core.system.files import write_json
from lora_tui.__main__ import main

EVIL = "::stop-commands::x"


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


def no_command(capsys: pytest.CaptureFixture[str]) -> str:
    said = "".join(capsys.readouterr())
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in said.split("\n")), said
    return said


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_verify(tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "a-0123456789"
    write_json(folder / "run.json", {"experiment": EVIL, "title": f"##[x]\n{EVIL}", "identity": "0123456789"})
    (folder / "events.jsonl").write_text("")
    main(["verify", str(folder), *more])
    said = no_command(capsys)
    assert "stop-commands" in said or more


@pytest.mark.parametrize("command", [["plan"], ["plan", "--json"], ["status"], ["queue", "list"]])
def test_plans_and_queues(folder: PlanFolder, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    title = json.dumps(f"{EVIL} ##[stop-commands]y")
    folder.write(f'[[experiment]]\nid = "a"\ntitle = {title}\n', queue=f"notify = [{title}]")
    folder.db.submit(folder.submission())
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    words = [*command, str(folder.plan)] if command[0] != "queue" else command
    main([*words, *where])
    no_command(capsys)


def test_lora_cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lora_cli(["normalise", f"{tmp_path}/\n{EVIL}", str(tmp_path / "out.wav")]) == 4
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": f"{EVIL}.wav", "text": EVIL}) + "\n")
    lora_cli(["manifest", "check", f"train={manifest}"])
    no_command(capsys)
