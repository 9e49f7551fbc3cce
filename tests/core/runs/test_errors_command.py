"""`lora-cli errors` on a run folder written by the real writers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from score_kit import score_document, utterance

from core.cli.__main__ import main
from core.runs.paths import RunPaths
from core.scoring.alignment import count_errors
from core.system.files import write_json

TEXTS = ["fit the gasket", "oil the spindle", "turn the chuck", "read the gauge"]
BEFORE = ["fit the casket", "oil the spindle", "turn the truck", "read the gauge"]
AFTER = ["fit the gasket", "oil a swindle", "turn the truck", "read the gauge"]


def score(path: Path, manifest: Path, hypotheses: list[str], **changes: Any) -> None:
    utterances = [
        utterance(f"a/{i}.wav", text, heard, asdict(count_errors(text, heard)), seconds=1.0 + i, speaker=f"s{i % 2}")
        for i, (text, heard) in enumerate(zip(TEXTS, hypotheses, strict=True))
    ]
    write_json(path, score_document(utterances, manifest=str(manifest), **changes))


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    lines = [{"audio": f"a/{i}.wav", "text": text, "speaker": f"s{i % 2}"} for i, text in enumerate(TEXTS)]
    manifest = tmp_path / "domain.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    paths = RunPaths(tmp_path / "run")
    score(paths.evaluation(0, "domain"), manifest, BEFORE)
    score(paths.tuned("domain"), manifest, AFTER)
    return paths


def test_words_and_clips_are_told(run: RunPaths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "listen" / "out.jsonl"
    assert main(["errors", str(run.root), "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "1 broken, 1 never learnt, 1 better, 1 right" in told
    assert "spindle: 1 broken" in told
    assert "heard: swindle 1" in told
    assert "chuck: 0 broken, 1 never" in told
    assert "no position effect" in told
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["audio_filepath"], line["finding"]) for line in lines] == [
        ("../a/1.wav", "broken"),
        ("../a/2.wav", "never learnt"),
    ]
    assert (lines[0]["heard_after"], lines[0]["errors_before"], lines[0]["errors_after"]) == ("oil a swindle", 0, 2)


def test_json_is_one_object(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["errors", str(run.root), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["position"]["position_effect"] is False
    assert len(document["position"]["running"]) == 4
    assert [part["name"] for part in document["position"]["speakers"]] == ["s0", "s1"]


def test_without_a_tuned_score_the_best_interval_counts(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    run.tuned("domain").unlink()
    assert main(["errors", str(run.root)]) == 4
    assert "no lora_adapter_best yet" in capsys.readouterr().err
    run.adapter(40).mkdir(parents=True)
    run.best.symlink_to("adapters/step-000040")
    score(run.evaluation(40, "domain"), run.root.parent / "domain.jsonl", AFTER)
    assert main(["errors", str(run.root)]) == 0
    assert "(step 40)" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = run.root.parent / "domain.jsonl"
    score(run.tuned("domain"), manifest, AFTER, manifest_sha256="cd")
    assert main(["errors", str(run.root)]) == 4
    assert "not scored on the manifest of interval 0" in capsys.readouterr().err
    assert main(["errors", str(run.root), "--dataset", "heldout"]) == 4
    assert "heldout.json: missing: the base model's score is needed" in capsys.readouterr().err
