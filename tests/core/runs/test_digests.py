"""Hashes of a run's files: read again when they change, never without an end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.runs.consistency import changed_files
from core.runs.folder import sha256_of, sha256_of_start
from core.runs.store import read_run


def test_a_file_is_hashed_as_it_is_now_and_so_is_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"first")
    assert sha256_of(file) == hashlib.sha256(b"first").hexdigest()
    with file.open("ab") as more:
        more.write(b" and more")
    assert sha256_of(file) == hashlib.sha256(b"first and more").hexdigest()
    assert sha256_of_start(file, 5) == hashlib.sha256(b"first").hexdigest()


@pytest.mark.parametrize("name", ["data_health.json", "evals/position.json", "evals/tuned/domain.json"])
def test_a_file_that_has_no_end_is_named_at_once(fake_run: Callable[..., Any], name: str) -> None:
    run = fake_run().good()
    (run.paths.root / name).touch()
    os.truncate(run.paths.root / name, 1 << 40)
    [said] = changed_files(read_run(run.paths))
    assert name in said and "larger than" in said
