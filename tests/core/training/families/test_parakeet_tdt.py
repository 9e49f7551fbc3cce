"""Parakeet-TDT: its loss by a hand-written recursion, its greedy decoding as that of `generate`, its caps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctc_kit import tiny_parakeet_tdt
from training_kit import digit_texts, speechlike

from core.training.families import parakeet_tdt
from core.training.model import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_parakeet_tdt(tmp_path_factory.mktemp("tdt"))


@pytest.fixture
def speech(folder: Path) -> Any:
    return load_model(str(folder))


def minus_log_probability(logits: Any, units: Sequence[int], blank: int, vocabulary: int, durations: Any) -> float:
    """Of all ways through frames and `units` that end with a blank; logits (frames, units + 1, …)."""
    symbols = logits[..., :vocabulary].double().log_softmax(-1)
    steps = logits[..., vocabulary:].double().log_softmax(-1)

    @lru_cache(None)
    def from_here(frame: int, unit: int, ended: bool) -> float:
        if frame >= len(logits):
            return 0.0 if frame == len(logits) and unit == len(units) and ended else -math.inf
        ways = []
        for place, step in enumerate(durations):
            here = float(steps[frame, unit, place])
            if step:
                ways.append(float(symbols[frame, unit, blank]) + here + from_here(frame + step, unit, True))
            if unit < len(units):
                ways.append(float(symbols[frame, unit, units[unit]]) + here + from_here(frame + step, unit + 1, False))
        return float(torch.tensor(ways).logsumexp(0))

    return -from_here(0, 0, False)


def test_loss_is_that_of_all_ways_through_frames_and_units(speech: Any) -> None:
    texts = digit_texts(5, 0, 2)
    targets = [speech.targets(text) for text in texts]
    expected = 0.0
    with torch.inference_mode():
        encoded = speech.encode(speech.features([speechlike(text) for text in texts]))
        for row, units in enumerate(targets):
            frames = encoded.pooler_output[row : row + 1, : int(encoded.attention_mask[row].sum())]
            logits = speech.network(
                encoder_outputs=type(encoded)(pooler_output=frames),
                decoder_input_ids=torch.tensor([[speech.blank, *units]]),
            ).logits[0]
            expected += minus_log_probability(
                logits, units, speech.blank, speech.network.config.vocab_size, speech.durations
            )
        assert float(speech.summed_loss(encoded, targets)) == pytest.approx(expected, rel=1e-5)


def test_loss_and_gradients_do_not_depend_on_how_much_fits_at_once(
    speech: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*digit_texts(5, 0, 2), ""]
    targets = [speech.targets(text) for text in texts]
    features = speech.features([speechlike(text or "one") for text in texts])
    speech.network.requires_grad_(True)

    def gradients() -> tuple[float, list[Any]]:
        speech.network.zero_grad()
        loss = speech.summed_loss(speech.encode(features), targets)
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in speech.network.parameters() if p.grad is not None]

    loss, whole = gradients()
    monkeypatch.setattr(parakeet_tdt, "JOINT_ELEMENTS", 1)
    in_parts, parts = gradients()
    assert in_parts == pytest.approx(loss, rel=1e-6)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def talkative(speech: Any) -> Any:
    """The same model with an output that is neither all blanks nor none."""
    with torch.no_grad():
        torch.manual_seed(3)
        speech.network.encoder_projector.weight.normal_(0, 1.0)
        speech.network.joint.head.bias[speech.blank] += 3.0
        # `generate` takes the likeliest of units and durations together; these then go beyond its vocabulary
        speech.network.joint.head.bias[speech.network.config.vocab_size :] -= 1000.0
        # no repetition without end
        speech.network.joint.head.bias[speech.network.config.vocab_size] -= 1000.0
    return speech


def clips() -> list[Any]:
    return [speechlike(text, seed) for seed, text in enumerate(digit_texts(8, 1, 4))]


def test_greedy_decoding_is_that_of_generate(speech: Any) -> None:
    """Of one clip: in a batch, `generate` goes on writing for clips that have ended."""
    talkative(speech)
    silent = {speech.blank, speech.network.config.pad_token_id}
    with torch.inference_mode():
        here = speech.decode(speech.encode(speech.features(clips())), [400] * len(clips()))
    for clip, written in zip(clips(), here, strict=True):
        theirs = speech.network.generate(**speech.features([clip])).sequences[0].tolist()
        assert written == [unit for unit in theirs if unit not in silent]
    assert len({tuple(written) for written in here}) > 4


def test_a_cap_ends_its_own_clip_only(speech: Any) -> None:
    talkative(speech)
    features = speech.features(clips())
    with torch.inference_mode():
        encoded = speech.encode(features)
        free = speech.decode(encoded, [400] * len(clips()))
        longest = max(range(len(free)), key=lambda row: len(free[row]))
        caps = [400] * len(free)
        caps[longest] = 1
        capped = speech.decode(encoded, caps)
    assert len(free[longest]) > 1
    assert capped == [row[:1] if place == longest else row for place, row in enumerate(free)]


def test_a_repetition_without_end_is_capped(speech: Any) -> None:
    """transformers ends a unit that goes on by no frame only at the length of the whole batch."""
    with torch.no_grad():
        speech.network.joint.head.bias[5] += 1000.0
        speech.network.joint.head.bias[speech.network.config.vocab_size] += 1000.0
        encoded = speech.encode(speech.features([np.zeros(16_000, dtype=np.float32)]))
    assert speech.decode(encoded, [speech.limits.tokens(16_000)]) == [[5] * 42]


def test_a_clip_is_heard_alone_and_in_a_batch_alike(speech: Any) -> None:
    talkative(speech)
    every = [np.zeros(10, dtype=np.float32), *clips()]
    with torch.inference_mode():
        together = speech.encode(speech.features(every))
        written = speech.decode(together, [200] * len(every))
        for row, clip in enumerate(every):
            alone = speech.encode(speech.features([clip]))
            frames = int(alone.attention_mask.sum())
            torch.testing.assert_close(
                together.pooler_output[row, :frames], alone.pooler_output[0, :frames], atol=1e-4, rtol=1e-4
            )
            assert speech.decode(alone, [200]) == [written[row]]
