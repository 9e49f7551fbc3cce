"""What came of the repeats of an accepted run with other seeds, in words. Pure."""

from __future__ import annotations

from core.runs.row import Row
from lora_tui.cells import Piece


def seeds_pieces(row: Row | None) -> tuple[Piece, ...]:
    """`seeds 1/2: 2.1@seed1 accepted, 2.1@seed2 training`; nothing for a row without repeats."""
    if row is None or row.seeds is None:
        return ()
    accepted, asked = row.seeds
    roles = {"accepted": "pass", "rejected": "fail"}
    told = ", ".join(f"{key} {word}" for key, word in row.repeats) or "no repeat has started"
    return ((f"  seeds {accepted}/{asked}", roles.get(row.word or "", "unknown")), (f"  {told}", "muted"))
