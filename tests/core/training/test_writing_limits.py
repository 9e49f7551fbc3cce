"""What a model may write at most: by the model alone, but for the tokens that training texts have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from training_kit import RATE, TrainingRun, digit_texts, in_process_trainer, made_up_set, speechlike, write_set

from core.runs.scores import Score
from core.training.adapter import load_adapter, save_adapter
from core.training.model import load_model
from core.training.trainer import Trainer

QUICK = ("train.steps=2", "train.eval_every=2", "train.batch_seconds=8", "adapter.rank=2")


def trainer(folder: Path, model: Path, train: Path, heldout: Path, *settings: str) -> Trainer:
    sets = {"train": train, "domain": made_up_set(folder, "domain", 2, 2), "heldout": heldout}
    found: Trainer = in_process_trainer(TrainingRun(folder, model, sets, *QUICK, "train.replay_share=0", *settings))
    return found


def base_score(of: Trainer) -> Score:
    """Of the heldout set; a fresh adapter changes nothing."""
    [heldout] = [one for one in of.materials.evaluation if one.name == "heldout"]
    return of.scorer(of.speech, heldout, 0, None)


@pytest.mark.parametrize("pause_s", [0, 6])
def test_slow_or_padded_training_speech_cuts_no_evaluation_transcript(
    tiny_moonshine: Path, tmp_path: Path, pause_s: int
) -> None:
    texts = digit_texts(4, 1)
    heldout = made_up_set(tmp_path, "heldout", 3, 4)
    silence = np.zeros(pause_s * RATE, np.float32)
    padded = [(np.concatenate([speechlike(text, 1), silence]), text) for text in texts]
    score = base_score(trainer(tmp_path, tiny_moonshine, write_set(tmp_path, "train", padded), heldout))
    alone = load_model(str(tiny_moonshine)).limits
    assert score.decode.tokens_per_second == alone.tokens_per_second
    # a model that was never trained repeats itself up to its cap, which is that of the clip and the model
    assert score.capped == tuple(u.id for u in score.utterances)


def test_tokens_that_training_texts_have_are_lifted_for_base_and_adapter(tiny_whisper: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_whisper, model)
    free = load_model(str(model))
    [one, nine] = (free.targets(text)[0] for text in ("one", "nine"))
    generation = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(generation | {"suppress_tokens": [one, nine]}))
    train = write_set(tmp_path, "train", [(speechlike("one two", seed), "one two") for seed in range(3)])
    heldout = write_set(tmp_path, "heldout", [(speechlike("nine"), "nine")])
    found = trainer(tmp_path, model, train, heldout, 'adapter.target_modules=["q_proj"]')
    assert found.facts.lifted == found.speech.lifted == (one,)
    assert found.speech.vocabulary.suppressed == (nine,)
    assert base_score(found).decode.lifted == (one,)
    save_adapter(found.speech, tmp_path / "adapter", found.facts)
    loaded, facts = load_adapter(load_model(str(model)), tmp_path / "adapter")
    assert facts is not None and facts.lifted == (one,)
    assert loaded.vocabulary.suppressed == (nine,) and loaded.lifted == (one,)
