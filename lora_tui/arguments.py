"""The arguments that several commands have, each with one name, one default and one help text."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.runs.plan_file import DEFAULT_PLAN
from core.user_paths import user_path


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
