"""What a sink is, and which there are. Their packages are extras, imported only in the sink's own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from core.errors import UserError
from core.plan.schema import SINKS
from core.sinks.points import Point


@dataclass(frozen=True, slots=True)
class Subject:
    """The run that a sink hears of."""

    name: str
    identity: str
    facts: Mapping[str, Any]
    folder: Path
    """Where the sink may keep files of its own."""
    sent: int
    """The last step that an earlier process sent; 0: none."""


class Sink(Protocol):
    """One open connection. Any method may raise or hang: only this process suffers."""

    def send(self, points: Sequence[Point]) -> None:
        """Show these points, in rising order of steps."""

    def close(self, outcome: Mapping[str, Any] | None) -> None:
        """Flush and end. `outcome`: how the run ended; None: it goes on, and another process will follow it."""


Opener = Callable[[Subject], Sink]


def opener(name: str) -> Opener:
    """How the sink `name` is opened. UserError when its package is not installed, or there is no such sink."""
    if name not in SINKS:
        raise UserError(f"{name}: no such sink; there are {', '.join(SINKS)}")
    try:
        module = import_module(f"core.sinks.to_{name}")
    except ImportError as error:
        raise UserError(
            f"the sink {name} needs a package that cannot be imported ({error}): pip install 'lora-tui[{name}]'"
        ) from error
    found: Opener = module.open_sink
    return found
