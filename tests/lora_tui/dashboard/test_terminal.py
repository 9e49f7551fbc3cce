"""The command in a real terminal: which face opens, what it writes, what it leaves alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from terminal import Terminal
from waiting import DEADLINE_S, wait_for

from core.errors import UserError
from lora_tui import dashboard_command
from lora_tui.__main__ import _face_parser

Make = Callable[..., Any]
COMMAND = ["-m", "lora_tui"]
COUNTING = """
import sys
from pathlib import Path
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.reader import FolderSource
read, looks = FolderSource.read, Path(sys.argv[1]).open("ab", buffering=0)
FolderSource.read = lambda source, want: (looks.write(b"."), read(source, want))[1]
sys.exit(main([]))
"""
"""The dashboard; a byte goes into the named file whenever it reads the runs folder."""
HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202e[/][bold]\x9b31m[@click=app.quit]x\x00\r\n" + "y" * 200


def test_it_opens_starts_nothing_is_silent_when_nothing_happens_and_quits(tmp_path: Path, make_run: Make) -> None:
    run = make_run().train(1000).finish()
    before = sorted(path for path in tmp_path.rglob("*"))
    looks = tmp_path.with_name("looks")
    screen = Terminal(["-c", COUNTING, str(looks)], cwd=tmp_path)
    screen.wait_for(b"accepted")

    def silent() -> bool:
        """Whether nothing is written while the files are read five times more."""
        screen.read()
        before = looks.stat().st_size
        wait_for(lambda: looks.stat().st_size > before + 5)
        return screen.read() == b""

    wait_for(silent)
    screen.type(b"q")
    assert screen.end() == 0
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(run.paths.root.parent / "cache")}
    assert {path.name.partition("-")[0] for path in after - set(before)} <= {"significance"}, "figures may be kept"
    assert not set(before) - after
    assert run.paths.result.exists()


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder in it."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("queued", [False, True])
def test_readonly_writes_nothing_anywhere(folder: PlanFolder, make_run: Make, *, queued: bool) -> None:
    folder.write()
    make_run().train(1000).finish()  # nothing of how sure its WERs are is kept yet
    where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    if queued:
        folder.db.submit(folder.submission())
    home = folder.root / "home"
    before = contents(folder.root)
    environment = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
    screen = Terminal([*COMMAND, "--readonly", *where], cwd=folder.root, env=environment, size=(120, 40))
    screen.wait_for("✓ accepted".encode())  # the row: what is planned speaks of the first accepted run
    screen.type(b"G")  # the finished run, whose verdict is shown
    screen.wait_for(b"Heldout change")
    screen.type(b"zX")  # another layout, which would be remembered, and an end
    screen.wait_for(b"only looks")
    screen.type(b"q")
    assert screen.end() == 0
    assert contents(folder.root) == before


def test_hostile_text_reaches_the_terminal_as_harmless_characters(tmp_path: Path, make_run: Make) -> None:
    run = make_run(title=HOSTILE).train(300, nan_at=7)
    run.paths.log.write_text(HOSTILE + "\n" + HOSTILE)
    screen = Terminal(COMMAND, cwd=tmp_path, size=(200, 50))
    screen.wait_for(b"training")
    screen.wait_for(b"[bold]")
    screen.rest()
    screen.type(b"q")
    assert screen.end() == 0
    shown = screen.bytes
    assert b"]52;" not in re.sub("␛".encode() + rb"\]52;", b"", shown)
    assert "\u202e".encode() not in shown and "\x9b".encode() not in shown and b"\x00" not in shown
    assert "␛".encode() in shown


def test_without_its_terminal_it_ends(tmp_path: Path, make_run: Make) -> None:
    """No SIGHUP comes to a process without a controlling terminal, as one in a container may be."""
    make_run().train(1000).finish()
    screen = Terminal(COMMAND, cwd=tmp_path)
    screen.wait_for(b"accepted")
    screen.hang_up()
    assert screen.process.wait(DEADLINE_S) == 0


def test_no_torch_and_no_transformers_in_its_process(tmp_path: Path, make_run: Make) -> None:
    make_run().train(1000).finish()
    script = (
        "import sys, atexit\n"
        "from lora_tui.__main__ import main\n"
        "code = main([])\n"
        "print('heavy:', sorted({'torch', 'transformers', 'peft', 'soundfile', 'scipy'} & set(sys.modules)))\n"
        "sys.exit(code)\n"
    )
    screen = Terminal(["-c", script], cwd=tmp_path)
    screen.wait_for(b"accepted")
    screen.type(b"q")
    assert screen.end() == 0
    assert b"heavy: []" in screen.bytes


def test_without_a_terminal_it_is_headless(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not dashboard_command.wanted(_face_parser().parse_args([]))


def test_options_of_the_headless_face_choose_it_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_command, "on_a_terminal", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    parse = _face_parser().parse_args
    assert dashboard_command.wanted(parse([])) and dashboard_command.wanted(parse(["--start", "--ascii"]))
    for options in (["--headless"], ["--gate"], ["--no-train"], ["--detach"], ["--json"], ["--export", "x.md"]):
        assert not dashboard_command.wanted(parse(options))


@pytest.mark.parametrize("served", [[], ["--served"]])
def test_a_look_never_becomes_a_training(monkeypatch: pytest.MonkeyPatch, served: list[str]) -> None:
    parse = _face_parser().parse_args
    for options in (
        ["--headless"],
        ["--gate", "--no-train"],
        ["--detach"],
        ["--json"],
        ["--export", "x.md"],
        ["--start"],
    ):
        with pytest.raises(UserError, match="--readonly"):
            dashboard_command.wanted(parse(["--readonly", *options, *served]))
    if served:
        assert dashboard_command.wanted(parse(["--readonly", *served]))
        return
    with pytest.raises(UserError, match="this is no terminal"):
        dashboard_command.wanted(parse(["--readonly"]))


def test_a_terminal_that_can_show_no_dashboard_starts_nothing(tmp_path: Path, folder: PlanFolder) -> None:
    folder.write()
    screen = Terminal([*COMMAND, str(folder.plan)], cwd=tmp_path, env={"TERM": "dumb"})
    assert screen.end() == 4
    assert b"--headless" in screen.bytes and b"xterm-256color" in screen.bytes
    assert not folder.runs.root.exists() and not (tmp_path / "runs").exists()


def test_on_such_a_terminal_training_that_is_asked_for_is_headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_command, "on_a_terminal", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    parse = _face_parser().parse_args
    assert not dashboard_command.wanted(parse(["--start"])) and not dashboard_command.wanted(parse(["--headless"]))
    for options in ([], ["--readonly"], ["--replay", "runs/x"]):
        with pytest.raises(UserError, match="TERM=dumb"):
            dashboard_command.wanted(parse(options))


def test_a_named_plan_that_is_not_there_exits_4(tmp_path: Path) -> None:
    screen = Terminal([*COMMAND, "none.toml"], cwd=tmp_path)
    assert screen.end() == 4
    assert b"no such plan" in screen.bytes


def test_start_queues_the_plan_and_training_goes_on_after_quitting(tmp_path: Path, folder: PlanFolder) -> None:
    folder.write()
    command = Path(__file__).parents[1] / "fake_command.py"
    arguments = [str(command), "--start", "--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
    screen = Terminal(arguments, cwd=tmp_path, size=(120, 40))
    screen.wait_for("✓ accepted".encode())
    screen.type(b"q")
    assert screen.end() == 0
    assert len(list(folder.runs.root.glob("a-*/result.json"))) == 1
