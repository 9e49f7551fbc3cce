"""Moonshine's own forward pass for scoring is that of transformers, and rows that have ended leave the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.audio.samples import normalise
from core.plan.schema import AdapterSettings
from core.training.adapter import attach, merged
from core.training.decode import Encoded
from core.training.families import moonshine_scoring
from core.training.families.moonshine import Moonshine
from core.training.families.moonshine_scoring import LeanEncoded
from core.training.families.seq2seq import Seq2Seq
from core.training.model import load_model


@pytest.fixture
def speech(base_model: Path) -> Any:
    """The small Moonshine that knows digits."""
    return load_model(str(base_model))


@pytest.fixture
def clips(digits: Path, decoded: Callable[[Any], Any]) -> list[Any]:
    """Real speech of many lengths, the longest first, and a clip too short to be speech."""
    found = [normalise(clip).samples for clip in decoded(digits / "heldout_manifest.jsonl")[1]]
    return [*sorted(found, key=len, reverse=True), found[0][:600]]


def both(speech: Moonshine, clips: list[Any]) -> tuple[LeanEncoded, Encoded]:
    """What is heard by the lean pass, and by transformers' own."""
    features = speech.features(clips)
    lean = speech.encode(features)
    assert isinstance(lean, LeanEncoded)
    return lean, Seq2Seq.encode(speech, features)


@torch.inference_mode()
def test_encoder_and_logits_are_those_of_transformers(speech: Moonshine, clips: list[Any]) -> None:
    """Within float noise, in each clip's own frames and after each token."""
    lean, plain = both(speech, clips)
    own = plain.outputs.attention_mask.bool()
    assert torch.equal(lean.outputs.attention_mask.bool(), own)
    torch.testing.assert_close(
        lean.outputs.last_hidden_state[own], plain.outputs.last_hidden_state[own], rtol=1e-4, atol=1e-4
    )
    targets = [speech.targets(f"{one} seven") for one in ("one", "two two", "three") for _ in clips][: len(clips)]
    ours, theirs = (
        speech.predicted(lean, targets).logits,
        Seq2Seq.predicted(speech, plain, targets).logits,
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("cap", [1, 3, 40])
def test_transcripts_are_those_of_transformers_whatever_ends_first(
    speech: Moonshine, clips: list[Any], cap: int
) -> None:
    """With caps that differ from row to row, and with none that is reached."""
    lean, plain = both(speech, clips)
    caps = [1 + (cap * place) % (cap + 1) for place in range(len(clips))] if cap < 40 else [cap] * len(clips)
    assert speech.decode(lean, caps) == Seq2Seq.decode(speech, plain, caps)


@torch.inference_mode()
def test_what_is_heard_does_not_depend_on_how_many_clips_are_heard_at_a_time(
    speech: Moonshine, clips: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone, some at a time, or all of a batch at once."""
    made = {}
    for budget in (1, 50_000, 10**9):
        monkeypatch.setattr(moonshine_scoring, "CHUNK_SAMPLES", budget)
        encoded = speech.encode(speech.features(clips))
        made[budget] = speech.decode(encoded, [20] * len(clips))
    assert made[1] == made[50_000] == made[10**9]


@torch.inference_mode()
def test_beams_read_what_the_lean_encoder_heard(speech: Moonshine, clips: list[Any]) -> None:
    """Beam search is still by transformers' decoder."""
    several = speech.with_beams(2)
    lean, plain = both(several, clips)
    assert several.decode(lean, [20] * len(clips)) == several.decode(plain, [20] * len(clips))


def test_only_a_plain_network_without_gradients_is_lean(speech: Moonshine, clips: list[Any]) -> None:
    """Training, autocast and layers with an adapter are left to transformers and peft; merged ones are plain again."""
    features = speech.features(clips[:2])
    assert not isinstance(speech.encode(features), LeanEncoded)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert not isinstance(speech.encode(features), LeanEncoded)
    tuned = attach(speech, AdapterSettings(rank=2), seed=0)
    with torch.no_grad():
        assert not isinstance(tuned.encode(features), LeanEncoded)
        with merged(tuned) as scoring:
            assert isinstance(scoring.encode(features), LeanEncoded)
