"""What the board says where it has no rows. Pure."""

from __future__ import annotations

from lora_tui.dashboard.reading.snapshots import Board


def empty_state(board: Board) -> list[str]:
    """What to do when there is nothing to show."""
    if not board.where:
        return ["Reading the runs …"]
    if board.problems:
        return [
            "The plan cannot be read. Its problems:",
            *board.problems[:8],
            "Mend them: the board looks again by itself. P shows all of them.",
        ]
    if board.loading:
        return [f"Opening {board.plan}: {board.loading} …"]
    if board.plan is None:
        return [
            f"There is no run in {board.where}, and no plan in this folder.",
            "",
            "`lora-tui init` writes a plan for your model and manifests.",
            "`lora-tui PLAN` opens a plan of another folder.",
            "`lora-tui --runs DIR` shows the runs of another folder.",
            "`lora-tui --replay RUN_DIR` plays a recorded run.",
        ]
    return [
        "The plan has no experiment.",
        f"Add an [[experiment]] to {board.plan}; the board reads it again by itself.",
    ]
