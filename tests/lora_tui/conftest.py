from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

_path = Path(__file__).parents[1] / "core" / "queue" / "plan_folder.py"
_spec = importlib.util.spec_from_file_location("plan_folder_for_faces", _path)
assert _spec is not None and _spec.loader is not None
plan_folder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plan_folder)


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    return plan_folder.PlanFolder(tmp_path)
