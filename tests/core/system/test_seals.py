"""The secret that tells what was computed on this machine from what was brought to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.system.seals import NAME, machine_key, name_of, seal


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def test_it_is_made_once_and_only_its_owner_reads_it(home: Path) -> None:
    key = machine_key()
    assert key is not None and len(key) == 32 and machine_key() == key
    assert [file.name for file in (home / "lora-tui").iterdir()] == [NAME]
    assert (home / "lora-tui" / NAME).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_vouches_for_nothing(home: Path) -> None:
    machine_key()
    (home / "lora-tui" / NAME).chmod(0o640)
    assert machine_key() is None


def test_where_it_cannot_be_kept_there_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a-file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "a-file"))
    assert machine_key() is None


def test_keys_are_told_apart_by_names_that_do_not_hold_them() -> None:
    one, other = b"1" * 32, b"2" * 32
    assert name_of(one) != name_of(other) and seal(one, b"data") != seal(other, b"data")
