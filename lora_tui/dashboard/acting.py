"""What the dashboard does beyond its screens: asks first, where that is due, acts in a thread, says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from textual.app import App
from textual.notifications import SeverityLevel

from core.errors import UserError
from core.sanitise import sanitise
from lora_tui.dashboard.asks import ASKS
from lora_tui.dashboard.messages import AddAsked, Asked
from lora_tui.dashboard.options import Options
from lora_tui.dashboard.reading.snapshots import Board

if TYPE_CHECKING:
    from lora_tui.dashboard.actions import Actions
    from lora_tui.dashboard.screens.experiment_form import Filled


class Acting(App[None]):
    """The part of the dashboard that acts; it never trains."""

    def __init__(self, options: Options, actions: Callable[[], Actions]) -> None:
        """`actions` gives what keys may do, when one is pressed first."""
        super().__init__()
        self.options = options
        self.board = Board("")
        self._make_actions = actions
        self._start_due = options.start
        """Whether the plan is to be queued as soon as its data is read."""

    @cached_property
    def actions(self) -> Actions:
        """What keys may do."""
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
        if message.what == "start" and self.board.loading:
            self._start_due = True
            self._say("the plan is queued as soon as its data is read", "information")
            return
        ask, row = ASKS[message.what], message.row

        def do() -> str:
            return ask.do(self.actions, row)

        if not ask.question:
            self.act(do)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.act(do)

        from lora_tui.dashboard.screens.dialogs import Confirm

        question = ask.question.format(row=sanitise(row.key, 60) if row is not None else "")
        self.push_screen(Confirm(question, ask.consequence, ascii_only=self.options.ascii_only), answered)

    def on_add_asked(self, message: AddAsked) -> None:
        """Open the form; the plan is read as its file is now."""
        from core.plan.expand import expand
        from core.plan.read import parse_plan
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
