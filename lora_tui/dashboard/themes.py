"""Colours of every role that text or a plot's cell can have: a dark, a light and a colour-blind safe theme."""

from __future__ import annotations

from textual.theme import Theme

DEFAULT = "lora-dark"

_DARK = {
    "title": "bold #e6edf3", "strong": "bold", "muted": "#8b949e", "axis": "#6e7681", "cursor": "#d0d7de",
    "train": "#58a6ff", "raw": "#2c4566", "domain": "#d29922", "heldout": "#39c5cf", "bar": "#2f6f75",
    "rate": "#8ddb8c", "norm": "#f0883e", "ship": "#6e7f91", "best": "bold #f0f6fc",
    "window": "#bc8cff", "bad": "bold #ff7b72",
    "line-base": "#8b949e", "line-target": "#3fb950", "line-guardrail": "#ff7b72",
    "pass": "#3fb950", "fail": "bold #ff7b72", "unknown": "#d29922", "active": "#58a6ff",
    "pin-0": "#bc8cff", "pin-1": "#f778ba", "pin-2": "#7ee787", "key": "bold #58a6ff",
    "fixed": "#3fb950", "broken": "bold #ff7b72", "selected": "bold",
}  # fmt: skip
_LIGHT = _DARK | {
    "title": "bold #1f2328", "muted": "#59636e", "axis": "#818b98", "cursor": "#59636e",
    "train": "#0969da", "raw": "#b6d3f5", "domain": "#9a6700", "heldout": "#1b7c83", "bar": "#9fd6da",
    "rate": "#2da44e", "norm": "#bc4c00", "ship": "#8c959f", "best": "bold #1f2328",
    "window": "#8250df", "bad": "bold #cf222e",
    "line-base": "#818b98", "line-target": "#1a7f37", "line-guardrail": "#cf222e",
    "pass": "#1a7f37", "fail": "bold #cf222e", "unknown": "#9a6700", "active": "#0969da",
    "pin-0": "#8250df", "pin-1": "#bf3989", "pin-2": "#2da44e", "key": "bold #0969da",
    "fixed": "#1a7f37", "broken": "bold #cf222e",
}  # fmt: skip
_SAFE = _DARK | {
    # Okabe and Ito's colours: no pair of them needs red and green to be told apart.
    "train": "#56b4e9", "raw": "#2b4a60", "domain": "#e69f00", "heldout": "#f0e442", "bar": "#7a7430",
    "rate": "#009e73", "norm": "#cc79a7",
    "bad": "bold #d55e00", "line-target": "#56b4e9", "line-guardrail": "#d55e00", "window": "#cc79a7",
    "pass": "#56b4e9", "fail": "bold #d55e00", "unknown": "#f0e442", "active": "#56b4e9",
    "pin-0": "#cc79a7", "pin-1": "#009e73", "pin-2": "#f0e442", "fixed": "#56b4e9", "broken": "bold #d55e00",
}  # fmt: skip

ROLES: dict[str, dict[str, str]] = {"lora-dark": _DARK, "lora-light": _LIGHT, "lora-colour-blind": _SAFE}
"""Theme name → role → style of the text."""

_BARS_DARK = {"scrollbar": "#484f58", "scrollbar-hover": "#6e7681", "scrollbar-background": "#161b22"}

THEMES = (
    Theme(
        "lora-dark", primary="#58a6ff", secondary="#bc8cff", accent="#58a6ff", warning="#d29922", error="#ff7b72",
        success="#3fb950", foreground="#d0d7de", background="#0d1117", surface="#0d1117", panel="#161b22", dark=True,
        variables=_BARS_DARK,
    ),
    Theme(
        "lora-light", primary="#0969da", secondary="#8250df", accent="#0969da", warning="#9a6700", error="#cf222e",
        success="#1a7f37", foreground="#1f2328", background="#ffffff", surface="#ffffff", panel="#eff2f5", dark=False,
        variables={"scrollbar": "#afb8c1", "scrollbar-hover": "#818b98", "scrollbar-background": "#eff2f5"},
    ),
    Theme(
        "lora-colour-blind", primary="#56b4e9", secondary="#cc79a7", accent="#56b4e9", warning="#e69f00",
        error="#d55e00", success="#56b4e9", foreground="#d0d7de", background="#0d1117", surface="#0d1117",
        panel="#161b22", dark=True, variables=_BARS_DARK,
    ),
)  # fmt: skip


def style_of(role: str, theme: str, dark: bool) -> str:
    """The style of a role; a theme that is not ours uses the dark or the light colours."""
    colours = ROLES.get(theme) or (_DARK if dark else _LIGHT)
    return colours.get(role, "")
