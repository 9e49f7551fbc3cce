"""Reads the command line of the dashboard and opens it. Textual is imported only then."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path

from core.errors import ExitCode, PlanError, UserError
from core.runs.paths import RunsFolder
from core.system.files import nothing_written
from core.terminal import is_utf8
from core.user_paths import user_path
from lora_tui.dashboard.options import Options, refresh_s
from lora_tui.request import DEFAULT_PLAN, Request, read_plan_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the dashboard."""
    group = parser.add_argument_group("the dashboard")
    add = group.add_argument
    add("--start", action="store_true", help="queue the plan as the dashboard opens; otherwise opening starts nothing")
    add("--readonly", action="store_true", help="look only: no key starts, stops or writes anything")
    add(
        "--replay",
        type=user_path,
        metavar="RUN_DIR",
        help="play a recorded run as if it were training now; writes nothing",
    )
    add("--speed", type=_speed, default=20.0, metavar="N", help="with --replay: N times as fast; default: 20")
    add("--ascii", action="store_true", help="plots and glyphs in plain ASCII, as under a locale not of UTF-8")
    add("--served", action="store_true", help=argparse.SUPPRESS)  # by `lora-tui serve`: a browser is the terminal


def wanted(args: argparse.Namespace) -> bool:
    """Whether to open it: on a terminal, unless an option asks for what only the headless face does.

    UserError: it would be opened but cannot be shown, and nothing says that the plan is to be trained all the same.
    """
    if args.readonly and args.start:
        raise UserError("--readonly starts nothing and --start does: leave one of them out")
    if args.replay is None and _is_headless(args):
        if args.readonly:
            raise UserError(f"--readonly looks in the dashboard, which {_HEADLESS} do without: {_INSTEAD}")
        return False
    if args.served:
        return True
    if not on_a_terminal():
        if args.replay is not None:
            raise UserError("--replay plays in the dashboard: run it on a terminal")
        if args.readonly:
            raise UserError(f"--readonly looks in the dashboard, and this is no terminal: {_INSTEAD}")
        return False
    if os.environ.get("TERM") != "dumb":
        return True
    if args.start and args.replay is None:
        return False  # what it asks for needs no dashboard
    raise UserError(
        "TERM=dumb is a terminal that can show no dashboard: give TERM its real name, such as xterm-256color, "
        "or train without a dashboard (--headless), or see where the runs stand (lora-tui status)"
    )


def _is_headless(args: argparse.Namespace) -> bool:
    return bool(args.headless or args.gate or args.no_train or args.detach or args.export or args.json)


_HEADLESS = "--headless, --gate, --no-train, --detach, --export and --json"
_INSTEAD = "leave it out, or see where the runs stand with lora-tui status"


def on_a_terminal() -> bool:
    """Whether somebody can see it and type: stdin, stdout and stderr, on which Textual draws, are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def run(args: argparse.Namespace, runs: RunsFolder, request: Request) -> ExitCode:
    """Open the dashboard. PlanError: a plan that was named, or that is to be started, is not there."""
    if args.replay is not None:
        options = Options(
            readonly=True, ascii_only=_ascii(args), refresh_s=refresh_s(), replay=args.replay, speed=args.speed
        )
        return _open(options, runs)
    named = request.plan != Path(DEFAULT_PLAN) or args.start
    if named and not request.plan.is_file():
        read_plan_text(request.plan)
        raise PlanError(f"{request.plan}: no plan: it is not a file")
    options = Options(
        plan=request.plan if request.plan.is_file() else None,
        only=request.only,
        overrides=request.overrides,
        start=args.start,
        readonly=args.readonly,
        ascii_only=_ascii(args),
        refresh_s=refresh_s(),
        supervisor=request.supervisor,
    )
    with nothing_written() if args.readonly else nullcontext():
        return _open(options, runs)


def _ascii(args: argparse.Namespace) -> bool:
    return args.ascii or not (args.served or is_utf8())


def _speed(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0, such as 20")


def _open(options: Options, runs: RunsFolder) -> ExitCode:
    from lora_tui.dashboard.face import open_dashboard

    return open_dashboard(options, runs)
