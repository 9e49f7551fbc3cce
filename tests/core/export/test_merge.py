"""`lora-cli merge`: a plain model folder that says what was judged, or a clear word and no folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from fake_run import FakeRun
from training_kit import speechlike

from core.audio.samples import normalise
from core.cli.export_command import _holds as holds
from core.errors import ExitCode
from core.export.exporting import Exported
from core.export.hf import save
from core.plan.exports import target_of
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import AdapterFacts
from core.runs.exports import RuntimeNamed, read_export, wrong_export
from core.runs.judged import judged
from core.runs.paths import RunPaths
from core.runs.store import read_run
from core.scoring.evidence import Thresholds
from core.scoring.served import Difference
from core.training.adapter import attach, load_adapter, save_adapter, trainable
from core.training.evaluation import normalisation_fingerprint
from core.training.families.base import SpeechModel
from core.training.model import load_model

FINGERPRINT = normalisation_fingerprint(0.075, "basic")


def facts(model: Path, model_hash: str = "h") -> AdapterFacts:
    return AdapterFacts(1, "i", str(model), None, model_hash, 0.075, "basic", FINGERPRINT, 1000.0, 40.0, "fp32", 1)


def adapter_on(model: Path, folder: Path, targets: tuple[str, ...] = ("q_proj",), **more: Any) -> Path:
    """An adapter that changes what the model says."""
    speech = attach(load_model(str(model)), AdapterSettings(rank=2, target_modules=targets, **more), 0)
    torch.manual_seed(1)
    for parameter in trainable(speech).values():
        parameter.data.normal_(0, 0.3)
    save_adapter(speech, folder, facts(model))
    return folder


def written(speech: SpeechModel) -> list[list[int]]:
    clips = [normalise(speechlike(text)).samples for text in ("one", "two three four")]
    with torch.inference_mode():
        return speech.decode(speech.encode(speech.features(clips)), [12, 12])


@pytest.mark.heavy
def test_a_run_is_merged_and_its_sets_are_decoded_from_the_folder(
    run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "a folder with spaces"
    done = lora_cli("merge", run.root, "-o", folder)
    assert done.code == ExitCode.ACCEPTED, done.err
    assert "domain: 0 of 9 transcripts changed, WER +0.00 points" in done.out
    assert "heldout: 0 of 6 transcripts changed" in done.out
    said = json.loads(run.export("hf-float32").read_text())
    assert {name: one["changed"] for name, one in said["sets"].items()} == {"domain": 0, "heldout": 0}
    assert said["runtime"]["name"] == "transformers"
    export, problem = read_export(run, "hf-float32")
    assert export is not None, problem
    assert list(wrong_export(run, "hf-float32", export, said["adapter_hash"])) == []
    assert {"model.safetensors", "README.md", "config.json"} <= said["files"].keys()
    assert "Verdict" in (folder / "README.md").read_text()
    assert [path.name for path in tmp_path.glob(".*")] == []
    moved = folder.rename(tmp_path / "elsewhere")
    heard = lora_cli("hear", run.root, moved)
    assert (heard.code, "hf:float32, heard again from" in heard.out) == (ExitCode.ACCEPTED, True), heard.err
    said_then = run.served("hf-float32", "domain").read_bytes()
    transcripts_of_another_model(run)
    forged = lora_cli("hear", run.root, moved, "--json")
    assert forged.code == ExitCode.REJECTED, forged.err
    assert "1 of 9 transcripts of domain and 0 of 6" in json.loads(forged.out)["problems"][0]
    run.served("hf-float32", "domain").write_bytes(said_then)
    config = (moved / "config.json").read_bytes()
    (moved / "config.json").write_text("{}")
    edited = lora_cli("hear", run.root, moved)
    assert (edited.code, "of 'hf:float32', the nearest, other files are 'config.json'" in edited.err) == (1, True)
    (moved / "config.json").write_bytes(config)
    moved.rename(folder)
    transformers.AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    again = lora_cli("merge", run.root, "-o", folder)
    assert (again.code, "is there already" in again.err) == (ExitCode.BAD_USAGE, True)


def transcripts_of_another_model(run: RunPaths) -> None:
    """A served document of another transcript with as many errors, and an export.json that bears it out."""
    where = run.served("hf-float32", "domain")
    document = json.loads(where.read_text())
    one = next(one for one in document["utterances"] if one["substitutions"])
    one["hypothesis"] = f"{one['hypothesis'].rpartition(' ')[0]} another".strip()
    where.write_text(json.dumps(document))
    export = json.loads(run.export("hf-float32").read_text())
    export["sets"]["domain"] |= {"sha256": hashlib.sha256(where.read_bytes()).hexdigest(), "changed": 1}
    run.export("hf-float32").write_text(json.dumps(export))


@pytest.mark.heavy
def test_fewer_bits_report_what_they_change(run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = lora_cli("merge", run.root, "-o", tmp_path / "bf16", "--dtype", "bf16", "--json")
    assert done.code == ExitCode.ACCEPTED, done.err
    said = json.loads(done.out)
    assert said["target"] == "hf:bfloat16"
    assert said["sets"]["domain"]["low_pp"] <= said["sets"]["domain"]["rise_pp"] <= said["sets"]["domain"]["high_pp"]


def test_an_adapter_that_is_of_no_run_is_merged_and_not_judged(
    tiny_moonshine: Path, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter_on(tiny_moonshine, adapter)
    digest = _base_hash(tiny_moonshine)
    rewritten = json.loads((adapter / "reproduce.json").read_text()) | {"model_hash": digest}
    (adapter / "reproduce.json").write_text(json.dumps(rewritten))
    done = lora_cli("merge", adapter, "-o", tmp_path / "merged")
    assert done.code == ExitCode.UNDECIDED, done.err
    assert "no judged transcripts to compare with" in done.err
    judged, _ = load_adapter(load_model(str(tiny_moonshine)), adapter)
    assert written(load_model(str(tmp_path / "merged"))) == written(judged)


def _base_hash(model: Path) -> str:
    from core.manifests.hashing import HashCache
    from core.runs.model_files import model_hash

    return model_hash(model, HashCache(Path("/dev/null")))


def test_a_layer_that_shared_its_weights_is_kept_apart_when_an_adapter_changed_it(
    tiny_whisper: Path, tmp_path: Path
) -> None:
    adapter = adapter_on(tiny_whisper, tmp_path / "adapter", ("proj_out", "q_proj"))
    judged, _ = load_adapter(load_model(str(tiny_whisper)), adapter)
    expected = written(judged)
    save(judged, tmp_path / "merged", "float32")
    assert written(load_model(str(tmp_path / "merged"))) == expected != written(load_model(str(tiny_whisper)))


def test_tokens_that_were_lifted_are_not_banned_in_the_folder(tiny_whisper: Path, tmp_path: Path) -> None:
    speech = load_model(str(tiny_whisper))
    speech.network.generation_config.suppress_tokens = [5, 6]
    save(speech.allowing([5]).with_beams(3), tmp_path / "merged", "float32")
    generation = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert (generation["suppress_tokens"], generation["num_beams"]) == ([6], 3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_weights_have_the_precision_that_was_asked_for(precision: str, tiny_moonshine: Path, tmp_path: Path) -> None:
    save(load_model(str(tiny_moonshine)), tmp_path / "merged", precision)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == precision


def test_an_adapter_whose_base_changed_is_refused_and_nothing_is_left(
    tiny_moonshine: Path, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    adapter = adapter_on(tiny_moonshine, tmp_path / "adapter")  # its facts name a hash that the model has not
    done = lora_cli("merge", adapter, "-o", tmp_path / "out" / "merged")
    assert (done.code, "there is no folder" in done.err) == (ExitCode.BAD_USAGE, True)
    done = lora_cli("merge", adapter, "-o", tmp_path / "merged")
    assert (done.code, "was trained on base model" in done.err) == (ExitCode.BAD_USAGE, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_a_full_disk_is_said_and_leaves_nothing(run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: both say that no more can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        done = lora_cli("merge", run.root, "-o", tmp_path / "merged")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (done.code, "the disk is full" in done.err) == (ExitCode.BAD_USAGE, True), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name]


def test_a_run_folder_that_has_no_room_for_what_was_heard_leaves_no_folder(
    run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    runtime = RuntimeNamed("transformers", "5", "cpu", "fp32")
    monkeypatch.setattr("core.export.exporting._served", lambda source, *_: (source.scores, runtime))
    monkeypatch.setattr("core.export.exporting.write_export", full)
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged")
    assert (done.code, "the disk is full" in done.err) == (ExitCode.BAD_USAGE, True), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name]


def test_a_run_folder_that_cannot_be_written_is_said_before_anything_is_loaded(
    run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("core.export.exporting.os.access", lambda *_: False)
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged")
    assert (done.code, "cannot be written, and what the runtime says" in done.err) == (ExitCode.BAD_USAGE, True)


@pytest.mark.parametrize("below", [".", "exports", "lora_adapter_best"])
def test_a_run_folder_takes_no_export_into_itself(below: str, run: RunPaths, lora_cli: Callable[..., Any]) -> None:
    (run.exports).mkdir()
    done = lora_cli("merge", run.root, "-o", run.root / below / "merged")
    assert (done.code, "where only what is judged belongs" in done.err) == (ExitCode.BAD_USAGE, True)


@pytest.mark.parametrize("model", ["/nothing", "nothing", "~/nothing"])
def test_a_base_model_that_is_no_folder_is_named(
    model: str, run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged", "--model", model)
    assert (done.code, "nothing: no such folder; give one in hub format" in done.err) == (ExitCode.BAD_USAGE, True)


def test_a_run_folder_of_another_base_is_refused(
    run: RunPaths, tiny_moonshine: Path, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_moonshine, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"initializer_range": 0.5}))
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged", "--model", other)
    assert (done.code, "not on this one" in done.err) == (ExitCode.BAD_USAGE, True)
    assert not (tmp_path / "merged").exists()


def test_an_adapter_that_was_edited_is_refused(run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path) -> None:
    [config] = run.best.resolve().glob("adapter_config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 99}))
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged")
    assert (done.code, "changed since it was saved" in done.err) == (ExitCode.BAD_USAGE, True)


@pytest.mark.parametrize("what", ["nothing", "empty"])
def test_what_is_neither_run_nor_adapter_is_named(what: str, lora_cli: Callable[..., Any], tmp_path: Path) -> None:
    if what == "empty":
        (tmp_path / what).mkdir()
    done = lora_cli("merge", tmp_path / what, "-o", tmp_path / "merged")
    assert (done.code, "give a run folder or an adapter folder" in done.err) == (ExitCode.BAD_USAGE, True)


@pytest.mark.parametrize(
    ("domain", "heldout", "code"),
    [(180, 30, ExitCode.ACCEPTED), (299, 30, ExitCode.REJECTED), (180, 40, ExitCode.REJECTED)],
)
def test_what_the_adapter_had_and_its_runtime_lost_is_exit_code_1(
    domain: int, heldout: int, code: ExitCode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = FakeRun(tmp_path / "2.1-0123456789").good()
    run.exported(domain, heldout)
    target = target_of("ct2:int8")
    assert target is not None
    found = judged(read_run(run.paths), Thresholds())
    source: Any = SimpleNamespace(run=found)
    assert holds(source, target) == code
    said = capsys.readouterr().err
    assert "Runtime parity: As ct2:int8, by faster-whisper 1.2.1 on cpu in int8_float32: Domain WER" in said
    assert f"Domain WER 50.00 → {domain / 6:.2f} %" in said


def test_a_merge_in_fp32_that_changes_a_transcript_is_exit_code_1(
    run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = Difference(9, 1, 3, 20, 0.0, -1.0, 1.0)
    runtime = RuntimeNamed("transformers", "5", "cpu", "fp32")
    made = Exported(tmp_path / "merged", {}, runtime, {"domain": changed})
    monkeypatch.setattr("core.export.exporting.export", lambda *_, **__: made)
    done = lora_cli("merge", run.root, "-o", tmp_path / "merged")
    assert (done.code, "transcripts that differ from the judged ones: 1" in done.err) == (ExitCode.REJECTED, True)


def test_what_is_to_be_heard_again_must_be_an_export_of_the_run(
    run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    done = lora_cli("hear", run.root, tmp_path / "nothing")
    assert (done.code, "give one that `lora-cli export` wrote" in done.err) == (ExitCode.BAD_USAGE, True)
    (tmp_path / "empty").mkdir()
    done = lora_cli("hear", run.root, tmp_path / "empty")
    assert (done.code, "the run has no export" in done.err) == (ExitCode.REJECTED, True)
    done = lora_cli("hear", run.best.resolve().parent / "step-000000", tmp_path / "empty")
    assert done.code == ExitCode.BAD_USAGE
