"""`lora-tui queue …`: what is queued, and what is asked of it, in words; `core.queue.commands` does it.

It works with and without a living supervisor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core import console
from core.errors import ExitCode, UserError
from core.queue import SUPERVISOR_COMMAND
from core.queue.client import supervisor_note
from core.queue.commands import CommandResult, Commands, Effect, Selection
from core.queue.requests import Submission, Target
from core.queue.rows import queue_rows
from core.runs.headline import headline
from core.runs.paths import RunPaths, RunsFolder
from core.runs.row import Row
from core.runs.status import Status
from core.runs.store import state_and_reason
from core.sanitise import sanitise
from lora_tui.cells import table
from lora_tui.diagnostics import say
from lora_tui.request import add_choice, add_folders, add_plan, read_plan_text

_WORDS = {
    Effect.QUEUED: "is queued",
    Effect.QUEUED_ALREADY: "is queued already",
    Effect.HELD: "held until released",
    Effect.RELEASED: "released",
    Effect.NOT_HELD: "was not held: it is {status}",
    Effect.MOVED: "moved",
    Effect.STOPPING: "asked to finish the step and save",
    Effect.KILLING: "asked to end at once",
    Effect.NOT_TRAINING: "does not train; held until released",
    Effect.NOT_STARTED: "had not started; held until released",
    Effect.ENDED: "had ended already",
    Effect.RETRIED: "to be tried again",
    Effect.REMOVED: "removed; nothing was deleted from the run folders",
    Effect.REMOVED_ALREADY: "was removed already",
}


def add(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Queue a plan."""
    from lora_tui import headless
    from lora_tui.request import Request

    submission = Submission.create(args.plan, read_plan_text(args.plan), args.set, args.only)
    headless.check(Request(plan=args.plan, only=submission.only, overrides=submission.overrides), submission, runs)
    return _say(args, _commands(runs).submit(submission))


def _verb(do: Callable[..., CommandResult | None]) -> Callable[[argparse.Namespace, RunsFolder], ExitCode]:
    """The action that is this method of `Commands` and nothing more."""

    def run(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
        confirm = _confirm(args)
        return _say(args, do(_commands(runs), _selection(args), *([] if confirm is None else [confirm])))

    return run


def move(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Another order of rows, or of submissions."""
    return _say(args, _commands(runs).move(Selection(args.names), first=args.first, before=args.before))


def prune(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Delete what ended runs need no more. 4 when something of it cannot be deleted, which is named."""
    names = [] if args.all else _given(args)
    confirm = _confirm(args) or (lambda what: True)
    done = _commands(runs).prune(names, confirm, everything=args.all, adapters=args.adapters)
    if done is None:
        return ExitCode.INTERRUPTED
    left = [what for pruned in done.pruned.values() for what in pruned.left]
    freed = {name: pruned.freed for name, pruned in done.pruned.items() if pruned.freed or not pruned.left}
    if args.json:
        report = [{"run": name, "bytes": count} for name, count in freed.items()]
        print_json({"action": "prune", "freed": report, "left": left})
    else:
        say(f"freed {sum(freed.values()) / 1e6:.1f} MB in {len(freed)} of {done.looked_at} run folders")
    for what in left:
        say(f"error: {what}")
    return ExitCode.BAD_USAGE if left else ExitCode.ACCEPTED


def _commands(runs: RunsFolder) -> Commands:
    return Commands(runs, SUPERVISOR_COMMAND)


def _given(args: argparse.Namespace) -> list[str]:
    if not args.names:
        raise UserError(f"queue {args.action}: name what is meant, or say --all")
    return list(args.names)


def _selection(args: argparse.Namespace) -> Selection:
    return Selection(everything=True) if args.all else Selection(_given(args))


def _confirm(args: argparse.Namespace) -> Callable[[str], bool] | None:
    """Asks whether it is meant; None where that goes without saying. UserError where nobody can be asked."""
    if getattr(args, "yes", True):
        return None

    def asked(what: str) -> bool:
        if not sys.stdin.isatty():
            raise UserError(f"queue {args.action} asks before it acts, and there is no terminal: add --yes")
        say(f"{what}? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return asked


def _say(args: argparse.Namespace, done: CommandResult | None) -> ExitCode:
    """What became of each. 2 where nobody was sure."""
    if done is None:
        return ExitCode.INTERRUPTED
    if args.json:
        taken = [target for target, effect in done.effects.items() if effect.taken]
        taken_rows = [{"submission": target.submission, "row": target.row} for target in taken]
        print_json({"action": args.action, "taken": taken_rows})
    else:
        for target, effect in done.effects.items():
            say(f"{target.row or f'submission {target.submission}'}: {_word(done, target, effect)}")
    if done.removed_before and not args.json:
        say(f"{', '.join(done.removed_before)}: removed before, and queued again")
    for row in done.elsewhere:
        say(f"{row.key}: goes on where submission {row.queued.submission}, which has it too, wants it now")
    return ExitCode.ACCEPTED


def _word(done: CommandResult, target: Target, effect: Effect) -> str:
    row = done.rows.get(target)
    return _WORDS[effect].format(status="" if row is None else row.status.text)


SCHEMA_VERSION = 1
_HEADINGS = ("ROW", "STATE", "RUN", "SUBMISSION", "WHERE IT STANDS")
_KEYS = ("row", "state", "run", "submission", "headline")


def show(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Print the rows: of open submissions, with `--all` the runs of closed ones too."""
    found = queue_rows(runs)
    rows = [_row(found.judged(row)) for row in found.rows]
    if args.all:
        queued = {row.run.name for row in found.rows if row.run is not None}
        others = _others(run for run in runs.runs() if run.name not in queued)
        rows += [_row(found.row(row, None)) for row in others]
    works, note = found.supervised, supervisor_note(runs)
    if args.json:
        print_json({"supervisor": works, "paused": found.paused or None, "note": note or None, "rows": rows})
        return ExitCode.ACCEPTED
    lines = table([_HEADINGS, *(_cells(row) for row in rows)], paint=_painted(rows))
    if not rows:
        lines = ["the queue is empty" if not args.all else "there are no runs"]
    if found.paused:
        lines += ["", f"paused: {sanitise(found.paused)}", "`lora-tui queue release --all` goes on"]
    nobody = "no supervisor is at work" + ("; `lora-tui queue add PLAN` starts one" if found.submissions else "")
    lines += ["", "a supervisor is at work" if works else nobody]
    lines += [sanitise(note)] if note else []
    console.out("\n".join(line.rstrip() for line in lines), sanitised=True)
    return ExitCode.ACCEPTED


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    shown = row | {"state": row["state"].replace("_", " ")}
    return tuple(sanitise(str(shown[key] or "-")) for key in _KEYS)


def _painted(rows: Sequence[dict[str, Any]]) -> Callable[[int, int, str], str]:
    """States in their colours, on a terminal."""

    def paint(number: int, column: int, cell: str) -> str:
        if number == 0:
            return console.coloured(cell, "strong")
        status = Status(rows[number - 1]["state"])
        role = "active" if status.active else "fail" if status.broken else "pass" if status is Status.DONE else ""
        return console.coloured(cell, role if column == _HEADINGS.index("STATE") else "")

    return paint


def _row(row: Row) -> dict[str, Any]:
    queued = row.queued.submission != ""
    return {
        "row": row.key if queued else None,
        "experiment": row.experiment,
        "state": row.status.value,
        "reason": row.reason,
        "headline": headline(row).text,
        "run": None if row.run is None else row.run.name,
        "submission": row.queued.submission or None,
        "plan": row.queued.plan_path or None,
    }


def _others(runs: Iterable[RunPaths]) -> Iterator[Row]:
    """Runs as their folders tell them."""
    for run in runs:
        state, reason = state_and_reason(run)
        name = run.name.rpartition("-")[0]
        yield Row(f"run:{run.name}", name, state, reason, run=run, planned=False)


def print_json(fields: dict[str, Any]) -> None:
    """What `--json` prints: one object, with the version of its schema."""
    console.document({"schema": SCHEMA_VERSION, **fields}, indent=1)


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
    "add": _Action(add, "Queue a plan; a supervisor works on it in the background."),
    "hold": _Action(_verb(Commands.hold), "Keep rows from being started until they are released."),
    "release": _Action(_verb(Commands.release), "Let held rows start; with --all also a queue that paused by itself."),
    "move": _Action(move, "Change the order of starting: of rows in their plan, or of submissions."),
    "stop": _Action(
        _verb(Commands.stop), "Finish the step, save, end. A single row is held then; a whole submission is closed."
    ),
    "kill": _Action(
        _verb(Commands.kill), "End at once; what was done since the last checkpoint is done again later.", True
    ),
    "retry": _Action(_verb(Commands.retry), "Try again what failed, was given up, held or removed."),
    "remove": _Action(_verb(Commands.remove), "Take rows out of the queue. Run folders stay as they are.", True),
    "prune": _Action(prune, "Delete checkpoints of runs that have ended. Results and best adapters stay.", True),
}
