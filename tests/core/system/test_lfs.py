"""Pointers of git-lfs in place of files are named, wherever a file cannot be used for being one."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.audit.line_checks import TextCheck
from core.errors import ModelError, PlanError, RunFolderError
from core.manifests.hashing import HashCache
from core.runs.adapter_files import adapter_hash
from core.runs.model_files import model_hash
from core.system.files import folder_problem, read_json
from lora_tui.request import read_plan_text

SAYS = "a git-lfs pointer, not the file itself: run `git lfs pull`"


def pointer(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 9\n")
    return path


@pytest.mark.parametrize("name", ["run.json", "result.json", "reproduce.json", "scores.json"])
def test_documents(tmp_path: Path, name: str) -> None:
    path = pointer(tmp_path / name)
    assert read_json(path) == (None, f"{path}: cannot be read: {SAYS}")


def test_plans(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="git lfs pull"):
        read_plan_text(pointer(tmp_path / "experiments.toml"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_models(tmp_path: Path, name: str) -> None:
    for other in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / other).write_text("{}")
    assert folder_problem(tmp_path / "m") is None
    path = pointer(tmp_path / "m" / name)
    assert folder_problem(path.parent) == f"{path}: {SAYS}"
    with pytest.raises(ModelError, match=f"{name}: a git-lfs pointer"):
        model_hash(path.parent, HashCache(tmp_path / "hashes.json"))
    with pytest.raises(ModelError, match=f"{name}: a git-lfs pointer"):
        TextCheck(path.parent)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_adapters(tmp_path: Path, name: str) -> None:
    for other in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / other).write_text("{}")
    adapter_hash(tmp_path)
    pointer(tmp_path / name)
    with pytest.raises(RunFolderError, match=f"{name}: .*git lfs pull"):
        adapter_hash(tmp_path)
