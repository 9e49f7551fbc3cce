"""The headless face over a real supervisor process with FakeTrainers."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from plan_folder import PlanFolder
from waiting import DEADLINE_S, wait_for

from core.errors import ExitCode
from core.plan.read import parse_plan
from core.queue.__main__ import supervise
from core.queue.requests import Target
from core.queue.search import journal_of
from core.runs.status import Status
from core.system.locks import is_held
from core.system.process import identity_of
from lora_tui import follow, headless, request
from lora_tui.__main__ import main
from lora_tui.follow import MOST_RESTARTS

COMMAND = Path(__file__).with_name("fake_command.py")
TWO = '[[experiment]]\nid = "a"\n[[experiment]]\nid = "b"\ntrain.seed = 1\n'


SUPERVISOR = COMMAND.parents[1] / "core" / "queue" / "fake_supervisor.py"


class Command:
    """Runs the command as a process of its own."""

    def __init__(self, folder: PlanFolder) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        runs = ["--runs", str(self.folder.runs.root), "--state", str(self.folder.runs.state)]
        process = subprocess.Popen(
            [sys.executable, str(COMMAND), "--headless", str(self.folder.plan), *runs, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        self.folder.end_all()


@pytest.fixture
def command(folder: PlanFolder) -> Iterator[Command]:
    command = Command(folder)
    yield command
    command.end()


Face = Callable[..., tuple[int, str, str]]


@pytest.fixture
def face(
    folder: PlanFolder, command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Face:
    """Runs the command in this process: (exit code, stdout, stderr)."""
    real = request.request_of

    def request_of(args: argparse.Namespace) -> request.Request:
        return replace(real(args), supervisor=(sys.executable, str(SUPERVISOR)))

    def run(*arguments: str) -> tuple[int, str, str]:
        runs = ["--runs", str(folder.runs.root), "--state", str(folder.runs.state)]
        code = main(["--headless", str(folder.plan), *runs, *arguments])
        return code, *capsys.readouterr()

    monkeypatch.setattr(request, "request_of", request_of)
    monkeypatch.setattr(follow, "POLL_S", 0.05)
    return run


def done(folder: PlanFolder, *overrides: str) -> None:
    """Work through the plan in this process."""
    folder.db.submit(folder.submission(*overrides))
    assert supervise(folder.runs, folder.executor) == 0


def short(file: Path) -> str:
    """The Markdown as it stands on stdout: without pictures and clips."""
    return re.sub(r"\n(!\[.*\n)+|\n(domain|heldout), (worst|best): .*:\n\n```text\n(.*\n)+?```\n", "", file.read_text())


def half_way(folder: PlanFolder) -> bool:
    return bool(folder.runs.runs()) and folder.snapshot("a").steps_completed == 10


def test_an_accepted_run(folder: PlanFolder, face: Face) -> None:
    folder.write(TWO)
    code, out, err = face("--gate")
    assert code == 0
    assert "a  step 20/20  loss 1.475  domain WER 20.00 % (−10.00)  heldout WER 10.00 % (+0.00)" in err
    assert "verdict: ACCEPTED" in err and "PASS  Parity" in err
    assert "b  not run: a was accepted" in err
    assert out.startswith("# Run matrix") and out == short(folder.runs.matrix)
    assert "![Domain WER](run_matrix_files/a-" in folder.runs.matrix.read_text()
    assert len(list((folder.runs.root / "run_matrix_files").glob("*.svg"))) == 3
    loose = "by a gate looser than the default: stability after 0 steps instead of 1000"
    assert err.rstrip().endswith(f"gate: accepted (exit 0), {loose}")
    assert out.splitlines()[2] == f"**Judged {loose}.**"

    code, again, err = face("--gate", "--json")
    document = json.loads(again)
    assert code == document["exit_code"] == 0
    assert [row["outcome"] for row in document["rows"]] == ["accepted", "pending"]
    assert {c["state"] for c in document["rows"][0]["criteria"]} == {"PASS"}
    assert len(folder.births("a")) == 1
    assert "verdict: ACCEPTED" in err


def test_a_rejected_plan_exits_1_and_only_the_gate_says_so(folder: PlanFolder, face: Face) -> None:
    folder.write()
    folder.script(a=["poor"])
    code, _out, err = face()
    assert code == 0 and "verdict: REJECTED" in err
    assert face("--gate", "--no-train")[0] == 1


LEARNING = '[search]\nsampler = "tpe"\nadapter.rank = [8, 16, 32, 64]\n[[experiment]]\nid = "a"\nadapter.rank = 4\n'


def test_rows_that_a_search_draws_meanwhile_are_followed_and_judged(folder: PlanFolder, face: Face) -> None:
    folder.write(LEARNING, queue='then = "search"')
    folder.script(**{"a": ["poor"], "search": ["poor"], "search@rank64": ["good"]})
    code, out, err = face("--gate")
    drawn = folder.starts()[1:]
    assert code == 0 and drawn
    for key in drawn:
        assert f"{key}  step 20/20" in err
        assert f"| {key} " in out
    assert "search#next" not in out + err
    code, _, err = face("--gate", "--no-train")
    assert code == 0 and f"{drawn[-1]}  verdict: ACCEPTED" in err


def test_a_search_that_cannot_go_on_says_why_and_the_rest_is_judged(folder: PlanFolder, face: Face) -> None:
    folder.write(LEARNING, queue='then = "search"')
    folder.script(a=["poor"])
    journal = journal_of(folder.runs, parse_plan(folder.plan.read_text(), str(folder.plan)))
    journal.parent.mkdir(parents=True)
    journal.write_text("[]\n")
    code, out, err = face("--gate")
    assert code == ExitCode.UNDECIDED, "what was asked for was not all done"
    assert "is no journal of this search" in err and "search#next" in out
    assert folder.starts() == ["a"]


def test_a_failed_run_exits_1_without_the_gate_too(folder: PlanFolder, face: Face) -> None:
    folder.write()
    folder.script(a=["error"])
    code, out, err = face()
    assert code == 1
    assert "the fake trainer was told to" in err and "the fake trainer was told to" in out


def test_a_run_that_is_tried_again_is_judged_again(folder: PlanFolder, command: Command) -> None:
    folder.write(TWO, queue='until = "all"')
    folder.script(a=["error", "good"], b=["wait", "good"])
    headless = command.start()
    wait_for(lambda: len(folder.decisions("start")) == 2)
    [submission] = folder.db.open_submissions()
    folder.db.ask("retry", [Target(submission.id, "a")])
    wait_for(lambda: not folder.db.snapshot().requests)
    wait_for(lambda: folder.births("b"))  # a trainer that was started may not have come to its first line yet
    os.kill(folder.births("b")[0], signal.SIGTERM)
    _, err = headless.communicate(timeout=DEADLINE_S)
    assert headless.returncode == 0
    verdicts = re.findall("^a  verdict: ([A-Z]+)", err, re.MULTILINE)
    assert verdicts == ["FAILED", "ACCEPTED"]


def test_sigint_stops_what_it_started_and_the_same_command_goes_on(
    folder: PlanFolder, command: Command, face: Face
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    process = command.start("--gate")
    wait_for(lambda: half_way(folder))
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert "a  stopped at step 10; checkpoint of step 10 saved" in err and "The same command goes on" in err
    assert folder.snapshot("a").state is Status.STOPPED
    wait_for(lambda: not is_held(folder.runs.supervisor_lock))

    code, _out, err = face("--gate")
    assert code == 0 and "goes on from step 10" in err
    assert len(folder.births("a")) == 2


def test_a_second_sigint_does_not_wait(folder: PlanFolder, command: Command) -> None:
    folder.write()
    folder.script(a=["stubborn"])
    face = command.start()
    wait_for(lambda: half_way(folder))
    face.send_signal(signal.SIGINT)
    wait_for(lambda: folder.decisions("wish"))
    face.send_signal(signal.SIGINT)
    assert face.wait(DEADLINE_S) == 2


def test_two_faces_with_a_run_in_common_both_follow_it_and_only_the_last_one_stops_it(
    folder: PlanFolder, command: Command
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    first = command.start()
    wait_for(lambda: half_way(folder))
    folder.plan.write_text(folder.plan.read_text() + 'title = "edited"\n')
    second = command.start("--gate")
    wait_for(lambda: len(folder.decisions("run")) == 2)
    first.send_signal(signal.SIGINT)
    _out, err = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 2 and "a  goes on for another submission that has it too" in err
    assert folder.snapshot("a").state is Status.TRAINING
    os.kill(folder.births("a")[0], signal.SIGTERM)
    _out, err = second.communicate(timeout=DEADLINE_S)
    name = folder.run("a").name
    assert f"a  run {name}: another submission has it too and started it" in err
    assert "a  stopped: asked to stop" in err and "goes on from step 10" in err and "verdict: ACCEPTED" in err
    assert second.returncode == 0 and len(folder.births("a")) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_death_of_the_face_leaves_training_and_another_face_attaches(
    folder: PlanFolder, command: Command, number: signal.Signals
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    face = command.start()
    wait_for(lambda: half_way(folder))
    face.send_signal(number)
    assert face.wait() == -number
    assert is_held(folder.runs.supervisor_lock) and folder.snapshot("a").state.active
    second = command.start("--gate")
    assert second.stderr is not None
    line = second.stderr.readline()
    assert "in the queue already" in line
    second.send_signal(signal.SIGTERM)
    second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 2
    assert len(folder.births("a")) == 1 and folder.snapshot("a").state is Status.STOPPED


def test_the_face_starts_a_dead_supervisor_again(folder: PlanFolder, command: Command) -> None:
    folder.write()
    folder.script(a=["wait"])
    face = command.start()
    wait_for(lambda: half_way(folder))
    os.kill(int(folder.runs.supervisor_lock.read_text()), signal.SIGKILL)
    wait_for(lambda: folder.decisions("adopt"))
    face.send_signal(signal.SIGINT)
    _out, err = face.communicate(timeout=DEADLINE_S)
    assert "ended unexpectedly" in err and face.returncode == 2
    assert len(folder.births("a")) == 1


def test_the_face_gives_up_on_a_supervisor_that_dies_again_and_again(folder: PlanFolder, command: Command) -> None:
    folder.write()
    folder.script(a=["wait"])
    face = command.start("--gate")
    wait_for(lambda: half_way(folder))
    killed: set[int] = set()

    def given_up() -> bool:
        """Whether the face has ended; kills each supervisor as soon as it is at work."""
        for pid in {record.process["pid"] for record in folder.decisions("supervisor_started")} - killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return face.poll() is not None

    wait_for(given_up)
    assert len(killed) > MOST_RESTARTS
    _out, err = face.communicate(timeout=DEADLINE_S)
    # On a busy machine it may be killed before the face saw it at work, which is told in other words.
    gave_up = "again and again" in err or "from outside while it started" in err
    assert face.returncode == ExitCode.BAD_USAGE and gave_up and "Traceback" not in err
    assert folder.snapshot("a").state.active and len(folder.births("a")) == 1  # the trainer does not mind


def test_detach_returns_and_training_goes_on(folder: PlanFolder, face: Face) -> None:
    folder.write()
    code, out, _err = face("--detach")
    assert code == 0 and out == ""
    wait_for(lambda: folder.decisions("finish"))
    assert folder.snapshot("a").state is Status.DONE


def test_runs_that_were_judged_on_the_same_sets_are_counted(folder: PlanFolder, face: Face) -> None:
    """Also those that the plan does not ask for any more; a run alone is no choice."""
    folder.write(TWO, queue='until = "all"')
    done(folder)
    code, out, err = face("--gate", "--no-train")
    assert code == 0
    chances = "up to 75 % by point estimates, 9.75 % at confidence 0.95"
    assert f"2 runs judged on these sets (chance that luck alone has one accepted: {chances})" in err.splitlines()[-1]
    assert (
        f"2 runs were judged on these sets: that luck alone had one of them accepted has a chance of {chances}" in out
    )
    folder.write(TWO.partition('[[experiment]]\nid = "b')[0])
    _, out, _ = face("--gate", "--no-train", "--json")
    [row] = json.loads(out)["rows"]
    by_luck = {"point": 0.75, "0.95": pytest.approx(0.0975)}
    assert row["runs_judged"] == {"runs": 2, "reserve": False, "by_luck": by_luck}
    _, out, _ = face("--gate", "--no-train", "--set", "data.target_rms=0.05")
    assert "judged on these sets" not in out


def test_no_train_judges_without_the_audio_and_starts_nothing(folder: PlanFolder, face: Face) -> None:
    folder.write(TWO)
    done(folder)
    (folder.root / "domain.wav").unlink()
    code, out, err = face("--gate", "--no-train", "--accept", "all")
    assert code == 0 and "accepted" in out
    # whoever takes away a run that was rejected must not go unnoticed
    assert "gate: accepted (exit 0), without a run of b, by a gate looser" in err.splitlines()[-1]
    assert not folder.runs.matrix.exists()
    code, out, err = face("--gate")
    assert code == 4 and "domain.wav" in err and "Traceback" not in err


def test_no_train_with_nothing_started_exits_5(folder: PlanFolder, face: Face) -> None:
    folder.write()
    assert face("--gate", "--no-train")[0] == 5
    assert not folder.runs.decisions.exists()


def test_exports(folder: PlanFolder, face: Face, tmp_path: Path) -> None:
    folder.write('[[experiment]]\nid = "a"\ntitle = "=cmd\\u001b[31m"\n')
    done(folder)
    names = [str(tmp_path / f"m{suffix}") for suffix in (".md", ".csv", ".json")]
    code, out, _err = face("--no-train", *(x for name in names for x in ("--export", name)))
    assert code == 0
    assert short(Path(names[0])) == out and "\x1b" not in out
    [row] = csv.DictReader(io.StringIO(Path(names[1]).read_text()))
    assert row["title"] == "'=cmd␛[31m" and row["parity"] == "PASS" and row["tuned_domain"] == "20.0"
    assert json.loads(Path(names[2]).read_text())["rows"][0]["tuned_domain"] == 20.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "c"], "--only c: no such experiment; the plan has a, b"),
        (["--gate", "--accept", "c"], "--accept c: no such experiment"),
        (["--export", "x.pdf"], "must end in .md, .csv, .json, .xml or .html"),
        (["--export", f"{COMMAND}/x.csv"], "fake_command.py is a file, not a folder: name another place"),
        (["--export", f"{COMMAND}/deeper/x.csv"], "fake_command.py is a file, not a folder"),
        (["--export", f"{COMMAND.parent}/none/x.csv"], f"no such folder: create {COMMAND.parent}/none"),
        (["--set", "train.stepz=3"], "stepz"),
        (["--accept", "all"], "add --gate"),
    ],
)
def test_bad_usage_exits_4_before_anything_starts(
    folder: PlanFolder, face: Face, arguments: list[str], says: str
) -> None:
    folder.write(TWO)
    code, _out, err = face(*arguments)
    assert code == 4 and says in err and "Traceback" not in err
    assert not folder.runs.decisions.exists()


def test_finished_runs_without_an_audit_get_one_before_the_queue_looks(folder: PlanFolder, face: Face) -> None:
    folder.write(TWO)
    done(folder)
    run = folder.run("a")
    run.data_health.unlink()
    code, _out, err = face("--gate", "--no-train")
    assert code == ExitCode.UNDECIDED and f"`lora-cli manifest check --run {run.root}` makes it" in err
    assert not run.data_health.exists()
    code, _out, err = face("--gate")
    assert code == 0, err
    assert f"{run.name} has no audit of its data: making it" in err and "warning" not in err
    assert json.loads(run.data_health.read_text())["sets"][0]["clips"] == 1, "of the real data"
    assert len(folder.births("a")) == 1 and [one.name for one in folder.runs.runs()] == [run.name], "nothing is trained"
    assert "no audit" not in face("--gate")[2]


def test_a_failed_audit_is_said_and_leaves_the_run_undecided(
    folder: PlanFolder, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write()
    done(folder)
    folder.run("a").data_health.unlink()
    broken = "import sys; print('error: odd', file=sys.stderr); sys.exit(4)"
    monkeypatch.setattr(headless, "AUDIT_COMMAND", (sys.executable, "-c", broken))
    code, _out, err = face("--gate")
    assert code == ExitCode.UNDECIDED
    assert "could not be audited (exit code 4), it stays undecided: error: odd" in err


def test_an_edited_audit_is_not_made_good(folder: PlanFolder, face: Face) -> None:
    folder.write()
    done(folder)
    folder.run("a").data_health.write_text("{}")
    code, _out, err = face("--gate")
    assert code == ExitCode.UNDECIDED and "making it" not in err
    assert folder.run("a").data_health.read_text() == "{}"


def test_sigint_during_an_audit_ends_it_and_starts_nothing(
    folder: PlanFolder, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(TWO)
    done(folder)
    folder.run("a").data_health.unlink()
    note = folder.root / "pid"
    endless = f"import os, signal, time; open({str(note)!r}, 'w').write(str(os.getpid())); "
    endless += "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    monkeypatch.setattr(headless, "AUDIT_COMMAND", (sys.executable, "-c", endless))
    assert face("--gate")[0] == 2
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert not is_held(folder.runs.supervisor_lock) and len(folder.runs.runs()) == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_runs_folder_that_is_moved_ends_the_command_which_goes_on_where_it_is(
    folder: PlanFolder, command: Command, replaced: bool
) -> None:
    folder.write()
    folder.script(a=["wait", "good"])
    first = command.start("--gate")
    wait_for(lambda: folder.runs.runs() and folder.snapshot("a").steps_completed == 10)
    [pid] = folder.births("a")
    root, there = folder.runs.root, folder.root / "there"
    root.rename(there)
    if replaced:
        root.mkdir()
    out, err = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 4 and f"its folder {root} was moved to {there}" in err, out + err
    wait_for(lambda: identity_of(pid) is None and not is_held(folder.runs.supervisor_lock))
    assert list(root.iterdir() if replaced else folder.root.glob("runs")) == [], "nothing was begun at the old path"
    folder.runs = replace(folder.runs, root=there)
    second = command.start("--gate")
    out, err = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0 and len(folder.births("a")) == 2, out + err
