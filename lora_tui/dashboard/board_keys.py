"""The keys of the board, in one table: what the footer, the help and the command palette are made of."""

from __future__ import annotations

from textual.binding import Binding, BindingType

BOARD_KEYS: list[BindingType] = [
    Binding("enter", "open_run", "Open", tooltip="intervals, settings, log and transcripts of the run"),
    Binding("slash", "filter", "Filter", tooltip="id:2 lr>=1e-4 verdict:rejected, or any word"),
    Binding("s", "start", "Start", tooltip="queue the plan; training goes on when the dashboard is closed"),
    Binding("t", "end('stop')", "Stop", tooltip="the trainer finishes its step and saves; the queue ends"),
    Binding("X", "end('kill')", "Kill", show=False, tooltip="end the trainer now; what was saved last can be resumed"),
    Binding("e", "export", "Export", show=False, tooltip="write the run matrix beside the runs"),
    Binding("c", "pin", "Pin", tooltip="lay this run over the others in the plots, or take it off"),
    Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", show=False),
    Binding("minus", "zoom(2.0)", "Zoom out", show=False),
    Binding("left,h", "pan(-1)", "Pan left", show=False),
    Binding("right,l", "pan(1)", "Pan right", show=False),
    Binding("0", "reset_view", "Reset zoom", show=False),
    Binding("comma", "cursor(-1)", "Cursor left", show=False, tooltip="the legends read the values there"),
    Binding("full_stop", "cursor(1)", "Cursor right", show=False),
    Binding("m", "smoothing", "Smoothing", show=False, tooltip="mean of 30, 100, 1 (off) or 10 steps"),
    Binding("y", "log_y", "Log y", show=False, tooltip="of the loss plot"),
    Binding("r", "learning_rate", "Learning rate", show=False, tooltip="instead of the loss"),
    Binding("x", "time", "Step/time", show=False, tooltip="minutes of training on the x axis"),
    Binding("escape", "back", "Back", show=False, tooltip="one thing after the other: cursor, zoom, filter, pins"),
]
