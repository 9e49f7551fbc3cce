from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from training_kit import (
    QUICK,
    RATE,
    TrainingRun,
    digit_texts,
    in_process_trainer,
    made_up_set,
    opened,
    speechlike,
    write_set,
    write_wav,
)

from core.audio.samples import TARGET_RMS, root_mean_square
from core.cli.__main__ import main as lora_cli
from core.errors import Interrupted, ManifestError
from core.runs.scores import NormaliserName, Single, decode_score
from core.scoring.alignment import count_errors
from core.scoring.text import normaliser
from core.scoring.units import total
from core.training.evaluation import Decoder, decode_singly, evaluate, normalisation_fingerprint, score_document
from core.training.families.base import SpeechModel
from core.training.families.moonshine import Moonshine
from core.training.model import load_model


@pytest.fixture
def speech(tiny_moonshine: Path) -> SpeechModel:
    return load_model(str(tiny_moonshine))


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_set(tmp_path_factory.mktemp("small"), "small", 5, 11)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_gives_the_mode_back(speech: SpeechModel, small_set: Path, decoded: Any, training: bool) -> None:
    manifest, clips = decoded(small_set)
    seen = []
    speech.network.train(training)
    evaluate(speech, manifest, clips, progress=lambda *_: seen.append(speech.network.training))
    assert set(seen) == {False}
    assert {module.training for module in speech.network.modules()} == {training}


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_gives_the_mode_back_when_it_is_stopped(
    speech: SpeechModel, small_set: Path, decoded: Any, training: bool
) -> None:
    manifest, clips = decoded(small_set)

    def stop(done: int, total: int) -> None:
        raise Interrupted("stop")

    speech.network.train(training)
    with pytest.raises(Interrupted):
        evaluate(speech, manifest, clips, batch_seconds=2.0, progress=stop)
    assert {module.training for module in speech.network.modules()} == {training}


def test_the_score_is_the_sum_over_all_utterances(small_set: Path, base_model: Path, decoded: Any) -> None:
    manifest, clips = decoded(small_set)
    result = evaluate(load_model(str(base_model)), manifest, clips, batch_seconds=4.0)
    assert [u.reference for u in result.utterances] == [u.text for u in manifest.utterances]
    assert result.counts == total(count_errors(u.reference, u.hypothesis) for u in result.utterances)
    assert result.counts.reference_words == sum(len(u.text.split()) for u in manifest.utterances)


def test_references_are_the_manifests_own_words(speech: SpeechModel, tmp_path: Path) -> None:
    """Not what the tokenizer can spell, and normalised for counting only."""
    text = "“One,” TWO — трижды"
    manifest, clips = opened(write_set(tmp_path, "odd", [(speechlike("one two three"), text)]), tmp_path)
    [utterance] = evaluate(speech, manifest, clips).utterances
    assert utterance.reference == text
    assert utterance.counts.reference_words == 3


def test_an_evaluation_set_without_a_word_is_an_error_and_no_wer_of_0(speech: SpeechModel, tmp_path: Path) -> None:
    clips = [(speechlike("one"), ""), (speechlike("two"), " … ")]
    manifest, store = opened(write_set(tmp_path, "empty", clips), tmp_path)
    with pytest.raises(ManifestError, match=r"empty\.jsonl: no reference word after normalisation"):
        evaluate(speech, manifest, store)


def test_an_empty_reference_counts_what_is_heard_as_insertions(speech: SpeechModel, tmp_path: Path) -> None:
    texts = [(speechlike("one two three four five"), ""), (speechlike("two"), "two")]
    manifest, store = opened(write_set(tmp_path, "half", texts), tmp_path)
    first, _ = evaluate(speech, manifest, store).utterances
    assert (first.counts.reference_words, first.counts.insertions) == (0, len(first.hypothesis.split()))


def test_silence_and_long_audio_are_scored_and_named(speech: SpeechModel, tmp_path: Path) -> None:
    long = np.concatenate([speechlike("one two three four five six", seed) for seed in range(24)])
    assert len(long) > 31 * RATE
    clips = [(np.zeros(RATE, np.float32), "nothing"), (long, "many words"), (speechlike("one"), "one")]
    manifest, store = opened(write_set(tmp_path, "odd", clips), tmp_path)
    result = evaluate(speech, manifest, store)
    assert (result.silent, result.cut) == (("odd/000.wav",), ("odd/001.wav",))
    assert len(result.utterances) == 3
    # a cut clip has no target for any of its pieces
    alone = evaluate(speech, *opened(write_set(tmp_path, "alone", clips[::2]), tmp_path))
    assert result.loss == pytest.approx(alone.loss, rel=1e-5)


def test_the_loss_is_per_token_and_does_not_depend_on_the_batches(
    speech: SpeechModel, small_set: Path, decoded: Any
) -> None:
    manifest, clips = decoded(small_set)
    results = [evaluate(speech, manifest, clips, batch_seconds=budget) for budget in (1.0, 3.0, 500.0)]
    assert len({r.batch_plan for r in results}) == 3
    assert [r.loss for r in results] == pytest.approx([results[0].loss] * 3, rel=1e-5)
    assert len({tuple(u.hypothesis for u in r.utterances) for r in results}) == 1


def test_a_random_model_guesses_all_tokens_alike(speech: SpeechModel, small_set: Path, decoded: Any) -> None:
    """The evaluation loss is in nats per token: about ln(vocabulary) for a model that knows nothing."""
    manifest, clips = decoded(small_set)
    assert evaluate(speech, manifest, clips).loss == pytest.approx(np.log(speech.network.config.vocab_size), rel=0.05)


def test_clips_decoded_one_by_one_agree(digits: Path, base_model: Path, decoded: Any) -> None:
    manifest, clips = decoded(digits / "domain_manifest.jsonl")
    model = load_model(str(base_model))
    result = evaluate(model, manifest, clips)
    assert decode_singly(model, clips, result, 50, TARGET_RMS) == Single(16, 0)
    assert decode_singly(model, clips, result, 7, TARGET_RMS) == Single(7, 0)


def test_a_clip_that_reads_differently_alone_is_counted(speech: SpeechModel, small_set: Path, decoded: Any) -> None:
    from dataclasses import replace

    manifest, clips = decoded(small_set)
    result = evaluate(speech, manifest, clips)
    changed = (replace(result.utterances[0], hypothesis="else"), *result.utterances[1:])
    found = decode_singly(speech, clips, replace(result, utterances=changed), 50, TARGET_RMS)
    assert found == Single(5, 1)


def test_a_score_document_is_strict_json_and_says_what_it_depends_on(
    speech: SpeechModel, small_set: Path, decoded: Any
) -> None:
    from dataclasses import replace

    manifest, clips = decoded(small_set)
    result = replace(evaluate(speech, manifest, clips), loss=float("nan"))
    document = score_document(
        result, device=speech.device.type, precision=speech.precision, decode=speech.decoding, dataset="domain",
        manifest=manifest, manifest_sha256="ff", step=3, target_rms=0.1, normaliser_name="raw", adapter_hash=None,
    )  # fmt: skip
    assert decode_score(json.dumps(document.plain(), allow_nan=False).encode()) == document
    assert document.loss is None
    assert document.fingerprint == normalisation_fingerprint(0.1, "raw") != normalisation_fingerprint(0.1, "basic")
    assert document.normaliser == NormaliserName("raw", normaliser("raw").version)


class Heard:
    """Every clip that a model was given, in the order of its length."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clips: dict[int, Any] = {}
        features = Moonshine.features

        def listening(model: Moonshine, clips: Any) -> Any:
            for clip in clips:
                known = self.clips.setdefault(len(clip), np.array(clip))
                assert np.array_equal(known, clip), "the same clip, other samples"
            return features(model, clips)

        monkeypatch.setattr(Moonshine, "features", listening)

    def take(self) -> dict[int, bytes]:
        taken = {length: clip.tobytes() for length, clip in self.clips.items()}
        self.clips.clear()
        return taken


def test_training_evaluation_and_lora_cli_hear_the_same_samples_bit_by_bit(
    tmp_path: Path, tiny_moonshine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = digit_texts(6, 21, words=5)
    manifest = write_set(tmp_path, "all", [(speechlike(text, level=0.02), text) for text in texts])
    audio = [tmp_path / "all" / f"{number:03}.wav" for number in range(6)]
    write_wav(audio[1], speechlike(texts[1], level=0.2), rate_hz=44_100, channels=2)
    write_wav(audio[2], speechlike(texts[2])[::2], rate_hz=8_000)
    spiky = speechlike(texts[3], level=0.003)
    spiky[:: RATE // 10] = 0.9
    soundfile.write(audio[3].with_suffix(".flac"), spiky, RATE)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[3]["audio_filepath"] = "all/003.flac"
    manifest.write_text("".join(json.dumps({k: v for k, v in e.items() if k != "duration"}) + "\n" for e in lines))
    audio[3] = audio[3].with_suffix(".flac")

    sets = dict.fromkeys(("train", "replay", "domain"), manifest)
    sets["heldout"] = made_up_set(tmp_path, "heldout", 2, 22)
    run = TrainingRun(tmp_path / "run", tiny_moonshine, sets, *QUICK)
    heard = Heard(monkeypatch)
    trainer = in_process_trainer(run)
    for step in range(1, 9):
        trainer._one_step(step)
    in_training = heard.take()
    assert len(in_training) == 6
    for clip in in_training.values():
        samples = np.frombuffer(clip, np.float32)
        assert np.abs(samples).max() <= 1.0
        assert root_mean_square(samples) == pytest.approx(TARGET_RMS, rel=0.02) or np.abs(samples).max() == 1.0

    dataset = trainer.materials.evaluation[0]
    trainer.scorer(trainer.speech, dataset, 8, None)
    assert heard.take() == in_training

    assert lora_cli(["evaluate", str(manifest), "--model", str(tiny_moonshine), "--threads", "1"]) == 0
    assert heard.take() == in_training
    assert lora_cli(["transcribe", *map(str, audio), "--model", str(tiny_moonshine), "--threads", "1"]) == 0
    assert heard.take() == in_training
    capsys.readouterr()


def test_another_target_level_is_used_everywhere(speech: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(monkeypatch)
    clip = speechlike("one two")
    Decoder(speech, target_rms=0.04).run([len(clip)], [clip].__getitem__)
    [samples] = heard.take().values()
    assert root_mean_square(np.frombuffer(samples, np.float32)) == pytest.approx(0.04, rel=1e-4)
