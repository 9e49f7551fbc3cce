"""Content hashes, and the cache that makes them cheap."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import clock_tick

from core.errors import AudioError, ManifestError
from core.manifests import hashing
from core.manifests.hashing import HashCache, file_sha256, manifest_file_hashes, manifest_sha256
from core.manifests.manifest import Manifest, read_manifest

LONG_AGO_NS = 10**18


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour later: the files of the test are old enough for their times to vouch for them."""
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(hashing.time, "time_ns", lambda: later)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read."""
    paths: list[Path] = []
    read = hashing._read

    def counting(path: Path, cache: HashCache) -> str:
        paths.append(path)
        return read(path, cache)

    monkeypatch.setattr(hashing, "_read", counting)
    return paths


def write(folder: Path, *lines: dict[str, Any], name: str = "manifest.jsonl") -> Manifest:
    """A manifest; files that it names are made, each with its name as its content."""
    for line in lines:
        path = folder / line["audio"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(Path(line["audio"]).name)
    manifest = folder / name
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_manifest(manifest)


def test_the_hash_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"sound" * 100_000)
    expected = hashlib.sha256(b"sound" * 100_000).hexdigest()
    assert file_sha256(tmp_path / "a", HashCache(tmp_path / "cache.json")) == expected


@pytest.mark.usefixtures("now")
def test_a_file_is_read_once_also_by_the_next_process(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"sound")
    cache = HashCache(tmp_path / "state" / "cache.json")
    first = file_sha256(path, cache)
    assert file_sha256(path, cache) == first
    cache.save()
    assert file_sha256(path, HashCache(tmp_path / "state" / "cache.json")) == first
    assert reads == [path]


@pytest.mark.usefixtures("now")
def test_a_changed_file_is_read_again_even_with_its_old_size_and_time(tmp_path: Path, reads: list[Path]) -> None:
    path, cache = tmp_path / "a", HashCache(tmp_path / "cache.json")
    path.write_bytes(b"old")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = file_sha256(path, cache)
    clock_tick()
    path.write_bytes(b"new")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert file_sha256(path, cache) == hashlib.sha256(b"new").hexdigest() != before
    assert len(reads) == 2


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path, reads: list[Path]) -> None:
    path, cache = tmp_path / "a", HashCache(tmp_path / "cache.json")
    path.write_bytes(b"sound")
    file_sha256(path, cache)
    file_sha256(path, cache)
    assert len(reads) == 2


def twins(folder: Path) -> tuple[Path, Path]:
    """Two files of another content each, of the same size and all the same times: written in one tick of the clock."""
    for number in range(1000):
        one, other = (folder / f"{name}{number}" / "a" for name in ("one", "two"))
        for path in (one, other):
            path.parent.mkdir()
        for path in (one, other):
            path.write_text(path.parent.name[:3])
        for path in (one, other):
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        if one.stat().st_ctime_ns == other.stat().st_ctime_ns:
            return one, other
    pytest.skip("this file system tells every two files apart by their times")


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("turned", ["link", "folder"])
def test_a_name_that_turns_to_another_file_of_the_same_size_and_times_is_read_again(
    tmp_path: Path, turned: str
) -> None:
    one, two = twins(tmp_path)
    cache, place = HashCache(tmp_path / "cache.json"), tmp_path / "place"
    place.symlink_to(one.parent)
    assert file_sha256(place / "a", cache) == hashlib.sha256(b"one").hexdigest()
    place.unlink()
    if turned == "link":
        place.symlink_to(two.parent)
    else:
        two.parent.rename(place)
    assert file_sha256(place / "a", cache) == hashlib.sha256(b"two").hexdigest()


@pytest.mark.parametrize("size", [1 << 40, (1 << 30) + 1])
def test_a_file_full_of_holes_is_refused_and_fills_no_memory(tmp_path: Path, size: int) -> None:
    path, cache = tmp_path / "holes.jsonl", HashCache(tmp_path / "cache.json")
    path.touch()
    os.truncate(path, size)
    with pytest.raises(ManifestError, match="longer than"):
        manifest_file_hashes(path, cache)
    if size > hashing.FILE_BYTES:
        with pytest.raises(AudioError, match="larger than"):
            file_sha256(path, cache)


CORRUPT = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"version": 2}',
    b'{"version": 2, "files": []}',
    b'{"version": 2, "files": {"a": 5, "b": [1]}}',
    b'{"version": 1, "files": {"a": [1, 2, 3, "x"]}}',
]


@pytest.mark.parametrize("content", CORRUPT, ids=[str(content[:20]) for content in CORRUPT])
@pytest.mark.usefixtures("now")
def test_a_corrupt_cache_is_an_empty_one_and_is_mended(tmp_path: Path, content: bytes, reads: list[Path]) -> None:
    cache_path = tmp_path / "cache.json"
    cache_path.write_bytes(content)
    (tmp_path / "a").write_bytes(b"sound")
    cache = HashCache(cache_path)
    assert file_sha256(tmp_path / "a", cache) == hashlib.sha256(b"sound").hexdigest()
    cache.save()
    file_sha256(tmp_path / "a", HashCache(cache_path))
    assert len(reads) == 1


@pytest.mark.usefixtures("now")
def test_two_writers_keep_what_the_other_found(tmp_path: Path, reads: list[Path]) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    caches = [HashCache(tmp_path / "cache.json") for _ in paths]
    for path, cache in zip(paths, caches, strict=True):
        path.write_text(path.name)
        file_sha256(path, cache)
    for cache in caches:
        cache.save()
    again = HashCache(tmp_path / "cache.json")
    for path in paths:
        file_sha256(path, again)
    assert reads == paths


@pytest.mark.usefixtures("now")
def test_a_cache_that_was_let_go_finds_its_own_hashes_and_those_of_others(tmp_path: Path, reads: list[Path]) -> None:
    own, others = tmp_path / "a", tmp_path / "b"
    own.write_text("a")
    others.write_text("b")
    cache, other = HashCache(tmp_path / "cache.json"), HashCache(tmp_path / "cache.json")
    file_sha256(own, cache)  # not saved: the disk is full, say
    file_sha256(others, other)
    other.save()
    cache.forget()
    for path in (own, others):
        file_sha256(path, cache)
    assert reads == [own, others]
    cache.save()
    assert HashCache(tmp_path / "cache.json").find(str(own), hashing._stamp(own.stat())) is not None


@pytest.mark.usefixtures("now")
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"sound")
    (tmp_path / "file").write_bytes(b"")
    cache = HashCache(tmp_path / "file" / "cache.json")
    file_sha256(tmp_path / "a", cache)
    cache.save()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"none\.wav: cannot be read \(No such file or directory\)"):
        file_sha256(tmp_path / "none.wav", HashCache(tmp_path / "cache.json"))


def test_a_file_that_vanished_is_named_with_its_line(tmp_path: Path) -> None:
    manifest = write(tmp_path, {"audio": "a.wav", "text": "a"}, {"audio": "b.wav", "text": "b"})
    (tmp_path / "b.wav").unlink()
    with pytest.raises(AudioError, match=r"manifest\.jsonl:2: .*b\.wav: cannot be read"):
        manifest_sha256(manifest, HashCache(tmp_path / "cache.json"))


LINES: list[dict[str, Any]] = [
    {"audio": "a.wav", "text": "a", "duration": 1.5, "speaker": "ann"},
    {"audio": "b.wav", "text": "b", "offset": 0.5},
]


def hash_of(folder: Path, lines: list[dict[str, Any]], **options: Any) -> str:
    return manifest_sha256(write(folder, *lines, **options), HashCache(folder / "cache.json"))


def test_a_manifest_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    moved = [{**line, "audio": f"deep/{line['audio']}", "speaker": "bob", "note": 1} for line in LINES]
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
    assert hash_of(tmp_path / "there", moved, name="other.jsonl") == hash_of(tmp_path / "here", LINES)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[0].update(text="A"),
        lambda lines: lines[0].update(duration=1.25),
        lambda lines: lines[0].pop("duration"),
        lambda lines: lines[1].update(offset=0.25),
        lambda lines: lines[1].update(audio="c.wav"),
        lambda lines: lines.reverse(),
        lambda lines: lines.pop(),
        lambda lines: lines.append({"audio": "d.wav", "text": "d"}),
    ],
)
def test_whatever_can_change_a_result_changes_the_hash(tmp_path: Path, change: Any) -> None:
    before = hash_of(tmp_path, LINES)
    lines = [dict(line) for line in LINES]
    change(lines)
    assert hash_of(tmp_path, lines) != before


def test_changed_audio_changes_the_hash(tmp_path: Path) -> None:
    before = hash_of(tmp_path, LINES)
    (tmp_path / "b.wav").write_text("another recording")
    assert hash_of(tmp_path, LINES) != before


@pytest.mark.usefixtures("now")
def test_many_slices_of_one_file_read_it_once(tmp_path: Path, reads: list[Path]) -> None:
    lines = [{"audio": "long.wav", "text": "a", "offset": second, "duration": 1} for second in range(300)]
    manifest = write(tmp_path, *lines)
    done: list[tuple[int, int]] = []
    manifest_sha256(manifest, HashCache(tmp_path / "cache.json"), lambda *counts: done.append(counts))
    assert reads == [tmp_path / "long.wav"]
    assert done == [(1, 1)]


@pytest.mark.usefixtures("now")
def test_a_manifest_whose_files_are_known_is_hashed_without_reading_one(tmp_path: Path, reads: list[Path]) -> None:
    lines = [{"audio": f"audio/{number}.wav", "text": "word " * 10, "duration": 3} for number in range(3800)]
    manifest = write(tmp_path, *lines)
    first = manifest_sha256(manifest, HashCache(tmp_path / "cache.json"))
    assert len(reads) == 3800
    assert manifest_sha256(manifest, HashCache(tmp_path / "cache.json")) == first
    assert len(reads) == 3800


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The manifests that were read whole."""
    paths: list[Path] = []

    def counting(path: Path) -> Manifest:
        paths.append(path)
        return read_manifest(path)

    monkeypatch.setattr(hashing, "read_manifest", counting)
    return paths


@pytest.mark.usefixtures("now")
def test_an_unchanged_manifest_is_read_whole_once(tmp_path: Path, parsed: list[Path]) -> None:
    manifest = write(tmp_path, {"audio": "./x/a.wav", "text": "a"}, {"audio": "b.wav", "text": "b"})
    state = tmp_path / "state.json"
    first = manifest_file_hashes(manifest.path, HashCache(state))
    assert first.content == manifest_sha256(manifest, HashCache(tmp_path / "other.json"))
    assert manifest_file_hashes(manifest.path, HashCache(state)) == first
    assert parsed == [manifest.path]


@pytest.mark.parametrize("what", ["audio", "text", "swapped", "gone", "now wrong"])
@pytest.mark.usefixtures("now")
def test_a_manifest_is_read_again_when_anything_changed(tmp_path: Path, parsed: list[Path], what: str) -> None:
    lines = [{"audio": "a.wav", "text": "a"}, {"audio": "b.wav", "text": "b"}]
    path = write(tmp_path, *lines).path
    cache = HashCache(tmp_path / "state.json")
    before = manifest_file_hashes(path, cache)
    clock_tick()
    match what:
        case "audio":
            (tmp_path / "b.wav").write_text("c.wav")
        case "text":
            write(tmp_path, lines[0], lines[1] | {"text": "c"})
        case "swapped":
            (tmp_path / "a.wav").rename(tmp_path / "c.wav")
            (tmp_path / "b.wav").rename(tmp_path / "a.wav")
            (tmp_path / "c.wav").rename(tmp_path / "b.wav")
        case "gone":
            (tmp_path / "a.wav").unlink()
        case _:
            path.write_text(path.read_text() + '{"audio": "a.wav", "text": "again"}\n')
    if what in ("gone", "now wrong"):
        with pytest.raises(ManifestError, match=r"no audio file|the same audio"):
            manifest_file_hashes(path, cache)
    else:
        assert manifest_file_hashes(path, cache) != before
    assert len(parsed) == 2
