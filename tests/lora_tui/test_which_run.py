"""Which run a row of the plan is: by its settings, and by the data and the model that the plan names now.

Finished run folders, and a plan, manifests or a model that were changed, moved or left behind since. What is judged is
the run that was made of what the plan names; what could not be compared is said in every output; all else is not run.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import wave
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_folder import PlanFolder
from waiting import wait_for

from core.errors import ExitCode
from core.runs.paths import RunPaths
from core.system.seals import with_checksum
from lora_tui.__main__ import main
from lora_tui.dashboard.reading.plan_rows import PlanRows
from lora_tui.dashboard.reading.reader import FolderSource
from lora_tui.dashboard.reading.snapshots import Want
from lora_tui.dashboard.text.verdict_lines import verdict_lines
from lora_tui.output import FORMATS

ADAPTER_FROM = """\
[[experiment]]
id = "a"
sweep."adapter.target_modules" = [["q_proj"], ["q_proj", "v_proj"]]
[[experiment]]
id = "b"
after = "a"
adapter_from = ["a"]
sweep."train.learning_rate" = [5e-5, 1e-4]
"""
SETS = ("train", "domain", "heldout")
Said = tuple[int, str, str]


class Gate:
    """`lora-tui --headless --gate --no-train` in this process."""

    def __init__(self, folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys

    def __call__(self, *arguments: str) -> Said:
        """(exit code, stdout, stderr)."""
        return self.command("--headless", str(self.folder.plan), "--gate", "--no-train", *arguments)

    def command(self, *arguments: str) -> Said:
        self._capsys.readouterr()
        runs = ["--runs", str(self.folder.runs.root), "--state", str(self.folder.runs.state)]
        code = main([*arguments, *runs])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err and "None" not in err, err
        return code, out, err

    def rows(self, *arguments: str) -> dict[str, Any]:
        """Row key → its row in the JSON report."""
        _, out, _ = self(*arguments, "--json")
        return {row["experiment"]: row for row in json.loads(out)["rows"]}


@pytest.fixture
def gate(folder: PlanFolder, capsys: pytest.CaptureFixture[str]) -> Gate:
    return Gate(folder, capsys)


def done(folder: PlanFolder, experiments: str = '[[experiment]]\nid = "a"\n', *overrides: str) -> RunPaths:
    """Work the plan; the run of `a`, or of its first row."""
    folder.write(experiments, queue='until = "all"')
    folder.work(*overrides)
    return RunPaths(next(iter(folder.runs.runs())).root)


def rewrite(folder: PlanFolder, name: str, **changes: Any) -> None:
    path = folder.root / f"{name}.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps(json.loads(first) | changes) + "\n", *others]))


def other_audio(folder: PlanFolder, name: str) -> None:
    with wave.open(str(folder.root / f"{name}.wav"), "wb") as audio:
        audio.setparams((1, 2, 16_000, 0, "NONE", ""))
        audio.writeframes(b"zz" * 4800)


def without_audio(folder: PlanFolder) -> None:
    for name in SETS:
        (folder.root / f"{name}.wav").unlink()


def every_output(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, str]:
    """What each output of the gate says, and `status`."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary"))
    files = {ending: tmp_path / f"m.{ending}" for ending in (format.removeprefix(".") for format in FORMATS)}
    _, out, err = gate(*arguments, *(x for file in files.values() for x in ("--export", str(file))))
    said = {ending: file.read_text() for ending, file in files.items()}
    [said["annotation"]] = [line for line in err.splitlines() if line.startswith("::")]
    said["csv"] = " ".join(map(str, next(csv.DictReader(io.StringIO(said["csv"]))).values()))
    said["xml"] = " ".join(
        str(one.get("value"))
        for one in ET.fromstring(said["xml"]).iter("property")  # noqa: S314 - ours
    )
    said |= {"stdout": out, "stderr": "\n".join(line for line in err.splitlines() if not line.startswith("::"))}
    said["summary"] = (tmp_path / "summary").read_text()
    said["status"] = gate.command("status", str(gate.folder.plan))[1]
    said["status --json"] = gate.command("status", str(gate.folder.plan), "--json")[1]
    return {name: text.replace("\\", "") for name, text in said.items()}


# What can be hashed here must be what the run was made of.


def test_an_architecture_that_is_not_chosen_yet_is_not_told_as_the_plans_default(
    folder: PlanFolder, gate: Gate
) -> None:
    folder.write(ADAPTER_FROM)
    rows = gate.rows()
    assert "target_modules=q_proj+v_proj" in rows["a#2"]["settings"]
    assert "target_modules=decided later" in rows["b#1"]["settings"]


def test_other_manifests_are_another_run_whatever_the_architecture_came_from(folder: PlanFolder, gate: Gate) -> None:
    """Rows with `adapter_from`, all data there: no row takes a run by the hashes that the run records of itself."""
    done(folder, ADAPTER_FROM)
    assert gate("--accept", "all")[0] == ExitCode.ACCEPTED
    for name in SETS:
        rewrite(folder, name, text="quite other words")
        other_audio(folder, name)
    code, _, err = gate("--accept", "all")
    assert code == ExitCode.NOTHING_TO_JUDGE
    assert "a#1  not run: a-" in err and f"it was made with another data.domain than {folder.root}/domain.jsonl" in err


def test_swapped_evaluation_sets_are_another_run(folder: PlanFolder, gate: Gate) -> None:
    done(folder, ADAPTER_FROM)
    text = folder.plan.read_text().replace('"domain.jsonl"', '"x"').replace('"heldout.jsonl"', '"domain.jsonl"')
    folder.plan.write_text(text.replace('"x"', '"heldout.jsonl"'))
    assert gate()[0] == ExitCode.NOTHING_TO_JUDGE
    without_audio(folder)
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE, "nor by the lines alone"
    assert f"the lines of {folder.root}/heldout.jsonl are not those of the data.domain that it was made with" in err


@pytest.mark.parametrize("audio", [True, False], ids=["with audio", "without audio"])
def test_another_model_of_the_same_name_is_another_run(folder: PlanFolder, gate: Gate, audio: bool) -> None:
    done(folder)
    (folder.root / "model" / "model.safetensors").write_bytes(b"other weights")
    if not audio:
        without_audio(folder)
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE
    assert f"it was made with another model than {folder.root}/model" in err


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "change",
    [{"text": "other"}, {"duration": 0.25}, {"speaker": "ann"}, {"offset": 0.123}],
    ids=lambda one: next(iter(one)),
)
def test_lines_are_compared_where_the_audio_is_not_here(
    folder: PlanFolder, gate: Gate, name: str, change: dict[str, Any]
) -> None:
    """The flow of docs/ci: a checkout with texts and model, and no audio."""
    done(folder)
    without_audio(folder)
    assert gate("--require-data")[0] == ExitCode.ACCEPTED
    rewrite(folder, name, **change)
    assert gate()[0] == ExitCode.NOTHING_TO_JUDGE


@pytest.mark.parametrize("line", ["{}", "not JSON", '{"audio_filepath": "domain.wav", "text": "again"}'])
def test_a_file_that_is_no_manifest_is_not_what_a_run_was_made_of(folder: PlanFolder, gate: Gate, line: str) -> None:
    """It is here, so it decides, though it has no hash."""
    done(folder)
    path = folder.root / "domain.jsonl"
    path.write_text(f"{path.read_text()}{line}\n{line}\n")
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE
    assert f"{path} is not the data.domain that it was made with" in err


def test_of_an_older_run_ids_and_texts_are_compared_with_its_scores(folder: PlanFolder, gate: Gate) -> None:
    run = done(folder)
    config = json.loads(run.config.read_text())
    del config["lines"]
    run.config.write_text(json.dumps(config))
    without_audio(folder)
    _, _, err = gate()
    assert "Not compared: data.domain: only the ids and texts were compared, not the audio" in err
    assert "Not compared: data.train: not compared with what the run was made with" in err
    rewrite(folder, "domain", text="other")
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE and "the ids and texts of" in err


@pytest.mark.parametrize("left", [{}, {"model": "0" * 64}], ids=["no hashes", "other hashes"])
def test_a_name_is_no_proof_of_what_a_run_was_made_of(folder: PlanFolder, gate: Gate, left: dict[str, str]) -> None:
    """A folder with the row's identity in its name, whose own account of its contents is missing or another."""
    run = done(folder)
    config, audit = (json.loads(file.read_text()) for file in (run.config, run.data_health))
    run.config.write_text(json.dumps(config | {"hashes": left}))
    run.data_health.write_text(
        json.dumps(with_checksum({k: v for k, v in audit.items() if k != "checksum"} | {"hashes": {}}))
    )
    assert gate()[0] in (ExitCode.UNDECIDED, ExitCode.REJECTED)


# What is not here at all is named, and refused if it is asked for.


def test_what_is_not_here_is_named_in_every_output(
    folder: PlanFolder, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(folder)
    text = folder.plan.read_text().replace('"train.jsonl"', '"nowhere.jsonl"').replace('"model"', '"./no-model"')
    folder.plan.write_text(text)
    assert gate()[0] == ExitCode.ACCEPTED
    for name, said in every_output(gate, tmp_path, monkeypatch).items():
        assert "model: not compared with what the run was made with" in said, name
        assert "data.train: not compared" in said, name
        assert "nowhere.jsonl" in said or name == "annotation", name


@pytest.mark.parametrize("what", ["train", "model"])
def test_what_is_not_here_is_refused_if_it_is_required(folder: PlanFolder, gate: Gate, what: str) -> None:
    done(folder)
    if what == "model":
        shutil.rmtree(folder.root / "model")
    else:
        (folder.root / "train.jsonl").unlink()
    assert gate()[0] == ExitCode.ACCEPTED
    code, out, err = gate("--require-data")
    assert code == ExitCode.UNDECIDED and "undecided" in out and "--require-data" in out
    assert "UNKNOWN" in err and "PASS" not in err
    row = gate.rows("--require-data")["a"]
    assert (row["outcome"], row["verdict"]) == ("undecided", "undecided")
    assert {one["state"] for one in row["criteria"]} == {"UNKNOWN"}


def test_a_rejected_run_of_unknown_data_is_undecided_where_data_are_required(folder: PlanFolder, gate: Gate) -> None:
    folder.script(a=["poor"])
    done(folder)
    (folder.root / "train.jsonl").unlink()
    assert gate()[0] == ExitCode.REJECTED
    assert gate("--require-data")[0] == ExitCode.UNDECIDED


def test_missing_audio_is_named_and_refused_only_if_audio_is_required(folder: PlanFolder, gate: Gate) -> None:
    done(folder)
    assert gate("--require-data=audio")[0] == ExitCode.ACCEPTED
    (folder.root / "domain.wav").unlink()
    code, _, err = gate("--require-data=texts")
    assert code == ExitCode.ACCEPTED
    assert "Not compared: data.domain: only the lines were compared, not the audio: " in err
    assert "data.train" not in err, "what is here is hashed whole"
    assert gate("--require-data=audio")[0] == ExitCode.UNDECIDED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--require-data", "some.toml"], "invalid choice"), (["--require-data=all"], "invalid choice")],
)
def test_what_may_be_required(folder: PlanFolder, gate: Gate, arguments: list[str], says: str) -> None:
    done(folder)
    code, _, err = gate(*arguments)
    assert code == ExitCode.BAD_USAGE and says in err and "texts" in err and "audio" in err


def test_a_set_more_or_less_is_another_run(folder: PlanFolder, gate: Gate) -> None:
    """The path of a manifest is no part of the identity, so neither would its absence be."""
    done(folder)
    without_audio(folder)
    text = folder.plan.read_text()
    lines = (folder.root / "heldout.jsonl").read_text().replace("heldout.wav", "selection.wav")
    (folder.root / "selection.jsonl").write_text(lines)
    folder.plan.write_text(text.replace("[train]", 'selection = "selection.jsonl"\n[train]'))
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE and "it was made without data.selection" in err
    folder.plan.write_text(text)
    assert gate()[0] == ExitCode.ACCEPTED


# Of several runs, the newest.


def copied(run: RunPaths, name: str, later_s: float) -> RunPaths:
    """The same run under another experiment's name, as another machine made it so much later."""
    copy = RunPaths(run.root.with_name(f"{name}-{run.name.rpartition('-')[2]}"))
    shutil.copytree(run.root, copy.root, symlinks=True)
    lines = [json.loads(line) for line in copy.events.read_text().splitlines()]
    copy.events.write_text("".join(json.dumps(one | {"time": one["time"] + later_s}) + "\n" for one in lines))
    return copy


@pytest.mark.parametrize("later_s", [3600.0, -3600.0])
def test_of_two_runs_that_match_the_newest_is_judged_and_the_other_is_named(
    folder: PlanFolder, gate: Gate, later_s: float
) -> None:
    """By the time in its events: files that are unpacked are as young as the archive wants them to be."""
    run = done(folder)
    copy = copied(run, "0-copy", later_s)
    copy.tuned("domain").unlink()  # the copy is undecided, so that one sees which is judged
    code, _, err = gate()
    newest, other = (copy, run) if later_s > 0 else (run, copy)
    assert code == (ExitCode.UNDECIDED if newest == copy else ExitCode.ACCEPTED)
    assert f"Other runs match: {other.name}; the newest, {newest.name}, is judged." in err
    assert gate.rows()["a"]["run"] == newest.name


def test_the_newest_counts_among_runs_of_other_audio_too(folder: PlanFolder, gate: Gate) -> None:
    """Two identities that cannot be told apart without the audio: a newer, worse run is not ignored."""
    first = done(folder)
    other_audio(folder, "train")
    folder.script(a=["poor"])
    folder.work()
    without_audio(folder)
    [second] = [run for run in folder.runs.runs() if run.name != first.name]
    code, _, err = gate()
    assert code == ExitCode.REJECTED
    assert f"Other runs match: {first.name}; the newest, {second.name}, is judged." in err


# Rows that take their architecture from others.


def test_a_row_has_the_run_that_its_condition_picks(folder: PlanFolder, gate: Gate) -> None:
    """Without audio, too: of runs with either architecture, the one is judged that the best of `a` names."""
    folder.script(**{"a": ["poor"]})
    done(folder, ADAPTER_FROM)
    before = {key: row["run"] for key, row in gate.rows("--accept", "all").items()}
    assert all(before.values())
    # a run of b#1 with the other architecture, newer than the row's own
    other = "q_proj" if "v_proj" in str(modules(folder, before["b#1"])) else "v_proj"
    plan = folder.plan.read_text()
    folder.plan.write_text(plan.replace('adapter_from = ["a"]', f'adapter.target_modules = ["{other}"]'))
    folder.work(only=("b",))
    folder.plan.write_text(plan)
    without_audio(folder)
    assert {key: row["run"] for key, row in gate.rows("--accept", "all").items()} == before


def modules(folder: PlanFolder, name: str) -> list[str]:
    config = json.loads((folder.runs.root / name / "run.json").read_text())
    return list(config["settings"]["adapter"]["target_modules"])


def test_repeats_with_other_seeds_are_found_without_the_audio(folder: PlanFolder, gate: Gate) -> None:
    folder.write(queue="")
    folder.plan.write_text(folder.plan.read_text().replace("[gate]", "[gate]\nconfirm_seeds = 1"))
    folder.work()
    without_audio(folder)
    rows = gate.rows()
    assert rows["a@seed1"]["outcome"] == "accepted" and len(folder.runs.runs()) == 2


def test_a_repeat_that_nobody_made_leaves_the_row_open_without_the_audio(folder: PlanFolder, gate: Gate) -> None:
    done(folder)
    folder.plan.write_text(folder.plan.read_text().replace("[gate]", "[gate]\nconfirm_seeds = 1"))
    without_audio(folder)
    code, _, _ = gate()
    assert code == ExitCode.UNDECIDED


# Runs of other settings are found, and never judged in a row's place.


@pytest.mark.parametrize(
    ("overrides", "option"),
    [
        (["train.steps=40"], "--set train.steps=40"),
        (["a:train.learning_rate=2e-5"], "--set train.learning_rate=2e-05"),
        (["train.augment.speed=0.1"], "--set train.augment.speed=0.1"),
        (["train.steps=40", "adapter.method=lora"], "--set adapter.method=lora --set train.steps=40"),
        (['adapter.target_modules=["q_proj"]'], "--set 'adapter.target_modules=[\"q_proj\"]'"),
    ],
)
def test_runs_made_with_set_are_found_again(folder: PlanFolder, gate: Gate, overrides: list[str], option: str) -> None:
    run = done(folder, '[[experiment]]\nid = "a"\n', *overrides)
    code, out, err = gate()
    out = out.replace("\\", "")
    it = "them" if option.count("--set") > 1 else "it"
    said = f"{run.name} was made with {option}: add {it} to judge it"
    assert code == ExitCode.NOTHING_TO_JUDGE and said in err and said in out
    assert err.rstrip().splitlines()[-1] == f"gate: nothing to judge (exit 5): a: {said}"
    status = gate.command("status", str(folder.plan))[1]
    assert said in status
    code, _, _ = gate(*(x for one in overrides for x in ("--set", one)))
    assert code == ExitCode.ACCEPTED, "as it says"
    shown = gate.command("status", str(folder.plan), *(x for one in overrides for x in ("--set", one)))[1]
    assert "accepted" in shown and run.name in shown


def test_a_run_with_other_beams_is_another_run(folder: PlanFolder, gate: Gate) -> None:
    """Beams change every score. A run whose scores are not by the beams that it was asked for is not believed."""
    run = done(folder, '[[experiment]]\nid = "a"\n', "gate.beams=3")
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE
    assert f"{run.name} was made with --set gate.beams=3: add it to judge it" in err
    code, out, _ = gate("--set", "gate.beams=3")  # the fake trainer's scores are greedy
    assert code == ExitCode.REJECTED and "decoded with beams = 1, but gate.beams of the run was 3" in out.replace(
        "\n", " "
    )


def test_an_override_that_the_experiment_has_itself_is_named_for_it(folder: PlanFolder, gate: Gate) -> None:
    run = done(folder, '[[experiment]]\nid = "a"\ntrain.steps = 15\n', "a:train.steps=40")
    assert f"{run.name} was made with --set a:train.steps=40: add it to judge it" in gate()[2]


def test_a_run_made_with_only_is_found_again(folder: PlanFolder, gate: Gate) -> None:
    """A row that takes its architecture from rows that were left out."""
    folder.write(ADAPTER_FROM, queue='until = "all"')
    folder.work(only=("b",))
    code, _, err = gate()
    assert code == ExitCode.NOTHING_TO_JUDGE and "add --only 'b#1' to judge it" in err
    code, _, err = gate("--only", "b")
    assert code == ExitCode.ACCEPTED
    assert "accepted" in gate.command("status", str(folder.plan), "--only", "b")[1]


def test_a_run_at_work_with_other_settings_has_a_line_in_status(folder: PlanFolder, gate: Gate) -> None:
    run = done(folder, '[[experiment]]\nid = "a"\n', "train.steps=40")
    document = json.loads(gate.command("status", str(folder.plan), "--json")[1])
    [other] = document["other_runs"]
    assert (other["run"], other["row"], other["state"]) == (run.name, "a", "done")
    assert "--set train.steps=40" in other["why"]


# What the command says last.


@pytest.mark.parametrize(
    ("fault", "behaviour", "last"),
    [
        (None, "good", "consistent; the run is accepted (exit 0)"),
        (None, "poor", "consistent; the run is rejected (exit 1)"),
        (lambda run: run.data_health.unlink(), "good", "consistent; the run is undecided (exit 6)"),
        (
            lambda run: run.result.write_text(run.result.read_text().replace('"seconds"', '"best_step": 1, "x"')),
            "good",
            "INCONSISTENT",
        ),
    ],
)
def test_verify_ends_with_both_facts(
    folder: PlanFolder, gate: Gate, fault: Callable[[RunPaths], None] | None, behaviour: str, last: str
) -> None:
    folder.script(a=[behaviour])
    run = done(folder)
    if fault is not None:
        fault(run)
    main(["verify", str(run.root)])
    said = gate._capsys.readouterr().out
    assert last in said.splitlines()[-1], said


def test_the_dashboard_says_it_on_the_verdict_panel(folder: PlanFolder, gate: Gate) -> None:
    run = done(folder)
    (folder.root / "train.jsonl").unlink()
    source = FolderSource(folder.runs, PlanRows(folder.plan, folder.runs))

    def view() -> Any:
        board = source.read(Want("plan:a"))
        return None if board.loading else board.selected

    wait_for(view)
    seen = view()
    assert seen.snapshot.paths.name == run.name
    text = "\n".join("".join(text for text, _ in line.pieces) for line in verdict_lines(seen))
    assert "Not compared: data.train: not compared with what the run was made with" in text


def test_verify_compares_the_lines_where_the_audio_is_not_here(folder: PlanFolder, gate: Gate) -> None:
    run = done(folder)
    (folder.root / "domain.wav").unlink()
    assert main(["verify", str(run.root)]) == ExitCode.ACCEPTED
    assert "not checked: domain: only its lines were compared" in gate._capsys.readouterr().out
    rewrite(folder, "domain", text="other words")
    assert main(["verify", str(run.root)]) == ExitCode.REJECTED
    assert "the lines of domain are not those that the run was made with" in gate._capsys.readouterr().out
