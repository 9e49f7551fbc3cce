import errno
import json
import os
from pathlib import Path

import pytest

from core.system import files


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    files.write_bytes(path, b"a long first version")
    files.write_bytes(path, b"short")
    assert path.read_bytes() == b"short"
    assert names(path.parent) == ["file.json"]


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_text(path, "x")
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_device_or_an_open_stream_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    read, write = os.pipe()
    files.write_bytes(Path(f"/dev/fd/{write}"), b"into the pipe")
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"into the pipe"
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.write(b"first, ")
        file.flush()
        files.write_bytes(Path(f"/proc/self/fd/{file.fileno()}"), b"then")
    assert log.read_bytes() == b"first, then"
    assert names(tmp_path) == ["log"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"x": 1, "y": [1, 2]})
    files.write_json(tmp_path / "b", {"y": [1, 2], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1, "y": [1, 2]}


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_undecodable_names_survive(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "caf\udce9")
    assert (tmp_path / "a").read_bytes() == b"caf\xe9"


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "events.jsonl"
    files.append_line(path, '{"a": "ü"}')
    files.append_line(path, "{}")
    assert path.read_text(encoding="utf-8") == '{"a": "ü"}\n{}\n'


@pytest.mark.parametrize("document", [{"note": "x" * 1_000_001}, {"a": [["x" * 1_000_001]]}, {"x" * 1_000_001: 1}])
def test_a_text_that_could_not_be_printed_is_refused(tmp_path: Path, document: object) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    assert files.read_json(path) == (
        None,
        f"{path}: not JSON: a text of over 1000000 characters, which no such file has",
    )
