"""The command `lora-tui queue` in the process of the test."""

from __future__ import annotations

import json
from typing import Any

import pytest
from plan_folder import PlanFolder

from lora_tui.__main__ import main


class Queue:
    """`lora-tui queue …` in this process, over a supervisor process of its own."""

    def __init__(self, folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, action: str, *arguments: str) -> int:
        runs = ["--runs", str(self.folder.runs.root), "--state", str(self.folder.runs.state)]
        return main(["queue", action, *arguments, *runs])

    def json(self, action: str, *arguments: str) -> Any:
        self._capsys.readouterr()
        assert self(action, *arguments, "--json") == 0
        return json.loads(self._capsys.readouterr().out)

    def states(self) -> dict[str, str]:
        return {row["row"]: row["state"] for row in self.json("list")["rows"]}

    def error(self) -> str:
        return self._capsys.readouterr().err
