"""A verdict's word with its glyph, and text in plain ASCII for terminals without more. Pure."""

from __future__ import annotations

from core.runs.figures import NONE
from core.terminal import PLAIN
from lora_tui.cells import Piece

_ASCII = str.maketrans(PLAIN)
_DECISIONS = {"accepted": "✓", "rejected": "✗", "failed": "✗", "undecided": "?"}
_DECISION_ROLES = {"accepted": "pass", "rejected": "fail", "failed": "fail", "undecided": "unknown"}


def plain(text: str, ascii_only: bool) -> str:
    """`text` without anything but ASCII, when asked for."""
    if ascii_only:
        # As wide as before, so that what follows stays in its column.
        text = text.replace("≥ ", ">=").replace("≤ ", "<=").replace(" ±", "+-")
    return text.translate(_ASCII).encode("ascii", "replace").decode() if ascii_only else text


def decision_pieces(decision: str | None, active: bool, seeds: tuple[int, int] | None = None) -> tuple[Piece, ...]:
    """`✓ accepted`, `? so far undecided`, `? seeds 1/2`; a dash without a verdict."""
    if decision is None:
        return ((NONE, "muted"),)
    word = f"so far {decision}" if active else decision
    if seeds is not None:
        word = f"seeds {seeds[0]}/{seeds[1]}"
    return ((f"{_DECISIONS[decision]} {word}", _DECISION_ROLES[decision]),)
