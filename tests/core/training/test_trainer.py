"""One optimiser step after the other, in this process."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import QUICK, TrainingRun, in_process_trainer, opened, stepped, subset

from core.audio.samples import normalise
from core.runs.events import Notice
from core.training.batching import MicroBatch
from core.training.evaluation import evaluate


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.parameters.values()])


def test_accumulated_micro_batches_make_the_step_of_the_whole_batch(make: Any) -> None:
    """Clips of different lengths, so a mean of means would be another loss."""
    whole = make("adapter.dropout=0", steps=[[MicroBatch((0, 1, 2, 5), (0, 3))]])
    parts = make("adapter.dropout=0", steps=[[MicroBatch((0,), ()), MicroBatch((1, 2, 5), (0,)), MicroBatch((), (3,))]])
    [one], [other] = stepped(whole, 1), stepped(parts, 1)
    assert (one.tokens, one.audio_s) == (other.tokens, pytest.approx(other.audio_s))
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
    # Adam's first step is nearly the sign of the gradient: equal up to where a gradient is nothing but rounding
    assert torch.isclose(weights(whole), weights(parts), atol=1e-4).float().mean() > 0.99


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_parts_of_a_micro_batch_make_the_step_of_the_whole(
    make: Any, monkeypatch: pytest.MonkeyPatch, kl: float
) -> None:
    """Clips of like lengths are computed together, those of replay with their divergence."""
    plan = [[MicroBatch((0, 1, 2, 5), (0, 3, 4))]]
    settings = ("adapter.dropout=0", f"train.kl={kl}")
    monkeypatch.setattr("core.training.trainer.GROUP_S", 1e9)
    whole, parts = make(*settings, steps=plan), make(*settings, steps=plan)
    for trainer in (whole, parts):
        for name, parameter in trainer.parameters.items():
            parameter.data.add_(0.1 * ("lora_B" in name))
    [one] = stepped(whole, 1)
    monkeypatch.setattr("core.training.trainer.GROUP_S", 0.0)
    heard: list[int] = []
    features = parts.speech.features
    monkeypatch.setattr(parts.speech, "features", lambda clips: heard.append(len(clips)) or features(clips))
    [other] = stepped(parts, 1)
    assert len(heard) > 3 and sum(heard) == 7
    assert (one.tokens, one.audio_s) == (other.tokens, other.audio_s)
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert (one.kl or 0.0) == pytest.approx(other.kl or 0.0, rel=1e-4)
    assert kl == 0.0 or (one.kl or 0.0) > 1e-3
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)


def test_the_loss_of_a_step_is_the_mean_over_its_target_tokens(make: Any) -> None:
    trainer = make("adapter.dropout=0", steps=[[MicroBatch((0, 4)), MicroBatch((2,), (1,))]])
    total, tokens = 0.0, 0
    train, replay = trainer.materials.train, trainer.materials.replay
    for source, i in ((train, 0), (train, 4), (train, 2), (replay, 1)):
        clip = normalise(source.clips[source.indices[i]]).samples
        labels = torch.tensor([source.labels[i]])
        with torch.no_grad():
            mean = trainer.speech.network(**trainer.speech.features([clip]), labels=labels).loss
        total, tokens = total + float(mean) * labels.shape[1], tokens + labels.shape[1]
    [step] = stepped(trainer, 1)
    assert step.tokens == tokens
    assert step.loss == pytest.approx(total / tokens, rel=1e-5)


def test_dropout_is_a_function_of_seed_and_step(make: Any) -> None:
    plan = [[MicroBatch((0, 1, 2))]] * 3
    first = stepped(make(steps=plan), 1, 2, 3)
    torch.manual_seed(1234)
    assert [s.loss for s in stepped(make(steps=plan), 1, 2, 3)] == [s.loss for s in first]
    still = make("train.learning_rate=1e-12", steps=plan)
    with torch.no_grad():
        for name, parameter in still.parameters.items():
            parameter.add_(0.1 * ("lora_B" in name))
    assert len({s.loss for s in stepped(still, 1, 2, 3)}) == 3, "another mask at every step"


def test_an_evaluation_between_two_steps_changes_nothing(make: Any) -> None:
    plan = [[MicroBatch((0, 1, 2))]] * 2
    straight, interrupted = make(steps=plan), make(steps=plan)
    stepped(straight, 1, 2)
    stepped(interrupted, 1)
    dataset = interrupted.materials.evaluation[0]
    evaluate(interrupted.speech, dataset.manifest, dataset.clips)
    stepped(interrupted, 2)
    assert torch.equal(weights(straight), weights(interrupted))


def test_a_trainer_that_is_done_gives_its_memory_back(make: Any) -> None:
    """Whoever still holds the network: the processes that score the adapter need the room."""
    trainer = make(steps=[[MicroBatch((0, 1))]])
    network = trainer.speech.network
    stepped(trainer, 1)
    state = [weakref.ref(t) for one in trainer.optimiser.state.values() for t in one.values()]
    assert state
    trainer.release()
    assert sum(t.numel() for t in (*network.parameters(), *network.buffers())) == 0
    assert all(reference() is None for reference in state)


def test_gradients_are_clipped_and_the_norm_before_is_reported(make: Any) -> None:
    plan = [[MicroBatch((0, 1, 2))]]
    free, clipped = make("train.clip=1e9", steps=plan), make("train.clip=0.001", steps=plan)
    [unclipped], [reported] = stepped(free, 1), stepped(clipped, 1)
    assert reported.grad_norm == unclipped.grad_norm > 0.001
    moments = [clipped.optimiser.state[p]["exp_avg"] for p in clipped.parameters.values()]
    assert torch.cat([m.flatten() for m in moments]).norm() == pytest.approx(0.001 * 0.1, rel=1e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("method", ["dora", "lora"])
def test_20_clips_are_learnt_by_heart(tmp_path: Path, digits: Path, base_model: Path, method: str) -> None:
    """The whole line is right: audio, labels, loss, adapter, optimiser, merge, greedy decoding from disk."""
    clips = digits / "train_manifest.jsonl"
    other = subset(digits / "heldout_manifest.jsonl", tmp_path / "other.jsonl", 4)
    run = TrainingRun(
        tmp_path,
        base_model,
        {"train": clips, "domain": clips, "heldout": other},
        "train.steps=90",
        "train.eval_every=45",
        "train.epochs=45",
        "train.learning_rate=0.004",
        "train.allow_high_learning_rate=true",
        f'adapter.method="{method}"',
        'adapter.target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]',
    )
    assert run.fork() == 0, run.log
    before = run.snapshot.intervals[0].domain
    assert before.counts.errors > 10
    tuned = json.loads(run.paths.tuned("domain").read_text())
    assert [u["hypothesis"] for u in tuned["utterances"]] == [u["reference"] for u in tuned["utterances"]]


def test_what_is_learnt_lowers_the_loss_of_the_same_clips(make: Any) -> None:
    plan = [[MicroBatch((0, 1, 2, 3, 4, 5))]] * 8
    losses = [step.loss for step in stepped(make("adapter.dropout=0", steps=plan), *range(1, 9))]
    assert losses[-1] < losses[0] - 0.1


def test_clips_are_read_from_the_decoded_store_by_their_manifest_number(make: Any, quick_sets: Any) -> None:
    """Left-out clips shift the numbers: the label must stay with its clip."""
    trainer = make()
    manifest, clips = opened(quick_sets["train"], trainer.paths.root / "again")
    train = trainer.materials.train
    assert len(train.indices) == 12
    for position, index in enumerate(train.indices):
        assert trainer.speech.text(train.labels[position]) == manifest.utterances[index].text
        assert (train.clips[index] == clips[index]).all()


def test_a_micro_batch_of_windows_says_what_the_encoder_computes_over(
    tmp_path: Path, tiny_whisper: Path, quick_sets: dict[str, Path]
) -> None:
    run = TrainingRun(tmp_path, tiny_whisper, quick_sets, *QUICK)
    plan = in_process_trainer(run).materials.plan
    clips = max(len(micro.train) + len(micro.replay) for step in plan.steps for micro in step)
    said = [record.event.message for record in run.records if isinstance(record.event, Notice)]
    assert any(f"at most {clips} clips in a micro-batch, {clips * 30} s of encoder input" in text for text in said)


def test_replay_may_be_a_share_of_the_tokens(tmp_path: Path, tiny_moonshine: Path, quick_sets: dict[str, Path]) -> None:
    """Replay texts are made three times as long for their audio: a share of tokens takes fewer seconds of them."""
    wordy = tmp_path / "wordy.jsonl"
    lines = [json.loads(line) for line in quick_sets["replay"].read_text().splitlines()]
    longer = [line | {"text": " ".join([line["text"]] * 3)} for line in lines]
    absolute = [line | {"audio_filepath": str(quick_sets["replay"].parent / line["audio_filepath"])} for line in longer]
    wordy.write_text("".join(json.dumps(line) + "\n" for line in absolute))
    sets = quick_sets | {"replay": wordy}
    shares = {}
    for by in ("seconds", "tokens"):
        settings = (*QUICK, "train.batch_seconds=60", f'train.replay_share_by="{by}"')
        materials = in_process_trainer(TrainingRun(tmp_path / by, tiny_moonshine, sets, *settings)).materials
        own, replayed = (
            sum(len(source.labels[i]) for step in materials.plan.steps for micro in step for i in getattr(micro, name))
            for name, source in (("train", materials.train), ("replay", materials.replay))
        )
        shares[by] = replayed / (own + replayed)
    assert shares["tokens"] == pytest.approx(0.4, abs=0.03)
    assert shares["seconds"] > 0.55
