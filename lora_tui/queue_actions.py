"""What `lora-tui queue …` does, in words: `core.queue.commands` does it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from core.errors import ExitCode, UserError
from core.queue import SUPERVISOR_COMMAND
from core.queue.commands import Commands, Done, Effect, Meant
from core.queue.wishes import Submission, Target
from core.runs.paths import RunsFolder
from core.runs.plan_file import read_plan_text
from lora_tui.diagnostics import say
from lora_tui.queue_list import print_json

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
    return _say(args, _commands(runs).submit(submission, removed_again=True))


def hold(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Rows are not started until they are released."""
    return _say(args, _commands(runs).hold(_meant(args)))


def release(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Held rows may start; with `--all` a queue that paused goes on."""
    return _say(args, _commands(runs).release(_meant(args)))


def move(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Another order of rows, or of submissions."""
    return _say(args, _commands(runs).move(Meant(args.names), first=args.first, before=args.before))


def stop(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """The step is finished and saved."""
    return _say(args, _commands(runs).stop(_meant(args), _sure(args)))


def kill(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """The trainers end at once."""
    return _say(args, _commands(runs).kill(_meant(args), _sure(args)))


def retry(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Once more, whatever became of it."""
    return _say(args, _commands(runs).retry(_meant(args)))


def remove(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Out of the queue; run folders stay."""
    return _say(args, _commands(runs).remove(_meant(args), _sure(args)))


def prune(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    """Delete what ended runs need no more. 4 when something of it cannot be deleted, which is named."""
    names = [] if args.all else _given(args)
    sure = _sure(args) or (lambda what: True)
    done = _commands(runs).prune(names, sure, everything=args.all, adapters=args.adapters)
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


def _meant(args: argparse.Namespace) -> Meant:
    return Meant(everything=True) if args.all else Meant(_given(args))


def _sure(args: argparse.Namespace) -> Callable[[str], bool] | None:
    """Asks whether it is meant; None where that goes without saying. UserError where nobody can be asked."""
    if getattr(args, "yes", True):
        return None

    def asked(what: str) -> bool:
        if not sys.stdin.isatty():
            raise UserError(f"queue {args.action} asks before it acts, and there is no terminal: add --yes")
        say(f"{what}? [y/N]")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return asked


def _say(args: argparse.Namespace, done: Done | None) -> ExitCode:
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
    for row in done.elsewhere:
        say(f"{row.key}: goes on where submission {row.queued.submission}, which has it too, wants it now")
    return ExitCode.ACCEPTED


def _word(done: Done, target: Target, effect: Effect) -> str:
    row = done.rows.get(target)
    return _WORDS[effect].format(status="" if row is None else row.status.text)
