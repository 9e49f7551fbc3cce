"""`python -m core.sinks NAME RUN_DIR`: follows one run for one sink. The supervisor starts it and waits for nothing.

Exit code 0: all was sent, or another process does so already; 1: the sink failed, and the last line says how.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from core.console import err
from core.errors import ExitCode, RunFolderError, UserError
from core.runs.paths import RunPaths
from core.runs.state_folder import runs_folder
from core.runs.store import RunFollower
from core.sinks.sink import POLL_S, Opener, ended, follow, opener
from core.system.locks import held

CLOSE_S = 120.0
"""For the sink to take what is left after the run's end; then this process ends all the same."""
LOCK_WAIT_S = 30.0
"""For the follower of the attempt before to end."""
_NICE = 10


def main(argv: list[str] | None = None, open_by_name: Callable[[str], Opener] = opener) -> int:
    """Follow in a thread of its own, so that a sink that hangs cannot keep this process alive for ever."""
    parser = argparse.ArgumentParser(prog="python -m core.sinks", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    arguments = parser.parse_args(argv)
    paths = RunPaths(arguments.run.absolute())
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    deadline = time.monotonic() + LOCK_WAIT_S

    def waiting() -> None:
        if time.monotonic() > deadline:
            raise TimeoutError

    try:
        lock = runs_folder(paths.root.parent).sink_lock(arguments.name, paths.name)
        with held(lock, waiting):
            return _followed(arguments.name, paths, open_by_name)
    except TimeoutError:
        return ExitCode.ACCEPTED
    except (OSError, RunFolderError) as error:
        return _failed(f"{error}")


def _followed(name: str, paths: RunPaths, open_by_name: Callable[[str], Opener]) -> int:
    said: list[str] = []

    def work() -> None:
        try:
            follow(paths, open_by_name(name), paths.sink_cursor(name), paths.sink_folder(name), time.sleep)
        except UserError as error:
            said.append(str(error))
        except BaseException as error:  # whatever somebody else's package raises
            said.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    follower, ended_at = RunFollower(paths), None
    while thread.is_alive():
        thread.join(POLL_S)
        if ended_at is None and ended(follower.refresh()):
            ended_at = time.monotonic()
        if ended_at is not None and time.monotonic() - ended_at > CLOSE_S:
            _failed(f"it did not take what was left within {CLOSE_S:g} s of the run's end")
            # Threads and exit handlers of the package would wait for what hangs.
            os._exit(ExitCode.REJECTED)
    return _failed(said[0]) if said else ExitCode.ACCEPTED


def _failed(message: str) -> int:
    err(" ".join(message.split()))
    return ExitCode.REJECTED


if __name__ == "__main__":
    # Exit handlers of a package that failed may hang: nothing of ours is left to do.
    os._exit(main())
