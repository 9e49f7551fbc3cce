"""Text from outside on its way out: control, escape and bidi characters become visible.

Files and scoring keep text as it is. Whatever prints it passes it through here once.
"""

from __future__ import annotations

import re
import reprlib
import unicodedata

LONGEST_TEXT = 1_000_000
"""Characters of a text in a file of ours: a day of speech has fewer, and messages may show it."""
_ELLIPSIS = "…"
_CONTROL_PICTURES = 0x2400
_DELETE, _DELETE_PICTURE = 0x7F, "␡"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls, format characters (bidi, zero-width, tags), lone surrogates, line and paragraph separators."""


class _Visible(dict[int, str]):
    """Translation table: ESC to ␛, other hidden characters to their escape, e.g. `\\u202e`."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _shown(code)
        return shown


def _shown(code: int) -> str:
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == _DELETE:
        return _DELETE_PICTURE
    # U+FFFE and its like are no characters at all, and XML refuses them.
    if unicodedata.category(chr(code)) in _HIDDEN or code & 0xFFFE == 0xFFFE:
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return chr(code)


_ONE_LINE = _Visible()
_MULTILINE = _Visible({ord("\n"): "\n", ord("\t"): "\t"})


def sanitise(text: str, max_length: int | None = None, *, multiline: bool = False) -> str:
    """`text` with every character that could steer a terminal or hide text made visible.

    New lines and tabs are shown as ␊ and ␉, or kept with `multiline`. A result longer than `max_length`
    characters ends in … at that length, never inside an escape.
    """
    table = _MULTILINE if multiline else _ONE_LINE
    if max_length is None:
        return text.translate(table)
    # Each character gives at least one, so no more than these can be shown.
    pieces = [table[ord(character)] for character in text[: max_length + 1]]
    if sum(map(len, pieces)) <= max_length:
        return "".join(pieces)
    room, kept = max_length - len(_ELLIPSIS), []
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            break
        kept.append(piece)
    return "".join(kept) + _ELLIPSIS[:max_length]


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 80


def quoted(value: object) -> str:
    """`value` of a file, as a message quotes it: like `repr`, but never long."""
    return _BRIEF.repr(value)


# An underscore inside a word (learning_rate) is no emphasis, so it is left readable.
_MARKDOWN = re.compile(r"[\\`*\[\]~$|]|(?<!\w)_|_(?!\w)")
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"})


def escape_markdown(text: str, max_length: int | None = None) -> str:
    """`text` as plain content inside a line of Markdown: sanitised, no markup, HTML or links."""
    text = _MARKDOWN.sub(r"\\\g<0>", sanitise(text, max_length)).translate(_HTML)
    # Bare addresses would become links.
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")


def escape_markdown_cell(text: str, max_length: int | None = None) -> str:
    """`text` as one cell of a Markdown table: `escape_markdown` (it escapes pipes) without outer blanks."""
    return escape_markdown(text.strip(), max_length)
