"""Under a locale that is not UTF-8 everything is plain ASCII by itself."""

from __future__ import annotations

import codecs
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.terminal import PLAIN, is_utf8
from lora_tui.cells import plain

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("environ", "utf8"),
    [
        ({}, True),
        ({"LANG": "C.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "en_GB.UTF-8@euro"}, True),
        ({"LC_CTYPE": "UTF-8"}, True),
        ({"LANG": "C"}, False),
        ({"LANG": "POSIX"}, False),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({"LANG": "de_DE"}, False),
        ({"LANG": "ja_JP.eucJP", "LC_CTYPE": "ja_JP.UTF-8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, True),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, True),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "utf-8:replace"}, True),
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}, False),
    ],
)
def test_which_locales_are_of_utf_8(environ: dict[str, str], utf8: bool) -> None:
    assert is_utf8(environ) is utf8


def test_each_sign_has_one_of_ascii_that_is_as_wide() -> None:
    assert all(len(sign) == len(shown) == 1 and shown.isascii() for sign, shown in PLAIN.items())
    assert plain("≥ 1 points · so far ✓ …", ascii_only=True) == ">=1 points - so far + ~"


@pytest.mark.parametrize(
    ("encoding", "errors", "shown"),
    [
        ("ascii", "lora_tui_show", b">=1 - x\\xfc\\u202e \\u4eca+-"),
        ("latin-1", "lora_tui_show", b">=1 \xb7 x\xfc\\u202e \\u4eca\xb1 "),
        ("ascii", "lora_tui_keep", b">=1 - x\xc3\xbc\xe2\x80\xae \xe4\xbb\x8a+-"),
    ],
)
def test_own_signs_become_ascii_and_others_stay_what_they_are(encoding: str, errors: str, shown: bytes) -> None:
    codecs.lookup_error(errors)  # else a LookupError
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors=errors)
    stream.write("≥ 1 · xü\u202e 今± ")
    stream.flush()
    assert raw.getvalue() == shown


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF"))}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, env=kept | environ, cwd=ROOT, check=False)


@pytest.mark.parametrize("environ", [{"LC_ALL": "C"}, {"LANG": "C"}, {"LC_ALL": "POSIX"}])
def test_commands_write_ascii(environ: dict[str, str], tmp_path: Path) -> None:
    for words in (
        ["lora_tui", "plan", "experiments.toml", "--runs", str(tmp_path)],
        ["lora_tui", "status", "experiments.toml", "--runs", str(tmp_path)],
        ["lora_tui", "--help"],
        ["core.cli", "manifest", "check", "--help"],
        ["core.cli", "--help"],
    ):
        done = run(*words, **environ)
        assert done.stdout.isascii(), (words, done.stdout)
        assert done.stderr.isascii(), (words, done.stderr)
        assert b"\\u" not in done.stdout + done.stderr


def test_texts_of_a_manifest_reach_a_file_whole(tmp_path: Path) -> None:
    (tmp_path / "für.jsonl").write_text("")
    done = run("core.cli", "manifest", "check", str(tmp_path / "für.jsonl"), LC_ALL="C")
    assert "für" in (done.stdout + done.stderr).decode()
