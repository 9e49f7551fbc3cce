"""What `lora-tui queue …` does: wishes for rows and submissions, taken whether or not a supervisor lives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from core.errors import ExitCode, RunFolderError, UserError
from core.queue.again import row_again, submit_again
from core.queue.client import QueueClient
from core.queue.command import SUPERVISOR_COMMAND
from core.queue.naming import named, with_sharers
from core.queue.prune import prunable
from core.queue.prune import prune as prune_run
from core.queue.rows import queue_rows, retriable, target_of
from core.queue.wishes import QueueDb, RowWishes, Submission, Target
from core.runs.paths import RunsFolder
from core.runs.plan_file import read_plan_text
from core.runs.row import Row
from core.system.files import exists
from lora_tui.diagnostics import say
from lora_tui.queue_list import print_json

STOPPED = "stopped on request: `lora-tui queue release` goes on from there"
KILLED = "killed on request: `lora-tui queue release` goes on from its last checkpoint"
NOT_STARTED = "{} on request before it was started: `lora-tui queue release` lets it start"
HELD = "held on request"


def add(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Queue a plan."""
    from lora_tui import headless
    from lora_tui.request import Request

    submission = Submission.create(args.plan, read_plan_text(args.plan), args.set, args.only)
    headless.check(Request(plan=args.plan, only=submission.only, overrides=submission.overrides), submission, runs)
    queued = QueueDb(runs.queue_db).submit(submission, removed_again=True)
    _client(runs).ensure_supervisor()
    again = queued.id != submission.id
    _done(args, "add", [Target(queued.id)], "is queued already" if again else "is queued")
    return ExitCode.ACCEPTED


def hold(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Rows are not started until they are released."""
    entries = [entry for entry in _chosen(args, runs) if not entry.active and entry.status != "done"]
    if not entries:
        raise UserError("nothing to hold: what is training can be stopped (`lora-tui queue stop`)")
    db = QueueDb(runs.queue_db)
    targets = with_sharers(queue_rows(runs).rows, entries)
    db.hold(targets, HELD)
    _done(args, "hold", targets, "held until released")
    return ExitCode.ACCEPTED


def release(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Held rows may start; with `--all` a queue that paused goes on."""
    chosen = _chosen(args, runs)
    entries = [entry for entry in chosen if not entry.queued.ending]
    if not args.all and not entries:
        raise UserError(
            f"nothing to release: {_names(chosen)} ends as asked; `lora-tui queue add PLAN` goes on with it"
        )
    db = QueueDb(runs.queue_db)
    wishes = db.row_wishes()
    held = {Target(name, row) for name, wished in wishes.items() for row in wished.held}
    targets = [target for target in with_sharers(queue_rows(runs).rows, entries) if target in held]
    if args.all or targets:
        db.release(targets + ([Target(e.queued.submission) for e in entries] if args.all else []))
    _client(runs).ensure_supervisor()
    _done(args, "release", targets, "released")
    for entry in [] if args.all else entries:
        if target_of(entry) not in held:
            say(f"{entry.key}: was not held: it is {entry.status.text}")
    return ExitCode.ACCEPTED


def move(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Another order of rows, or of submissions."""
    db = QueueDb(runs.queue_db)
    found = queue_rows(runs)
    ids = [submission.id for submission in found.submissions]
    if args.names and set(args.names) <= set(ids):
        db.reorder_submissions(_order(ids, args.names, args))
        _done(args, "move", [Target(name) for name in args.names], "moved")
        return ExitCode.ACCEPTED
    entries = named(found.rows, args.names)
    if len({entry.queued.submission for entry in entries}) != 1:
        raise UserError("move takes rows of one submission at a time, or submissions: name some")
    submission = entries[0].queued.submission
    keys = [entry.key for entry in found.rows if entry.queued.submission == submission]
    db.reorder(submission, _order(keys, [entry.key for entry in entries], args))
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


def stop(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """The step is finished and saved."""
    return _end(args, runs, STOPPED, "asked to finish the step and save")


def kill(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """The trainers end at once."""
    return _end(args, runs, KILLED, "asked to end at once")


def _end(args: argparse.Namespace, runs: RunsFolder, reason: str, word: str) -> ExitCode:
    """Whole submissions end; single rows end and are held."""
    entries, ids = _chosen(args, runs), set(args.names)
    whole = list(dict.fromkeys(e.queued.submission for e in entries if args.all or e.queued.submission in ids))
    single = [entry for entry in entries if entry.queued.submission not in whole and entry.status != "done"]
    if not whole and not single:
        raise UserError(f"nothing to {args.action}: what is named has ended")
    if not _confirmed(args, f"{args.action} {_names(entries)}"):
        return ExitCode.INTERRUPTED
    db = QueueDb(runs.queue_db)
    asked = [Target(name) for name in whole]
    late = db.ask(args.action, asked)
    queued = queue_rows(runs).rows
    begun = {target_of(entry) for entry in queued if entry.run is not None and exists(entry.run.events)}
    held = with_sharers(queued, single)
    to_end, not_started = [t for t in held if t in begun], [t for t in held if t not in begun]
    late += db.ask(args.action, to_end, held=reason)
    late += db.ask(args.action, not_started, held=NOT_STARTED.format(reason.partition(" ")[0]))
    _client(runs).ensure_supervisor()
    words = dict.fromkeys([*asked, *to_end], word) | dict.fromkeys(not_started, "had not started; held until released")
    words |= dict.fromkeys(late, "had ended already")
    _told(args, args.action, words, late)
    ended = {entry.run for entry in entries if entry.queued.submission in whole}
    wishes = db.row_wishes()
    for entry in queued:
        wished = wishes.get(entry.queued.submission, RowWishes())
        away = entry.queued.ending or entry.key in {*wished.held, *wished.removed}
        wanted = entry.active and not entry.queued.asked and not away
        if wanted and entry.run in ended:
            say(f"{entry.key}: goes on where submission {entry.queued.submission}, which has it too, wants it now")
    return ExitCode.ACCEPTED


def retry(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Once more, whatever became of it."""
    db = QueueDb(runs.queue_db)
    entries = queue_rows(runs).rows
    going = [entry for entry in entries if not entry.queued.ending]
    targets: list[Target] = []
    late: list[Target] = []
    for name in [entry.key for entry in going] if args.all else _given(args):
        try:
            found = named(entries, [name])
        except RunFolderError:
            targets.append(submit_again(runs, db, name))
            continue
        hits = [entry for entry in found if retriable(entry) and not entry.queued.ending]
        ending = [target_of(entry) for entry in found if entry.queued.ending and entry.status != "done"]
        if not hits and not ending and not args.all:
            raise UserError(f"{name}: nothing to try again: it is done, at work, or waits for its turn")
        targets += with_sharers([entry for entry in going if entry.status != "removed"], hits)
        late += [] if hits or args.all else ending
    if args.all and not runs.queue_db.exists():
        raise RunFolderError(f"--all: nothing to try again: {runs.root} has no queue")
    late += db.ask("retry", [target for target in dict.fromkeys(targets) if target.row is not None])
    made = {target_of(entry): entry.run or (entry.wanted and entry.wanted.settings) for entry in entries}
    once = {made.get(target, target): target for target in late}  # rows that share a run: one of them is enough
    targets = [target for target in targets if target not in late]
    targets += [again for target in once.values() if (again := row_again(db, target)) is not None]
    _client(runs).ensure_supervisor()
    _done(args, "retry", targets, "to be tried again")
    return ExitCode.ACCEPTED


def remove(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Out of the queue; run folders stay."""
    entries = [entry for entry in _chosen(args, runs) if entry.status != "done"]
    if busy := [entry.key for entry in entries if entry.active]:
        raise UserError(f"{', '.join(busy)} is at work: `lora-tui queue stop` it first")
    if not entries:
        raise UserError("nothing to remove: what is named is done; `lora-tui queue prune` frees disk space")
    if not _confirmed(args, f"remove {_names(entries)} from the queue"):
        return ExitCode.INTERRUPTED
    busy = [entry.key for entry in _chosen(args, runs) if entry.active and target_of(entry) in _targets(entries)]
    if busy:  # it was started while the question stood there
        raise UserError(f"{', '.join(busy)} is at work: `lora-tui queue stop` it first")
    QueueDb(runs.queue_db).remove(_targets(entries))
    _done(args, "remove", _targets(entries), "removed; nothing was deleted from the run folders")
    return ExitCode.ACCEPTED


def prune(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Delete what ended runs need no more. 4 when something of it cannot be deleted, which is named."""
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
    done = {item.run.name: pruned for item in found if (pruned := prune_run(runs, item)) is not None}
    left = [what for pruned in done.values() for what in pruned.left]
    freed = {name: pruned.freed for name, pruned in done.items() if pruned.freed or not pruned.left}
    if args.json:
        report = [{"run": name, "bytes": count} for name, count in freed.items()]
        print_json({"action": "prune", "freed": report, "left": left})
    else:
        say(f"freed {sum(freed.values()) / 1e6:.1f} MB in {len(freed)} of {len(wanted)} run folders")
    for what in left:
        say(f"error: {what}")
    return ExitCode.BAD_USAGE if left else ExitCode.ACCEPTED


def _client(runs: RunsFolder) -> QueueClient:
    return QueueClient(runs, SUPERVISOR_COMMAND)


def _given(args: argparse.Namespace) -> list[str]:
    if not args.names:
        raise UserError(f"queue {args.action}: name what is meant, or say --all")
    return list(args.names)


def _chosen(args: argparse.Namespace, runs: RunsFolder) -> list[Row]:
    """The entries that are named. UserError: none is."""
    entries = list(queue_rows(runs).rows)
    return entries if args.all and entries else named(entries, _given(args) if not args.all else ["--all"])


def _targets(entries: Sequence[Row]) -> list[Target]:
    return [target_of(entry) for entry in entries]


def _names(entries: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(entry.key for entry in entries))


def _confirmed(args: argparse.Namespace, what: str) -> bool:
    """Whether it is meant. UserError where nobody can be asked."""
    if not getattr(args, "yes", True):
        if not sys.stdin.isatty():
            raise UserError(f"queue {args.action} asks before it acts, and there is no terminal: add --yes")
        say(f"{what}? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    return True


def _done(args: argparse.Namespace, action: str, targets: Sequence[Target], word: str) -> None:
    _told(args, action, dict.fromkeys(targets, word))


def _told(args: argparse.Namespace, action: str, words: Mapping[Target, str], late: Sequence[Target] = ()) -> None:
    """What became of each; `late`: what a wish came too late for."""
    if args.json:
        taken = [{"submission": target.submission, "row": target.row} for target in words if target not in late]
        print_json({"action": action, "taken": taken})
        return
    for target, word in words.items():
        say(f"{target.row or f'submission {target.submission}'}: {word}")
