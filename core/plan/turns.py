"""Which rows may have their turn: draws when the plan is used up, repeats of what was accepted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.plan.row_state import ENDED, RowState, RowStatus
from core.plan.schema import QueueSettings, Row


def in_turn(rows: Sequence[Row], states: Mapping[str, RowState], queue: QueueSettings) -> list[Row]:
    """The rows that have begun, or may begin as far as search and repeats go."""
    own = [row for row in rows if not row.drawn and row.confirms is None]
    used_up = all(states[row.key].status in ENDED for row in own)
    standing = {row.key: accepted_with_seeds(row, rows, states) for row in rows if row.confirms is None}
    searching = queue.then == "search" and used_up and not any(standing.values())
    # While what a draw brought is repeated, no other one is drawn.
    searching = searching and None not in standing.values()
    found: list[Row] = []
    for row in rows:
        waits = states[row.key].status in (RowStatus.QUEUED, RowStatus.HELD)
        if row.confirms is not None:
            # A seed that was not accepted settles it: the others would be run for nothing.
            once = row.confirms in states and accepted(states[row.confirms])
            if once and not (waits and standing.get(row.confirms) is False):
                found.append(row)
        elif not row.drawn or not waits or searching:
            found.append(row)
    return found


def accepted_with_seeds(row: Row, rows: Sequence[Row], states: Mapping[str, RowState]) -> bool | None:
    """Whether a row was accepted, and so were all its repeats with other seeds; None: some of these are to come."""
    if not accepted(states[row.key]):
        return False
    found = [states[other.key] for other in rows if other.confirms == row.key]
    if any(state.status in ENDED and not accepted(state) for state in found):
        return False
    return True if all(accepted(state) for state in found) else None


def accepted(state: RowState) -> bool:
    """Whether the row's own run was accepted."""
    return state.status is RowStatus.DONE and state.facts.get("accepted") is True


def open_repeats(rows: Sequence[Row], states: Mapping[str, RowState]) -> list[Row]:
    """The repeats among `rows` that have not ended."""
    return [row for row in rows if row.confirms is not None and states[row.key].status not in ENDED]
