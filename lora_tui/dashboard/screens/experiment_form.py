"""The form for a new experiment: a copy of one, edited; what is wrong with it is said while it is typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import DescendantFocus
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Input, Static

from core.errors import PlanError
from core.plan.read import parse_plan
from core.plan.schema import Plan, Row
from core.plan.template import HEAD_KEYS, entry_of, experiment_lines, form_of, with_experiment
from core.plan.validate import keys_of
from lora_tui.dashboard.screens.panels import OneLine
from lora_tui.dashboard.widgets.mended import ClosesOnce, KeysFooter, TextField

_CHECK_S = 0.1
"""After the last key: a check takes longer than a key."""

_HEAD_DOCS = {
    "id": "of the experiment: letters, digits and . _ -",
    "title": "what it is about",
    "after": "ids of experiments that must have ended before, with commas between",
    "when": "a condition on their results, such as: stable and not accepted",
    "adapter_from": "takes target_modules from the best run among these experiments",
}


@dataclass(frozen=True, slots=True)
class Filled:
    """The form as it was filled in. `queue`: the plan is to be started with it."""

    entry: Mapping[str, Any]
    queue: bool


class ExperimentForm(ClosesOnce, ModalScreen[Filled | None]):
    """Closes with the entry, or None. It is checked as a part of the whole plan, as the plan's file is."""

    CSS = """
    ExperimentForm { align: center middle; }
    #form { width: 96%; max-width: 110; height: 96%; background: $panel; padding: 0 1; }
    #form-title { height: 1; }
    #fields { height: 1fr; background: $panel; }
    #fields Horizontal { height: 1; }
    #fields Static { width: 34; color: $text-muted; }
    #fields Input { width: 1fr; height: 1; border: none; padding: 0; background: $panel; }
    #fields Input:focus { background: $surface; }
    #hint { height: 2; }
    #said { height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save(False)", "Add to the plan", priority=True),
        Binding("ctrl+r", "save(True)", "Add and queue", priority=True),
        # Before the fields' own scrolling, which takes the arrows where not all of them fit.
        Binding("down", "app.focus_next", "Next field", show=False, priority=True),
        Binding("up", "app.focus_previous", "Field before", show=False, priority=True),
        Binding("escape", "leave", "Leave it"),
    ]

    def __init__(self, text: str, path: str, overrides: tuple[str, ...], plan: Plan, row: Row, *, ascii_only: bool):
        super().__init__()
        self._text, self._path, self._overrides, self._plan, self._row = text, path, overrides, plan, row
        self._ascii = ascii_only
        self._form = form_of(plan, row)
        self.problems: list[str] = []
        self._checking: Timer | None = None

    def compose(self) -> ComposeResult:
        """A line a key, a hint on the key that is edited, and what came of the check."""
        with Vertical(id="form"):
            yield OneLine(ascii_only=self._ascii, id="form-title")
            with VerticalScroll(id="fields", can_focus=False):
                for key, value in self._form.items():
                    with Horizontal():
                        yield Static(key, markup=False)
                        yield TextField(value, name=key, compact=True, select_on_focus=False)
            yield OneLine(ascii_only=self._ascii, id="hint")
            yield OneLine(ascii_only=self._ascii, id="said")
        yield KeysFooter(show_command_palette=False)

    def on_mount(self) -> None:
        """The id is what has to be thought of first."""
        self.query(Input).first().focus()
        title = [("new experiment", "title"), (f"  a copy of {self._row.key}; what differs is written", "muted")]
        self.query_one("#form-title", OneLine).say(title)
        self._check()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Say what the key is about."""
        if isinstance(event.widget, Input) and event.widget.name:
            self.query_one("#hint", OneLine).say([(hint_of(event.widget.name), "muted")])

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the whole plan with it, once nothing more is typed."""
        if event.input.name:
            self._form[event.input.name] = event.value
            if self._checking is not None:
                self._checking.stop()
            self._checking = self.set_timer(_CHECK_S, self._check)

    def action_save(self, queue: bool) -> None:
        """Close with it, unless something is wrong with it."""
        self._form.update({line.name: line.value for line in self.query(Input) if line.name})
        self._check()
        if self.problems:
            self.notify("Not added: mend what is said below first.", severity="error", markup=False)
            return
        self.dismiss(Filled(entry_of(self._plan, self._form), queue))

    def action_leave(self) -> None:
        """Close the form; nothing is written."""
        self.dismiss(None)

    def _check(self) -> None:
        entry = entry_of(self._plan, self._form)
        try:
            parse_plan(with_experiment(self._text, entry), self._path, self._overrides)
            self.problems = []
        except PlanError as error:
            self.problems = [line.removeprefix(f"{self._path}:") for line in str(error).splitlines()]
        said = "; ".join(self.problems) or " · ".join(experiment_lines(entry))
        label, role = ("wrong: ", "fail") if self.problems else ("is added: ", "pass")
        self.query_one("#said", OneLine).say([(label, role), (said, "")])


def hint_of(key: str) -> str:
    """What a key means, its unit and its choices, from the schema. Pure."""
    if key in HEAD_KEYS:
        return f"{key}: {_HEAD_DOCS[key]}"
    section, _, name = key.partition(".")
    rules = keys_of(section)[name][0].metadata
    unit = f", {rules['unit']}" if "unit" in rules else ""
    choices = f" ({', '.join(map(str, rules['choices']))})" if "choices" in rules else ""
    return f"{key}: {rules['doc']}{unit}{choices}; empty: the plan's default"
