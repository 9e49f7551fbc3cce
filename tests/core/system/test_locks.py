import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import RunFolderError
from core.system.locks import KernelLock, held, is_held


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _link(path: Path) -> None:
    path.with_name("elsewhere").write_text("")
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("make", [_loop, _link, Path.mkdir])
def test_what_is_no_lock_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "run.lock"
    make(path)
    with pytest.raises(RunFolderError, match=r"run\.lock: .*remove it"):
        KernelLock.acquire(path)
    with pytest.raises(RunFolderError, match=r"run\.lock"), held(path, lambda: None):
        pass
    assert not is_held(path)


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    lock = KernelLock.acquire(path)
    assert lock is not None and is_held(path)
    lock.release()
    again = KernelLock.acquire(path)
    assert again is not None
    again.release()


def test_a_fifo_in_its_place_holds_up_nobody(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    os.mkfifo(path)
    lock = KernelLock.acquire(path)
    assert lock is not None
    lock.release()
