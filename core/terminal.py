"""What the locale's terminal can show: under one that is not UTF-8 the program's own signs go out in plain ASCII."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping

PLAIN = {
    **{"✓": "+", "✗": "x", "✕": "x", "×": "x", "≥": ">", "≤": "<", "–": "-", "−": "-", "→": ">", "↔": "=", "★": "*"},
    **{"●": "o", "·": "-", "…": "~", "±": "~", "▲": "^", "▼": "v", "▸": ">", "─": "-", "━": "=", "┄": "-", "│": "|"},
    **{"└": "+", "├": "+", "┌": "+", "┊": ":", "○": "0", "☆": "!", "◆": "@", "◇": "%", "’": "'", "␡": "?"},
    **{"↑": "^", "↓": "v", "←": "<"},
    **{"▁": "_", "▂": ".", "▃": "-", "▄": "=", "▅": "+", "▆": "*", "▇": "%", "█": "#"},
}
"""Each sign of the program's own, and one of ASCII: as wide, so that what follows stays in its column."""
_OTHERWISE = {"≥ ": ">=", "≤ ": "<=", "± ": "+-", "…": "..."}
"""Where there is room, what is read more easily; the dashboard has none to spare for dots."""
_PYTHONS_GUESS = "C.UTF-8"
"""What Python sets LC_CTYPE to where the locale is C: it does not make the terminal one of UTF-8."""


def is_utf8(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the locale is one of UTF-8, or says nothing. `PYTHONUTF8` and `PYTHONIOENCODING` overrule it."""
    if environ.get("PYTHONUTF8") == "1":
        return True
    told = environ.get("PYTHONIOENCODING", "").partition(":")[0]
    if not told:
        names = [environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
        if names[:2] == ["", _PYTHONS_GUESS] and names[2] in ("C", "POSIX"):
            names[1] = ""
        told = next((name for name in names if name), "UTF-8")
    return "utf8" in told.lower().replace("-", "")


def prepare_streams(*, data: bool = False) -> None:
    """No print fails for a character, nor for a stream that is closed, and nothing that the terminal cannot show goes
    to it.

    Under a locale that is not UTF-8 the program's own signs become ASCII; other characters go out as their escapes, or,
    where Python writes UTF-8 nevertheless and a file or pipe reads it, as they are. `data`: stdout has only data.
    """
    _open_closed_streams()
    utf8 = is_utf8()
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if not utf8 and not (data and stream is sys.stdout and not stream.isatty()):
            writes_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            keep = writes_utf8 and not stream.isatty()
            errors = _KEEPING if keep else _SHOWING
            stream.reconfigure(encoding="ascii" if writes_utf8 else None, errors=errors)
        elif stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """Where whoever starts the command closed a stream (`>&-`, some daemons), /dev/null takes its place.

    Python leaves None there, and the next file that is opened gets its number: that of what children write to.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _own_signs(error: UnicodeError) -> tuple[str, int] | None:
    """The ASCII for a sign of the program's own, where an encoder stopped, and where it goes on; None for others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, start = error.object, error.start
    for length in (2, 1):
        if shown := _OTHERWISE.get(text[start : start + length]):
            return shown, start + length
    plain = PLAIN.get(text[start])
    return (plain, start + 1) if plain else None


def _show(error: UnicodeError) -> tuple[str | bytes, int]:
    found = _own_signs(error)
    return found or codecs.backslashreplace_errors(_first(error))


def _keep(error: UnicodeError) -> tuple[str | bytes, int]:
    found = _own_signs(error)
    if found:
        return found
    first = _first(error)
    return first.object[first.start : first.end].encode("utf-8", "backslashreplace"), first.end


def _first(error: UnicodeError) -> UnicodeEncodeError:
    """The error for its first character alone: the next one may be a sign of the program's own."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 - _own_signs raised for others
    return UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)


_SHOWING, _KEEPING = "lora_tui_show", "lora_tui_keep"
codecs.register_error(_SHOWING, _show)
codecs.register_error(_KEEPING, _keep)
