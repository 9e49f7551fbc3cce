"""Reading a plan file, for whoever starts from a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import PlanError
from core.system.files import read_bytes

if TYPE_CHECKING:
    from core.plan.schema import Plan

DEFAULT_PLAN = "experiments.toml"
PLAN_BYTES = 16 << 20


def read_plan_text(path: Path) -> str:
    """The text of a plan. Raises PlanError when it cannot be read."""
    try:
        return read_bytes(path, PLAN_BYTES, follow=True).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PlanError(f"{path}:{line}: not valid UTF-8: save the plan as UTF-8") from error
    except FileNotFoundError as error:
        raise PlanError(f"{path}: no such plan: correct the path, or write one with `lora-tui init`") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{path}: the plan cannot be read: {reason}") from error


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a file, with `--set` values applied. Raises PlanError with every problem."""
    from core.plan.read import parse_plan  # the faces know where the plan is long before they read it

    return parse_plan(read_plan_text(path), str(path), overrides)
