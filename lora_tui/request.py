"""What the command line asks of either face, and reading a plan. Importable in a moment: a first frame waits for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import PlanError, UserError
from core.queue import SUPERVISOR_COMMAND
from core.runs.contents import Depth
from core.system.files import read_bytes
from core.user_paths import user_path

if TYPE_CHECKING:
    from core.plan.schema import Plan


DEFAULT_PLAN = "experiments.toml"
PLAN_BYTES = 16 << 20


def read_plan_text(path: Path) -> str:
    """The text of a plan. Raises PlanError when it cannot be read."""
    try:
        return read_bytes(path, PLAN_BYTES, follow=True).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PlanError(f"{path}:{line}: not valid UTF-8: save the plan as UTF-8") from error
    except FileNotFoundError as error:
        raise PlanError(f"{path}: no such plan: correct the path, or write one with `lora-tui init`") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"{path}: the plan cannot be read: {reason}") from error


def load_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """The plan in a file, with `--set` values applied. Raises PlanError with every problem."""
    from core.plan.read import parse_plan  # the faces know where the plan is long before they read it

    return parse_plan(read_plan_text(path), str(path), overrides)


# What is asked of a face

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
        help="write the run matrix to FILE.md, .csv, .json, .xml (JUnit) or .html; FILE.comment.md is short, for a "
        "pull or merge request; repeatable",
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


# The arguments that several commands have, each with one name, one default and one help text


def add_plan(parser: argparse.ArgumentParser) -> None:
    """`PLAN`, which may be left out."""
    default = Path(DEFAULT_PLAN)
    parser.add_argument(
        "plan", nargs="?", type=user_path, default=default, metavar="PLAN", help="default: ./%(default)s"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """`--only` and `--set`: which rows of the plan, and what is changed in it."""
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="an experiment or a row; repeatable")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="train.steps=60, or 2.1:train.steps=60; repeatable",
    )


def add_folders(parser: argparse.ArgumentParser) -> None:
    """`--runs` and `--state`: where the files are."""
    parser.add_argument("--runs", default="runs", metavar="DIR", help="the runs folder; default: ./%(default)s")
    parser.add_argument(
        "--state", metavar="DIR", help="queue, locks and caches; default: a folder for it in $XDG_STATE_HOME/lora-tui"
    )
