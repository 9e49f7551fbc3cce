"""Sound behind headers that do not say how long it is, and slices, are heard to the sample."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio.cache import SampleCache
from core.audio.samples import decode_clip, read_clip
from core.audio.sound_file import Samples
from core.audio.sound_headers import AS_IT_IS, mended
from core.audit.clip_facts import measure
from core.audit.line_checks import clip_problems
from core.manifests.decoding import cached_clips, clip_notices
from core.manifests.hashing import HashCache
from core.manifests.manifest import Utterance, read_manifest

RATE = 16_000
SECONDS = 2


def noise(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> Samples:
    shape = (int(seconds * rate), channels) if channels > 1 else int(seconds * rate)
    swell = 0.2 + 0.8 * np.abs(np.sin(np.arange(int(seconds * rate)) / rate * 5))
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(drawn * (swell[:, None] if channels > 1 else swell) * 0.05, np.float32)


def wav(samples: Samples, form: str = "WAV") -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=form, subtype="PCM_16")
    return bytearray(buffer.getvalue())


def with_length(data: bytearray, length: int, riff: int | None = None) -> bytes:
    """A WAV whose header tells another length of its sound."""
    place = data.index(b"data") + 4
    changed = bytearray(data)
    changed[place : place + 4] = struct.pack("<I", length)
    changed[4:8] = struct.pack("<I", min(length + 36, 0xFFFFFFFF) if riff is None else riff)
    return bytes(changed)


def kinds(path: Path) -> dict[str, str]:
    return dict(clip_problems(Utterance(0, "", path, ""), measure(path)))


@pytest.mark.parametrize("length", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0, 8_000], ids=hex)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_from_a_pipe_is_heard_whole_and_named(tmp_path: Path, length: int, channels: int) -> None:
    data = wav(noise(SECONDS, channels=channels))
    good, odd = tmp_path / "good.wav", tmp_path / "odd.wav"
    good.write_bytes(data)
    odd.write_bytes(with_length(data, length))
    assert np.array_equal(read_clip(odd), read_clip(good))
    assert np.array_equal(read_clip(odd, 0.5, 1.25), read_clip(good, 0.5, 1.25))
    assert decode_clip(odd).file_s == SECONDS
    assert mended(good) == AS_IT_IS
    assert not {"odd_header", "cut_off"} & set(kinds(good))
    found = kinds(odd)
    assert "2.00 s that are there are heard" in found["odd_header"]
    assert "cut_off" not in found
    assert measure(odd).digest == measure(good).digest


@pytest.mark.parametrize("length", [0, 2**64 - 1, 8_000])
def test_a_large_wav_whose_length_is_wrong_is_heard_whole(tmp_path: Path, length: int) -> None:
    data = wav(noise(SECONDS), "RF64")
    good, odd = tmp_path / "good.wav", tmp_path / "odd.wav"
    good.write_bytes(data)
    place = data.index(b"ds64") + 16
    data[place : place + 8] = struct.pack("<Q", length)
    odd.write_bytes(data)
    assert np.array_equal(read_clip(odd), read_clip(good))
    assert "odd_header" in kinds(odd)
    assert "odd_header" not in kinds(good)


AU_LENGTH, AIFF_LENGTH, W64_LENGTH = (b".snd", 8), (b"SSND", 4), (b"data\xf3\xac", 16)


@pytest.mark.parametrize(
    ("form", "place", "length", "named"),
    [
        *(("AU", AU_LENGTH, n, "does not say how long") for n in (0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000)),
        ("AU", AU_LENGTH, 0, "that there is no sound"),
        ("AU", AU_LENGTH, 8_000, "0.25 s, but sound goes on"),
        *(("AIFF", AIFF_LENGTH, n, "does not say how long") for n in (0x7FFFFFFF, 0xFFFFFFFF)),
        *(("AIFF", AIFF_LENGTH, n, "that there is no sound") for n in (0, 8)),
        ("AIFF", AIFF_LENGTH, 8_008, "0.25 s, but sound goes on"),
        *(("W64", W64_LENGTH, n, None) for n in (0, 24, 8_000, 2**63 - 1, 2**64 - 1)),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_other_forms_through_a_pipe_are_heard_whole_and_named(
    tmp_path: Path, form: str, place: tuple[bytes, int], length: int, named: str | None, channels: int
) -> None:
    data = wav(noise(SECONDS, channels=channels), form)
    good, odd = tmp_path / f"good.{form}", tmp_path / f"odd.{form}"
    good.write_bytes(data)
    start = data.index(place[0]) + place[1]
    little = form == "W64"
    size = 8 if little else 4
    per_channel = (
        length if little or length > 1 << 30 or length <= 8 else (length - length % 100) * channels + length % 100
    )
    data[start : start + size] = per_channel.to_bytes(size, "little" if little else "big")
    odd.write_bytes(data)
    assert np.array_equal(read_clip(odd), read_clip(good))
    assert np.array_equal(read_clip(odd, 0.5, 1.25), read_clip(good, 0.5, 1.25))
    assert mended(good) == AS_IT_IS
    if named is not None:
        found = kinds(odd)
        assert named in found["odd_header"] and "2.00 s that are there are heard" in found["odd_header"]


@pytest.mark.parametrize("form", ["AU", "AIFF"])
def test_other_forms_that_were_cut_are_heard_as_far_as_they_go(tmp_path: Path, form: str) -> None:
    (tmp_path / "a").write_bytes(wav(noise(SECONDS), form)[:-16_000])
    assert len(read_clip(tmp_path / "a")) == 24_000
    assert kinds(tmp_path / "a")["cut_off"] == "ends at 1.50 s, but its header says 2.00 s"


def test_what_follows_the_sound_of_an_aiff_is_not_heard(tmp_path: Path) -> None:
    data = bytes(wav(noise(SECONDS), "AIFF"))
    (tmp_path / "a").write_bytes(data)
    for tail in (b"APPL" + struct.pack(">I", 9_996) + b"words " * 1666, b"\0" * 20_000):
        (tmp_path / "b").write_bytes(data + tail)
        assert np.array_equal(read_clip(tmp_path / "a"), read_clip(tmp_path / "b"))
        assert not {"odd_header", "cut_off"} & set(kinds(tmp_path / "b"))


@pytest.mark.parametrize(
    "tail",
    [
        b"LIST" + struct.pack("<I", 20_000) + b"INFO" + bytes(range(256)) * 78 + b"0" * 28,
        b"LIST" + struct.pack("<I", 900_000) + bytes(range(256)) * 78,
        b"TAG" + bytes(range(125)) * 100,
        b"abcd" + struct.pack("<I", 19_968) + bytes(range(256)) * 78,
        b"\0" * 20_000,
        bytes(range(200)),
    ],
    ids=["list", "cut list", "mp3 tag", "unknown chunk", "zeros", "short junk"],
)
def test_what_follows_the_sound_of_a_wav_is_not_heard(tmp_path: Path, tail: bytes) -> None:
    data = wav(noise(SECONDS))
    (tmp_path / "a.wav").write_bytes(data)
    (tmp_path / "b.wav").write_bytes(bytes(data) + tail)
    assert np.array_equal(read_clip(tmp_path / "a.wav"), read_clip(tmp_path / "b.wav"))
    assert not {"odd_header", "cut_off"} & set(kinds(tmp_path / "b.wav"))


def test_a_wav_that_was_cut_is_heard_as_far_as_it_goes(tmp_path: Path) -> None:
    data = wav(noise(SECONDS))
    (tmp_path / "a.wav").write_bytes(data[:-16_001])
    assert len(read_clip(tmp_path / "a.wav")) == 23_999
    assert kinds(tmp_path / "a.wav")["cut_off"] == "ends at 1.50 s, but its header says 2.00 s"


def test_the_trainer_is_told_of_odd_headers(tmp_path: Path) -> None:
    data = wav(noise(SECONDS))
    (tmp_path / "good.wav").write_bytes(data)
    (tmp_path / "odd.wav").write_bytes(with_length(data, 0x7FFFF000))
    (tmp_path / "short.wav").write_bytes(data[:-8_000])
    path = tmp_path / "m.jsonl"
    path.write_text("".join(f'{{"audio": "{name}.wav", "text": "a"}}\n' for name in ("good", "odd", "short")))
    manifest = read_manifest(path)
    for _ in range(2):  # decoded now, then found in the cache
        store = cached_clips(manifest, SampleCache(tmp_path / "cache"), HashCache(tmp_path / "hashes.json"))
        first, second = clip_notices(manifest, store)
        assert first.startswith(f"{path}:2: its header does not say how long it is")
        assert second == f"{path}:3: ends at 1.75 s, but its header says 2.00 s"
        assert np.array_equal(store[0], store[1])


FORMATS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("MP3", "MPEG_LAYER_III", 22_050, {}),
    ("MP3", "MPEG_LAYER_III", 44_100, {}),
    ("MP3", "MPEG_LAYER_III", 8_000, {"bitrate_mode": "CONSTANT", "compression_level": 0.99}),
    ("MP3", "MPEG_LAYER_III", 22_050, {"bitrate_mode": "VARIABLE", "compression_level": 0.99}),
    ("OGG", "VORBIS", 16_000, {}),
    ("OGG", "VORBIS", 44_100, {}),
    ("OGG", "OPUS", 16_000, {}),
    ("OGG", "OPUS", 48_000, {}),
    ("FLAC", "PCM_16", 44_100, {}),
    ("WAV", "IMA_ADPCM", 16_000, {}),
    ("WAV", "MS_ADPCM", 8_000, {}),
    ("WAV", "GSM610", 8_000, {}),
    ("CAF", "ALAC_16", 16_000, {}),
    ("AIFF", "PCM_16", 16_000, {}),
    ("W64", "PCM_16", 16_000, {}),
]


@pytest.mark.parametrize(("form", "subtype", "rate", "options"), FORMATS)
def test_a_slice_is_what_the_whole_file_has_there(
    tmp_path: Path, form: str, subtype: str, rate: int, options: dict[str, Any]
) -> None:
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, noise(6, rate), rate, format=form, subtype=subtype, **options)
    whole: Samples = decode_native_samples(path)
    for start in (0.0, 0.01, 0.37, 1.0, 2.503, 4.9):
        part = decode_native_samples(path, start, 0.9)
        first = round(start * rate)
        assert np.array_equal(part, whole[first : first + len(part)]), start
        assert abs(len(part) - 0.9 * rate) <= 1


def decode_native_samples(path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> Samples:
    from core.audio.samples import decode_native

    return decode_native(path, offset_s, duration_s).samples


def without_first_frame(data: bytes) -> bytes:
    """An MP3 without the frame that tells how many follow."""
    second = next(i for i in range(4, len(data)) if data[i : i + 2] == data[:2] and data[i + 3] == data[3])
    return data[second:]


@pytest.mark.parametrize("head", [b"", b"ID3\x04\0\0\0\0\x01\x00" + b"\0" * 128], ids=["bare", "after a tag"])
def test_an_mp3_of_changing_bitrates_without_their_number_is_heard_whole(tmp_path: Path, head: bytes) -> None:
    rate = 22_050
    sound = noise(8, rate) * np.where(np.arange(8 * rate) < 4 * rate, 0.001, 1).astype(np.float32)
    path, bare = tmp_path / "a.mp3", tmp_path / "b.mp3"
    soundfile.write(path, sound, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    bare.write_bytes(head + without_first_frame(path.read_bytes()))
    whole, heard = decode_native_samples(path), decode_native_samples(bare)
    assert len(heard) == pytest.approx(len(whole), abs=3 * 576)
    lag = next(k for k in range(3 * 576) if np.allclose(heard[k : k + 20_000], whole[:20_000], atol=1e-6))
    assert np.allclose(heard[lag : lag + len(whole)], whole[: len(heard) - lag], atol=1e-6)
    part = decode_native_samples(bare, 6.2, 1.1)
    first = round(6.2 * rate)
    assert np.array_equal(part, heard[first : first + len(part)])
    assert "changing bitrates" in kinds(bare)["odd_header"]
    assert "odd_header" not in kinds(path)
