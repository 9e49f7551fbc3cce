"""The forms of an export: what each changes, and what it refuses by name, with nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ctc_kit import CTC_KINDS, tiny_ctc
from training_kit import speechlike, tiny_streaming

from core.audio.samples import normalise
from core.errors import ExitCode, ModelError
from core.export import ct2, lora, onnx
from core.export.serve import Request
from core.export.source import Source
from core.plan.schema import AdapterSettings
from core.runs.adapter_files import CONFIG, WEIGHTS, AdapterFacts, adapter_hash, read_facts
from core.runs.paths import RunPaths
from core.runs.scores import Decoding
from core.scoring.units import Unit
from core.training.adapter import attach, load_adapter, save_adapter, trainable
from core.training.evaluation import normalisation_fingerprint
from core.training.model import load_model

FINGERPRINT = normalisation_fingerprint(0.075, "basic")


def source(model: Path, folder: Path, by: float = 0.3, **settings: Any) -> Source:
    """An adapter on the model, each of its parameters moved by that much."""
    from core.manifests.hashing import HashCache
    from core.runs.model_files import model_hash

    settings = {"target_modules": ("attention",)} | settings
    speech = attach(load_model(str(model)), AdapterSettings(rank=2, **settings), 0)
    torch.manual_seed(1)
    for parameter in trainable(speech).values():
        parameter.data += by * torch.randn_like(parameter)
    digest = model_hash(model, HashCache(Path("/dev/null")))
    facts = AdapterFacts(1, "i", str(model), None, digest, 0.075, "basic", FINGERPRINT, 1000.0, 40.0, "fp32", 1)
    save_adapter(speech, folder, facts)
    found = read_facts(folder)
    assert found is not None
    return Source(folder, adapter_hash(folder), found, str(model))


def weights(model: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """Of the merged model."""
    return dict(load_adapter(load_model(str(model)), adapter)[0].network.named_parameters())


@pytest.mark.parametrize("settings", [{"method": "rslora"}, {"method": "lora", "rank_pattern": ("q_proj=3",)}])
def test_a_lora_keeps_its_update(settings: dict[str, Any], tiny_moonshine: Path, tmp_path: Path) -> None:
    said = lora.write(source(tiny_moonshine, tmp_path / "adapter", **settings), tmp_path / "plain", "float32")
    assert said["method"] == "exact"
    config = json.loads((tmp_path / "plain" / CONFIG).read_text())
    assert (config["use_rslora"], config["use_dora"], config["r"]) == (False, False, config["lora_alpha"])
    before, after = (weights(tiny_moonshine, tmp_path / name) for name in ("adapter", "plain"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_dora_becomes_a_lora_that_leaves_out_no_more_than_it_says(tiny_moonshine: Path, tmp_path: Path) -> None:
    said = lora.write(source(tiny_moonshine, tmp_path / "adapter", method="dora"), tmp_path / "plain", "float32")
    assert 0 < said["largest_error"] <= lora.LARGEST_ERROR
    names = {name.rpartition(".")[2] for name in _tensors(tmp_path / "plain")}
    assert names == {"weight"} and not any("magnitude" in name for name in _tensors(tmp_path / "plain"))
    plain = dict(load_model(str(tiny_moonshine)).network.named_parameters())
    before, after = (weights(tiny_moonshine, tmp_path / name) for name in ("adapter", "plain"))
    shares = [
        float((after[name] - before[name]).norm() / (before[name] - plain[name]).norm())
        for name in plain
        if not torch.equal(before[name], plain[name])
    ]
    assert max(shares) == pytest.approx(said["largest_error"], abs=1e-3)


def _tensors(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        return list(file.keys())


def test_the_lowest_rank_is_taken_that_is_near_enough() -> None:
    values = torch.tensor([3.0, 4e-1, 3e-1, 0.0])
    assert lora.lowest_rank(values, 0.2) == (1, pytest.approx(0.5 / (9 + 0.25) ** 0.5))
    assert lora.lowest_rank(values, 0.1)[0] == 2
    assert lora.lowest_rank(values, 1e-9) == (3, 0.0)
    assert lora.lowest_rank(torch.zeros(4), 0.1) == (1, 0.0)


def served_by_ct2() -> dict[str, Any]:
    """Settings that CTranslate2 has wav2vec2 models with."""
    pytest.importorskip("ctranslate2", reason="needs the extra ct2")
    return {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def test_a_wav2vec2_says_the_same_in_ctranslate2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import transformers

    class Fixed(transformers.Wav2Vec2Config):  # type: ignore[misc]
        """CTranslate2 knows one shape of the convolution that tells positions."""

        def __init__(self, **more: Any) -> None:
            super().__init__(**more | {"num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16})

    monkeypatch.setitem(CTC_KINDS, "served", ("Wav2Vec2", served_by_ct2()))
    monkeypatch.setattr(transformers, "Wav2Vec2Config", Fixed)
    (model := tmp_path / "model").mkdir()
    tiny_ctc(model, "served")
    monkeypatch.undo()
    found = source(model, tmp_path / "adapter", method="dora")
    said = ct2.write(found, tmp_path / "a folder with spaces", "float32")
    assert said["converter"].startswith("ctranslate2 ")
    request = _request(found, tmp_path / "a folder with spaces")
    recogniser = ct2.opened(request)
    judged, _ = load_adapter(load_model(str(model)), tmp_path / "adapter")
    for text in ("one", "two three four", "six seven eight nine"):
        clip = normalise(speechlike(text)).samples
        with torch.inference_mode():
            [ids] = judged.decode(judged.encode(judged.features([clip])), [448])
        assert recogniser.text(clip, None) == judged.text(ids) != ""
    assert recogniser.runtime.name == "ctranslate2"


def _request(found: Source, folder: Path, **decode: Decoding) -> Request:
    return Request(
        target="ct2:float32",
        folder=str(folder),
        model=found.model,
        revision=None,
        base_hash=found.facts.model_hash,
        facts=found.facts,
        adapter_hash=found.digest,
        unit=Unit.WORD,
        sets={},
        decode=decode,
        output="",
    )


@pytest.mark.heavy
def test_a_streaming_moonshine_says_the_same_in_onnx_runtime(tmp_path: Path) -> None:
    """Each layer's window is that of transformers, which the exporter reads as one frame more on each side."""
    for package in ("moonshine_voice", "onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}, of the extra onnx")
    (model := tmp_path / "model").mkdir()
    tiny_streaming(model)
    found = source(model, tmp_path / "adapter", method="dora")
    said = onnx.write(found, tmp_path / "whole", "float32")
    assert said["converter"].startswith("moonshine-voice ")
    judged, _ = load_adapter(load_model(str(model)), tmp_path / "adapter")
    judged = judged.capped_at(found.facts.tokens_per_second)
    recogniser = onnx.opened(_request(found, tmp_path / "whole", domain=judged.decoding))
    assert (recogniser.runtime.name, recogniser.runtime.precision) == ("onnxruntime", "float32")
    for text in ("one", "two three four", "six seven eight nine"):
        clip = normalise(speechlike(text)).samples
        with torch.inference_mode():
            [ids] = judged.decode(judged.encode(judged.features([clip])), [judged.limits.tokens(len(clip))])
        assert recogniser.text(clip, None) == judged.text(ids) != ""
    onnx.write(found, tmp_path / "less", "int8")
    assert onnx.opened(_request(found, tmp_path / "less")).runtime.precision == "int8"


def test_a_wav2vec2_that_ctranslate2_has_not_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2", reason="needs the extra ct2")
    (model := tmp_path / "model").mkdir()
    tiny_ctc(model, "wav2vec2")
    with pytest.raises(ModelError, match=r"with feat_extract_norm = layer in config\.json"):
        ct2.write(source(model, tmp_path / "adapter"), tmp_path / "out", "float32")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "ct2"), "a moonshine model has no such form (it holds whisper, wav2vec2): take --to hf"),
        (("--to", "onnx"), "a moonshine model has no such form (it holds moonshine_streaming): optimum's exporter"),
        (("--to", "ggml"), "no package on PyPI converts to it: merge with --to hf, then"),
        (("--to", "hf", "--quantise", "int8"), "hf has no such weights (it has float32, bfloat16, float16)"),
        (("--to", "hf", "--largest-error", "0.1"), "goes with --to lora alone"),
        (("--to", "lora", "--largest-error", "1"), "must be above 0 and below 1"),
        (("--to", "vllm"), "invalid choice: 'vllm'"),
    ],
)
def test_what_a_form_cannot_do_is_refused_and_nothing_is_written(
    options: tuple[str, ...], said: str, run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    done = lora_cli("export", run.root, *options, "-o", tmp_path / "out")
    assert (done.code, said in done.err) == (ExitCode.BAD_USAGE, True), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name]


def test_a_missing_runtime_names_the_extra(
    run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("core.export.exporting.find_spec", lambda name: None)
    monkeypatch.setattr("core.export.exporting.model_type", lambda source: "whisper")
    done = lora_cli("export", run.root, "--to", "ct2", "-o", tmp_path / "out")
    assert done.code == ExitCode.BAD_USAGE
    assert "ctranslate2 and faster_whisper not installed: pip install 'lora-tui[ct2]'" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("status", "said"), [(4, "ended with exit code 4"), (-9, "was killed by signal 9")])
def test_a_runtime_that_fails_leaves_nothing(
    status: int, said: str, run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Died(SimpleNamespace):
        def __enter__(self) -> Died:
            return self

        def __exit__(self, *_: object) -> None:
            return

    died = Died(wait=lambda: status)
    monkeypatch.setattr("core.export.exporting.subprocess.Popen", lambda *_, **__: died)
    done = lora_cli("merge", run.root, "-o", tmp_path / "out")
    assert (done.code, said in done.err) == (ExitCode.BAD_USAGE, True), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name]
    assert not run.exports.exists()


def test_an_interrupted_export_leaves_nothing(
    run: RunPaths, lora_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.export.exporting._run", interrupted)
    done = lora_cli("merge", run.root, "-o", tmp_path / "out")
    assert done.code == ExitCode.INTERRUPTED, done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name]


def test_sets_that_are_not_here_leave_the_export_unjudged(
    run: RunPaths, lora_cli: Callable[..., Any], tmp_path: Path
) -> None:
    config = json.loads(run.config.read_text())
    config["settings"]["data"]["domain"] = str(tmp_path / "gone.jsonl")
    run.config.write_text(json.dumps(config))
    done = lora_cli("merge", run.root, "-o", tmp_path / "out")
    assert (done.code, "gone.jsonl is not on this machine" in done.err) == (ExitCode.UNDECIDED, True), done.err
    assert (tmp_path / "out" / "model.safetensors").is_file() and not run.exports.exists()
