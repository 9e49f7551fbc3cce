"""The arguments of `lora-cli manifest …` and the other commands that need no model. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

ROLES = ("train", "replay", "domain", "heldout", "selection")

_CHECK_EPILOG = """exit codes: 0 nothing blocks a verdict (there may be warnings and notes); 1 a blocking finding;
2 interrupted; 3 internal error; 4 bad usage, or a manifest that cannot be read

blocking: lines, audio or slices that cannot be used; one clip named twice; the same recording (same samples, or
re-encoded, cut, at another level) in training (--train, --replay) and in an evaluation set (--domain, --heldout,
--selection). All else is a warning or a note. docs/data.md explains every kind."""

_RAW = argparse.RawDescriptionHelpFormatter


def add_manifest(commands: Any) -> None:
    """Add `manifest` and its subcommands."""
    manifest = commands.add_parser("manifest", help="check, expand, import and export manifests")
    actions = manifest.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_check(actions)


def _add_check(actions: Any) -> None:
    check = actions.add_parser(
        "check",
        help="find what could fool a verdict: damage, duplicates, leakage",
        description="Check manifests line by line and against each other. Give each set its role to find leakage.",
        epilog=_CHECK_EPILOG,
        formatter_class=_RAW,
    )
    check.add_argument("manifests", nargs="*", type=Path, metavar="M", help="manifests without a role")
    for role in ROLES:
        check.add_argument(f"--{role}", type=Path, action="append", default=[], metavar="M", help=f"a {role} set")
    check.add_argument("--no-audio", action="store_true", help="look at lines and texts only; decode nothing")
    check.add_argument("--model", type=Path, metavar="DIR", help="model folder: also check texts against its tokenizer")
    check.add_argument("--report", type=Path, metavar="FILE", help="write every finding, one a line, tab-separated")
    check.add_argument("--json", action="store_true", help="print everything as JSON")
    check.add_argument("--workers", type=int, metavar="N", help="processes that decode; default: one a core")
