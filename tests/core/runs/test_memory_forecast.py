"""The forecast of memory, by its parts; `benchmarks/memory.py` compares it with what trainers take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.plan.schema import AdapterSettings, DataSettings, ModelSettings, RunSettings, TrainSettings
from core.runs.memory_forecast import RUNTIME_BYTES, MemoryForecast, memory_forecast

WIDTH, VOCABULARY = 8, 100


def model(folder: Path, kind: str = "moonshine") -> ModelSettings:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    weights = {"model.decoder.embed_tokens.weight": np.zeros((VOCABULARY, WIDTH), np.float32)}
    for stack in ("encoder", "decoder"):
        for number in range(2):
            attentions = ("self_attn", "encoder_attn") if stack == "decoder" else ("self_attn",)
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
                    name = f"model.{stack}.layers.{number}.{attention}.{part}.weight"
                    weights[name] = np.zeros((WIDTH, WIDTH), np.float32)
            weights[f"model.{stack}.layers.{number}.mlp.fc1.weight"] = np.zeros((32, WIDTH), np.float32)
            weights[f"model.{stack}.layers.{number}.mlp.fc2.weight"] = np.zeros((WIDTH, 32), np.float32)
    save_file(weights, folder / "model.safetensors")
    return ModelSettings(str(folder))


@pytest.fixture
def plain(tmp_path: Path) -> RunSettings:
    lines = [{"audio_filepath": f"{n}.wav", "text": "some words", "duration": 10.0} for n in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return RunSettings(
        model(tmp_path / "model"),
        DataSettings(train=str(tmp_path / "train.jsonl"), domain="d", heldout="h"),
        TrainSettings(steps=10, epochs=1.0, replay_share=0.0, eval_batch_seconds=40.0),
        AdapterSettings(method="lora", rank=4, target_modules=("attention",)),
    )


def told(settings: RunSettings, **adapter: object) -> MemoryForecast:
    found = memory_forecast(replace(settings, adapter=replace(settings.adapter, **adapter)))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_parts_are_those_of_the_shapes(plain: RunSettings) -> None:
    forecast = told(plain)
    attention, mlp = 6 * 4 * WIDTH * WIDTH, 4 * 2 * 32 * WIDTH
    assert forecast.model == 4 * (attention + mlp + VOCABULARY * WIDTH)
    assert forecast.adapter == 16 * 24 * 4 * 2 * WIDTH
    assert forecast.total == RUNTIME_BYTES + forecast.model + forecast.adapter + max(forecast.step, forecast.evaluation)


def test_the_batch_counts_and_what_is_computed_again_does_not(plain: RunSettings) -> None:
    once = told(plain).step
    assert told(replace(plain, train=replace(plain.train, epochs=2.0))).step == pytest.approx(2 * once, rel=0.01)
    assert told(replace(plain, train=replace(plain.train, accumulation=2))).step == pytest.approx(once / 2, rel=0.01)
    again = replace(plain, train=replace(plain.train, gradient_checkpointing=True))
    assert told(again).step < 0.95 * once
    assert told(plain, method="dora").step > 1.2 * once
    assert told(plain, target_modules=("all-linear",)).step > once


def test_processes_on_a_cpu_share_its_memory_and_gpus_have_their_own(plain: RunSettings) -> None:
    one = replace(plain, train=replace(plain.train, accumulation=2))
    two = replace(one, train=replace(one.train, devices=2))
    assert told(two).total == 2 * told(one).total
    assert memory_forecast(two, on_cpu=False) == memory_forecast(one, on_cpu=False)


def test_a_frozen_encoder_keeps_nothing(plain: RunSettings) -> None:
    assert told(plain, sites="decoder").step < 0.5 * told(plain).step
    assert told(plain, sites="encoder", layers="1").step < told(plain, sites="encoder").step


def test_a_base_of_fewer_bits_and_what_pissa_began_with(plain: RunSettings) -> None:
    whole = told(plain)
    half = told(replace(plain, train=replace(plain.train, base_precision="bf16")))
    eighth = told(replace(plain, train=replace(plain.train, base_precision="8bit")))
    linear = 6 * 4 * WIDTH * WIDTH + 4 * 2 * 32 * WIDTH
    assert (whole.model - half.model, whole.model - eighth.model) == (2 * linear, 3 * linear)
    assert half.evaluation - whole.evaluation == 4 * linear, "scores are computed with the whole base"
    assert told(plain, method="pissa").adapter == whole.adapter * 5 // 4


def test_what_cannot_be_told_is_not_guessed(plain: RunSettings, tmp_path: Path) -> None:
    assert memory_forecast(replace(plain, model=ModelSettings("org/model"))) is None
    assert memory_forecast(replace(plain, model=model(tmp_path / "other", "musicgen"))) is None
    assert memory_forecast(replace(plain, data=replace(plain.data, train="/nowhere"))) is None


def test_a_moving_average_is_one_more_copy_and_the_divergence_takes_its_logits(plain: RunSettings) -> None:
    forecast = told(plain)
    averaged = told(replace(plain, train=replace(plain.train, ema=0.9)))
    assert averaged.adapter - forecast.adapter == 4 * 24 * 4 * 2 * WIDTH
    held = told(replace(plain, train=replace(plain.train, kl=0.5)))
    assert held.step > forecast.step and held.adapter == forecast.adapter
