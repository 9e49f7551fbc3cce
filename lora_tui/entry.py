"""Sees that `core` is ours before anything imports from it, and is where `lora-cli` begins.

The package installs `core` beside `lora_tui`, a name that other projects use, too. One that is found first, or that was
installed over ours, would end each command in an ImportError that names neither.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

_BAD_USAGE = 4
"""`core.errors.ExitCode.BAD_USAGE`, which may not be there."""
_OURS = Path(__file__).resolve().parents[1] / "core"


def check() -> None:
    """End the command with exit code 4 where `core` is another's, saying where it lies and what to do."""
    problem = clash()
    if problem is not None:
        sys.stderr.write(f"lora-tui: {problem}\n")
        raise SystemExit(_BAD_USAGE)


def clash() -> str | None:
    """What is wrong with the `core` that would be imported; None: it is ours."""
    spec = importlib.util.find_spec("core")
    if spec is None:
        return f"its package `core` is missing in {_OURS.parent}: install lora-tui again"
    found = Path(spec.origin).resolve().parent if spec.origin is not None else _first_folder(spec)
    if found != _OURS:
        return (
            f"another package `core` is found before its own: {str(found)!r}, before {_OURS}. Take its folder out of "
            f"PYTHONPATH and start lora-tui from another folder, or {_elsewhere()}"
        )
    try:
        owner = getattr(importlib.import_module("core"), "OWNER", None)
    except Exception:  # whatever the other package does when it is imported
        owner = None
    if owner == "lora-tui":
        return None
    from importlib import metadata  # which takes as long as all else here, and only this sentence needs

    others = sorted(set(metadata.packages_distributions().get("core", ())) - {"lora-tui"})
    by = ", ".join(others) or "another package"
    return f"its package {_OURS} was overwritten by {by}, which calls its own `core`, too: {_elsewhere()}"


def lora_cli() -> int:
    """The command `lora-cli`. It begins here because importing `lora_tui` has seen to it that `core` is ours."""
    main = importlib.import_module("core.cli.__main__").main
    return int(main())


def _elsewhere() -> str:
    return (
        "install lora-tui into an environment of its own: `pipx install 'lora-tui[corpus]'` or "
        "`uv tool install 'lora-tui[corpus]'`"
    )


def _first_folder(spec: importlib.machinery.ModuleSpec) -> Path | None:
    """Where a package without `__init__.py` lies."""
    return next((Path(place).resolve() for place in spec.submodule_search_locations or ()), None)
