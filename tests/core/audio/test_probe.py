"""The probe changes when the audio path does, and `lora-cli normalise` writes what the model hears."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio import probe
from core.audio import samples as audio
from core.audio.probe import EXPECTED
from core.audio.samples import TARGET_RMS, normalise, read_clip
from core.cli.__main__ import main


def test_the_path_makes_what_was_recorded() -> None:
    made = probe.figures()
    assert probe.same_figures(made, EXPECTED)
    assert made["silence"][2] < audio.SILENCE_RMS
    assert made["peaky"][1] > 0
    assert made["8_khz"][0] == made["quiet"][0] == 16_000
    assert probe.probe_fingerprint() == probe.probe_fingerprint() != probe.probe_fingerprint(0.1)


@pytest.mark.parametrize("target_rms", [TARGET_RMS, 0.0333, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_last_bits_of_another_machine_do_not_change_the_fingerprint(
    seed: int, target_rms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another soxr, libm or SIMD width: each sample off by a few units in the last place."""
    before = probe.probe_fingerprint(target_rms)
    rng = np.random.default_rng(seed)

    def off(samples: Any) -> Any:
        return samples * (1 + rng.uniform(-5e-7, 5e-7, samples.shape).astype(np.float32))

    def read(path: Path) -> Any:
        return off(read_clip(path))

    def rounded(samples: Any, target_rms: float = TARGET_RMS) -> Any:
        heard = normalise(samples, target_rms)
        return replace(heard, samples=off(heard.samples))

    monkeypatch.setattr(probe, "read_clip", read)
    monkeypatch.setattr(probe, "normalise", rounded)
    assert probe.probe_fingerprint(target_rms) == before


def test_the_probe_is_quick() -> None:
    before = time.process_time()
    probe.probe_fingerprint(0.1)
    assert time.process_time() - before < 1.0, "30 ms on an idle machine; a trainer makes it on start"


def without_clamp(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    heard = normalise(samples, target_rms)
    return replace(heard, samples=samples * np.float32(target_rms / max(heard.rms_before, 1e-9)))


def without_mean(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    return normalise(samples - samples.mean(), target_rms)


def peak_normalised(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    heard = normalise(samples, target_rms)
    return replace(heard, samples=samples / max(float(np.abs(samples).max()), 1e-9) * np.float32(0.4))


def at_the_default_level(samples: Any, target_rms: float = TARGET_RMS) -> Any:
    return normalise(samples, TARGET_RMS)


@pytest.mark.parametrize("target_rms", [TARGET_RMS, 0.2])
@pytest.mark.parametrize("other", [without_clamp, without_mean, peak_normalised])
def test_another_normalisation_changes_it(other: Any, target_rms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint(target_rms)
    monkeypatch.setattr(probe, "normalise", other)
    assert probe.probe_fingerprint(target_rms) != before


def test_a_path_that_ignores_the_level_is_found_at_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint(), probe.probe_fingerprint(0.08)
    monkeypatch.setattr(probe, "normalise", at_the_default_level)
    assert probe.probe_fingerprint() == before[0]
    assert probe.probe_fingerprint(0.08) != before[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("RESAMPLER_QUALITY", "QQ"), ("RESAMPLER_QUALITY", "MQ"), ("RESAMPLER_QUALITY", "VHQ"), ("SILENCE_RMS", 1e-6)],
)
def test_another_parameter_changes_it(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()
    monkeypatch.setattr(audio, name, value)
    assert probe.probe_fingerprint() != before


def test_another_mix_of_channels_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = probe.probe_fingerprint()

    def first_channel(file: Any, start: int, stop: int, *_: Any) -> Any:
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
