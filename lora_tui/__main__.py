"""The command `lora-tui`: the dashboard, the headless gate, and the commands beside them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from core.command_line import COMPLETION, add_shell, add_version, completion_script, did_you_mean
from core.console import out
from core.errors import ExitCode, UserError
from core.runs.paths import RunsFolder
from core.runs.state_folder import runs_folder
from core.terminal import prepare_streams
from core.user_paths import check_working_folder
from lora_tui.diagnostics import EXIT_CODES, Parser, fail

DESCRIPTION = """\
Fine-tunes a speech recogniser with LoRA or DoRA adapters by the plan in PLAN, and passes a verdict on each run:
a lower word error rate (WER) on the domain set, without a higher one on the heldout set.

On a terminal this opens the dashboard. With --headless, or an option that only makes sense there, or without a
terminal (stdin, stdout or stderr is none), it trains and prints."""
EPILOG = f"""\
commands, each with its own --help:
  lora-tui plan      what would run, and what is wrong with the plan; trains nothing
  lora-tui demo      a folder with a plan, speech and a small model, to try it all on
  lora-tui init      write a plan for your own model and manifests
  lora-tui status    where the runs stand
  lora-tui verify    recompute the verdict on a run from its files, and find edits
  lora-tui export    runs for TensorBoard, W&B, MLflow, trackio; the model card of an adapter
  lora-tui serve     the dashboard in a browser of this machine
  lora-tui queue     list, add, hold, release, move, stop, kill, retry, remove, prune
  lora-tui completion  a script that completes all this in bash, zsh, fish or tcsh

examples:
  lora-tui                                         the dashboard; it starts nothing by itself
  lora-tui --headless --gate                       run what is left of ./experiments.toml, for CI
  lora-tui --headless --only 2.1 --set train.steps=60
  lora-tui --headless --gate --no-train --export matrix.md

SIGINT and SIGTERM stop what the command started, cleanly; the same command goes on from there. With SIGHUP or
--detach training goes on in the background.

{EXIT_CODES}"""


class Command(NamedTuple):
    """A command beside the faces."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], ExitCode]
    description: str


def _plan() -> Command:
    from lora_tui import plan_command as it

    return Command(it.add_arguments, it.run, "What a plan would run, and what is wrong with it.")


def _init() -> Command:
    from lora_tui import init_command as it

    return Command(it.add_arguments, it.run, "Write a plan for your own model and manifests.")


def _demo() -> Command:
    from lora_tui import demo_command as it

    return Command(it.add_arguments, it.run, it.DESCRIPTION)


def _status() -> Command:
    from lora_tui import status_command as it

    return Command(it.add_arguments, it.run, "Where the runs of a plan stand.")


def _verify() -> Command:
    from lora_tui import verify_command as it

    return Command(it.add_arguments, it.run, it.DESCRIPTION)


def _export() -> Command:
    from lora_tui import export_command as it

    return Command(it.add_arguments, it.run, it.DESCRIPTION)


def _serve() -> Command:
    from lora_tui import serve_command as it

    return Command(it.add_arguments, it.run, it.DESCRIPTION)


def _queue() -> Command:
    from lora_tui import queue_command as it

    return Command(it.add_arguments, it.run, "What is queued, and what is asked of it.")


def _completion() -> Command:
    return Command(add_shell, _print_completion, COMPLETION.format(prog="lora-tui"))


COMMANDS: dict[str, Callable[[], Command]] = {
    "plan": _plan,
    "demo": _demo,
    "init": _init,
    "status": _status,
    "verify": _verify,
    "export": _export,
    "serve": _serve,
    "queue": _queue,
    "completion": _completion,
}
"""Each imports what it needs only when it is asked for: `lora-tui queue list` must not wait for the dashboard."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of `lora-tui` with these arguments."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--served" not in arguments:  # a browser is the terminal, whatever the locale
        prepare_streams()
    wanted = COMMANDS.get(arguments[0]) if arguments else None
    runs: RunsFolder | None = None
    try:
        check_working_folder()
        command = None if wanted is None else wanted()
        parser = _face_parser() if command is None else _command_parser(arguments.pop(0), command)
        args = parser.parse_args(arguments)
        if hasattr(args, "runs"):
            runs = _runs_folder(args)
        if command is not None:
            return int(command.run(args))
        return int(_face(args, runs or _runs_folder(args)))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(ExitCode.ACCEPTED)
    except BaseException as error:  # the last resort: one line and an exit code
        return int(fail(error, runs))


def _face(args: argparse.Namespace, runs: RunsFolder) -> ExitCode:
    from lora_tui import dashboard_command, request

    asked = request.request_of(args)
    if not asked.plan.exists() and (meant := did_you_mean(str(asked.plan), COMMANDS)):
        raise UserError(f"{asked.plan}: no such plan{meant}")
    if dashboard_command.wanted(args):
        return dashboard_command.run(args, runs, asked)
    from lora_tui import headless

    return headless.run(asked, runs)


def _face_parser() -> argparse.ArgumentParser:
    from lora_tui import dashboard_command, request
    from lora_tui.request import add_folders

    parser = Parser(
        prog="lora-tui",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    request.add_arguments(parser)
    dashboard_command.add_arguments(parser)
    add_folders(parser)
    add_version(parser)
    return parser


def _command_parser(name: str, command: Command) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"lora-tui {name}",
        description=command.description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def _print_completion(args: argparse.Namespace) -> ExitCode:
    parser = _face_parser()
    commands = parser.add_subparsers(metavar="COMMAND")
    # the first word is a command or a plan: shells would take a command for what follows a plan
    parser._actions.remove(next(action for action in parser._actions if action.dest == "plan"))
    for name, command in COMMANDS.items():
        found = command()
        first = " ".join(found.description.split()).partition(". ")[0]
        found.add_arguments(commands.add_parser(name, help=first))
    out(completion_script(parser, args.shell, first_may_be_file=True), multiline=True)
    return ExitCode.ACCEPTED


def _runs_folder(args: argparse.Namespace) -> RunsFolder:
    runs = runs_folder(Path(args.runs), None if args.state is None else Path(args.state))
    args.runs, args.state = str(runs.root), str(runs.state)
    return runs


if __name__ == "__main__":
    sys.exit(main())
