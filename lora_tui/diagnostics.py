"""Owns stderr and the exit codes: what people are told, how errors end a command, what the gate decides."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from core.command_line import with_suggestion
from core.console import err
from core.errors import ExitCode, Interrupted, RunFolderError, UserError, exit_code_for, forbidden, is_disk_full
from core.runs.paths import RunsFolder
from core.system.files import make_private, write_text

if TYPE_CHECKING:
    from core.runs.row import Outcome

EXIT_CODES = """\
exit codes:
  0  accepted; without --gate: everything asked for was done
  1  rejected; without --gate: a run failed
  2  interrupted; what was done is saved
  3  internal error
  4  bad configuration, input or usage: the message says what to change
  5  nothing to judge
  6  undecided: evidence is missing, or a run did not start or end"""


class Parser(argparse.ArgumentParser):
    """Bad usage exits 4, on one line that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Overrides argparse, which would exit 2: that is `interrupted` here."""
        say(f"{self.prog}: {with_suggestion(message, self)}. See {self.prog} --help")
        sys.exit(ExitCode.BAD_USAGE)


_LONGEST = 2000
"""Characters of a line; more is a file's text that does not belong on a screen."""


def say(text: str, *, multiline: bool = False) -> None:
    """One line to stderr, whatever is in `text`. A closed or full stderr stops nothing."""
    err(text, None if multiline else _LONGEST, multiline=multiline)


def fail(error: BaseException, runs: RunsFolder | None) -> ExitCode:
    """Say what ended the command; its exit code. Tracebacks go to a file, never to the terminal."""
    error = unusable_folder(error, runs) or forbidden(error) or error
    code = exit_code_for(error)
    if isinstance(error, UserError):
        say(f"error: {error}", multiline=True)
    elif isinstance(error, (KeyboardInterrupt, Interrupted)):
        say(str(error) or "interrupted")
    elif is_disk_full(error):
        say(f"error: the disk is full ({error}): free some space and run again; what was finished is kept")
    else:
        say(f"internal error: {type(error).__name__}: {error} ({_write_traceback(error, runs)})")
    return code


def unusable_folder(error: BaseException, runs: RunsFolder | None) -> RunFolderError | None:
    """What to change where the runs folder or its state is no folder, or cannot be written; None: it is not that."""
    if runs is None or not isinstance(error, OSError) or not isinstance(error.filename, (str, os.PathLike)):
        return None
    path = Path(error.filename)
    for option, folder in (("--runs", runs.root), ("--state", runs.state)):
        if not (path.is_relative_to(folder) or folder.is_relative_to(path)):
            continue
        if error.errno == errno.EAGAIN:
            return RunFolderError(f"{path}: another process has held it for long: run the command again")
        there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
        if not os.path.isdir(there):  # noqa: PTH112 - False, not an error, where it may not be looked at
            return RunFolderError(f"{option} {folder}: {there} is no folder: name another one with {option}")
        if there != folder:
            what = f"no such folder, and none can be made there ({error.strerror})"
            return RunFolderError(f"{option} {folder}: {what}: name another one with {option}")
        of_run = folder == runs.root and folder in path.parent.parents
        if of_run and isinstance(error, PermissionError):
            continue  # one file of one run, which is named for itself
        if path == runs.queue_db or error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO):
            what = f"cannot be written ({path.name}: {error.strerror})"
            return RunFolderError(f"{option} {folder}: {what}: make it writable, or name another one with {option}")
    return None


def _write_traceback(error: BaseException, runs: RunsFolder | None) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = runs.crash_log(stamp) if runs is not None else Path(f"lora-tui-crash-{stamp}.log").absolute()
    try:
        make_private(path.parent)
        write_text(path, "".join(traceback.format_exception(error)))
    except OSError as problem:
        return f"the traceback could not be written: {problem}"
    return f"traceback in {path}"


def exit_code(
    outcomes: Collection[tuple[str, str, Outcome]],
    *,
    gate: bool,
    accept: str = "any",
    no_train: bool = False,
    failed: bool = False,
    complete: bool = True,
) -> ExitCode:
    """What the command ends with (docs/design.md, "The verdict"). Pure.

    `outcomes`: (row key, experiment, outcome) of the rows that were asked for. `failed`: a run failed for
    another reason than its result. `complete`: the queue did all it had to, within the budget. `accept`: any,
    all, or the id of an experiment or a row, which must be among the outcomes.
    """
    from core.runs.row import Outcome

    judged = [item for item in outcomes if item[2] is not Outcome.SKIPPED]
    if no_train:
        judged = [item for item in judged if item[2] is not Outcome.PENDING]
    if not gate:
        return _without_gate(bool(judged), no_train=no_train, failed=failed, complete=complete)
    if accept not in ("any", "all"):
        judged = [item for item in judged if accept in item[:2]]
    found = {item[2] for item in judged}
    if not found:
        return ExitCode.NOTHING_TO_JUDGE
    open_ones = found & {Outcome.UNDECIDED, Outcome.PENDING}
    if accept == "all":
        if Outcome.REJECTED in found:
            return ExitCode.REJECTED
        return ExitCode.UNDECIDED if open_ones else ExitCode.ACCEPTED
    if Outcome.ACCEPTED in found:
        return ExitCode.ACCEPTED
    return ExitCode.UNDECIDED if open_ones else ExitCode.REJECTED


def _without_gate(anything: bool, *, no_train: bool, failed: bool, complete: bool) -> ExitCode:
    if no_train:
        return ExitCode.ACCEPTED if anything else ExitCode.NOTHING_TO_JUDGE
    if failed:
        return ExitCode.REJECTED
    return ExitCode.ACCEPTED if complete else ExitCode.UNDECIDED
