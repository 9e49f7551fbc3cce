from __future__ import annotations

from pathlib import Path

import pytest
from plan_folder import PlanFolder


@pytest.fixture
def folder(tmp_path: Path) -> PlanFolder:
    return PlanFolder(tmp_path)
