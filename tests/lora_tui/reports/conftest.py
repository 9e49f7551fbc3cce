from __future__ import annotations

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[2] / "core" / "runs" / "conftest.py"
_spec = importlib.util.spec_from_file_location("fake_run_for_reports", _path)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
fake_run = _module.fake_run
FakeRun = _module.FakeRun
