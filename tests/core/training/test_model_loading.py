from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import ModelError
from core.plan.families import family_of
from core.runs.model_check import model_problem
from core.training.families import family_class
from core.training.families.seq2seq import TOKENS_PER_SECOND
from core.training.families.whisper import Whisper
from core.training.model import check_given_gpu, choose_precision, load_model


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def cut(name: str, by: int = 1000) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-by])

    return change


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


def without(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def lacking(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BROKEN = {
    "no processor": (without("processor_config.json"), "no usable processor .*needs preprocessor_config.json or"),
    "no tokenizer": (without("tokenizer.json", "tokenizer_config.json"), "no usable processor .*tokenizer.json"),
    "broken tokenizer": (write("tokenizer.json", "{}"), "no usable processor"),
    "no configuration": (without("config.json"), "no config.json; give a folder in hub format"),
    "configuration that is no JSON": (write("config.json", "{"), "config.json is not JSON"),
    "configuration that is a list": (write("config.json", "[]"), "config.json is no JSON object"),
    "wrong type in the configuration": (config(hidden_size="x"), "cannot be loaded .*hidden_size"),
    "unknown architecture": (
        config(model_type="no_such_one"),
        "model_type no_such_one, which cannot be fine-tuned here; what can be: whisper",
    ),
    "a speech model of another kind": (config(model_type="dia"), "model_type dia, which cannot be fine-tuned here"),
    "other sizes": (config(hidden_size=48), "config.json says hidden_size = 48, and no weights are of that size"),
    "more layers than weights": (
        config(encoder_num_hidden_layers=2),
        "encoder_num_hidden_layers = 2, and the weights have 1 of these layers: config.json and the weights",
    ),
    "more weights than files": (lacking("model.decoder.norm.weight"), "1 of its weights are not in its safetensors"),
    "cut weights": (cut("model.safetensors"), "model.safetensors is cut off"),
    "empty weights": (write("model.safetensors", ""), "model.safetensors is no whole safetensors file"),
    "pickled weights": (pickled, r"no \*.safetensors; .*convert the model with save_pretrained"),
}


ONLY_LOADING_TELLS = ("wrong type in the configuration", "more weights than files")
"""Because it takes transformers' own classes to know what a network consists of."""


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_folder_is_named_in_one_sentence(
    case: str, tiny_moonshine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, message = BROKEN[case]
    folder = tmp_path / "model"
    shutil.copytree(tiny_moonshine, folder)
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(folder))
    text = str(caught.value)
    assert text.startswith(f"model {folder}: ")
    assert "\n" not in text
    assert len(text) < 600
    assert capfd.readouterr().err == "", "one sentence, not a report beside it"
    if case not in ONLY_LOADING_TELLS:
        assert text == f"model {folder}: {model_problem(folder)}", "a plan says it, in the same sentence"


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c", "model", "~/x"])
def test_a_name_that_is_neither_folder_nor_hub_id_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(ModelError, match="no such folder; give a folder in hub format or a hub id"):
        load_model(name)


def test_loading_says_nothing_and_leaves_transformers_its_warnings(
    tiny_moonshine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    load_model(str(tiny_moonshine))
    assert logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_a_loaded_model_is_frozen_in_fp32_and_evaluation_mode(tiny_moonshine: Path) -> None:
    model = load_model(str(tiny_moonshine), device=torch.device("cpu"))
    assert not model.network.training
    assert {(p.dtype, p.requires_grad) for p in model.network.parameters()} == {(torch.float32, False)}
    assert (model.family, model.precision) == ("moonshine", "fp32")


def test_whisper_starts_with_its_language_and_task_and_keeps_its_suppressed_tokens(tiny_whisper: Path) -> None:
    model = load_model(str(tiny_whisper))
    spelled = model.tokenizer.convert_ids_to_tokens(list(model.vocabulary.prefix))
    assert spelled == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    assert model.vocabulary.suppressed == (5, 6)
    assert set(model.vocabulary.eos) < set(model.vocabulary.suppressed_first)
    assert model.limits.max_seconds == 30.0
    assert model.limits.max_tokens == 448 - 4 - 1


def test_auto_precision_is_fp32_on_the_cpu() -> None:
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_bf16_where_the_gpu_does_not_emulate_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, chosen: str
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", torch.device("cuda")) == chosen


def test_a_gpu_that_was_given_and_cannot_be_used_is_no_reason_to_train_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f0c")
    with pytest.raises(ModelError, match=r"cannot use GPU-8f0c, .* driver"):
        check_given_gpu(cpu)
    check_given_gpu(torch.device("cuda"))
    for nothing_given in ("", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing_given)
        check_given_gpu(cpu)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f0c")
    check_given_gpu(cpu)


def test_the_token_cap_is_what_no_speech_exceeds(tiny_moonshine: Path, tiny_whisper: Path) -> None:
    assert load_model(str(tiny_moonshine)).limits.tokens_per_second == TOKENS_PER_SECOND == 40.0
    limits = load_model(str(tiny_whisper)).limits
    # 30 letters and 8 spaces, the fastest that the data audit takes for speech, in a vocabulary of characters
    assert limits.tokens(16_000) >= min(limits.max_tokens, 38)


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"model_type": "moonshine", "vocab_size": 32768}, 13.0),
        ({"model_type": "moonshine_streaming", "vocab_size": 32768}, 13.0),
        ({"model_type": "moonshine", "vocab_size": 72}, 40.0),
        ({"model_type": "whisper", "vocab_size": 51864, "is_multilingual": False}, 40.0),
        # each letter of most scripts may take three tokens
        ({"model_type": "whisper", "vocab_size": 51865, "is_multilingual": True}, 120.0),
    ],
)
def test_the_token_cap_comes_from_the_model_alone(changes: dict[str, Any], rate: float) -> None:
    config = SimpleNamespace(**changes)
    network = SimpleNamespace(config=config, generation_config=config)
    facts = family_of(config.model_type)
    assert facts is not None
    assert family_class(facts).tokens_per_second(network) == rate


def test_training_texts_lift_the_ban_of_their_own_tokens_only(tiny_whisper: Path) -> None:
    model = load_model(str(tiny_whisper))
    model.network.generation_config.suppress_tokens = [3, 5, 9]
    model = replace(model)
    assert isinstance(model, Whisper)
    allowed = model.allowing([5, 6, 7]).allowing([9])
    assert (allowed.vocabulary.suppressed, allowed.lifted) == ((3,), (5, 9))
    assert model.vocabulary.suppressed == (3, 5, 9) and model.lifted == ()
    assert model.allowing([6]).vocabulary == model.vocabulary


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_git_lfs_pointers_are_named(tmp_path: Path, name: str) -> None:
    for other in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / other).write_text("{}")
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    with pytest.raises(ModelError, match=f"{name}: a git-lfs pointer, not the file itself: run `git lfs pull`"):
        load_model(str(tmp_path))
