"""`train.augment`: what is done to clips, that it is a function of seed and step, and who can be asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_kit import QUICK, RATE, TrainingRun, in_process_trainer, speechlike, write_wav

from core.audio.cache import SampleCache
from core.errors import ManifestError, ModelError
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache
from core.manifests.manifest import noise_recordings
from core.plan.schema import AugmentSettings
from core.runs.events import Step
from core.training.augment import Augmentation, at_speed, with_noise
from core.training.batching import MicroBatch, TrainingPlan
from core.training.evaluation import evaluate
from core.training.families.whisper import Whisper

CLIP = speechlike("one two three four")
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def recording(path: Path, samples: Any = NOISE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples)


def always(samples: int) -> bool:
    return True


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_clip_at_another_speed_has_another_length_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 400 * np.arange(RATE) / RATE).astype(np.float32)
    played = at_speed(tone, factor, 30 * RATE)
    assert len(played) == pytest.approx(RATE / factor, abs=2)
    peak = np.abs(np.fft.rfft(played)).argmax() * RATE / len(played)
    assert peak == pytest.approx(400 * factor, abs=2)


def test_no_clip_is_slowed_down_beyond_what_the_model_hears() -> None:
    assert len(at_speed(CLIP, 0.8, len(CLIP) + 100)) == pytest.approx(len(CLIP) + 100, abs=1)
    assert at_speed(CLIP, 0.8, len(CLIP)) is CLIP


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("length", [len(NOISE) // 3, 3 * len(NOISE)])
def test_noise_has_the_ratio_that_was_asked_for(snr_db: float, length: int) -> None:
    speech = np.resize(CLIP, length)
    added = with_noise(speech, NOISE, snr_db, 0.3) - speech
    ratio_db = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
    assert ratio_db == pytest.approx(snr_db, abs=0.05)


def test_silence_gets_no_noise_and_silent_noise_adds_nothing() -> None:
    silence = np.zeros(RATE, np.float32)
    assert with_noise(silence, NOISE, 0.0, 0.0) is silence
    assert with_noise(CLIP, silence, 0.0, 0.0) is CLIP


def test_a_clip_is_changed_by_seed_step_and_place_alone() -> None:
    settings = AugmentSettings(speed=0.1)

    def heard(seed: int, step: int, place: int) -> bytes:
        return Augmentation(settings, seed, None, 30.0).clip(CLIP, step, place, always).tobytes()

    assert heard(1, 2, 3) == heard(1, 2, 3)
    assert len({heard(1, 2, 3), heard(2, 2, 3), heard(1, 3, 3), heard(1, 2, 4)}) == 4


def test_the_speed_is_left_where_the_targets_would_not_fit() -> None:
    augmentation = Augmentation(AugmentSettings(speed=0.3), 0, None, 30.0)
    lengths = {len(augmentation.clip(CLIP, step, 0, lambda n: n >= len(CLIP))) for step in range(20)}
    assert min(lengths) == len(CLIP) < max(lengths)


@pytest.mark.parametrize("axes", [(1, 2), (2, 1)])
def test_masks_lie_on_the_clips_own_frames_and_within_their_widths(axes: tuple[int, int]) -> None:
    settings = AugmentSettings(time_masks=2, time_mask_share=0.25, feature_masks=1, feature_mask_share=0.5)
    augmentation = Augmentation(settings, 0, None, 30.0)
    random = np.random.default_rng(0)
    masked_frames, masked_bins = set(), set()
    for step in range(40):
        plain = torch.from_numpy(random.normal(3, 1, (2, 80, 10)).astype(np.float32))
        features = plain.clone() if axes == (1, 2) else plain.transpose(1, 2).clone()
        augmentation.mask(features, axes, [0.5, 1.0], step, [0, 1])
        features = features if axes == (1, 2) else features.transpose(1, 2)
        changed = features != plain
        assert not changed[0, 40:].any(), "padding is not masked"
        assert float(features.mean()) == pytest.approx(3, abs=0.5), "a mask is neutral"
        masked_frames.add(int(changed[1].all(dim=1).sum()))
        masked_bins.add(int(changed[1].all(dim=0).sum()))
    assert max(masked_frames) <= 2 * 20 and max(masked_bins) == 5
    assert len(masked_frames) > 10


@pytest.fixture
def make(tmp_path: Path, tiny_moonshine: Path, tiny_whisper: Path, quick_sets: dict[str, Path]) -> Any:
    """A trainer of a Moonshine, or of a Whisper, whose steps are given."""
    models = {"moonshine": tiny_moonshine, "whisper": tiny_whisper}

    def trainer(*settings: str, model: str = "moonshine", steps: Any = ()) -> Any:
        steps = steps or [[MicroBatch((0, 1, 2))]] * 3
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        made = in_process_trainer(TrainingRun(folder, models[model], quick_sets, *QUICK, *settings))
        plan = TrainingPlan(tuple(map(tuple, steps)), "made up", 1.0, 1.0)
        made.materials = type(made.materials)(
            made.materials.train, made.materials.replay, made.materials.evaluation, plan, made.materials.augmentation
        )
        return made

    return trainer


def losses(trainer: Any, *numbers: int) -> list[float]:
    events: list[Any] = []
    trainer.journal.emit = events.append
    for number in numbers:
        trainer._one_step(number)
    return [event.loss for event in events if isinstance(event, Step)]


def test_steps_are_augmented_as_if_the_run_had_not_been_interrupted(make: Any, tmp_path: Path) -> None:
    recording(tmp_path / "noise" / "a.wav")
    still = ("adapter.dropout=0", "train.learning_rate=1e-12")
    options = (*still, "train.augment.speed=0.1", f"train.augment.noise={tmp_path / 'noise'}")
    found = losses(make(*options), 1, 2, 3)
    assert len(set(found)) == 3, "the same clips, changed anew at each step"
    assert losses(make(*options), 2, 3) == found[1:]
    assert not set(found) & set(losses(make(*still), 1, 2, 3))


def test_accumulation_does_not_change_what_a_clip_sounds_like(make: Any) -> None:
    options = ("adapter.dropout=0", "train.augment.speed=0.1")
    whole = make(*options, steps=[[MicroBatch((0, 1, 2, 5), (0, 3))]])
    parts = make(*options, steps=[[MicroBatch((0,)), MicroBatch((1, 2, 5), (0,)), MicroBatch((), (3,))]])
    assert losses(whole, 1) == pytest.approx(losses(parts, 1), rel=1e-5)


def test_masks_lie_on_what_is_heard_where_that_is_a_part_of_the_window(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features are of the whole window with `model.audio_context` too, and so are their masks."""
    shares: list[list[float]] = []
    monkeypatch.setattr(Augmentation, "mask", lambda self, features, axes, own, *more: shares.append(own))
    for more in ((), ("model.audio_context=1",)):
        trainer = make("train.augment.time_masks=2", *more, model="whisper")
        losses(trainer, 1)
    train = trainer.materials.train
    seconds = [len(train.clips[i]) / RATE for i in train.indices[:3]]
    found = [sorted(share for own in part for share in own) for part in (shares[:1], shares[1:])]
    assert found == [sorted(length / 30 for length in seconds)] * 2


def test_a_whispers_spectrogram_is_masked_in_training_alone(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("train.augment.time_masks=2", "train.augment.feature_masks=2")
    plain, masked, resumed = make(model="whisper"), make(*options, model="whisper"), make(*options, model="whisper")
    heard: list[torch.Tensor] = []
    encode = Whisper.encode

    def seen(self: Whisper, features: dict[str, torch.Tensor], languages: Any = None) -> Any:
        heard.append(features["input_features"])
        return encode(self, features, languages)

    monkeypatch.setattr(Whisper, "encode", seen)
    losses(plain, 1, 2)
    losses(masked, 1, 2)
    losses(resumed, 2)
    before, again, first, second, alike = heard
    assert torch.equal(before, again) and torch.equal(second, alike)
    assert len({tensor.numpy().tobytes() for tensor in heard}) == 3
    seconds = [len(masked.materials.train.clips[i]) / RATE for i in masked.materials.train.indices[:3]]
    for row, length in enumerate(seconds):
        assert torch.equal(first[row, :, int(length * 100) + 2 :], before[row, :, int(length * 100) + 2 :])
    del heard[:]
    dataset = masked.materials.evaluation[0]
    evaluate(masked.speech, dataset.manifest, dataset.clips, with_loss=False)
    evaluated = torch.cat(heard)
    del heard[:]
    evaluate(plain.speech, dataset.manifest, dataset.clips, with_loss=False)
    assert torch.equal(evaluated, torch.cat(heard))


def test_masks_for_a_model_that_hears_samples_are_refused(
    tmp_path: Path, tiny_moonshine: Path, quick_sets: Any
) -> None:
    run = TrainingRun(tmp_path, tiny_moonshine, quick_sets, *QUICK, "train.augment.time_masks=2")
    with pytest.raises(ModelError, match="this moonshine model hears samples"):
        in_process_trainer(run)


def test_other_noise_than_was_planned_is_refused(tmp_path: Path, tiny_moonshine: Path, quick_sets: Any) -> None:
    recording(tmp_path / "noise" / "a.wav")
    option = f"train.augment.noise={tmp_path / 'noise'}"
    run = TrainingRun(tmp_path / "run", tiny_moonshine, quick_sets, *QUICK, option)
    recording(tmp_path / "noise" / "b.wav")
    with pytest.raises(ManifestError, match="changed after this run was planned"):
        in_process_trainer(run)


def test_noise_is_read_from_all_folders_in_the_folder(tmp_path: Path) -> None:
    recording(tmp_path / "noise" / "b" / "x.wav")
    recording(tmp_path / "noise" / "a.wav", NOISE[:800])
    found = noise_recordings(tmp_path / "noise")
    assert [utterance.id for utterance in found.utterances] == ["a.wav", "b/x.wav"]
    clips = cached_clips(found, SampleCache(tmp_path / "cache"), HashCache(tmp_path / "hashes.json"))
    assert list(clips.lengths) == [800, len(NOISE)]
