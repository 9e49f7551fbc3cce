"""Owns stdout: data for pipes. Imports nothing, so that a quick command stays quick."""

from __future__ import annotations

import os
import sys


def write(text: str) -> None:
    """Data to stdout. A reader that closed the pipe early (`| head`) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at its end: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
