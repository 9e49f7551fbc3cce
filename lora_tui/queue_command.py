"""`lora-tui queue …`: what is queued, and wishes for it. Works with and without a living supervisor."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import ExitCode, RunFolderError, UserError
from core.queue.again import submit_again
from core.queue.client import QueueClient
from core.queue.command import SUPERVISOR_COMMAND
from core.queue.entries import Entry, listing, named
from core.queue.prune import prunable, prune
from core.queue.wishes import QueueDb, Submission, Target
from core.runs.paths import RunsFolder
from core.runs.plan_file import DEFAULT_PLAN, read_plan_text
from lora_tui import stdout
from lora_tui.diagnostics import say
from lora_tui.queue_list import document, show

STOPPED = "stopped on request: `lora-tui queue release` goes on from there"
KILLED = "killed on request: `lora-tui queue release` goes on from its last checkpoint"
HELD = "held on request"


class _Action(NamedTuple):
    run: Callable[[argparse.Namespace, RunsFolder], ExitCode]
    help: str
    destructive: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=type(parser))
    for name, action in ACTIONS.items():
        sub = actions.add_parser(name, help=action.help, description=action.help, allow_abbrev=False)
        add = sub.add_argument
        if name == "add":
            add(
                "plan",
                nargs="?",
                type=Path,
                default=Path(DEFAULT_PLAN),
                metavar="PLAN",
                help=f"default: {DEFAULT_PLAN}",
            )
            add("--only", action="append", default=[], metavar="ID", help="an experiment or a row; repeatable")
            add("--set", action="append", default=[], metavar="KEY=VALUE", help="as in lora-tui --help; repeatable")
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
        add("--runs", default="runs", metavar="DIR", help="the runs folder; default: ./%(default)s")
        add("--state", metavar="DIR", help="the folder of locks and caches")


def run(args: argparse.Namespace) -> ExitCode:
    """The action. UserError: nothing in the queue has that name, or the action does not go with its state."""
    runs = RunsFolder(Path(args.runs).absolute(), Path(args.state or args.runs).absolute())
    return ACTIONS[args.action].run(args, runs)


def _add(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    from lora_tui import headless
    from lora_tui.request import Request

    submission = Submission.create(args.plan, read_plan_text(args.plan), args.set, args.only)
    headless.check(Request(plan=args.plan, only=submission.only, overrides=submission.overrides), submission, runs)
    queued = _client(runs).submit(submission)
    again = queued.id != submission.id
    _done(args, "add", [Target(queued.id)], "is queued already" if again else "is queued")
    return ExitCode.ACCEPTED


def _hold(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    entries = [entry for entry in _chosen(args, runs) if not entry.active and entry.state != "done"]
    if not entries:
        raise UserError("nothing to hold: what is training can be stopped (`lora-tui queue stop`)")
    QueueDb(runs.queue_db).hold(_targets(entries), HELD)
    _done(args, "hold", _targets(entries), "held until released")
    return ExitCode.ACCEPTED


def _release(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    entries = _chosen(args, runs)
    QueueDb(runs.queue_db).release(_targets(entries) + ([Target(e.submission.id) for e in entries] if args.all else []))
    _client(runs).ensure_supervisor()
    _done(args, "release", _targets(entries), "released")
    return ExitCode.ACCEPTED


def _move(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    db = QueueDb(runs.queue_db)
    found = listing(runs, db)
    ids = [submission.id for submission in found.submissions]
    if args.names and set(args.names) <= set(ids):
        db.reorder_submissions(_order(ids, args.names, args))
        _done(args, "move", [Target(name) for name in args.names], "moved")
        return ExitCode.ACCEPTED
    entries = named(found.entries, args.names)
    if len({entry.submission.id for entry in entries}) != 1:
        raise UserError("move takes rows of one submission at a time, or submissions: name some")
    submission = entries[0].submission.id
    keys = [entry.row.key for entry in found.entries if entry.submission.id == submission]
    db.reorder(submission, _order(keys, [entry.row.key for entry in entries], args))
    _done(args, "move", _targets(entries), "moved")
    return ExitCode.ACCEPTED


def _order(keys: Sequence[str], moved: Sequence[str], args: argparse.Namespace) -> list[str]:
    rest = [key for key in keys if key not in moved]
    if args.before is None:
        return [*moved, *rest] if args.first else [*rest, *moved]
    if args.before not in rest:
        raise UserError(f"--before {args.before}: not there to move before; there is {', '.join(rest) or 'nothing'}")
    place = rest.index(args.before)
    return [*rest[:place], *moved, *rest[place:]]


def _stop(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    return _end(args, runs, STOPPED, "asked to finish the step and save")


def _kill(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    return _end(args, runs, KILLED, "asked to end at once")


def _end(args: argparse.Namespace, runs: RunsFolder, reason: str, word: str) -> ExitCode:
    """Whole submissions end; single rows end and are held."""
    entries, ids = _chosen(args, runs), set(args.names)
    whole = list(dict.fromkeys(e.submission.id for e in entries if args.all or e.submission.id in ids))
    single = [entry for entry in entries if entry.submission.id not in whole and entry.state != "done"]
    if not whole and not single:
        raise UserError(f"nothing to {args.action}: what is named has ended")
    if not _confirmed(args, f"{args.action} {_names(entries)}"):
        return ExitCode.INTERRUPTED
    db = QueueDb(runs.queue_db)
    db.ask(args.action, [Target(name) for name in whole])
    db.ask(args.action, _targets(single), held=reason)
    _client(runs).ensure_supervisor()
    _done(args, args.action, [*(Target(name) for name in whole), *_targets(single)], word)
    return ExitCode.ACCEPTED


def _retry(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    db = QueueDb(runs.queue_db)
    entries = list(listing(runs, db).entries)
    targets: list[Target] = []
    for name in [entry.row.key for entry in entries] if args.all else _given(args):
        try:
            hits = [e for e in named(entries, [name]) if not e.active and e.state not in ("done", "queued", "waiting")]
        except RunFolderError:
            targets.append(submit_again(runs, db, name))
            continue
        if not hits and not args.all:
            raise UserError(f"{name}: nothing to try again: it is done, at work, or waits for its turn")
        targets += [entry.target for entry in hits]
    db.ask("retry", [target for target in dict.fromkeys(targets) if target.row is not None])
    _client(runs).ensure_supervisor()
    _done(args, "retry", targets, "to be tried again")
    return ExitCode.ACCEPTED


def _remove(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    entries = [entry for entry in _chosen(args, runs) if entry.state != "done"]
    if busy := [entry.row.key for entry in entries if entry.active]:
        raise UserError(f"{', '.join(busy)} is at work: `lora-tui queue stop` it first")
    if not entries:
        raise UserError("nothing to remove: what is named is done; `lora-tui queue prune` frees disk space")
    if not _confirmed(args, f"remove {_names(entries)} from the queue"):
        return ExitCode.INTERRUPTED
    QueueDb(runs.queue_db).remove(_targets(entries))
    _done(args, "remove", _targets(entries), "removed; nothing was deleted from the run folders")
    return ExitCode.ACCEPTED


def _prune(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    names = [] if args.all else _given(args)
    folders = runs.runs()
    wanted = [
        r for r in folders if args.all or {r.name, r.name.rpartition("-")[2], r.name.rpartition("-")[0]} & set(names)
    ]
    if not wanted and not args.all:
        raise RunFolderError(f"{', '.join(names)}: no such run in {runs.root}")
    found = [item for item in (prunable(run, adapters=args.adapters) for run in wanted) if item is not None]
    size = sum(item.size for item in found)
    if found and not _confirmed(args, f"delete {size / 1e6:.1f} MB from {len(found)} run folders"):
        return ExitCode.INTERRUPTED
    freed = [item for item in found if prune(runs, item)]
    report = [{"run": item.run.name, "bytes": item.size} for item in freed]
    if args.json:
        stdout.write(document({"action": "prune", "freed": report}))
    else:
        say(f"freed {sum(item.size for item in freed) / 1e6:.1f} MB in {len(freed)} of {len(wanted)} run folders")
    return ExitCode.ACCEPTED


ACTIONS = {
    "list": _Action(show, "What is queued, where each run stands, and why what waits does so."),
    "add": _Action(_add, "Queue a plan; a supervisor works on it in the background."),
    "hold": _Action(_hold, "Keep rows from being started until they are released."),
    "release": _Action(_release, "Let held rows start; with --all also a queue that paused by itself."),
    "move": _Action(_move, "Change the order of starting: of rows in their plan, or of submissions."),
    "stop": _Action(_stop, "Finish the step, save, end. A single row is held then; a whole submission is closed."),
    "kill": _Action(_kill, "End at once; what was done since the last checkpoint is done again later.", True),
    "retry": _Action(_retry, "Try again what failed, was given up, held or removed."),
    "remove": _Action(_remove, "Take rows out of the queue. Run folders stay as they are.", True),
    "prune": _Action(_prune, "Delete checkpoints of runs that have ended. Results and best adapters stay.", True),
}


def _client(runs: RunsFolder) -> QueueClient:
    return QueueClient(runs, SUPERVISOR_COMMAND)


def _given(args: argparse.Namespace) -> list[str]:
    if not args.names:
        raise UserError(f"queue {args.action}: name what is meant, or say --all")
    return list(args.names)


def _chosen(args: argparse.Namespace, runs: RunsFolder) -> list[Entry]:
    """The entries that are named. UserError: none is."""
    entries = list(listing(runs, QueueDb(runs.queue_db)).entries)
    return entries if args.all and entries else named(entries, _given(args) if not args.all else ["--all"])


def _targets(entries: Sequence[Entry]) -> list[Target]:
    return [entry.target for entry in entries]


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(dict.fromkeys(entry.row.key for entry in entries))


def _confirmed(args: argparse.Namespace, what: str) -> bool:
    """Whether it is meant. UserError where nobody can be asked."""
    if not getattr(args, "yes", True):
        if not sys.stdin.isatty():
            raise UserError(f"queue {args.action} asks before it acts, and there is no terminal: add --yes")
        say(f"{what}? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    return True


def _done(args: argparse.Namespace, action: str, targets: Sequence[Target], word: str) -> None:
    if args.json:
        taken = [{"submission": target.submission, "row": target.row} for target in targets]
        stdout.write(document({"action": action, "taken": taken}))
        return
    for target in targets:
        say(f"{target.row or f'submission {target.submission}'}: {word}")
