"""`lora-tui queue …`: what is queued, and what is asked of it. Works with and without a living supervisor."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core.errors import ExitCode
from core.runs.paths import RunsFolder
from lora_tui import queue_actions
from lora_tui.arguments import add_choice, add_folders, add_plan
from lora_tui.queue_list import show


class _Action(NamedTuple):
    run: Callable[[argparse.Namespace, RunsFolder], ExitCode]
    help: str
    destructive: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=type(parser))
    for name, action in ACTIONS.items():
        short = f"{action.help[0].lower()}{action.help[1:]}".rstrip(".")
        sub = actions.add_parser(name, help=short, description=action.help, allow_abbrev=False)
        add = sub.add_argument
        if name == "add":
            add_plan(sub)
            add_choice(sub)
        elif name != "list":
            add("names", nargs="*", metavar="RUN", help="a row (3.1#2), experiment, run folder, identity or submission")
        if name not in ("add", "move"):
            add("--all", action="store_true", help="finished runs too" if name == "list" else "everything in the queue")
        if name == "move":
            place = sub.add_mutually_exclusive_group(required=True)
            place.add_argument("--first", action="store_true", help="before all others of its plan")
            place.add_argument("--last", action="store_true", help="behind all others of its plan")
            place.add_argument("--before", metavar="ROW", help="before that row of its plan")
        if name == "prune":
            add("--adapters", action="store_true", help="adapters but the best and the last of finished runs, too")
        if action.destructive:
            add("--yes", action="store_true", help="do not ask")
        add("--json", action="store_true", help="print JSON")
        add_folders(sub)


def run(args: argparse.Namespace) -> ExitCode:
    """The action. UserError: nothing in the queue has that name, or the action does not go with its state."""
    runs = RunsFolder(Path(args.runs).absolute(), Path(args.state or args.runs).absolute())
    return ACTIONS[args.action].run(args, runs)


ACTIONS = {
    "list": _Action(show, "What is queued, where each run stands, and why what waits does so."),
    "add": _Action(queue_actions.add, "Queue a plan; a supervisor works on it in the background."),
    "hold": _Action(queue_actions.hold, "Keep rows from being started until they are released."),
    "release": _Action(queue_actions.release, "Let held rows start; with --all also a queue that paused by itself."),
    "move": _Action(queue_actions.move, "Change the order of starting: of rows in their plan, or of submissions."),
    "stop": _Action(
        queue_actions.stop, "Finish the step, save, end. A single row is held then; a whole submission is closed."
    ),
    "kill": _Action(
        queue_actions.kill, "End at once; what was done since the last checkpoint is done again later.", True
    ),
    "retry": _Action(queue_actions.retry, "Try again what failed, was given up, held or removed."),
    "remove": _Action(queue_actions.remove, "Take rows out of the queue. Run folders stay as they are.", True),
    "prune": _Action(
        queue_actions.prune, "Delete checkpoints of runs that have ended. Results and best adapters stay.", True
    ),
}
