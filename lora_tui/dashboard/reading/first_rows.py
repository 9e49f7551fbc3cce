"""A first board from nothing but the index: it is on the screen before the libraries are imported that read runs."""

from __future__ import annotations

from core.runs.paths import RunsFolder
from lora_tui.dashboard.reading.listing import Listing
from lora_tui.dashboard.reading.row_index import RECORDED, RowIndex, stamps_of, with_figures
from lora_tui.dashboard.reading.snapshots import UNREAD, Board, BoardRow


def first_rows(runs: RunsFolder, index: RowIndex) -> Board:
    """The runs of the folder, by name; those whose figures are not in the index, or do not hold, are yet to be read."""
    listing, rows, unread = Listing(runs), [], 0
    for name in listing.names():
        kept = index.find(name, stamps_of(listing.run(name)), RECORDED)
        row = BoardRow(f"run:{name}", name if kept is None else kept.key, run=name, state=UNREAD, planned=False)
        rows.append(row if kept is None else with_figures(row, kept))
        unread += kept is None
    return Board(str(runs.root), rows=tuple(rows), loading="reading the runs", unread=max(1, unread))
