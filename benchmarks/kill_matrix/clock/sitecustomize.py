"""A wall clock that can be set: `time.time()` is off by the seconds in the file that KILL_MATRIX_CLOCK names.

On PYTHONPATH of the clock case only. libfaketime cannot do it: under it, `time.sleep` of Python 3.11 fails with EINVAL.
"""

import os
import time

_real = time.time


def _set_time() -> float:
    with open(os.environ["KILL_MATRIX_CLOCK"], encoding="ascii") as file:  # noqa: PTH123 - pathlib is slow to import
        return _real() + float(file.read() or 0)


if "KILL_MATRIX_CLOCK" in os.environ:
    time.time = _set_time
