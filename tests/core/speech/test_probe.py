"""The probe changes when the audio path does, and `lora-cli normalise` writes what the model hears."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.cli.__main__ import main
from core.speech import audio, probe
from core.speech.audio import TARGET_RMS, normalise, read_clip
from core.speech.probe_figures import EXPECTED


def test_the_path_makes_what_was_recorded() -> None:
    made = probe.figures()
    assert probe.same_figures(made, EXPECTED)
    assert made["silence"][2] < audio.SILENCE_RMS
    assert made["peaky"][1] > 0
    assert made["8_khz"][0] == made["quiet"][0] == 16_000
    assert probe.probe_fingerprint() == probe.probe_fingerprint() != probe.probe_fingerprint(0.1)


def test_rounding_does_not_change_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()
    original = audio.normalise

    def rounded(samples: Any, target_rms: float = TARGET_RMS) -> Any:
        heard = original(samples, target_rms)
        return replace(heard, samples=heard.samples + np.float32(3e-6))

    monkeypatch.setattr(probe, "normalise", rounded)
    assert probe.probe_fingerprint() == before


def without_clamp(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    heard = normalise(samples, target_rms)
    return replace(heard, samples=samples * np.float32(target_rms / max(heard.rms_before, 1e-9)))


def without_mean(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    return normalise(samples - samples.mean(), target_rms)


def peak_normalised(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    heard = normalise(samples, target_rms)
    return replace(heard, samples=samples / max(float(np.abs(samples).max()), 1e-9) * np.float32(0.4))


@pytest.mark.parametrize("other", [without_clamp, without_mean, peak_normalised])
def test_another_normalisation_changes_it(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()
    monkeypatch.setattr(probe, "normalise", other)
    assert probe.probe_fingerprint() != before


@pytest.mark.parametrize(("name", "value"), [("RESAMPLER_QUALITY", "QQ"), ("SILENCE_RMS", 1e-6)])
def test_another_parameter_changes_it(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()
    monkeypatch.setattr(audio, name, value)
    assert probe.probe_fingerprint() != before


def test_another_mix_of_channels_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()

    def first_channel(file: Any, start: int, stop: int, inspect: Any = None) -> Any:
        file.seek(start)
        return file.read(stop - start, dtype="float32", always_2d=True)[:, 0]

    monkeypatch.setattr(audio, "read_mono", first_channel)
    assert probe.probe_fingerprint() != before


def test_normalise_writes_exactly_what_the_model_hears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in.flac", rng.standard_normal((44_100, 2)) * 0.05, 44_100)
    out = tmp_path / "out.wav"
    arguments = ["normalise", str(tmp_path / "in.flac"), str(out), "--offset", "0.25", "--duration", "0.5"]
    assert main(arguments) == 0
    samples, rate = soundfile.read(out, dtype="float32")
    assert rate == 16_000
    np.testing.assert_array_equal(samples, normalise(read_clip(tmp_path / "in.flac", 0.25, 0.5)).samples)
    told = capsys.readouterr().out
    assert "from 44100 Hz, 2 channels" in told
    assert probe.probe_fingerprint() in told
    assert main(arguments) == 4
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0


def test_normalise_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["normalise", str(tmp_path / "none.wav"), str(tmp_path / "out.wav")]) == 4
    assert main(["normalise", str(tmp_path / "none.wav"), str(tmp_path / "out.mp3")]) == 4
    assert main(["normalise", "x.wav", str(tmp_path / "out.wav"), "--offset", "-1"]) == 4
    errors = capsys.readouterr().err
    assert "none.wav: cannot be opened" in errors
    assert "must end in .wav" in errors
    assert "--offset -1" in errors
