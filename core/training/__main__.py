"""`python -P -m core.training RUN_DIR`: the trainer of one run. The queue starts it; it knows nothing of the queue.

Writes files only. SIGTERM: finish the step, save, end as *stopped*. Exit status 0: done or stopped. With
`train.devices` it runs torchrun, which starts it again for each device: the first of those is the trainer then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from core.console import err
from core.errors import Interrupted, UserError, is_disk_full
from core.runs.documents import read_config, read_result
from core.runs.events import Final
from core.runs.folder import sha256_of
from core.runs.paths import RunPaths
from core.runs.signing import keys_from, sign
from core.runs.state_folder import runs_folder
from core.system.files import HeldFolder
from core.system.locks import KernelLock, holds
from core.system.process import ProcessIdentity, current_process, end_with_parent, identity_of, wait_without_spinning
from core.training.launch import launch, node
from core.training.stopping import StopFlag

_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
)
"""What torch says, as a plain RuntimeError, when the CPU's memory, or the GPU's within a library, has run out."""
_SMALLER = {
    "training": "lower train.batch_seconds or train.epochs, or raise train.accumulation",
    "loading": "there is too little for the model itself: end what else fills it",
} | dict.fromkeys(("baseline", "evaluating", "finishing"), "lower train.eval_batch_seconds")
"""What to do about it, by the phase in which it happened."""


def main(argv: list[str] | None = None) -> int:
    """Run the attempt and name its outcome in the final event."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        err("usage: python -P -m core.training RUN_DIR")
        return 4
    paths = RunPaths(Path(arguments[0]).absolute())
    wait_without_spinning()
    # importing torch takes seconds; signals that arrive meanwhile must not be lost
    stopping = StopFlag()
    stopping.install()
    devices = _devices(paths)
    # The second is torchrun's own: other launchers set RANK, too, and their processes are not of this run.
    started_by_torchrun = devices > 1 and "TORCHELASTIC_RUN_ID" in os.environ
    rank = os.environ.get("RANK") if started_by_torchrun else None
    if rank is not None:
        end_with_parent()
    try:
        if rank not in (None, "0"):
            return _follow(paths, stopping)
        if devices > 1 and node() > 0:
            # the first machine holds the run's lock, and has nothing to do for a run that is complete
            return 0 if read_result(paths)[0] is not None else launch(devices, paths.root, stopping)
        return _locked(paths, stopping, devices, torchrun=rank is not None)
    except (UserError, OSError) as error:
        err(f"error: {error}", multiline=True)
        return 1


def _locked(paths: RunPaths, stopping: StopFlag, devices: int, *, torchrun: bool) -> int:
    """What works on the run, under its lock. `torchrun`: that has started this process, and may hold it."""
    lock = runs_folder(paths.root.parent).run_lock(paths.name)
    holder = _holder(lock, torchrun)
    own = None if holder is not None else KernelLock.acquire(lock)
    try:
        if own is None and holder is None and (holder := _holder(lock, torchrun)) is None:
            err(f"error: {paths.root}: another trainer works on it")
            return 1
        if read_result(paths)[0] is not None:
            from core.training.checkpoint import prune_checkpoints

            prune_checkpoints(paths, 0)
            return 0
        if devices > 1 and not torchrun:
            return launch(devices, paths.root, stopping)
        return _attempt(paths, stopping, holder or current_process(), several=torchrun)
    finally:
        if own is not None:
            own.release()


def _devices(paths: RunPaths) -> int:
    """`train.devices` of the run; 1 where run.json cannot be read, which the attempt will say."""
    try:
        config, _ = read_config(paths)
        return max(1, int((config or {})["settings"]["train"].get("devices", 1)))
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return 1


def _holder(lock: Path, torchrun: bool) -> ProcessIdentity | None:
    """Who holds the run's lock, for this process: itself, or torchrun that started it."""
    pids = [os.getpid(), *([os.getppid()] if torchrun else [])]
    return next((identity_of(pid) for pid in pids if holds(pid, lock)), None)


def _follow(paths: RunPaths, stopping: StopFlag) -> int:
    """The attempt of a process that is not the first of its run: it does what that one asks for."""
    from core.training.distributed import PeerLostError, Ranks
    from core.training.session import Session
    from core.training.session import read_config as read_whole_config

    ranks = Ranks.of_environment(os.environ, stopping)
    try:
        session = Session(paths, read_whole_config(paths), stopping, ranks)
        ranks.join()
        session.follow()
    except PeerLostError:
        return 1  # torchrun says which it was, and the first process what happened to it
    except BaseException as error:
        final = _final(error, 0)
        ranks.last_word(final)
        if isinstance(error, UserError):
            err(f"error: {error}", multiline=True)
        elif final.outcome == "error":
            err(traceback.format_exc(), multiline=True)
        return 0 if final.outcome == "stopped" else 1
    return 0


def _attempt(paths: RunPaths, stopping: StopFlag, holder: ProcessIdentity, *, several: bool) -> int:
    """One attempt, under the run's lock, which `holder` has. `several`: torchrun started other processes beside it."""
    from core.training.distributed import ALONE, Ranks
    from core.training.journal import Journal
    from core.training.session import Session
    from core.training.session import read_config as read_whole_config

    stopping.watch(HeldFolder(paths.root))
    try:
        ranks = Ranks.of_environment(os.environ, stopping) if several else ALONE
        session = Session(paths, read_whole_config(paths), stopping, ranks)
    except UserError as error:
        err(f"error: {error}", multiline=True)
        return 1
    with Journal(paths.events, session.attempt) as journal:
        final: Final | None
        failed: BaseException | None = None
        try:
            session.begin(journal, holder)
            ranks.join()
            session.run(journal)
            final = Final("done", step=session.step, result=sha256_of(paths.result))
        except BaseException as error:
            failed, final = error, _final(error, session.step, journal.now)
            if lost := stopping.lost():  # whatever else went wrong in a folder that is not there any more
                message = f"{lost}; it goes on from the last checkpoint, where the folder is"
                final = Final("stopped", message, session.step)
            if isinstance(error, UserError):
                err(f"error: {error}", multiline=True)
            elif final.outcome == "error":
                err(traceback.format_exc(), multiline=True)
        final = ranks.settle(final, failed)
        if final is None:
            return 1  # crashed: who looks at the run sees that its last word is missing
        _free_space_for(final, paths)
        journal.emit(final)
    if final.outcome == "done":
        _sign(paths)
    return 0 if final.outcome in ("done", "stopped") else 1


def _sign(paths: RunPaths) -> None:
    """Sign the finished run if the environment has a key. A signature that cannot be made costs no run."""
    try:
        keys = keys_from(os.environ)
        if keys.can_sign:
            sign(paths, keys, "the trainer")
    except (UserError, OSError) as error:
        err(f"warning: the run is not signed: {error}")


def _final(error: BaseException, step: int, phase: str = "training") -> Final:
    """The class of an attempt's end, as its final event names it."""
    import torch

    from core.training.trainer import Diverged, StoppedEarly

    message = str(error) or type(error).__name__
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return Final("stopped", message, step)
    if isinstance(error, (Diverged, StoppedEarly)):
        return Final("diverged" if isinstance(error, Diverged) else "stopped_early", message, step)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _says_no_memory(error):
        # without the place in torch's source, and without its advice
        said = message.splitlines()[0].rpartition("] ")[2].partition(" Of the allocated memory")[0].rstrip(".")
        return Final("out_of_memory", f"{said}; {_SMALLER.get(phase, _SMALLER['training'])}", step)
    if is_disk_full(error) or is_disk_full(error.__cause__ or error):
        return Final(
            "disk_full",
            f"{message}; free some space and start again: it goes on from the last checkpoint",
            step,
        )
    if isinstance(error, UserError):
        return Final("error", message, step)
    return Final("error", f"{type(error).__name__}: {message}", step)


def _says_no_memory(error: BaseException) -> bool:
    """Whether memory ran out in a place for which torch has no class of its own, such as the CPU's allocator."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _free_space_for(final: Final, paths: RunPaths) -> None:
    """On a full disk, drop torn files so that the last word can be written."""
    from core.training.checkpoint import sweep_up

    if final.outcome == "disk_full":
        sweep_up(paths)


def _leave(status: int) -> NoReturn:
    """End at once: taking the interpreter down with all that torch has in it takes seconds, in which a GPU is held."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(main())
