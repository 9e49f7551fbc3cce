"""The state folder belongs to the user: nothing that a runs folder brings is believed or obeyed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from core.errors import RunFolderError
from core.runs import state_folder
from core.runs.state_folder import STATE_VARIABLE, runs_folder
from core.system.locks import KernelLock
from core.user_paths import PathError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_each_runs_folder_has_a_state_folder_of_the_users_own(tmp_path: Path, home: Path) -> None:
    first, other = runs_folder(tmp_path / "runs"), runs_folder(tmp_path / "other")
    assert first.root == tmp_path / "runs"
    assert first.state.parent == home / "lora-tui" / "runs" == other.state.parent
    assert first.state != other.state
    for path in (first.queue_db, first.hash_cache, first.audio_cache, first.board_index, first.run_lock("a-1")):
        assert path.is_relative_to(home) and not path.is_relative_to(first.root)


def test_a_link_to_a_runs_folder_leads_to_its_state(tmp_path: Path, home: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to("runs")
    assert runs_folder(tmp_path / "link").state == runs_folder(tmp_path / "runs").state


def test_machines_that_share_a_home_share_no_state(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = runs_folder(tmp_path / "runs").state
    monkeypatch.setattr(state_folder, "machine_id", lambda: "another")
    assert runs_folder(tmp_path / "runs").state != here


def test_the_command_line_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "told"))
    assert runs_folder(tmp_path / "runs").state == tmp_path / "told"
    assert runs_folder(tmp_path / "runs", tmp_path / "named").state == tmp_path / "named"


@pytest.mark.parametrize("inside", ["runs", "runs/state", "runs/../runs", "link/state"])
def test_a_state_folder_in_the_runs_folder_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to("runs")
    with pytest.raises(RunFolderError, match="lies in the runs folder"):
        runs_folder(tmp_path / "runs", tmp_path / inside)


@pytest.mark.parametrize("mode", [0o775, 0o707, 0o777])
def test_a_state_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(RunFolderError, match=f"others may write to it \\(mode {mode:04o}\\).*chmod go-w"):
        runs_folder(tmp_path / "runs", state)
    state.chmod(0o755)
    assert runs_folder(tmp_path / "runs", state).state == state


def test_the_own_state_folder_is_checked_too(tmp_path: Path, home: Path) -> None:
    state = runs_folder(tmp_path / "runs").state
    state.mkdir(parents=True)
    state.chmod(0o777)
    with pytest.raises(RunFolderError, match="others may write"):
        runs_folder(tmp_path / "runs")


def test_a_state_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(RunFolderError, match="belongs to another user"):
        runs_folder(tmp_path / "runs", tmp_path / "state")


def test_it_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path, home: Path) -> None:
    before = os.umask(0)
    try:
        lock = KernelLock.acquire(runs_folder(tmp_path / "runs").run_lock("a-1"))
    finally:
        os.umask(before)
    assert lock is not None
    lock.release()
    folder = lock.path.parent
    while folder != tmp_path:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder = folder.parent


def test_a_user_without_a_home_has_one_for_the_time_being(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise PathError("there is no home folder here")

    monkeypatch.setattr(state_folder, "state_home", none)
    monkeypatch.setattr(state_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    home = tmp_path / f"lora-tui-{os.geteuid()}"
    assert runs_folder(tmp_path / "runs").state.parent.parent == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700, "made at once, so that nobody else makes it"
    home.chmod(0o777)
    with pytest.raises(RunFolderError, match="others may write"):
        runs_folder(tmp_path / "runs")
    home.rmdir()
    for where in ("missing", "theirs"):
        (tmp_path / "theirs").mkdir(exist_ok=True)
        home.symlink_to(tmp_path / where)
        with pytest.raises(RunFolderError, match="a link, or no folder"):
            runs_folder(tmp_path / "runs")
        home.unlink()
    home.write_text("")
    with pytest.raises(RunFolderError, match="a link, or no folder"):
        runs_folder(tmp_path / "runs")
    assert not (tmp_path / "missing").exists() and not list((tmp_path / "theirs").iterdir())
    monkeypatch.setattr(state_folder.tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    with pytest.raises(RunFolderError, match="cannot be made \\(No such file"):
        runs_folder(tmp_path / "runs")
