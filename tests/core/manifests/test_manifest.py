"""Reading manifests as people write them, and saying all that is wrong with one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.audio.samples import read_clip
from core.errors import AudioError, ManifestError
from core.manifests.hashing import HashCache, line_of, manifest_file_hashes
from core.manifests.manifest import manifest_line, read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ten small files of sound."""
    (tmp_path / "audio").mkdir()
    for number in range(10):
        soundfile.write(tmp_path / "audio" / f"{number}.wav", np.full(1600, 0.1, np.float32), 16_000)
    return tmp_path


def write(folder: Path, *lines: dict[str, Any] | str | bytes) -> Path:
    """A manifest of these lines: objects, text or bytes."""
    path = folder / "manifest.jsonl"
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return str(caught.value).splitlines()


def test_both_spellings_of_the_keys(folder: Path) -> None:
    path = write(
        folder,
        {"audio_filepath": "audio/0.wav", "text": "one", "duration": 0.1, "speaker": "ann"},
        {"audio": "./audio/1.wav", "sentence": "two words", "accent": "welsh", "snr_db": 12},
    )
    first, second = read_manifest(path).utterances
    assert (first.index, first.line, first.id, first.text) == (0, 1, "audio/0.wav", "one")
    assert first.audio == folder / "audio/0.wav"
    assert (first.duration_s, first.offset_s, first.speaker, first.extra) == (0.1, 0.0, "ann", {})
    assert (second.audio, second.text) == (folder / "audio/1.wav", "two words")
    assert (second.duration_s, second.speaker) == (None, None)
    assert second.extra == {"accent": "welsh", "snr_db": 12}


def test_a_second_spelling_is_kept_among_the_other_fields(folder: Path) -> None:
    path = write(folder, {"audio_filepath": "audio/0.wav", "audio": "x", "text": "a", "sentence": "b"})
    (utterance,) = read_manifest(path).utterances
    assert (utterance.text, utterance.extra) == ("a", {"audio": "x", "sentence": "b"})


def test_nulls_count_as_absent_and_numbers_name_speakers(folder: Path) -> None:
    fields = {"audio_filepath": None, "audio": "audio/0.wav", "text": "a", "duration": None, "offset": None}
    (utterance,) = read_manifest(write(folder, {**fields, "speaker": 17})).utterances
    assert (utterance.offset_s, utterance.duration_s, utterance.speaker) == (0.0, None, "17")
    assert utterance.id == "audio/0.wav"


def test_the_language_of_a_line_is_read_kept_for_slices_and_written_again(folder: Path) -> None:
    told = {"audio": "audio/0.wav", "text": "ja", "language": "de"}
    path = write(
        folder, told, {"audio": "audio/1.wav", "text": "a", "language": None}, {"audio": "audio/2.wav", "text": "b"}
    )
    first, second, third = read_manifest(path).utterances
    assert [first.language, second.language, third.language] == ["de", None, None]
    assert line_of(first).fields == {"language": "de"}
    assert manifest_line(first, folder)["language"] == "de"


def test_paths_start_at_the_manifest_whatever_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = str(folder / "audio" / "1.wav")
    write(folder, {"audio": "audio/0.wav", "text": "a"}, {"audio": absolute, "text": "b"})
    monkeypatch.chdir(folder / "audio")
    manifest = read_manifest(Path("../manifest.jsonl"))
    monkeypatch.chdir("/")
    assert all(utterance.audio.is_absolute() and utterance.audio.is_file() for utterance in manifest.utterances)
    assert [utterance.id for utterance in manifest.utterances] == ["audio/0.wav", absolute]


def test_slices_of_one_file_are_utterances_of_their_own(folder: Path) -> None:
    path = write(
        folder,
        {"audio": "audio/0.wav", "text": "a", "offset": 0, "duration": 0.05},
        {"audio": "audio/0.wav", "text": "b", "offset": 0.05, "duration": 0.025},
        {"audio": "audio/0.wav", "text": "c", "offset": 0.075},
    )
    assert [utterance.id for utterance in read_manifest(path).utterances] == [
        "audio/0.wav@0+0.05",
        "audio/0.wav@0.05+0.025",
        "audio/0.wav@0.075",
    ]


def test_byte_order_mark_blank_lines_and_windows_line_ends(folder: Path) -> None:
    path = folder / "manifest.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf\r\n{"audio": "audio/0.wav", "text": "a"}\r\n\r\n  \t\r\n{"audio": "audio/1.wav", "text": "b"}'
    )
    manifest = read_manifest(path)
    assert [utterance.text for utterance in manifest.utterances] == ["a", "b"]
    assert [manifest.where(utterance) for utterance in manifest.utterances] == [f"{path}:2", f"{path}:5"]


def test_text_is_kept_as_it_is(folder: Path) -> None:
    text = "  Grüße \u2028 \x1b[31m 日本語\t"
    path = write(
        folder,
        json.dumps({"audio": "audio/0.wav", "text": text}, ensure_ascii=False),
        {"audio": "audio/1.wav", "text": ""},
    )
    assert [utterance.text for utterance in read_manifest(path).utterances] == [text, ""]


def test_a_huge_line_is_fine(folder: Path) -> None:
    path = write(folder, {"audio": "audio/0.wav", "text": "word " * 1_000_000, "notes": "x" * 5_000_000})
    assert len(read_manifest(path).utterances[0].text) == 5_000_000


BAD_LINES: list[tuple[dict[str, Any] | str | bytes, str]] = [
    (
        "{nonsense",
        "not JSON (Expecting property name enclosed in double quotes at column 2): write one JSON",
    ),
    ('{"audio": "audio/0.wav", "text": "a"} {}', "not JSON (Extra data"),
    ('["audio/0.wav", "a"]', "not a JSON object"),
    ("null", "not a JSON object"),
    ("[" * 100_000, "not usable JSON"),
    ('{"duration": 1' + "0" * 5000 + "}", "not usable JSON"),
    (b'{"audio": "audio/0.wav", "text": "caf\xe9"}', "not valid UTF-8 at byte 38"),
    ({"text": "a"}, "'audio_filepath' is missing (or 'audio'): add it; the line has text"),
    ({"audio": "audio/0.wav"}, "'text' is missing (or 'sentence'): add it; the line has audio"),
    ({"audio": {"path": "audio/0.wav"}, "text": "a"}, "'audio' must be a string"),
    ({"audio": "audio/0.wav", "text": 5}, "'text' must be a string"),
    ({"audio": "", "text": "a"}, "the audio path is empty"),
    ({"audio": "a\0b.wav", "text": "a"}, "a character that no file name can have"),
    ({"audio": "a\ud800.wav", "text": "a"}, "a character that no file name can have"),
    ({"audio": "audio/0.wav", "text": "half \ud83d"}, "the text has half a character"),
    (
        {"audio": "audio/0.wav", "text": "a", "duration": 0},
        "'duration' must be a number of seconds, above 0 and below 1e+09",
    ),
    ({"audio": "audio/0.wav", "text": "a", "duration": 1e300}, "above 0 and below 1e+09: correct or remove it"),
    ({"audio": "audio/0.wav", "text": "a", "duration": "2.5"}, "'duration' must be a number"),
    ({"audio": "audio/0.wav", "text": "a", "duration": True}, "'duration' must be a number"),
    ({"audio": "audio/0.wav", "text": "a", "duration": float("nan")}, "'duration' must be a number"),
    ({"audio": "audio/0.wav", "text": "a", "duration": float("inf")}, "'duration' must be a number"),
    (
        {"audio": "audio/0.wav", "text": "a", "offset": -0.5},
        "'offset' must be a number of seconds, 0 or more",
    ),
    ({"audio": "audio/0.wav", "text": "a", "speaker": ["ann"]}, "'speaker' must be a string"),
    ({"audio": "audio/0.wav", "text": "a", "language": ["de"]}, "'language' must be the code or name of a language"),
    ({"audio": "audio/0.wav", "text": "a", "language": ""}, "'language' must be the code or name of a language"),
    ({"audio": "audio/0.wav", "text": "a", "language": "d\ne"}, "'language' must be the code or name of a language"),
    ({"audio": "audio/none.wav", "text": "a"}, "no audio file "),
    ({"audio": "audio", "text": "a"}, "no audio file "),
    ({"audio": "x" * 5000, "text": "a"}, "no audio file "),
]


@pytest.mark.parametrize(("line", "says"), BAD_LINES, ids=[says[:40] for _, says in BAD_LINES])
def test_what_is_wrong_with_a_line(folder: Path, line: dict[str, Any] | str | bytes, says: str) -> None:
    path = write(folder, {"audio": "audio/9.wav", "text": "good"}, line)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}:2: ")
    assert says in problem
    assert len(problem) < 600


def test_all_problems_are_told_at_once(folder: Path) -> None:
    path = write(
        folder,
        {"audio": "audio/0.wav", "text": "a"},
        "",
        {"audio": "audio/1.wav", "duration": -1, "offset": "x"},
        "{",
        {"audio": "audio/0.wav", "text": "again"},
    )
    problems = problems_of(path)
    assert [problem.removeprefix(f"{path}:").split(":")[0] for problem in problems] == [
        "3",
        "3",
        "3",
        "4",
        "5",
    ]
    assert "the same audio as line 1 (audio/0.wav): remove one of them" in problems[-1]


def test_a_repeat_is_found_by_the_file_not_by_its_spelling(folder: Path) -> None:
    path = write(
        folder,
        {"audio": "audio/0.wav", "text": "a"},
        {"audio_filepath": f"{folder}/audio/./0.wav", "text": "b", "duration": 0.07},
        {"audio": "audio/1.wav", "text": "a", "offset": 0.01, "duration": 0.05},
        {"audio": "audio/1.wav", "text": "a", "offset": 0.010, "duration": 0.05},
    )
    assert len(problems_of(path)) == 2


def test_a_million_problems_are_counted_not_shown(folder: Path) -> None:
    path = write(folder, *["{"] * 5000)
    problems = problems_of(path)
    assert len(problems) == 21
    assert problems[-1] == f"{path}: 4980 more problems like these"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"empty\.jsonl: the manifest is empty: write"):
        read_manifest(path)


def test_utf_16_is_recognised(folder: Path) -> None:
    path = folder / "manifest.jsonl"
    path.write_bytes('{"audio": "audio/0.wav", "text": "a"}'.encode("utf-16"))
    assert problems_of(path) == [f"{path}:1: the file is UTF-16: save it as UTF-8"]


def test_an_empty_object_lacks_both(folder: Path) -> None:
    problems = problems_of(write(folder, "{}"))
    assert len(problems) == 2
    assert all("is missing" in problem and "the line has nothing" in problem for problem in problems)


def test_a_sound_file_is_no_manifest(folder: Path) -> None:
    assert "save the file as UTF-8" in problems_of(folder / "audio/0.wav")[0]


@pytest.mark.parametrize("name", ["none.jsonl", "audio", "a\0b"])
def test_what_cannot_be_read_at_all(folder: Path, name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(folder / name)


def test_the_files_need_not_be_there_when_nobody_asks(folder: Path) -> None:
    path = write(folder, {"audio": "audio/none.wav", "text": "a"})
    assert len(read_manifest(path, check_audio=False)) == 1


def test_seconds_come_from_the_manifest_else_from_the_files(folder: Path) -> None:
    path = write(
        folder,
        {"audio": "audio/0.wav", "text": "a", "duration": 2.5},
        {"audio": "audio/1.wav", "text": "b"},
        {"audio": "audio/2.wav", "text": "c", "offset": 0.04},
    )
    assert read_manifest(path).seconds == pytest.approx(2.5 + 0.1 + 0.06)


def test_seconds_of_an_unreadable_file_name_the_line(folder: Path) -> None:
    (folder / "audio/1.wav").write_text("no audio")
    path = write(folder, {"audio": "audio/0.wav", "text": "a"}, {"audio": "audio/1.wav", "text": "b"})
    with pytest.raises(AudioError, match=r"manifest\.jsonl:2: .*1\.wav: not readable"):
        _ = read_manifest(path).seconds


def test_reading_and_hashing_manifests_loads_no_audio_library() -> None:
    code = (
        "import sys; import core.manifests.hashing, core.manifests.manifest; "
        "sys.exit(bool({'numpy', 'soundfile', 'soxr', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_manifest_of_real_speech(digits: Path) -> None:
    manifest = read_manifest(digits / "heldout_manifest.jsonl")
    assert {utterance.speaker for utterance in manifest.utterances} == {
        "george",
        "jackson",
        "nicolas",
        "theo",
    }
    assert len(manifest) == len({utterance.id for utterance in manifest.utterances}) == 16
    assert 40 < manifest.seconds < 50


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"audio": "audio/0.wav", "text": "one", "text": "two"}', "text"),
        ('{"audio": "audio/0.wav", "text": "one", "offset": 0, "offset": 1}', "offset"),
        ('{"audio": "audio/0.wav", "text": "one", "meta": {"a": 1, "a": 1}}', "a"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(folder: Path, line: str, key: str) -> None:
    (problem,) = problems_of(write(folder, {"audio": "audio/1.wav", "text": "a"}, line))
    assert problem.endswith(f"manifest.jsonl:2: the key '{key}' is there twice: keep one of them")


@pytest.mark.parametrize("field", ["duration", "offset", "speaker"])
def test_what_nemo_does_not_know_is_named(folder: Path, field: str) -> None:
    (problem,) = problems_of(write(folder, {"audio": "audio/0.wav", "text": "a", field: -1}))
    assert "-1 is how NeMo says unknown" in problem
    assert field in problem


def test_an_offset_of_0_makes_a_slice_and_is_remembered(folder: Path) -> None:
    path = write(
        folder,
        {"audio": "audio/0.wav", "text": "a", "offset": 0, "duration": 0.05},
        {"audio": "audio/0.wav", "text": "b", "offset": 0, "duration": 0.1},
        {"audio": "audio/1.wav", "text": "c"},
    )
    assert [(u.offset_s, u.tells_offset) for u in read_manifest(path).utterances] == [(0, True), (0, True), (0, False)]


@pytest.mark.parametrize("name", ["/dev/zero", "fifo"])
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, name: str) -> None:
    os.mkfifo(folder / "fifo")
    with pytest.raises(ManifestError, match="not a regular file"):
        read_manifest(folder / name)
    (problem,) = problems_of(write(folder, {"audio": name, "text": "a"}))
    assert "no audio file" in problem


def test_a_git_lfs_pointer_is_named(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / "audio" / "0.wav").write_text(pointer)
    path = write(folder, {"audio": "audio/0.wav", "text": "a"})
    with pytest.raises(AudioError, match=r"0\.wav: a git-lfs pointer, not the file itself: run `git lfs pull`"):
        read_clip(read_manifest(path).utterances[0].audio)
    with pytest.raises(AudioError, match="git lfs pull"):
        manifest_file_hashes(path, HashCache(folder / "hashes.json"))
    path.write_text(pointer)
    assert problems_of(path) == [f"{path}: a git-lfs pointer, not the file itself: run `git lfs pull`"]
