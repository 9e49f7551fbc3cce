"""The supervisor, which alone starts and stops trainers, and what people ask of it."""

import sys

SUPERVISOR_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.queue")
"""Starts a supervisor: `RUNS_DIR --state STATE` is appended."""
