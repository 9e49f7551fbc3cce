"""What the dashboard was opened with. Importable without Textual."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.queue import SUPERVISOR_COMMAND

REFRESH_S = 0.5
SSH_REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """From the command line and the environment."""

    plan: Path | None = None
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    start: bool = False
    readonly: bool = False
    ascii_only: bool = False
    refresh_s: float = REFRESH_S
    replay: Path | None = None
    """A run folder to be played instead of what is there now."""
    speed: float = 20.0
    """How many times faster than it was."""
    supervisor: Sequence[str] = field(default=SUPERVISOR_COMMAND)


def refresh_s() -> float:
    """Two looks a second; one where every byte goes through SSH."""
    return SSH_REFRESH_S if os.environ.get("SSH_CONNECTION") else REFRESH_S
