"""Measuring many clips: on all cores, in order, a little ahead, stopped cleanly by Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor

from core.speech.clip_facts import ClipFacts, ClipRequest, measure_all

BATCH = 32
"""Clips that a worker takes at once."""
AHEAD = 3
"""Batches in flight for each worker: bounds the memory."""
ALONE = 400
"""Fewer clips are measured in this process: others take a second to start."""


def measured(requests: Sequence[ClipRequest], workers: int | None = None) -> Generator[ClipFacts, None, None]:
    """The facts of each clip, in order. `workers` processes, by default one a core; 1 is this process."""
    count = workers or len(os.sched_getaffinity(0))
    batches = [requests[start : start + BATCH] for start in range(0, len(requests), BATCH)]
    if count == 1 or len(requests) < ALONE:
        for batch in batches:
            yield from measure_all(batch)
        return
    # Not forked: libraries of the parent may hold threads and locks.
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))
    pending: deque[Future[list[ClipFacts]]] = deque()
    try:
        for batch in batches:
            pending.append(_submitted(pool, batch))
            if len(pending) >= AHEAD * count:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, batch: Sequence[ClipRequest]) -> Future[list[ClipFacts]]:
    """`pool.submit`, which starts workers. They inherit a blocked SIGINT: of the whole group that Ctrl-C reaches, only
    the parent decides. It is not lost here, only late.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(measure_all, batch)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
