"""The keys of the board, in one table: what the footer, the help and the command palette are made of."""

from __future__ import annotations

from textual.binding import Binding, BindingType

PLOT_KEYS: list[BindingType] = [
    Binding("plus,equals_sign", "plot('zoom', 0.5)", "Zoom in", show=False, tooltip="or turn the wheel over a plot"),
    Binding("minus", "plot('zoom', 2.0)", "Zoom out", show=False),
    Binding("left,h", "plot('pan', -1)", "Pan left", show=False, tooltip="or drag a plot"),
    Binding("right,l", "plot('pan', 1)", "Pan right", show=False),
    Binding("0", "plot('reset', 0)", "Reset zoom", show=False, tooltip="or click a plot twice"),
    Binding(
        "comma", "plot('cursor', -1)", "Cursor left", show=False, tooltip="the legends read values there; or click"
    ),
    Binding("full_stop", "plot('cursor', 1)", "Cursor right", show=False),
    Binding(
        "left_square_bracket", "plot('interval', -1)", "Interval left", show=False, tooltip="cursor to an interval"
    ),
    Binding("right_square_bracket", "plot('interval', 1)", "Interval right", show=False),
    Binding("m", "plot('smoothing', 0)", "Smoothing", show=False, tooltip="mean of 30, 100, 1 (off) or 10 steps"),
    Binding("y", "plot('log_y', 0)", "Log y", show=False, tooltip="of the loss plot"),
    Binding(
        "r",
        "plot('learning_rate', 0)",
        "Learning rate",
        show=False,
        tooltip="below the losses; alone where there is no room for both",
    ),
    Binding("x", "plot('time', 0)", "Step/time", show=False, tooltip="minutes of training on the x axis"),
]
ROW_KEYS: list[BindingType] = [
    Binding("s", "ask('start')", "Start", tooltip="queue the plan; training goes on when the dashboard is closed"),
    Binding("p", "ask('hold')", "Hold", tooltip="the row is not started until it is released"),
    Binding("p", "ask('release')", "Release", tooltip="the row may start, or go on from its last checkpoint"),
    Binding("t", "ask('stop')", "Stop", tooltip="this run finishes its step and saves; the queue goes on with others"),
    Binding(
        "X", "ask('kill')", "Kill", show=False, tooltip="end this run's trainer now; what was saved can be resumed"
    ),
    Binding("R", "ask('retry')", "Retry", tooltip="once more, whatever became of it"),
    Binding("K,shift+up", "ask('earlier')", "Move up", show=False, tooltip="start it earlier"),
    Binding("J,shift+down", "ask('later')", "Move down", show=False, tooltip="start it later"),
    Binding("D,delete", "ask('remove')", "Remove", show=False, tooltip="from the queue; its files stay"),
    Binding("u", "ask('go_on')", "Go on", tooltip="the queue paused by itself: let it go on"),
    Binding(
        "T", "ask('stop_all')", "Stop queue", show=False, tooltip="all runs finish their step; nothing more starts"
    ),
    Binding("Z", "ask('kill_all')", "Kill all", show=False, tooltip="end all trainers now, and the queue"),
    Binding("a", "add", "Add", tooltip="an experiment, as an edited copy of the selected one"),
]
BOARD_KEYS: list[BindingType] = [
    Binding("enter", "open_run", "Open", tooltip="intervals, settings, log and transcripts of the run"),
    Binding("slash", "filter", "Filter", tooltip="id:2 lr>=1e-4 verdict:fail, or any word"),
    *ROW_KEYS,
    Binding("M", "matrix", "Matrix", tooltip="all runs as a table: sort, filter, the settings that differ"),
    Binding("P", "problems", "Problems", tooltip="what is wrong with the plan, with files and lines"),
    Binding("c", "pin", "Pin", tooltip="lay this run over the others in the plots, or take it off"),
    Binding("e", "ask('export')", "Export", show=False, tooltip="write the run matrix beside the runs"),
    *PLOT_KEYS,
    Binding("z", "layout", "Layout", show=False, tooltip="room for the plots, for the queue, or for each"),
    Binding("escape", "back", "Back", show=False, tooltip="one thing after the other: cursor, zoom, filter, pins"),
]
