"""The audio path, on real files of many formats, good and bad."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.audio.samples import (
    SAMPLE_RATE_HZ,
    TARGET_RMS,
    audio_fingerprint,
    cut_at_pauses,
    decode_clip,
    header_seconds,
    normalise,
    read_clip,
)
from core.errors import AudioError

FORMATS = [
    ("a.wav", "WAV", "PCM_16"),
    ("a24.wav", "WAV", "PCM_24"),
    ("af.wav", "WAV", "FLOAT"),
    ("a.flac", "FLAC", None),
    ("a.ogg", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
    ("a.mp3", "MP3", None),
    ("a.aiff", "AIFF", None),
]


def tone(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def noise(seconds: float, rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    return (0.1 * np.random.default_rng(5).standard_normal(round(seconds * rate_hz))).astype(np.float32)


def pitch_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / len(samples))


@pytest.mark.parametrize(("name", "container", "subtype"), FORMATS)
def test_every_format_gives_the_same_second_of_tone(
    tmp_path: Path, name: str, container: str, subtype: str | None
) -> None:
    rate_hz = 48_000
    soundfile.write(tmp_path / name, tone(1.0, rate_hz), rate_hz, format=container, subtype=subtype)
    samples = read_clip(tmp_path / name)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - SAMPLE_RATE_HZ) < 0.05 * SAMPLE_RATE_HZ  # MP3 and Opus pad
    assert pitch_hz(samples[:8000]) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_becomes_16_khz_without_a_change_of_pitch_or_level(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate_hz), rate_hz, subtype="FLOAT")
    samples = read_clip(tmp_path / "a.wav")
    assert abs(len(samples) - SAMPLE_RATE_HZ) <= 1
    assert pitch_hz(samples) == pytest.approx(440, abs=1)
    assert np.max(np.abs(samples[1000:-1000])) == pytest.approx(0.3, abs=0.01)


def test_a_tone_above_8_khz_does_not_fold_into_speech(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, 48_000, hz=11_000), 48_000, subtype="FLOAT")
    assert np.max(np.abs(read_clip(tmp_path / "a.wav")[1000:-1000])) < 1e-4


def test_sixteen_khz_passes_untouched(tmp_path: Path) -> None:
    samples = noise(0.5)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    assert np.array_equal(read_clip(tmp_path / "a.wav"), samples)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    columns = np.random.default_rng(1).uniform(-0.5, 0.5, (800, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", columns, SAMPLE_RATE_HZ, subtype="FLOAT")
    assert np.allclose(read_clip(tmp_path / "a.wav"), columns.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("name", "container", "subtype"), FORMATS)
def test_a_slice_is_that_part_of_the_whole_file(tmp_path: Path, name: str, container: str, subtype: str | None) -> None:
    rate_hz = 16_000
    soundfile.write(tmp_path / name, noise(3.0), rate_hz, format=container, subtype=subtype)
    whole = read_clip(tmp_path / name)
    part = read_clip(tmp_path / name, 1.25, 0.5)
    assert len(part) == 8000
    assert np.allclose(part, whole[20_000:28_000], atol=1e-4)


def test_slices_that_follow_each_other_cover_the_file_once(tmp_path: Path) -> None:
    samples = noise(1.0)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE_HZ, subtype="FLOAT")
    cuts = [0.0, 0.123456, 0.3333333, 0.77777, 0.9]
    parts = [read_clip(tmp_path / "a.wav", a, b - a) for a, b in pairwise(cuts)]
    assert np.array_equal(np.concatenate([*parts, read_clip(tmp_path / "a.wav", 0.9)]), samples)


@pytest.mark.parametrize(
    ("offset_s", "duration_s", "expected_s"),
    [
        (0.0, None, 2.0),
        (0.0, 1.95, 2.0),  # rounded down: the whole file
        (0.0, 2.05, 2.0),
        (0.0, 7.0, 2.0),  # without an offset a longer duration only informs
        (0.0, 1.5, 1.5),  # clearly shorter: a part
        (0.5, None, 1.5),
        (0.5, 1.45, 1.45),  # with an offset: exact
        (0.5, 1.55, 1.5),  # but for rounding at the end
    ],
)
def test_what_offset_and_duration_mean(
    tmp_path: Path, offset_s: float, duration_s: float | None, expected_s: float
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.0), SAMPLE_RATE_HZ)
    clip = decode_clip(tmp_path / "a.wav", offset_s, duration_s)
    assert len(clip.samples) / SAMPLE_RATE_HZ == pytest.approx(expected_s)
    assert clip.file_s == 2.0


@pytest.mark.parametrize(("offset_s", "duration_s"), [(2.0, None), (3.0, 1.0), (1.0, 1.2)])
def test_a_slice_beyond_the_end_is_an_error(tmp_path: Path, offset_s: float, duration_s: float | None) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2.0), SAMPLE_RATE_HZ)
    with pytest.raises(AudioError, match=r"a\.wav: the slice from .* not inside the file, which is 2\.000 s long"):
        read_clip(tmp_path / "a.wav", offset_s, duration_s)


def bad_files(folder: Path) -> dict[str, Path]:
    samples = noise(1.0)
    with_nan, with_inf = samples.copy(), samples.copy()
    with_nan[4000], with_inf[4000] = np.nan, np.inf
    paths = {name: folder / f"{name}.wav" for name in ("empty", "text", "header", "none", "nan", "inf", "huge")}
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("this is no audio")
    paths["header"].write_bytes(b"RIFF")
    soundfile.write(paths["none"], np.empty(0, np.float32), SAMPLE_RATE_HZ)
    soundfile.write(paths["nan"], with_nan, SAMPLE_RATE_HZ, subtype="FLOAT")
    soundfile.write(paths["inf"], np.stack([with_inf, -with_inf], axis=1), SAMPLE_RATE_HZ, subtype="FLOAT")
    soundfile.write(paths["huge"], samples.astype(np.float64) * 1e300, SAMPLE_RATE_HZ, subtype="DOUBLE")
    soundfile.write(folder / "whole.flac", samples, SAMPLE_RATE_HZ)
    paths["cut"] = folder / "cut.flac"
    paths["cut"].write_bytes((folder / "whole.flac").read_bytes()[:8000])
    paths["missing"] = folder / "missing.wav"
    paths["folder"] = folder / "folder.wav"
    paths["folder"].mkdir()
    paths["pipe"] = folder / "pipe.wav"
    os.mkfifo(paths["pipe"])
    paths["raw"] = folder / "no_header.raw"
    paths["raw"].write_bytes(bytes(1000))
    paths["nul"] = folder / "a\0b.wav"
    return paths


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("empty", "the file is empty"),
        ("text", "not readable as audio"),
        ("header", "not readable as audio"),
        ("none", "no samples in the file"),
        ("nan", r"NaN or infinite samples at 0\.250 s"),
        ("inf", r"NaN or infinite samples at 0\.250 s"),
        ("huge", "NaN or infinite samples"),
        ("cut", "not readable as audio"),
        ("missing", "No such file"),
        ("folder", "not a file"),
        ("pipe", "not a file"),
        ("raw", "not readable as audio"),
        ("nul", "cannot be opened"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, says: str) -> None:
    path = bad_files(tmp_path)[name]
    with pytest.raises(AudioError, match=says) as caught:
        read_clip(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def flac_with_total(path: Path, samples: np.ndarray, total: int) -> Path:
    """A FLAC file whose header tells another number of samples than it has; 0 means unknown."""
    soundfile.write(path, samples, SAMPLE_RATE_HZ, format="FLAC")
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack(">I", total)
    path.write_bytes(bytes(data))
    return path


def test_a_flac_that_came_through_a_pipe_does_not_know_its_length(tmp_path: Path) -> None:
    samples = noise(2.0)
    path = flac_with_total(tmp_path / "piped.flac", samples, 0)
    assert header_seconds(path) == 2.0
    assert np.allclose(read_clip(path), samples, atol=1e-4)
    assert np.allclose(read_clip(path, 0.5, 0.25), samples[8000:12_000], atol=1e-4)
    assert len(read_clip(path, 0.0, 1.95)) == 32_000
    with pytest.raises(AudioError, match=r"which is 2\.000 s long"):
        read_clip(path, 1.0, 3.0)


@pytest.mark.parametrize("total", [20_000, 0xFFFFFFFF])
def test_a_file_shorter_than_its_header_says_is_cut_off(tmp_path: Path, total: int) -> None:
    path = flac_with_total(tmp_path / "cut.flac", noise(1.0), total)
    with pytest.raises(AudioError, match=r"cut off: it ends at 1\.000 s"):
        read_clip(path)
    assert len(read_clip(path, 0.25, 0.5)) == 8000


def test_the_estimated_length_of_an_mp3_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(3.0), SAMPLE_RATE_HZ, format="MP3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = decode_clip(path)
    assert 1.0 < clip.file_s < 2.0
    assert len(clip.samples) / SAMPLE_RATE_HZ == pytest.approx(clip.file_s)


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\xf0\xff\xff\x7f"])
def test_a_wav_that_came_through_a_pipe_is_read_to_its_end(tmp_path: Path, size: bytes) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.0), SAMPLE_RATE_HZ)
    data = bytearray(path.read_bytes())
    at = data.find(b"data") + 4
    data[at : at + 4] = size
    path.write_bytes(bytes(data))
    assert len(read_clip(path)) == SAMPLE_RATE_HZ


def test_an_implausible_rate_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.0), 1)
    with pytest.raises(AudioError, match="sample rate of 1 Hz"):
        read_clip(path)


def test_a_clip_too_short_to_resample_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(1, np.float32), 48_000)
    with pytest.raises(AudioError, match="no samples in the clip"):
        read_clip(tmp_path / "a.wav")


def test_any_file_name_is_fine(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff [b].wav"))
    soundfile.write(tmp_path / "a.wav", noise(0.5), SAMPLE_RATE_HZ)
    (tmp_path / "a.wav").rename(path)
    assert len(read_clip(path)) == 8000


def test_only_the_slice_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "long.wav", noise(60.0), SAMPLE_RATE_HZ)
    asked: list[int] = []
    read = soundfile.SoundFile.read

    def counting(self: soundfile.SoundFile, frames: int, **options: object) -> np.ndarray:
        asked.append(frames)
        result: np.ndarray = read(self, frames, **options)
        return result

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    read_clip(tmp_path / "long.wav", 30.0, 1.0)
    assert asked == [SAMPLE_RATE_HZ]


def test_header_seconds(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1.5, 8000), 8000)
    assert header_seconds(tmp_path / "a.flac") == 1.5


@pytest.mark.parametrize("level", [0.001, 0.03, 0.9])
def test_speech_is_brought_to_one_loudness(level: float) -> None:
    result = normalise(tone(1.0, level=level))
    assert result.samples.dtype == np.float32
    assert np.sqrt(np.mean(np.square(result.samples, dtype=np.float64))) == pytest.approx(TARGET_RMS, rel=1e-5)
    assert result.rms_before == pytest.approx(level / np.sqrt(2), rel=1e-3)
    assert (result.clipped, result.silent) == (0, False)


def test_clipped_samples_are_clamped_and_counted() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[[10, 20, 30]] = [0.5, -0.5, 0.5]
    result = normalise(samples)
    assert result.clipped == 3
    assert result.samples[[10, 20, 30]].tolist() == [1.0, -1.0, 1.0]


@pytest.mark.parametrize("samples", [np.zeros(100, np.float32), np.full(100, 5e-5, np.float32)])
def test_silence_is_left_as_it_is_and_flagged(samples: np.ndarray) -> None:
    result = normalise(samples)
    assert result.silent and result.clipped == 0
    assert np.array_equal(result.samples, samples)


def test_normalise_leaves_its_input_alone() -> None:
    samples = noise(0.1)
    samples.flags.writeable = False
    result = normalise(samples)
    assert result.samples.flags.writeable
    assert not np.array_equal(result.samples, samples)


def test_normalise_refuses_nan() -> None:
    with pytest.raises(AudioError, match="NaN"):
        normalise(np.array([0.1, np.nan], np.float32))


def test_the_fingerprint_follows_the_target_loudness() -> None:
    assert audio_fingerprint() == audio_fingerprint(0.075) != audio_fingerprint(0.08)
    assert len(audio_fingerprint()) == 12 and int(audio_fingerprint(), 16) >= 0


def assert_covers(ranges: list[tuple[int, int]], samples: np.ndarray, max_seconds: float) -> None:
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == len(samples)
    assert all(0 < stop - start <= max_seconds * SAMPLE_RATE_HZ for start, stop in ranges)


def test_long_audio_is_cut_in_its_pauses() -> None:
    samples = noise(25.0)
    pauses_s = [8.1, 16.2]
    for pause_s in pauses_s:
        samples[round((pause_s - 0.15) * SAMPLE_RATE_HZ) : round((pause_s + 0.15) * SAMPLE_RATE_HZ)] *= 0.01
    ranges = cut_at_pauses(samples, 10.0)
    assert_covers(ranges, samples, 10.0)
    cuts_s = [stop / SAMPLE_RATE_HZ for _, stop in ranges[:-1]]
    assert cuts_s == pytest.approx(pauses_s, abs=0.15)


@pytest.mark.parametrize("max_seconds", [0.03, 0.1, 1.0, 2.9, 3.1, 7.0])
@pytest.mark.parametrize("seconds", [0.001, 0.2, 3.2, 7.01])
def test_cuts_cover_everything_once_whatever_the_lengths(seconds: float, max_seconds: float) -> None:
    samples = noise(seconds)
    assert_covers(cut_at_pauses(samples, max_seconds), samples, max_seconds)


def test_what_fits_is_not_cut() -> None:
    samples = noise(3.0)
    assert cut_at_pauses(samples, 3.0) == [(0, 48_000)]
    assert cut_at_pauses(samples[:0], 3.0) == []


def test_the_last_piece_is_not_a_scrap() -> None:
    samples = np.ones(round(30.1 * SAMPLE_RATE_HZ), np.float32)
    start, stop = cut_at_pauses(samples, 30.0)[-1]
    assert stop - start >= SAMPLE_RATE_HZ


def test_a_limit_of_nothing_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="max_seconds"):
        cut_at_pauses(noise(1.0), 0.0)
