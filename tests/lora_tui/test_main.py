"""The command line itself: help, usage, exit codes, errors."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder

from core.errors import ExitCode
from core.runs.row import Outcome
from lora_tui import plan_command
from lora_tui.__main__ import COMMANDS, Command, main
from lora_tui.diagnostics import exit_code

A, R, U, P, S = Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNDECIDED, Outcome.PENDING, Outcome.SKIPPED


@pytest.mark.parametrize(
    ("outcomes", "accept", "no_train", "code"),
    [
        ([A], "any", False, 0),
        ([R, A, U, P], "any", False, 0),
        ([R, U], "any", False, 6),
        ([R, P], "any", False, 6),
        ([R, P], "any", True, 1),
        ([R, S], "any", False, 1),
        ([S], "any", False, 5),
        ([], "any", False, 5),
        ([P, P], "any", True, 5),
        ([P], "any", False, 6),
        ([A, A, S], "all", False, 0),
        ([A, R, U], "all", False, 1),
        ([A, U], "all", False, 6),
        ([A, P], "all", False, 6),
        ([A, P], "all", True, 0),
        ([R, A], "x0", False, 1),
        ([R, A], "x1", False, 0),
        ([A, P], "x1", False, 6),
        ([A, P], "x1", True, 5),
        ([A, S], "x1", False, 5),
    ],
)
def test_the_exit_code_of_the_gate(outcomes: list[Outcome], accept: str, no_train: bool, code: int) -> None:
    rows = [(f"x{i}", f"x{i}", outcome) for i, outcome in enumerate(outcomes)]
    assert exit_code(rows, gate=True, accept=accept, no_train=no_train) == code


def test_an_experiment_with_a_sweep_is_accepted_if_one_of_its_rows_is() -> None:
    rows = [("3.1#1", "3.1", R), ("3.1#2", "3.1", A)]
    assert exit_code(rows, gate=True, accept="3.1") == ExitCode.ACCEPTED
    assert exit_code(rows, gate=True, accept="3.1#1") == ExitCode.REJECTED


def test_only_acceptance_exits_0_with_the_gate() -> None:
    for length in range(4):
        for outcomes in product(Outcome, repeat=length):
            rows = [(str(i), str(i), outcome) for i, outcome in enumerate(outcomes)]
            for accept, no_train in product(("any", "all"), (False, True)):
                if exit_code(rows, gate=True, accept=accept, no_train=no_train) == 0:
                    assert A in outcomes


def test_without_the_gate_it_says_whether_everything_was_done() -> None:
    rows = [("a", "a", R), ("b", "b", P)]
    assert exit_code(rows, gate=False) == 0
    assert exit_code(rows, gate=False, failed=True) == 1
    assert exit_code(rows, gate=False, complete=False) == 6
    assert exit_code([("b", "b", P)], gate=False, no_train=True) == 5


def test_help_holds_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "exit codes:" in out and "6  undecided" in out and "--no-train" in out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"lora-tui {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("lora-tui ")


@pytest.mark.parametrize("arguments", [["--headles"], ["--gate", "a.toml", "b.toml"], ["plan", "--nope"]])
def test_bad_usage_exits_4_on_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 4
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "--help" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--speed", "0"], "argument --speed: '0' is no number above 0, such as 20."),
        (["--speed", "nan"], "argument --speed: 'nan' is no number above 0"),
        (["--speed", "fast"], "argument --speed: 'fast' is no number above 0"),
        (["serve", "--port", "99999999"], "argument --port: '99999999' is no whole number from 1 to 65535."),
        (["serve", "--port", "x"], "argument --port: 'x' is no whole number from 1 to 65535"),
    ],
)
def test_a_number_out_of_its_range_is_told_the_range(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 4
    assert says in capsys.readouterr().err


def test_a_missing_plan_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--headless", str(tmp_path / "none.toml"), "--runs", str(tmp_path / "runs")]
    assert main(arguments) == 4
    assert "no such plan" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_internal_error_is_one_line_and_its_traceback_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: Any) -> ExitCode:
        raise ZeroDivisionError("a bug\x1b[31m")

    monkeypatch.setitem(COMMANDS, "plan", lambda: Command(plan_command.add_arguments, broken, ""))
    state = tmp_path / "state"
    assert main(["plan", "--runs", str(tmp_path / "runs"), "--state", str(state)]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "internal error: ZeroDivisionError: a bug␛[31m" in err
    [log] = state.glob("crash-*.log")
    assert str(log) in err and "Traceback" in log.read_text()


def test_status_of_a_plan_that_never_ran(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write()
    arguments = ["status", str(folder.plan), "--runs", str(folder.runs.root)]
    assert main(arguments) == 0
    assert "not run" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["supervisor"] is False and document["rows"][0]["outcome"] == "pending"
    assert not folder.runs.root.exists()


def test_the_command_needs_neither_torch_nor_textual() -> None:
    import subprocess

    script = (
        "import sys; from lora_tui.__main__ import main; main(['--help']); "
        "sys.exit(sorted({'torch', 'transformers', 'peft', 'textual'} & set(sys.modules)).__len__())"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL).returncode == 0
