from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_kit import FAMILIES, speechlike

from core.training.loss import pad_targets, summed_cross_entropy
from core.training.model import load_model

EOS = PAD = 2


def loss(logits: torch.Tensor, labels: list[list[int]]) -> float:
    _, targets, lengths = pad_targets(labels, [(1,)] * len(labels), PAD)
    return float(summed_cross_entropy(logits, targets, lengths))


def test_the_loss_is_the_one_computed_by_hand() -> None:
    # two clips, three tokens: "a EOS" and "EOS"; logits are logs of weights, so probabilities are plain fractions
    weights = torch.tensor([[[1.0, 1.0, 2.0, 4.0], [1.0, 2.0, 5.0, 2.0]], [[3.0, 3.0, 3.0, 1.0], [9.0, 0.1, 0.1, 0.1]]])
    labels = [[3, EOS], [EOS]]
    _, targets, lengths = pad_targets(labels, [(1,)] * len(labels), PAD)
    total = summed_cross_entropy(weights.log(), targets, lengths)
    by_hand = -math.log(4 / 8) - math.log(5 / 10) - math.log(3 / 10)
    assert int(lengths.sum()) == 3
    assert float(total) == pytest.approx(by_hand, rel=1e-6)


def test_decoder_inputs_are_the_prefix_and_the_labels_before_each_target() -> None:
    inputs, targets, lengths = pad_targets([[7, 8, EOS], [9, EOS]], [(1, 4, 5), (1, 6, 5)], PAD)
    assert inputs.tolist() == [[1, 4, 5, 7, 8], [1, 6, 5, 9, PAD]]
    assert targets.tolist() == [[7, 8, EOS], [9, EOS, PAD]]
    assert lengths.tolist() == [3, 2]


def test_micro_batches_add_up_to_the_loss_of_the_whole_step() -> None:
    torch.manual_seed(0)
    labels = [[5, 6, 7, EOS], [5, EOS], [8, 9, EOS], [EOS]]
    logits = torch.randn(4, 4, 12)
    parts = [loss(logits[i : i + 1, : len(ids)], [ids]) for i, ids in enumerate(labels)]
    assert sum(parts) == pytest.approx(loss(logits, labels), rel=1e-6)


def test_eos_is_learnt_although_it_is_the_padding_too() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 12, requires_grad=True)
    labels = [[5, 6, 7, EOS], [5, EOS]]
    _, targets, lengths = pad_targets(labels, [(1,)] * len(labels), PAD)
    total = summed_cross_entropy(logits, targets, lengths)
    total.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    learns = logits.grad.abs().sum(-1) > 0
    assert int(lengths.sum()) == 6
    assert learns.tolist() == [[True] * 4, [True, True, False, False]]

    other_end, beyond = targets.clone(), targets.clone()
    other_end[1, 1] = 9
    beyond[1, 2:] = 9
    assert not torch.isclose(summed_cross_entropy(logits, other_end, lengths), total)
    assert torch.equal(summed_cross_entropy(logits, beyond, lengths), total)


def test_bf16_logits_are_summed_in_fp32() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 300, 500).bfloat16()
    labels = [[3] * 300]
    assert loss(logits, labels) == pytest.approx(loss(logits.float(), labels), rel=1e-6)


@pytest.mark.parametrize("family", ["tiny_moonshine", "tiny_streaming"])
def test_one_clip_has_the_loss_that_transformers_computes(family: str, request: pytest.FixtureRequest) -> None:
    model = load_model(str(request.getfixturevalue(family)))
    clip, labels = speechlike("one two three"), model.targets("one two three")
    features = model.features([clip])
    with torch.no_grad():
        ours = model.summed_loss(model.encode(features), [labels])
        theirs = model.network(**features, labels=torch.tensor([labels])).loss
    assert float(ours) / len(labels) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_end_in_eos_and_carry_no_start_token(family: str, request: pytest.FixtureRequest) -> None:
    model = load_model(str(request.getfixturevalue(family)))
    ids = model.targets("two nine")
    assert ids[-1] in model.vocabulary.eos
    assert not set(ids[:-1]) & {*model.vocabulary.prefix, *model.vocabulary.eos}
    assert model.text(ids) == "two nine"


def test_a_transcript_that_spells_a_special_token_does_not_end_there(tiny_moonshine: Path, tiny_whisper: Path) -> None:
    for folder, special in ((tiny_moonshine, "</s>"), (tiny_whisper, "<|endoftext|>")):
        model = load_model(str(folder))
        ids = model.targets(f"one {special} two")
        assert not set(ids[:-1]) & set(model.vocabulary.eos)
        assert np.count_nonzero(np.isin(ids, model.vocabulary.eos)) == 1
