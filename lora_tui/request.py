"""What the command line asks of either face. Importable in a moment: the dashboard's first frame waits for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError
from core.queue import SUPERVISOR_COMMAND
from core.runs.contents import Depth
from core.runs.plan_file import DEFAULT_PLAN
from core.user_paths import user_path
from lora_tui.arguments import add_choice, add_plan

_REQUIRED = {"texts": Depth.TEXTS, "audio": Depth.WHOLE}
"""By the value of `--require-data`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    plan: Path = Path(DEFAULT_PLAN)
    gate: bool = False
    accept: str = "any"
    train: bool = True
    detach: bool = False
    require_data: Depth = Depth.NOTHING
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    exports: tuple[Path, ...] = ()
    json: bool = False
    supervisor: Sequence[str] = field(default=SUPERVISOR_COMMAND)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the headless face."""
    add_plan(parser)
    parser.add_argument("--headless", action="store_true", help="no dashboard: progress lines, then the run matrix")
    parser.add_argument("--gate", action="store_true", help="exit with the verdict (see the exit codes below)")
    parser.add_argument(
        "--accept", default="any", metavar="any|all|ID", help="which runs must be accepted; default: any"
    )
    parser.add_argument(
        "--require-data",
        nargs="?",
        choices=tuple(_REQUIRED),
        const="texts",
        metavar="texts|audio",
        help="a row is undecided unless its model and the lines of its manifests (texts), or their audio too (audio), "
        "were compared with what its run was made of; default: texts",
    )
    parser.add_argument("--no-train", action="store_true", help="start nothing: judge what is in the run folders")
    parser.add_argument("--detach", action="store_true", help="queue the plan and return; the supervisor goes on")
    add_choice(parser)
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        type=user_path,
        metavar="FILE",
        help="write the run matrix to FILE.md, .csv, .json, .xml (JUnit) or .html; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the run matrix as JSON instead of Markdown")


def request_of(args: argparse.Namespace) -> Request:
    """The request in parsed arguments. UserError for options that contradict each other."""
    if args.no_train and args.detach:
        raise UserError("--no-train starts nothing that --detach could leave: leave one of them out")
    if args.require_data is not None and not args.gate:
        raise UserError("--require-data says what --gate asks for: add --gate, or leave --require-data out")
    if args.accept != "any" and not args.gate:
        raise UserError("--accept says what --gate asks for: add --gate, or leave --accept out")
    return Request(
        plan=Path(args.plan),
        gate=args.gate,
        accept=args.accept,
        train=not args.no_train,
        detach=args.detach,
        require_data=_REQUIRED[args.require_data] if args.require_data else Depth.NOTHING,
        only=tuple(args.only),
        overrides=tuple(args.set),
        exports=tuple(args.export),
        json=args.json,
    )
