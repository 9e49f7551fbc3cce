"""Accepted runs that are repeated with other seeds: what came of the repeats. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_tui.cells import Piece
from lora_tui.dashboard.reading.snapshots import BoardRow


def with_seeds(rows: Sequence[BoardRow], asked: int) -> tuple[BoardRow, ...]:
    """The rows; those accepted by themselves with how many of the `asked` repeats were accepted, too.

    They stand accepted only when all were: rejected once a repeat is, undecided until then, as the gate says.
    """
    if asked <= 0:
        return tuple(rows)
    repeats: dict[str, list[BoardRow]] = {}
    for row in rows:
        if row.confirms is not None:
            repeats.setdefault(row.confirms, []).append(row)
    return tuple(_with_seeds(row, repeats.get(row.key, []), asked) for row in rows)


def _with_seeds(row: BoardRow, repeats: Sequence[BoardRow], asked: int) -> BoardRow:
    if not row.planned or row.confirms is not None or row.decision != "accepted" or row.active:
        return row
    ended = [repeat.decision for repeat in repeats if not repeat.active]
    accepted = ended.count("accepted")
    decision = "accepted" if accepted >= asked else ("rejected" if {"rejected", "failed"} & set(ended) else "undecided")
    told = tuple((repeat.key, _came_of(repeat)) for repeat in repeats)
    return replace(row, decision=decision, seeds=(accepted, asked), repeats=told)


def _came_of(repeat: BoardRow) -> str:
    return repeat.decision if repeat.decision is not None and not repeat.active else repeat.state


def seeds_pieces(row: BoardRow | None) -> tuple[Piece, ...]:
    """`seeds 1/2: 2.1@seed1 accepted, 2.1@seed2 training`; nothing for a row without repeats."""
    if row is None or row.seeds is None:
        return ()
    accepted, asked = row.seeds
    roles = {"accepted": "pass", "rejected": "fail"}
    told = ", ".join(f"{key} {word}" for key, word in row.repeats) or "no repeat has started"
    return ((f"  seeds {accepted}/{asked}", roles.get(row.decision or "", "unknown")), (f"  {told}", "muted"))
