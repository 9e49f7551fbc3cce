"""The hash over what is used of a manifest besides its audio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.manifests.hashing import HashCache, ManifestHashes, lines_of, lines_sha256, manifest_file_hashes, short_fields
from core.manifests.manifest import read_manifest

LINE: dict[str, Any] = {
    "audio": "a.wav",
    "text": "one",
    "duration": 1.5,
    "speaker": "ann",
    "room": "kitchen",
    "take": 2,
}


def lines_hash(folder: Path, line: dict[str, Any]) -> str:
    """Of a manifest of one line, whose audio need not be there."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "m.jsonl"
    manifest.write_text(json.dumps(line) + "\n")
    return lines_sha256(lines_of(read_manifest(manifest, check_audio=False)))


@pytest.mark.parametrize(
    "change",
    [
        {"text": "two"},
        {"duration": 1.25},
        {"offset": 0.5},
        {"speaker": "bob"},
        {"speaker": None},
        {"room": "hall"},
        {"take": 3},
    ],
    ids=str,
)
def test_whatever_is_used_of_a_line_changes_the_hash(tmp_path: Path, change: dict[str, Any]) -> None:
    assert lines_hash(tmp_path, LINE | change) != lines_hash(tmp_path, LINE)


def test_languages_have_a_hash_of_their_own_and_none_where_no_line_tells_one(tmp_path: Path) -> None:
    def hashes(**more: str) -> ManifestHashes:
        (tmp_path / "a.wav").write_bytes(b"not read as sound")
        (tmp_path / "m.jsonl").write_text(json.dumps({"audio": "a.wav", "text": "one"} | more) + "\n")
        return manifest_file_hashes(tmp_path / "m.jsonl", HashCache(tmp_path / "cache.json"))

    plain, german, danish = hashes(), hashes(language="de"), hashes(language="da")
    assert plain.languages is None
    assert german.languages != danish.languages
    assert german == hashes(language="de")  # out of the cache, too
    # It trains and scores other models as before: their runs stay the same runs.
    assert plain.content == german.content == danish.content


def test_a_renamed_field_changes_the_hash_and_its_place_does_not(tmp_path: Path) -> None:
    renamed = {("place" if key == "room" else key): value for key, value in LINE.items()}
    assert lines_hash(tmp_path, renamed) != lines_hash(tmp_path, LINE)
    assert lines_hash(tmp_path, dict(reversed(LINE.items()))) == lines_hash(tmp_path, LINE)


def test_where_the_audio_lies_and_long_notes_do_not_count(tmp_path: Path) -> None:
    moved = LINE | {"audio": "/elsewhere/a.wav", "note": "x" * 61}
    assert lines_hash(tmp_path, moved) == lines_hash(tmp_path, LINE)


def test_fields_are_short_texts_and_finite_numbers() -> None:
    odd = {"yes": True, "list": [1], "none": None, "nan": float("nan"), "huge": 10**30, "long": "x" * 61}
    assert short_fields(odd | {"room": "x" * 60, "take": 3, "level": -1.5}) == {
        "room": "x" * 60,
        "take": 3,
        "level": -1.5,
    }


def test_a_speaker_named_later_leaves_the_content_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"sound")
    manifest, cache = tmp_path / "m.jsonl", HashCache(tmp_path / "hashes.json")
    manifest.write_text('{"audio": "a.wav", "text": "one"}\n')
    before = manifest_file_hashes(manifest, cache)
    manifest.write_text('{"audio": "a.wav", "text": "one", "speaker": "ann"}\n')
    after = manifest_file_hashes(manifest, cache)
    assert after.content == before.content and after.lines != before.lines
