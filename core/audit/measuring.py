"""Measures many clips on all cores, in order and a little ahead. Ctrl-C ends it cleanly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Self, TypeVar

from core.audio.samples import TARGET_RMS
from core.audit.clip_facts import ClipFacts, ClipRequest, measure_all, pictures_of
from core.audit.fingerprint.pictures import Picture
from core.manifests.manifest import Utterance
from core.system.process import Later, usable_cpus

Result = TypeVar("Result")
BATCH = 32
"""Clips that a worker takes at once."""
AHEAD = 3
"""Batches in flight for each worker: bounds the memory."""
ALONE = 400
"""Fewer clips are measured in this process: others take a second to start."""


def clip_request(utterance: Utterance) -> ClipRequest:
    """What a worker must know of a clip to hear it as the trainer does."""
    return str(utterance.audio), utterance.offset_s, utterance.duration_s, utterance.channel


class Measuring:
    """The processes that measure clips for one audit or expansion, from its first clip to its last one."""

    def __init__(self, clips: int, workers: int | None = None) -> None:
        """`clips`: how many there are; few are measured in this process. `workers`: by default one a core; 1 is
        this process."""
        self._workers = 1 if clips < ALONE else workers or usable_cpus()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """The processes begin to start, which takes them a while."""
        if self._workers > 1:
            # Not forked: libraries of the parent may hold threads and locks.
            self._pool = ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"))
            for _ in range(self._workers):
                with _for_workers():
                    self._pool.submit(measure_all, ())
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def facts(self, requests: Iterable[ClipRequest], target_rms: float = TARGET_RMS) -> Iterator[ClipFacts]:
        """The facts of each clip, in order."""
        return self._in_order(partial(measure_all, target_rms=target_rms), requests)

    def pictures(self, requests: Iterable[ClipRequest]) -> Iterator[Picture]:
        """The picture of each clip, in order."""
        return self._in_order(pictures_of, requests)

    def _in_order(
        self, work: Callable[[Sequence[ClipRequest]], list[Result]], requests: Iterable[ClipRequest]
    ) -> Iterator[Result]:
        clips = iter(requests)
        batches = iter(lambda: list(islice(clips, BATCH)), [])
        if not self._pool:
            for batch in batches:
                yield from work(batch)
            return
        pending: deque[Future[list[Result]]] = deque()
        for batch in batches:
            with _for_workers():
                pending.append(self._pool.submit(work, batch))
            if len(pending) >= AHEAD * self._workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


@contextmanager
def _for_workers() -> Iterator[None]:
    """Around `pool.submit`, which starts workers, for what they inherit: a blocked SIGINT, since of the whole group
    that Ctrl-C reaches only the parent decides; and `_ENVIRONMENT`.

    The parent hears of Ctrl-C afterwards: in the middle it would leave a worker with half of what it is to do. Blocking
    is not enough for that, because another thread (of BLAS, say) may receive the signal, and Python then interrupts.
    """
    inherited = {name: os.environ.get(name) for name in _ENVIRONMENT}
    main = threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ENVIRONMENT)
    try:
        with Later() if main else nullcontext():
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
    "PYTHONSAFEPATH": "1",
}
"""Of workers. One thread for BLAS, since there is a worker for each core; glibc keeps the memory of a clip's arrays for
the next clip's, which spares a tenth of the time: the kernel would hand out and clear every page anew; and nothing is
imported from the working folder."""
