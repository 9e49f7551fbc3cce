"""The application: wiring between the reader thread, the screens, the keys that work everywhere, and what acts.

It asks first, where that is due, acts in a thread and says what came of it. It also sees that the terminal is gone:
SIGHUP tells most programs so; without a controlling terminal nothing does.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.command import CommandList, CommandPalette
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer

from core.errors import UserError
from core.sanitise import sanitise
from lora_tui.dashboard.asks import ASKS
from lora_tui.dashboard.memory import Memory, read_memory, write_memory
from lora_tui.dashboard.messages import AddAsked, Asked, BoardRead, FollowsBoard, LookChanged, MatrixAsked, RunWanted
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.snapshots import Board
from lora_tui.dashboard.reading.source import ReaderThread, Source
from lora_tui.dashboard.screens.board import BoardScreen
from lora_tui.dashboard.themes import ROLES, THEMES
from lora_tui.dashboard.widgets.mended import ClosesOnce

if TYPE_CHECKING:
    from lora_tui.dashboard.actions import Actions
    from lora_tui.dashboard.screens.experiment_form import Filled


LOOKS_S = 2.0
"""How often the dashboard looks whether its terminal is still there."""
_SAVE_S = 1.0


def terminal_is_gone() -> bool:
    """Whether whoever held the other end of the standard input has left for good. Never waits."""
    if sys.__stdin__ is None or sys.__stdin__.closed:
        return True
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)
    return any(mask & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, mask in poll.poll(0))


class Palette(ClosesOnce, CommandPalette):
    """Textual's own (8.2) ends the program when its list is to be hidden after it was closed: Esc right after ^P."""

    def _watch__list_visible(self) -> None:
        if self.query(CommandList):
            super()._watch__list_visible()


class Dashboard(App[None]):
    """Reads through `source`, shows boards, and acts in threads; nothing trains in this process."""

    TITLE = "lora-tui"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "help", "Help"),
        Binding("ctrl+t", "theme", "Theme", show=False, tooltip="dark, light, safe for colour-blind eyes"),
        Binding("q", "quit", "Quit", tooltip="training goes on"),
    ]

    def __init__(
        self, source: Source, options: Options, actions: Callable[[], Actions], memory: Path | None = None
    ) -> None:
        """`actions` gives what keys may do, when one is pressed first. `memory`: the file that says how the dashboard
        was left; None: nothing is remembered."""
        super().__init__()
        self.options = options
        self.board = Board("")
        self._make_actions = actions
        self._start_due = options.start
        """Whether the plan is to be queued as soon as its data is read."""
        self.animation_level = "none"
        self.failure: Exception | None = None
        """What ended it, if that was an error in our own code."""
        self._reader = ReaderThread(source, options.refresh_s, self._deliver, self._failed)
        self.memory = read_memory(memory) if memory is not None else Memory()
        self._memory_path = None if options.readonly else memory
        self._saving: Timer | None = None
        self._main = BoardScreen(ascii_only=options.ascii_only, readonly=options.readonly, memory=self.memory)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.memory.theme

    def on_mount(self) -> None:
        """The board, and somebody who reads for it."""
        self.push_screen(self._main)
        self.theme_changed_signal.subscribe(self, lambda theme: self._remember(replace(self.memory, theme=theme.name)))
        self.call_after_refresh(self._begin)
        if not self.is_headless:
            self.set_interval(LOOKS_S, self._leave_without_terminal)

    def _leave_without_terminal(self) -> None:
        """Nobody can see it any more: it ends, and would else read nothing from nowhere at a third of a core."""
        if terminal_is_gone():
            self.exit()

    def _begin(self) -> None:
        """The first frame is on the screen: read what is to be shown."""
        self._reader.start()

    def get_key_display(self, binding: Binding) -> str:
        """The name of a key in the footer."""
        shown = super().get_key_display(binding)
        return shown if shown.isascii() or not self.options.ascii_only else binding.key

    def on_unmount(self) -> None:
        """The reader has nobody to read for; a plan that was to be queued is, however soon somebody quits."""
        self._reader.stop()
        if self.failure is None:
            self.start_at_last()
        self._save()

    def _deliver(self, board: Board) -> None:
        """Called in the reader thread."""
        self.post_message(BoardRead(board))

    def _failed(self, error: Exception) -> None:
        """Called in the reader thread: a dashboard without it would stand still, and look as if training did."""
        self.failure = error
        self.call_from_thread(self.exit)

    def on_board_read(self, message: BoardRead) -> None:
        """Hand the board to the screens."""
        self.board = message.board
        self.start_when_read()
        for screen in self.screen_stack:
            # Boards come while a screen is put together or taken apart, too.
            if self.is_running and isinstance(screen, FollowsBoard) and screen.query(Footer):
                screen.show(message.board)
        self._reader.taken()

    def action_help(self) -> None:
        """The keys of the screen that is open."""
        from lora_tui.dashboard.screens.dialogs import Help, key_lines

        if not isinstance(self.screen, Help):
            self.push_screen(Help(key_lines(self.screen), ascii_only=self.options.ascii_only))

    def action_command_palette(self) -> None:
        """Open the command palette, which has every key by its name."""
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: what the keys of the screen do now, and the theme."""
        from lora_tui.dashboard.screens.dialogs import commands

        yield SystemCommand("Choose theme", "light, dark, safe for colour-blind eyes", self.action_change_theme)
        for title, told, active in commands(screen):
            yield SystemCommand(title, told, partial(self.run_action, active.binding.action, active.node))

    def on_matrix_asked(self, message: MatrixAsked) -> None:
        """The run matrix; a row that is chosen there is selected on the board."""
        from lora_tui.dashboard.screens.matrix import MatrixScreen

        def chosen(row_id: str | None) -> None:
            if row_id is not None:
                self._main.select(row_id)

        kept = self.memory
        self.push_screen(
            MatrixScreen(
                self.board,
                self._main.filter,
                kept.sort,
                descending=kept.descending,
                ascii_only=self.options.ascii_only,
                readonly=self.options.readonly,
            ),
            chosen,
        )

    def action_theme(self) -> None:
        """Change to the next of the three themes."""
        names = list(ROLES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)] if self.theme in names else names[0]
        self.notify(f"theme: {self.theme}", timeout=2)

    def on_look_changed(self, message: LookChanged) -> None:
        """Keep it for the next time; written a moment later, since changes come in bursts."""
        self._remember(replace(self.memory, **message.changes))  # type: ignore[arg-type]

    def _remember(self, memory: Memory) -> None:
        if memory != self.memory:
            self.memory = memory
            if self._memory_path is not None and self._saving is None:
                self._saving = self.set_timer(_SAVE_S, self._save)

    def _save(self) -> None:
        if self._saving is not None and self._memory_path is not None:
            self._saving.stop()
            self._saving = None
            write_memory(self._memory_path, self.memory)

    def on_run_wanted(self, message: RunWanted) -> None:
        """Another run is looked at."""
        self._reader.want(message.want)

    @cached_property
    def actions(self) -> Actions:
        """The functions that keys call."""
        return self._make_actions()

    def start_when_read(self) -> None:
        """Queue the plan, if that was asked for and its data is read.

        A supervisor that had to read the plan's audio itself would notice and obey nothing meanwhile.
        """
        if self._start_due and not self.board.loading:
            self._start_due = False
            self.act(self._start)

    def start_at_last(self) -> None:
        """Queue it though its data is not read yet: nobody is there any more who would do it later."""
        if self._start_due:
            with suppress(UserError, OSError):
                self._start()

    def _start(self) -> str:
        return self.actions.start()

    def on_asked(self, message: Asked) -> None:
        """Do it; what ends or removes something asks first."""
        ask, row = ASKS[message.what], message.row

        def do() -> str:
            return ask.do(self.actions, row)

        def done() -> None:
            if message.what == "start" and self.board.loading:
                self._start_due = True
                self._say("the plan is queued as soon as its data is read", "information")
            else:
                self.act(do)

        question, consequence = ask.question, ask.consequence
        if message.what == "start":
            from lora_tui.dashboard.text.before_start import start_question

            question, consequence = start_question(self.board)
        if not question:
            self.act(do)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                done()

        from lora_tui.dashboard.screens.dialogs import Confirm

        question = question.format(row=sanitise(row.key, 60)) if row is not None else question
        self.push_screen(Confirm(question, consequence, ascii_only=self.options.ascii_only), answered)

    def on_add_asked(self, message: AddAsked) -> None:
        """Open the form; the plan is read as its file is now."""
        from core.plan.read import parse_plan
        from core.plan.rows import expand
        from lora_tui.dashboard.screens.experiment_form import ExperimentForm

        def filled(found: Filled | None) -> None:
            if found is not None:
                self.act(partial(self._add, text, found))

        try:
            text = self.actions.plan_text()
            path = str(self.options.plan)
            plan = parse_plan(text, path, self.options.overrides)
            row = next(row for row in expand(plan) if row.key == message.row.key)
        except (UserError, StopIteration) as error:
            self._say(str(error) or f"the plan has no {message.row.key} any more", "error")
            return
        ascii_only = self.options.ascii_only
        form = ExperimentForm(text, path, self.options.overrides, plan, row, ascii_only=ascii_only)
        self.push_screen(form, filled)

    def _add(self, text: str, found: Filled) -> str:
        said = self.actions.add_experiment(text, found.entry)
        return f"{said.partition(';')[0]}; {self.actions.start()}" if found.queue else said

    def act(self, action: Callable[[], str]) -> None:
        """Do something that may take a while, in a thread, and say what came of it."""

        def work() -> None:
            try:
                said, severity = action(), "information"
            except (UserError, OSError) as error:
                said, severity = str(error), "error"
            self.call_from_thread(self._say, said, severity)

        self.run_worker(work, thread=True, exit_on_error=False)

    def _say(self, text: str, severity: SeverityLevel) -> None:
        self.notify(sanitise(text, 500, multiline=True), severity=severity, markup=False)
