"""Peaks and matches: the same recording is found under another rate, level and cut, another one is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from core.audio.samples import decode_native
from core.audio.sound_file import Samples
from core.audit.clip_facts import measure
from core.audit.fingerprint.landmarks import Match, matches
from core.audit.fingerprint.peak_store import Fingerprints
from core.audit.fingerprint.peaks import Peaks, coarse_look, low_band
from core.audit.fingerprint.pictures import Picture, picture
from core.audit.fingerprint.shapes import shape


def chirps(seed: int, seconds: float = 4.0) -> Samples:
    """Short tones at random times and pitches over noise."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(int(seconds * 16_000)) * 0.003
    time_s = np.arange(1600) / 16_000
    for _ in range(int(30 * seconds)):
        at = int(rng.integers(0, len(samples) - 1600))
        tone = np.sin(2 * np.pi * rng.uniform(150, 3400) * time_s) * np.hanning(1600)
        samples[at : at + 1600] += 0.2 * rng.uniform(0.3, 1) * tone
    return samples.astype(np.float32)


def peaks_of(samples: Samples, rate_hz: int) -> Peaks:
    return coarse_look(low_band(samples, rate_hz))[0]


def found(clips: list[tuple[Samples, int]], first_only: int | None = None) -> list[Match]:
    looks = [coarse_look(low_band(np.ascontiguousarray(samples, np.float32), rate)) for samples, rate in clips]

    def listen(indexes: Sequence[int]) -> list[Picture]:
        return [picture(*clips[index]) for index in indexes]

    prints = Fingerprints()
    for peaks, plane in looks:
        prints.append(b"", peaks, shape(plane))
    return matches(prints, listen, first_only)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_a_cut_and_quieter_copy_at_another_rate_is_found(rate_hz: int) -> None:
    original = chirps(1)
    copy = soxr.resample(original[16_000:] * 0.2, 16_000, rate_hz)
    [match] = found([(original, 16_000), (chirps(2), 16_000), (copy, rate_hz)])
    assert (match.first, match.second) == (0, 2)
    assert match.offset_s == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("rate_hz", [22_050, 44_100])
def test_a_long_copy_at_a_rate_that_is_no_multiple_keeps_its_peaks_to_the_end(rate_hz: int) -> None:
    original = chirps(5, 60.0)
    here = peaks_of(original, 16_000)
    there = peaks_of(soxr.resample(original, 16_000, rate_hz), rate_hz)
    near = np.concatenate([here.astype(np.int64) + frame * 256 + rise for frame in (-1, 0, 1) for rise in (-1, 0, 1)])
    last = there[there >> 8 > 55 / 0.025]
    assert len(last) > 50 and np.isin(last, near).mean() > 0.75


def test_silence_and_short_clips_have_no_peaks() -> None:
    assert not len(peaks_of(np.zeros(16_000, np.float32), 16_000))
    assert not len(peaks_of(chirps(1)[:500], 16_000)) and not len(picture(chirps(1)[:500], 16_000))
    assert found([(np.zeros(16_000, np.float32), 16_000), (np.zeros(20_000, np.float32), 16_000)]) == []
    assert found([]) == []


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_24", "PCM_16"])
def test_the_same_samples_in_another_lossless_file_have_the_same_digest(tmp_path: Path, subtype: str) -> None:
    steps = np.round(chirps(3) * 32768).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", steps, 16_000)
    soundfile.write(tmp_path / "b.wav", steps / 32768, 16_000, subtype=subtype)
    assert measure(tmp_path / "a.flac").digest == measure(tmp_path / "b.wav").digest
    soundfile.write(tmp_path / "c.wav", np.where(np.arange(len(steps)) == 7, steps + 1, steps) / 32768, 16_000)
    assert measure(tmp_path / "c.wav").digest != measure(tmp_path / "a.flac").digest
    soundfile.write(tmp_path / "d.wav", np.roll(steps, 4), 16_000)
    assert measure(tmp_path / "d.wav").digest != measure(tmp_path / "a.flac").digest


def test_real_sets_that_share_no_recording_share_none(whole_digits: Path) -> None:
    """One speaker's heldout and replay clips with the same digits: recordings 0–9 and 10–49, says their README."""
    clips, sizes = [], []
    for name in ("replay", "heldout"):
        lines = [json.loads(line) for line in (whole_digits / f"{name}_manifest.jsonl").read_text().splitlines()]
        decoded = [
            decode_native(whole_digits / line["audio_filepath"]) for line in lines if line["speaker"] == "george"
        ]
        clips += [(one.samples, one.rate_hz) for one in decoded]
        sizes.append(len(decoded))

    assert min(sizes) > 50
    assert found(clips, first_only=sizes[0]) == []


def test_clips_of_hardly_more_than_a_word_are_not_the_same_recording(whole_digits: Path) -> None:
    """The first 0.95 s of all that one speaker says in replay and heldout: other recordings of the same ten words."""
    clips, sizes = [], []
    for name in ("replay", "heldout"):
        lines = [json.loads(line) for line in (whole_digits / f"{name}_manifest.jsonl").read_text().splitlines()]
        decoded = [
            decode_native(whole_digits / line["audio_filepath"], 0.0, 0.95)
            for line in lines
            if line["speaker"] == "jackson"
        ]
        clips += [(one.samples, one.rate_hz) for one in decoded]
        sizes.append(len(decoded))

    assert min(sizes) > 50
    assert found(clips, first_only=sizes[0]) == []
