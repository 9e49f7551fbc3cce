"""What is asked of the queue comes to the same, whether by a command or by a key of the dashboard."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from plan_folder import PlanFolder

from core.manifests.hashing import HashCache
from core.queue.commands import KILLED, NOT_STARTED, STOPPED, Commands, Selection
from core.queue.execution import PlanExecution
from core.queue.journal import Journal, Named
from core.queue.requests import Target
from core.queue.rows import queue_rows
from core.runs.events import SCHEMA_VERSION, AttemptStarted, Phase, Record, encode
from core.system.files import append_line
from core.system.process import current_process
from lora_tui import queue_command
from lora_tui.__main__ import main
from lora_tui.dashboard.actions import Actions
from lora_tui.dashboard.options import Options

TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'
NOBODY = ("true",)
"""In place of a supervisor: it finds nothing to do."""
Face = Callable[[str], str]


@pytest.fixture(params=["command", "key"])
def ask(
    request: pytest.FixtureRequest,
    folder: PlanFolder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Face:
    """Asks for something for row `a`; what was said then."""

    def command(verb: str) -> str:
        monkeypatch.setattr(queue_command, "SUPERVISOR_COMMAND", NOBODY)
        where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
        sure = ["--yes"] if verb in ("kill", "remove") else []
        capsys.readouterr()
        assert main(["queue", verb, "a", *sure, *where]) == 0
        return capsys.readouterr().err

    def key(verb: str) -> str:
        actions = Actions(Options(plan=folder.plan, supervisor=NOBODY), folder.runs)
        row = next(row for row in queue_rows(folder.runs).rows if row.key == "a")
        said: str = getattr(actions, verb)(row)
        return said

    folder.write(TWO, queue='until = "all"')
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())
    return command if request.param == "command" else key


def a_is(folder: PlanFolder) -> tuple[str, str]:
    row = next(row for row in queue_rows(folder.runs).rows if row.key == "a")
    return row.status.value, row.reason


def wishes(folder: PlanFolder) -> list[str]:
    return [wish.request for wish in folder.db.snapshot().requests.values()]


@pytest.mark.parametrize(("verb", "past"), [("stop", "stopped"), ("kill", "killed")])
def test_a_row_that_had_not_started_is_held(folder: PlanFolder, ask: Face, verb: str, past: str) -> None:
    assert "held until released" in ask(verb)
    assert a_is(folder) == ("held", NOT_STARTED.format(past))


@pytest.mark.parametrize(("verb", "reason"), [("stop", STOPPED), ("kill", KILLED)])
def test_a_row_that_does_not_train_is_held(folder: PlanFolder, ask: Face, verb: str, reason: str) -> None:
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    run = execution.folder(execution.assigned["a"])
    run.root.mkdir()
    run.config.write_text(json.dumps({"experiment": "a", "identity": run.name.rpartition("-")[2]}))
    dead = current_process().to_json() | {"pid": 1 << 30}
    for event in (AttemptStarted(SCHEMA_VERSION, dead, None, "cpu", "fp32"), Phase("training")):
        append_line(run.events, encode(Record(1, 1e9, event)))
    [submission] = folder.db.open_submissions()
    Journal(folder.runs.decisions).append(Named(submission=submission.id, row="a", run=run.name))
    assert a_is(folder)[0] == "crashed"
    said = ask(verb)
    assert "does not train" in said and "held until released" in said
    assert a_is(folder) == ("held", reason)


def test_a_row_that_is_not_held_stays_as_it_is(folder: PlanFolder, ask: Face) -> None:
    assert "was not held: it is queued" in ask("release")
    assert a_is(folder) == ("queued", "") and wishes(folder) == []


@pytest.mark.parametrize("face", ["command", "key"])
def test_adding_the_plan_again_brings_removed_rows_back(
    folder: PlanFolder, face: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.runs.root.mkdir()
    folder.db.submit(folder.submission())
    Commands(folder.runs, NOBODY).remove(Selection(["a"]))
    assert a_is(folder) == ("removed", "")
    monkeypatch.setattr(queue_command, "SUPERVISOR_COMMAND", NOBODY)
    if face == "command":
        where = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
        assert main(["queue", "add", str(folder.plan), *where]) == 0
        said = capsys.readouterr().err
    else:
        said = Actions(Options(plan=folder.plan, supervisor=NOBODY), folder.runs).start()
    assert (
        a_is(folder)[0] == "queued" and "queued again" in said and "a" in said and wishes(folder) == ["remove", "add"]
    )


def test_a_row_that_was_removed_stays_so(folder: PlanFolder, ask: Face) -> None:
    assert "removed" in ask("remove") and a_is(folder) == ("removed", "")
    assert wishes(folder) == ["remove"]
    assert "was removed already" in ask("remove")
    assert a_is(folder) == ("removed", "") and wishes(folder) == ["remove"], "nothing is asked twice"


def test_what_is_held_is_held_and_released(folder: PlanFolder, ask: Face) -> None:
    ask("hold")
    assert a_is(folder) == ("held", "held on request")
    ask("release")
    assert a_is(folder) == ("queued", "")
    ask("remove")
    ask("retry")
    assert a_is(folder)[0] == "queued"


def test_one_command_parses_each_plan_once(folder: PlanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.queue import rows

    parsed: list[str] = []
    parse = rows.parse_plan
    monkeypatch.setattr(rows, "parse_plan", lambda text, *rest: (parsed.append(text), parse(text, *rest))[1])
    rows._parsed.cache_clear()
    folder.runs.root.mkdir()
    for seed in range(3):
        folder.write(TWO.replace("seed = 1", f"seed = {seed + 1}"))
        folder.db.submit(folder.submission())
    done = Commands(folder.runs, NOBODY).stop(Selection(["a"]), lambda what: True)
    assert done is not None and {target.row for target in done.effects} == {"a"} and len(done.effects) == 3
    assert len(parsed) == len(set(parsed)) == 3
    assert Commands(folder.runs, NOBODY).release(Selection(target=Target(next(iter(done.effects)).submission, "a")))
