"""Measuring many clips: on all cores, in order, a little ahead, stopped cleanly by Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from core.speech.audio import TARGET_RMS
from core.speech.clip_facts import ClipFacts, ClipRequest, fine_peaks_all, measure_all
from core.speech.peaks import Peaks

Result = TypeVar("Result")
BATCH = 32
"""Clips that a worker takes at once."""
AHEAD = 3
"""Batches in flight for each worker: bounds the memory."""
ALONE = 400
"""Fewer clips are measured in this process: others take a second to start."""


def measured(
    requests: Sequence[ClipRequest], workers: int | None = None, target_rms: float = TARGET_RMS
) -> Generator[ClipFacts, None, None]:
    """The facts of each clip, in order. `workers` processes, by default one a core; 1 is this process."""
    return _in_order(partial(measure_all, target_rms=target_rms), requests, workers)


def fine_peaks_of(requests: Sequence[ClipRequest], workers: int | None = None) -> Generator[Peaks, None, None]:
    """The fine peaks of each clip, in order."""
    return _in_order(fine_peaks_all, requests, workers)


def _in_order(
    work: Callable[[Sequence[ClipRequest]], list[Result]], requests: Sequence[ClipRequest], workers: int | None
) -> Generator[Result, None, None]:
    count = workers or len(os.sched_getaffinity(0))
    batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
    if count == 1 or len(requests) < ALONE:
        for batch in batches:
            yield from work(batch)
        return
    # Not forked: libraries of the parent may hold threads and locks.
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
    pending: deque[Future[list[Result]]] = deque()
    try:
        for batch in batches:
            with _for_workers():
                pending.append(pool.submit(work, batch))
            if len(pending) >= AHEAD * count:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _for_workers() -> Iterator[None]:
    """Around `pool.submit`, which starts workers, for what they inherit: a blocked SIGINT, since of the whole group
    that Ctrl-C reaches only the parent decides (it is not lost here, only late); and `_ENVIRONMENT`.
    """
    inherited = {name: os.environ.get(name) for name in _ENVIRONMENT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in inherited.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(48 << 20),
}
"""Of workers. One thread for BLAS, since there is a worker for each core; and glibc keeps the memory of a clip's arrays
for the next clip's, which spares a tenth of the time: the kernel would hand out and clear every page anew."""
