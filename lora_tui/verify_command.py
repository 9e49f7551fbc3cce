"""`lora-tui verify`: recompute the verdict on a run from its files, and find what does not hold together."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from core import console
from core.errors import ExitCode, RunFolderError, UserError
from core.manifests.hashing import HashCache
from core.runs.headline import headline
from core.runs.judged import exports_found, origin
from core.runs.paths import RunPaths
from core.runs.row import Row
from core.runs.run_figures import of_run
from core.runs.signing import SECRET, SSH_KEY, keys_from, sign
from core.runs.status import Status
from core.runs.verify import Verification, verify
from core.scoring.evidence import Decision
from core.scoring.verdict import loosened_words
from core.system.files import exists
from core.system.process import PARENT_VARIABLE, end
from core.user_paths import user_path
from lora_tui.progress import verdict_lines
from lora_tui.reports.json_document import finite

SCHEMA_VERSION = 1
_OF_DECISION = {
    Decision.ACCEPTED: ExitCode.ACCEPTED,
    Decision.REJECTED: ExitCode.REJECTED,
    Decision.UNDECIDED: ExitCode.UNDECIDED,
}
DESCRIPTION = """\
Recomputes the verdict on a run from its files, by the [gate] that it was started with, and finds what does not hold
together: counts and texts, events, hashes of adapter, model and manifests, links, result.json; and the signature, where
LORA_TUI_SIGNING_KEY or LORA_TUI_ALLOWED_SIGNERS is set. Exit code 0: consistent and accepted; 1: inconsistent, or
rejected; 6: consistent and undecided; 4: no run folder.
With --serve the sets are decoded again from an export, where audio and runtime are on this machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("run", type=user_path, metavar="RUN_DIR", help="a run folder, such as runs/2.1-0123456789")
    parser.add_argument(
        "--sign", action="store_true", help=f"sign the run first, with {SECRET} or {SSH_KEY}, if all is consistent"
    )
    parser.add_argument(
        "--serve",
        type=user_path,
        action="append",
        default=[],
        metavar="DIR",
        help="decode the sets again from this export of the run, in its own runtime, and compare; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> ExitCode:
    """Verdict, problems and what the verdict rests on, to stdout. RunFolderError: no run there."""
    paths = RunPaths(Path(args.run).absolute())
    # The state folder's cache of hashes is for speed; a verification reads the files themselves.
    cache, keys = _Forgetful(Path(os.devnull)), keys_from(os.environ)
    if args.sign:
        found = verify(paths, cache, keys)
        missing = found.signature.problem if not exists(paths.statement) else None
        problems = [text for text in found.problems if text != missing]
        if problems:
            # An earlier signature that does not hold is not signed over: whoever means it deletes the folder.
            raise RunFolderError(f"not signed, the run is not consistent: {problems[0]}")
        sign(paths, keys, "lora-tui verify --sign")
    found = verify(paths, cache, keys)
    for folder in args.serve:
        found = _heard_again(found, paths, Path(folder).absolute())
    code = ExitCode.REJECTED if found.problems else _OF_DECISION[found.verdict.decision]
    if code is ExitCode.ACCEPTED and found.judged.snapshot.state is not Status.DONE:
        code = ExitCode.UNDECIDED  # as for the gate: all passes, and the trainer may do something else yet
    if args.json:
        console.document(_as_json(found, paths, code), indent=1)
    else:
        for line in _lines(found, paths, code):
            console.out(line)
    return code


HEAR_COMMAND: tuple[str, ...] = (sys.executable, "-P", "-m", "core.cli", "hear", "--json")
"""The run's folder and that of the export are appended."""
_HEARD = (ExitCode.ACCEPTED, ExitCode.REJECTED, ExitCode.UNDECIDED)
_STOP_S = 10.0


def _heard_again(found: Verification, paths: RunPaths, folder: Path) -> Verification:
    """With what came of decoding the sets once more from an export. UserError where that could not be done."""
    environment = os.environ | {PARENT_VARIABLE: str(os.getpid())}
    command = (*HEAR_COMMAND, str(paths.root), str(folder))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as child:
        try:
            said, _ = child.communicate()
        except BaseException:
            end(child, _STOP_S)
            raise
    if child.returncode == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if child.returncode not in _HEARD:
        raise UserError(f"--serve {folder}: could not be decoded (exit code {child.returncode}); its message is above")
    heard = json.loads(said)
    return replace(
        found,
        problems=(*found.problems, *heard["problems"]),
        unchecked=(*found.unchecked, *heard["unchecked"]),
        served=(*found.served, *([heard["found"]] if heard["found"] else [])),
    )


class _Forgetful(HashCache):
    """Knows no hash from before, and keeps none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._entries = {}

    def save(self) -> None:
        """Nothing is written."""


def _lines(found: Verification, paths: RunPaths, code: ExitCode) -> list[str]:
    stands = headline(_row(found))
    name, duration_s = found.judged.snapshot.experiment, found.judged.snapshot.duration_s
    lines = verdict_lines(name, found.verdict, duration_s, stands.text)
    lines += ["", *(f"{name}: {value}" for name, value in origin(found.judged))]
    lines += [f"Export {name}: {value}" for name, value in exports_found(found.judged)]
    lines += [f"Served: {text}" for text in found.served]
    lines.append(f"Signature: {found.signature.summary}")
    lines += ["", *(f"not checked: {text}" for text in found.unchecked), *(f"problem: {p}" for p in found.problems)]
    number = len(found.problems)
    word = "consistent" if not number else f"INCONSISTENT: {number} problem{'s' if number > 1 else ''}"
    ended = found.judged.snapshot.state is Status.DONE or found.judged.snapshot.state.broken
    verdict = "the run failed" if found.verdict.failed else f"the run is {found.verdict.word}"
    what = verdict if ended else "the run has not ended"
    looser = f", {loosened_words(found.verdict.loosened)}" if found.verdict.loosened else ""
    return [*lines, f"{word}; {what} (exit {int(code)}){looser}"]


def _row(found: Verification) -> Row:
    return of_run(Row("", found.judged.snapshot.experiment), found.judged)


def _as_json(found: Verification, paths: RunPaths, code: ExitCode) -> Any:
    document = {
        "schema": SCHEMA_VERSION,
        "exit_code": int(code),
        "consistent": not found.problems,
        "problems": found.problems,
        "unchecked": found.unchecked,
        "signature": found.signature.summary,
        "verdict": found.verdict.decision.value,
        "headline": headline(_row(found)).text,
        "remarks": list(found.verdict.remarks),
        "criteria": [asdict(c) | {"state": c.state.value} for c in found.verdict.criteria],
        "evidence": dict(origin(found.judged)),
        "served": list(found.served),
        "exports": dict(exports_found(found.judged)),
    }
    return finite(document)
