"""A progress bar for long work. Quiet where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Called as (done, total); a total of 0 is unknown."""
READING_S = 1.0
"""Reading that takes no longer needs no bar."""


@contextmanager
def progress_bar(what: str, delay_s: float = 0.0) -> Generator[Progress, None, None]:
    """A bar on stderr when that is a terminal; nothing otherwise, nor for what takes less than `delay_s`."""
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    bar = tqdm(desc=what, unit=" clips", disable=not shown, file=sys.stderr, leave=False, delay=delay_s)

    def show(done: int, total: int) -> None:
        bar.total = total or None
        bar.update(done - bar.n)

    with bar:
        yield show
