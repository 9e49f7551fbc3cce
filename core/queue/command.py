"""How a supervisor is started. Importable in a moment."""

from __future__ import annotations

import sys

SUPERVISOR_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.queue")
"""`RUNS_DIR --state STATE` is appended."""
