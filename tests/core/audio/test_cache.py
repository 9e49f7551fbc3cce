"""The cache of decoded clips: right, shared, and whole whatever is killed or full."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from waiting import DEADLINE_S, wait_for

from core.audio import cache as cache_module
from core.audio.cache import SampleCache
from core.audio.samples import read_clip
from core.errors import AudioError, Interrupted, is_disk_full
from core.manifests import decoding
from core.manifests.decoding import cached_clips, clip_notices
from core.manifests.hashing import HashCache
from core.manifests.manifest import Manifest, read_manifest

ROOT = Path(__file__).parents[3]

BUILD = """
import sys
from pathlib import Path
from core.audio.cache import SampleCache
from core.manifests.decoding import cached_clips
from core.manifests.hashing import HashCache
from core.manifests.manifest import read_manifest
folder = Path(sys.argv[1])
manifest = read_manifest(folder / "manifest.jsonl")
store = cached_clips(manifest, SampleCache(folder / "clips"), HashCache(folder / "h.json"))
print(len(store), float(store.samples.sum(dtype="float64")))
"""


def speech(number: int, seconds: float = 0.3) -> np.ndarray:
    return (0.1 * np.random.default_rng(number).standard_normal(round(seconds * 8000))).astype(np.float32)


def write(folder: Path, lines: list[dict[str, Any]]) -> Manifest:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps({"text": "a", **line}) + "\n" for line in lines))
    return read_manifest(path)


def make(folder: Path, count: int = 5, seconds: float = 0.3) -> Manifest:
    """A manifest of `count` files of sound, each a little longer than the one before."""
    for number in range(count):
        soundfile.write(folder / f"{number}.flac", speech(number, seconds + number / 100), 8000)
    return write(folder, [{"audio": f"{number}.flac"} for number in range(count)])


def clips(folder: Path, manifest: Manifest, **options: Any) -> cache_module.ClipStore:
    return cached_clips(manifest, SampleCache(folder / "clips"), HashCache(folder / "h.json"), **options)


def files(folder: Path) -> list[str]:
    """What lies in the cache, locks aside."""
    return sorted(path.suffix for path in (folder / "clips").iterdir() if path.suffix != ".lock")


def test_clips_are_what_read_clip_gives(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", speech(9, 3.0), 8000)
    make(tmp_path, 3)
    lines = [{"audio": f"{number}.flac"} for number in range(3)]
    lines += [{"audio": "long.wav", "offset": 0.5 * n, "duration": 0.4} for n in range(4)]
    manifest = write(tmp_path, lines)
    store = clips(tmp_path, manifest)
    assert len(store) == 7
    for utterance in manifest.utterances:
        expected = read_clip(utterance.audio, utterance.offset_s, utterance.duration_s)
        assert np.array_equal(store[utterance.index], expected)
        assert store.lengths[utterance.index] == len(expected)
        assert store.rms[utterance.index] == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=1e-5)
    assert store.lengths.dtype == np.int64
    assert store.seconds == pytest.approx(sum(store.lengths) / 16_000)


def test_clips_are_views_that_nobody_can_change(tmp_path: Path) -> None:
    store = clips(tmp_path, make(tmp_path))
    clip = store[1]
    assert type(clip) is np.ndarray and clip.dtype == np.float32
    assert clip.base is not None
    with pytest.raises(ValueError, match="read-only"):
        clip[0] = 1.0
    with pytest.raises(IndexError):
        store[5]


def test_they_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make(tmp_path)
    first = clips(tmp_path, manifest)
    monkeypatch.setattr(decoding, "decoded_clips", None)
    assert np.array_equal(clips(tmp_path, manifest).samples, first.samples)


def test_the_same_sound_elsewhere_with_other_texts_is_the_same_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    store = clips(tmp_path, read_manifest(tmp_path / "manifest.jsonl"))
    for number in range(5):
        (tmp_path / f"{number}.flac").rename(tmp_path / f"moved{number}.flac")
    moved = write(tmp_path, [{"audio": f"moved{number}.flac", "text": "other"} for number in range(5)])
    monkeypatch.setattr(decoding, "decoded_clips", None)
    assert np.array_equal(clips(tmp_path, moved).samples, store.samples)


def test_a_changed_file_is_another_entry(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    before = np.array(clips(tmp_path, manifest)[2])
    soundfile.write(tmp_path / "2.flac", speech(99), 8000)
    store = clips(tmp_path, manifest)
    assert not np.array_equal(store[2], before)
    assert np.array_equal(store[2], read_clip(tmp_path / "2.flac"))


def test_another_audio_path_version_is_another_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make(tmp_path)
    clips(tmp_path, manifest)
    monkeypatch.setattr(cache_module, "AUDIO_PATH_VERSION", 2)
    clips(tmp_path, manifest)
    assert files(tmp_path) == [".f32", ".f32", ".json", ".json"]


@pytest.mark.parametrize("damage", ["cut", "gone", "index"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    manifest = make(tmp_path)
    expected = np.array(clips(tmp_path, manifest).samples)
    (packed,) = (tmp_path / "clips").glob("*.f32")
    if damage == "cut":
        os.truncate(packed, 1000)
    elif damage == "gone":
        packed.unlink()
    else:
        packed.with_suffix(".json").write_text('{"lengths": [1')
    assert np.array_equal(clips(tmp_path, manifest).samples, expected)


def test_progress_is_told_and_may_stop_the_build(tmp_path: Path) -> None:
    manifest = make(tmp_path, 5)
    told: list[tuple[int, int]] = []
    clips(tmp_path, manifest, progress=lambda *counts: told.append(counts))
    assert [counts for counts in told if counts[0]] == [*((n, 5) for n in range(1, 6)), (5, 5)]

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    (tmp_path / "other").mkdir()
    other = make(tmp_path / "other", 6)
    with pytest.raises(Interrupted):
        clips(tmp_path / "other", other, progress=stop)
    assert files(tmp_path / "other") == []
    assert len(clips(tmp_path / "other", other)) == 6


def test_every_bad_clip_is_named_with_its_line(tmp_path: Path) -> None:
    manifest = make(tmp_path, 40)
    (tmp_path / "1.flac").write_bytes(b"")
    (tmp_path / "7.flac").write_text("no sound")
    soundfile.write(tmp_path / "39.flac", np.empty(0, np.float32), 8000)
    with pytest.raises(AudioError) as caught:
        clips(tmp_path, manifest)
    problems = str(caught.value).splitlines()
    assert [problem.split(": ")[0] for problem in problems] == [f"{manifest.path}:{line}" for line in (2, 8, 40)]
    assert "1.flac: the file is empty" in problems[0]
    assert files(tmp_path) == []


def test_a_manifest_of_bad_clips_does_not_fill_the_screen(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.wav").write_text(f"no sound {number}")
    manifest = write(tmp_path, [{"audio": f"{number}.wav"} for number in range(100)])
    with pytest.raises(AudioError) as caught:
        clips(tmp_path, manifest)
    problems = str(caught.value).splitlines()
    assert len(problems) == 21
    assert "there may be more" in problems[-1]


def test_silence_is_kept_and_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(8000, np.float32), 8000)
    soundfile.write(tmp_path / "loud.wav", speech(1), 8000)
    store = clips(tmp_path, write(tmp_path, [{"audio": "loud.wav"}, {"audio": "quiet.wav"}]))
    assert store.silent == [1]
    assert len(store[1]) == 16_000


def test_durations_that_are_not_the_files_are_told(tmp_path: Path) -> None:
    for name in "abcd":
        soundfile.write(tmp_path / f"{name}.wav", speech(1, 2.0), 8000)
    manifest = write(
        tmp_path,
        [
            {"audio": "a.wav", "duration": 1.95},
            {"audio": "b.wav", "duration": 1.5},
            {"audio": "c.wav", "duration": 2500},
            {"audio": "d.wav", "duration": 0.5, "offset": 1},
        ],
    )
    store = clips(tmp_path, manifest)
    assert (store.lengths / 16_000).tolist() == [2.0, 1.5, 2.0, 0.5]
    where = manifest.path
    assert clip_notices(manifest, store) == [
        f"{where}:2: duration is 1.5 s, but the file has 2.000 s: only that much of it is used",
        f"{where}:3: duration is 2500 s, but the file has 2.000 s: all of it is used",
    ]


def test_two_processes_build_one_entry(tmp_path: Path) -> None:
    make(tmp_path, 30)
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    builders = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {builder.communicate(timeout=DEADLINE_S)[0] for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0]
    assert len(outputs) == 1
    assert files(tmp_path) == [".f32", ".json"]


def test_who_waits_for_another_builder_is_still_asked(tmp_path: Path) -> None:
    manifest = make(tmp_path)
    cache = tmp_path / "clips"
    clips(tmp_path, manifest)
    (lock,) = cache.glob("*.lock")
    lock.with_suffix(".json").unlink()
    asked: list[int] = []

    def stop(done: int, total: int) -> None:
        asked.append(done)
        if len(asked) > 2:
            raise Interrupted

    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Interrupted):
            clips(tmp_path, manifest, progress=stop)
    assert len(clips(tmp_path, manifest)) == 5


def test_a_killed_build_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    manifest = make(tmp_path, 300, seconds=1.0)
    builder = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path)], cwd=ROOT, stdout=subprocess.DEVNULL)

    def writes() -> bool:
        assert builder.poll() is None
        return any(path.stat().st_size for path in (tmp_path / "clips").glob("*.tmp"))

    wait_for(writes, every_s=0.001)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert ".json" not in files(tmp_path)
    store = clips(tmp_path, manifest)
    assert np.array_equal(store[299], read_clip(tmp_path / "299.flac"))
    assert files(tmp_path) == [".f32", ".json"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    manifest = make(tmp_path, 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    clips_folder = tmp_path / "clips"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"\.f32") as caught:
            clips(tmp_path, manifest)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_disk_full(caught.value)
    assert str(clips_folder) in str(caught.value)
    assert files(tmp_path) == []
    assert len(clips(tmp_path, manifest)) == 20


def test_real_speech_at_8_khz(tmp_path: Path, digits: Path) -> None:
    manifest = read_manifest(digits / "heldout_manifest.jsonl")
    store = clips(tmp_path, manifest)
    assert store.silent == [] and clip_notices(manifest, store) == []
    for utterance in manifest.utterances:
        assert utterance.duration_s == pytest.approx(store.lengths[utterance.index] / 16_000, abs=0.01)
