"""A cache of the Hugging Face hub, in its own format and without the hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

OLD, NEW = "0" * 39 + "1", "f" * 39 + "2"
"""Commits."""


def write_cache(folder: Path, model: str = "org/model", source: Path | None = None, **revisions: str) -> Path:
    """`revisions`: branch or tag → its commit, of which the files of `source` are kept."""
    home = folder / f"models--{model.replace('/', '--')}"
    for name, commit in revisions.items():
        snapshot = home / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        if source is not None:
            shutil.copytree(source, snapshot, dirs_exist_ok=True)
        else:
            (snapshot / "config.json").write_text('{"model_type": "moonshine"}')
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / name).write_text(commit)
    return folder


def cached(folder: Path, monkeypatch: pytest.MonkeyPatch, **revisions: str) -> None:
    """`org/model` in the cache of this process, which cannot ask the hub."""
    write_cache(folder, "org/model", None, **revisions)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
