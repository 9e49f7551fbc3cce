from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hub_kit import OLD, cached
from model_folder import model_folder

from core.errors import ExitCode
from core.manifests.hashing import HashCache
from core.plan.rows import expand
from core.runs.resolve import resolve
from lora_tui import plan_command
from lora_tui.request import load_plan

ROOT = Path(__file__).resolve().parents[2]
PLAN = """\
[model]
id = "org/model"
[data]
train = "train.jsonl"
domain = "domain.jsonl"
heldout = "heldout.jsonl"
[[experiment]]
id = "2.1"
title = "First \\u001b[31mred"
[[experiment]]
id = "2.2"
after = "2.1"
when = "falling"
sweep."train.learning_rate" = [5e-5, 1e-4]
[[experiment]]
id = "3.1"
adapter_from = ["2.1"]
[[history]]
id = "exp_0"
title = "made elsewhere"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("train", "domain", "heldout"):
        (tmp_path / f"{name}.wav").write_bytes(name.encode())
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"audio": f"{name}.wav", "sentence": name}) + "\n")
    (tmp_path / "experiments.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> ExitCode:
    parser = argparse.ArgumentParser()
    plan_command.add_arguments(parser)
    return plan_command.run(parser.parse_args(arguments))


def test_rows_and_conditions_are_shown_and_nothing_is_created(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached(tmp_path.with_name("empty-hub"), monkeypatch)
    before = sorted(project.iterdir())
    assert command() is ExitCode.ACCEPTED
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0] == "experiments.toml: 4 rows, until one is accepted, at most 20 runs and 24 hours"
    assert [line.split()[0] for line in lines[3:7]] == ["2.1", "2.2#1", "2.2#2", "3.1"]
    assert "5e-05" in lines[4]
    assert "not started; its hub model's commit is looked up then" in lines[3], "which is nothing wrong with the plan"
    assert "same run as 2.1" in lines[5]
    assert "decided later" in lines[6]
    assert "after 2.1; only if falling" in shown.out
    assert "target modules of the best run of 2.1" in shown.out
    assert "exp_0  made elsewhere" in shown.out
    assert sorted(project.iterdir()) == before


def test_what_is_taken_out_of_training_to_choose_on_is_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached(tmp_path.with_name("empty-hub"), monkeypatch)
    for name, speakers in (("train", 10), ("replay", 20)):
        lines = []
        for number in range(100):
            (project / f"{name}{number}.wav").write_bytes(f"{name} {number}".encode())
            line = {"audio": f"{name}{number}.wav", "sentence": f"{name} {number}", "duration": 1.0}
            lines.append(json.dumps(line | {"speaker": f"{name} {number % speakers}"}) + "\n")
        (project / f"{name}.jsonl").write_text("".join(lines))
    share = ("--set", "train.steps=60", "--set", "data.replay=replay.jsonl", "--set", "data.selection_share=0.2")
    assert command(*share) is ExitCode.ACCEPTED
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data.")]
    assert said == [
        "data.selection: 20 clips of 2 speakers, taken from the 100 of data.train (20% is asked for)",
        "data.selection_heldout: 20 clips of 4 speakers, taken from the 100 of data.replay (20% is asked for)",
    ]
    command(*share, "--json")
    assert json.loads(capsys.readouterr().out)["rows"][0]["selection"] == said
    assert command(*share, "--set", "data.selection_share=0.01") is ExitCode.BAD_USAGE
    assert "data.selection_share = 0.01 cannot be taken from data.train" in capsys.readouterr().err


def test_hostile_titles_do_not_reach_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command()
    assert "\x1b" not in capsys.readouterr().out


def test_json_has_the_same_rows(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--json", "--set", "train.steps=60") is ExitCode.ACCEPTED
    document = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in document["rows"]] == ["2.1", "2.2#1", "2.2#2", "3.1"]
    assert document["rows"][1]["settings"]["train"]["learning_rate"] == 5e-5
    assert document["rows"][0]["settings"]["train"]["steps"] == 60
    assert document["rows"][0]["identity"] == document["rows"][2]["identity"]
    assert document["rows"][3]["identity"] is None
    assert document["problems"] == []
    assert document["rows"][0]["step"] is None, "nothing tells how long the clips are"
    assert document["remarks"] == [], "a warning says it, with its line"
    [warning] = [one for one in document["warnings"] if "it cannot pass" in one]
    assert "stability stays UNKNOWN (it takes 1000 steps)" in warning


def test_an_existing_run_shows_its_state(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cached(tmp_path / "hub", monkeypatch, main=OLD)
    plan = load_plan(project / "experiments.toml")
    identity = resolve(plan, expand(plan)[0].settings, HashCache(project / "hashes.json")).identity
    folder = project / "runs" / f"2.1-{identity}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "result.json").write_text("{}")
    assert command("--json") is ExitCode.ACCEPTED
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    assert [row["state"] for row in rows] == ["done", "not started", "same run as 2.1", "decided later"]


def test_candidates_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("selection", "selection_heldout"):
        (project / f"{name}.wav").write_bytes(name.encode())
        (project / f"{name}.jsonl").write_text(
            json.dumps({"audio": f"{name}.wav", "sentence": name, "duration": 40.0}) + "\n"
        )
    assert command("--set", "train.interpolate=[0.5]") is ExitCode.BAD_USAGE
    assert "there are none: set data.selection_share = 0.1, or data.selection and" in capsys.readouterr().err
    sets = [f"data.{name}={name}.jsonl" for name in ("selection", "selection_heldout")]
    asked = [part for one in (*sets, "train.interpolate=[0.3, 0.5]") for part in ("--set", one)]
    assert command(*asked, "--set", "2.1:train.average=3") is ExitCode.ACCEPTED
    said = capsys.readouterr().out
    cost = "are made of 10 intervals and scored on the selection sets, 16 min 00 s of speech to decode"
    assert f"12 candidates {cost}" in said, "12 times 40 seconds of both sets"
    assert "2 candidates are made of 10 intervals and scored on the selection sets" in said
    assert command(*asked, "--json") is ExitCode.ACCEPTED
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [row["candidates"] for row in found] == [2, 2, 2, 2]
    assert [row["candidates_decode_s"] for row in found[:3]] == [160.0] * 3
    assert found[3]["candidates_decode_s"] is None, "its modules are decided later"


def test_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--only", "2.2#1", "--only", "3.1", "--json") is ExitCode.ACCEPTED
    assert [row["key"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["2.2#1", "3.1"]
    assert command("--only", "9") is ExitCode.BAD_USAGE
    assert capsys.readouterr().err == "--only 9: no such experiment; the plan has 2.1, 2.2, 3.1\n"


def test_missing_data_still_shows_the_rows_and_exits_4(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "train.jsonl").unlink()
    (project / "domain.jsonl").write_text("{\n")
    assert command() is ExitCode.BAD_USAGE
    shown = capsys.readouterr()
    assert "2.2#1" in shown.out
    problems = shown.err.splitlines()
    assert len(problems) == 2
    assert problems[0].startswith("data.train: no such manifest")
    assert "domain.jsonl:1: not JSON" in problems[1]


def test_evaluation_texts_without_spaces_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "heldout"):  # training texts are free
        line = {"audio": f"{name}.wav", "sentence": "今天天气很好我们去公园散步吧"}
        (project / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    for _ in range(2):  # the hashes of the second time may be known
        assert command() is ExitCode.BAD_USAGE
        (problem,) = [line for line in capsys.readouterr().err.splitlines() if "spaces" in line]
        assert "heldout.jsonl:1: 1 of 1 texts are written without spaces between words" in problem
        assert "set gate.unit to character, or to mixed" in problem
    for unit in ("character", "mixed"):
        assert command("--set", f"gate.unit={unit}") is ExitCode.ACCEPTED
    assert "spaces" not in capsys.readouterr().err
    assert command() is ExitCode.BAD_USAGE


def test_plan_problems_go_to_stderr_or_into_the_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "experiments.toml").write_text(PLAN.replace('id = "2.2"', 'id = "2.2"\nrnak = 3\nx = 1'))
    assert command() is ExitCode.BAD_USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split(": ")[0] for line in shown.err.splitlines()] == [
        "experiments.toml:12",
        "experiments.toml:13",
    ]
    assert command("--json") is ExitCode.BAD_USAGE
    document = json.loads(capsys.readouterr().out)
    assert len(document["problems"]) == 2
    assert document["rows"] == []


def test_no_plan(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("other.toml") is ExitCode.BAD_USAGE
    assert "other.toml: no such plan" in capsys.readouterr().err


def test_the_commands_start_without_the_heavy_libraries() -> None:
    code = (
        "import sys, lora_tui.plan_command, lora_tui.init_command\n"
        "print([m for m in ('textual', 'torch', 'transformers', 'peft', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def heard(project: Path, clips: int) -> None:
    """Real audio, one second each."""
    lines = []
    for number in range(clips):
        name = f"clip-{number}.wav"
        soundfile.write(project / name, np.sin(np.arange(16_000) + number).astype(np.float32) / 10, 16_000)
        lines.append(json.dumps({"audio_filepath": name, "text": "some words", "duration": 1.0}))
    (project / "train.jsonl").write_text("\n".join(lines) + "\n")


def test_what_a_run_would_die_of_is_told_before_it_starts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard(project, 11)
    (project / "experiments.toml").write_text(PLAN.partition("[[history]]")[0])
    assert command("--set", "train.steps=100") is ExitCode.BAD_USAGE
    error = capsys.readouterr().err
    assert "33 training clips in 100 micro-batches leave some without one" in error
    assert "2.1:" not in error, "all rows have it, so none is named"
    assert command("--set", "train.steps=33") is ExitCode.ACCEPTED
    assert "33     1 s, 1 clips  " in capsys.readouterr().out, "33 s in 33 steps"
    assert command("--set", "train.steps=33", "--set", "2.1:train.accumulation=2", "--json") is ExitCode.BAD_USAGE
    [problem] = json.loads(capsys.readouterr().out)["problems"]
    assert problem.startswith("2.1: train.epochs") and "66 micro-batches" in problem


def test_the_language_that_a_model_speaks_by_itself_is_remarked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder(project / "model", "wav2vec2", {"lm_head.weight": np.zeros((3, 2), np.float32)})
    (folder / "vocab.json").write_text('{"deu": {"<pad>": 0, "ö": 1}, "eng": {"<pad>": 0, "o": 1}}')
    (folder / "tokenizer_config.json").write_text('{"target_lang": "eng", "pad_token": "<pad>"}')
    command("--set", "model.id=model", "--set", "model.language=eng")
    assert "speaks" not in capsys.readouterr().err
    command("--set", "model.id=model")
    assert "remark: model speaks eng, as its tokenizer was set up; model.language chooses another" in (
        capsys.readouterr().err
    )


def test_the_layers_that_match_and_the_trained_weights_are_shown(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stacks = [f"model.{stack}.layers.0" for stack in ("encoder", "decoder")]
    leaves = {"self_attn.q_proj": (8, 8), "self_attn.out_proj": (8, 8), "fc1": (32, 8), "fc2": (8, 32)}
    weights = {f"{s}.{leaf}.weight": np.zeros(shape, np.float32) for s in stacks for leaf, shape in leaves.items()}
    model_folder(project / "model", "whisper", weights)
    arguments = ("--set", "model.id=model", "--set", "adapter.rank=4", "--set", "adapter.target_modules=q_proj")
    clips = [{"audio": "train.wav", "sentence": "words", "offset": 3.0 * n, "duration": 3.0} for n in range(9)]
    (project / "train.jsonl").write_text("\n".join(map(json.dumps, clips)) + "\n")
    command("--json", *arguments, "--set", "adapter.sites=decoder", "--set", "adapter.method=lora")
    rows = json.loads(capsys.readouterr().out)["rows"]
    sizes = [row["adapter_size"] for row in rows]
    assert rows[0]["memory"]["total"] > 4e8 and rows[-1]["memory"] is None
    assert sizes[0] == {"layers": 1, "of": 8, "trained": 64, "saved": 64, "model": 2 * (64 + 64 + 256 + 256)}
    assert sizes[-1] is None, "its target modules are decided later"
    command(*arguments, "--set", "adapter.target_modules=all-linear", "--set", "adapter.rank_pattern={fc1 = 2}")
    first = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("2.1 "))
    assert "4 fc1=2" in first and "8 of 8" in first and "848" in first and " GB " in first
    command(*arguments[:4])
    assert (
        "no linear layer named k_proj, v_proj, o_proj; there are: fc1, fc2, out_proj, q_proj" in capsys.readouterr().err
    )


def test_a_search_that_learns_shows_what_it_drew_and_names_what_it_needs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = project / "experiments.toml"
    plan.write_text(plan.read_text() + '[search]\nsampler = "tpe"\nadapter.rank = [4, 8]\n')
    assert command("--set", "queue.then=search") is ExitCode.ACCEPTED
    said = capsys.readouterr().out
    assert "a search by what rows gave (Optuna's TPE) over" in said and "adapter.rank: one of 4, 8" in said
    assert "which has drawn" not in said
    monkeypatch.setattr("core.queue.search.importlib.util.find_spec", lambda name: None)
    assert command("--set", "queue.then=search") is ExitCode.BAD_USAGE
    assert 'search.sampler: "tpe" needs optuna, which is not installed: install lora-tui[search]' in (
        capsys.readouterr().err
    )
