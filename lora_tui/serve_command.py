"""`lora-tui serve`: the dashboard in a browser of this machine, through textual-serve (the extra `serve`)."""

from __future__ import annotations

import argparse
import shlex
import socket
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from core.errors import ExitCode, UserError
from lora_tui.diagnostics import say
from lora_tui.request import DEFAULT_PLAN, add_folders, add_plan, read_plan_text

DESCRIPTION = """\
Shows the dashboard in a browser of this machine. It is bound to the loopback address only, answers only who opens
the address that it prints, which holds a token, and only looks: with --act its keys start, stop and write too. From
elsewhere: ssh -L 8000:127.0.0.1:8000 HOST, then the same address there."""
HOST = "127.0.0.1"
"""Never another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    add = parser.add_argument
    add_plan(parser)
    add("--port", type=_port, default=8000, metavar="N", help="default: %(default)s")
    add("--act", action="store_true", help="keys may start, stop and write; otherwise they only look")
    add("--ascii", action="store_true", help="plots and glyphs in plain ASCII")
    add_folders(parser)


def run(args: argparse.Namespace) -> ExitCode:
    """Serve until Ctrl-C. UserError: the extra is missing, or the port is taken."""
    if args.plan != Path(DEFAULT_PLAN):
        read_plan_text(args.plan)
    if find_spec("textual_serve") is None:
        raise UserError("the web view needs textual-serve: install it with `pip install 'lora-tui[serve]'`")
    if not _is_free(args.port):
        raise UserError(f"port {args.port} of {HOST} is taken: name another with --port")
    from lora_tui.web_server import LoopbackServer

    server = LoopbackServer(shlex.join(command(args)), HOST, args.port)
    say(f"{server.address}  {'keys act' if args.act else 'read only'}; Ctrl-C ends it, training goes on")
    server.serve()
    return ExitCode.ACCEPTED


def command(args: argparse.Namespace) -> list[str]:
    """What is run for each browser. Pure."""
    words = [sys.executable, "-P", "-m", "lora_tui"]
    words += [str(args.plan.absolute())] if args.plan != Path(DEFAULT_PLAN) or args.plan.is_file() else []
    words += ["--runs", str(Path(args.runs).absolute()), "--served"]
    words += ["--state", str(Path(args.state).absolute())] if args.state else []
    return words + ([] if args.act else ["--readonly"]) + (["--ascii"] if args.ascii else [])


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 < (value := int(text)) < 65536:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 65535")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
