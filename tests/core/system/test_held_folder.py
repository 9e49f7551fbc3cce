"""A folder whose path leads elsewhere is noticed, and can still be worked in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from core.system import files
from core.system.files import HeldFolder


def moved(path: Path) -> None:
    path.rename(path.with_name("there"))


def parent_moved(path: Path) -> None:
    path.parent.rename(path.parent.with_name("there"))


def deleted(path: Path) -> None:
    shutil.rmtree(path)


def deleted_and_made_again(path: Path) -> None:
    (path / "kept").mkdir()  # or its inode may be given again
    path.rename(path.with_name("there"))
    path.mkdir()


def a_file_now(path: Path) -> None:
    path.rename(path.with_name("there"))
    path.write_text("")


def a_link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("there"))
    path.with_name("other").mkdir()
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (moved, "was moved to"),
        (parent_moved, "was moved to"),
        (deleted, "was deleted"),
        (deleted_and_made_again, "was moved to"),
        (a_file_now, "was moved to"),
        (a_link_elsewhere, "was moved to"),
    ],
)
def test_a_path_that_leads_elsewhere(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "parent" / "run"
    path.mkdir(parents=True)
    folder = HeldFolder(path)
    assert folder.lost() == ""
    change(path)
    assert str(path) in folder.lost() and said in folder.lost()
    if change is not deleted:
        (folder.here / "file").write_text("still there")
        assert [file.read_text() for file in tmp_path.rglob("file")] == ["still there"]
    folder.close()


def test_a_link_that_still_leads_there_and_a_move_and_back_are_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.mkdir()
    folder = HeldFolder(path)
    moved(path)
    path.symlink_to("there")
    assert folder.lost() == ""
    path.unlink()
    (tmp_path / "there").rename(path)
    assert folder.lost() == ""
    folder.close()


def test_another_folder_mounted_over_it_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir()
    folder = HeldFolder(path)
    monkeypatch.setattr(files.os.path, "samestat", lambda one, other: False)
    assert "is another one now" in folder.lost()


def test_a_network_disk_that_is_away_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    path.mkdir()
    folder = HeldFolder(path)

    def stale(self: Path) -> os.stat_result:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stale)
    assert folder.lost() == ""


def test_a_disk_that_was_taken_away_is_no_deletion(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (disk / "run").mkdir()
        folder = HeldFolder(disk / "run")
        assert folder.lost() == ""
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert folder.lost() == f"its folder {disk / 'run'} was deleted, or its disk was taken away"
    folder.close()
