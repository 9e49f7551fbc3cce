"""`lora-tui export`: runs that are there already, for other tools: trackers, or the model card of the adapter."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import ExitCode, RunFolderError, UserError
from core.plan.schema import SINKS
from core.runs.paths import RunPaths
from core.system.files import is_file
from core.user_paths import user_path
from lora_tui.diagnostics import say

CARD = "card"
DESCRIPTION = """\
Sends finished or unfinished runs to a tracker (TensorBoard event files, W&B, MLflow, trackio), as [queue] sinks does
while they go on; or writes the model card, README.md in lora_adapter_best, anew. Exit code 0: all was sent; 4: no such
run, a package is missing, or the tracker refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("to", choices=(*SINKS, CARD), metavar="TO", help=", ".join((*SINKS, CARD)))
    parser.add_argument(
        "run", nargs="+", type=user_path, metavar="RUN_DIR", help="a run folder, such as runs/2.1-0123456789"
    )
    parser.add_argument(
        "-o", "--output", type=user_path, metavar="DIR", help="files go to DIR/RUN instead of into each run folder"
    )


def run(args: argparse.Namespace) -> ExitCode:
    """One line for each run on stderr. UserError: what the user can mend."""
    found = [RunPaths(Path(path).absolute()) for path in args.run]
    for paths in found:
        if not is_file(paths.config):
            raise RunFolderError(f"{paths.root}: no run folder (it has no run.json): name one, such as runs/2.1-…")
    for paths in found:
        if args.to == CARD:
            say(f"{paths.name}: {_card(paths, args.output)}")
            continue
        folder = paths.sink_folder(args.to) if args.output is None else args.output.absolute() / paths.name
        say(f"{paths.name}: {_send(args.to, paths, folder)}")
    return ExitCode.ACCEPTED


def _send(name: str, paths: RunPaths, folder: Path) -> str:
    from core.sinks.sink import opener, send_once

    open_sink = opener(name)
    try:
        return f"{send_once(paths, open_sink, folder)} steps sent to {name}, files in {folder}"
    except Exception as error:  # whatever somebody else's package raises
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{paths.name} could not be sent to {name}: {what}") from error


def _card(paths: RunPaths, output: Path | None) -> str:
    from core.runs.model_card import write_card

    try:
        return f"written: {write_card(paths, None if output is None else output.absolute() / paths.name)}"
    except OSError as error:
        raise UserError(f"{paths.name}: the model card cannot be written: {error}") from error
