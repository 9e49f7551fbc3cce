"""Whatever lies where a document should be, reading it ends at once and says what is wrong."""

import os
import socket
from pathlib import Path

import pytest

from core.system import files


def problem(path: Path, **how: int) -> str:
    document, said = files.read_json(path, **how)
    assert document is None
    assert said is not None
    assert said.startswith(str(path))
    return said


def test_a_document_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": [1, 2.5, "é"]}')
    assert files.read_json(path) == ({"x": [1, 2.5, "é"]}, None)


def test_nothing_there_is_no_problem(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none.json") == (None, None)
    assert files.read_json(tmp_path / "none" / "none.json") == (None, None)


def test_a_fifo_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert problem(tmp_path / "a.json").endswith("not a regular file")


def test_a_socket_a_folder_and_a_device_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        assert problem(tmp_path / "s").endswith("not a regular file")
    assert "a folder" in problem(tmp_path)
    assert problem(Path("/dev/zero")).endswith("not a regular file")


@pytest.mark.parametrize("target", ["/dev/zero", "other.json", "nothing"])
def test_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "a.json").symlink_to(target)
    assert "a link, which is not followed" in problem(tmp_path / "a.json")


def test_a_link_that_may_be_followed_still_leads_to_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "a.json").symlink_to("b.json")
    assert files.read_json(tmp_path / "a.json", follow=True) == ({}, None)
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    assert files.read_json(tmp_path / "zero.json", follow=True)[1] is not None


def test_a_file_that_is_larger_than_any_document_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # holes only
    assert "larger than 16 MiB" in problem(path)


def test_the_limit_counts_the_bytes_read_not_those_promised(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (1 << 20) + b"{}")
    assert "larger than 1 MiB" in problem(path, limit=1 << 20)
    assert files.read_json(path, limit=(1 << 20) + 2) == ({}, None)


@pytest.mark.parametrize("name", ["/proc/self/status", "/proc/self/pagemap"])
def test_a_file_of_the_kernel_which_may_never_end_is_refused_wherever_a_link_leads_to_it(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "a.json").symlink_to(name)
    for path in (Path(name), tmp_path / "a.json"):
        with pytest.raises(OSError, match="not a regular file"):
            files.open_regular(path, follow=True)
    (tmp_path / "empty").touch()
    assert files.read_bytes(tmp_path / "empty") == b""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("\0" * 100, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"x": NaN}', "NaN is no number"),
        ('{"x": -Infinity}', "-Infinity is no number"),
        ('{"x": 1e999}', "1e999 is too large"),
        ('{"x": 1, "x": 2}', "'x' is there twice"),
        ('{"y": {"x": 1, "z": 3, "x": 2}}', "'x' is there twice"),
        ('{"x": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deep"),
        ('{"x": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_what_is_no_strict_json_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert said in problem(tmp_path / "a.json")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"x": "\xff\xfe"}')
    assert problem(tmp_path / "a.json").endswith("not JSON: not UTF-8")


def test_a_stream_is_opened_by_the_same_rules(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        files.open_regular(tmp_path / "events.jsonl")
    (tmp_path / "log").write_text("a\nb\n")
    with files.open_regular(tmp_path / "log") as file:
        assert list(file) == [b"a\n", b"b\n"]


@pytest.mark.parametrize("count", [2, 300_000])
def test_a_key_twice_is_named_however_many_there_are(tmp_path: Path, count: int) -> None:
    keys = [f'"key {number}": {number}' for number in range(count)]
    file = tmp_path / "document.json"
    file.write_text("{" + ", ".join([*keys, '"inner": {' + ", ".join(keys) + "}"]) + "}")
    assert files.read_json(file)[1] is None, "the same key in another object is another one"
    file.write_text("{" + ", ".join([*keys, f'"key {count // 2}": 0']) + "}")
    document, problem = files.read_json(file)
    assert document is None and problem is not None and f"the key 'key {count // 2}' is there twice" in problem
    file.write_text('{"inner": {' + ", ".join([*keys, f'"key {count - 1}": 0']) + "}}")
    assert f"the key 'key {count - 1}' is there twice" in str(files.read_json(file)[1])
