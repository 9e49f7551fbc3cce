"""Runs folders in every state that the dashboard shows, for pictures of it: written without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dashboard.material import many_runs
from core.runs.folder import replace_link
from tests.lora_tui.dashboard.recorded import GOOD_DOMAIN, GOOD_HELDOUT, RecordedRun

_TOO_MUCH = {0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}
"""Heldout errors that rise by 2.5 points."""
_SHORT_DOMAIN, _SHORT_HELDOUT = {0: 400, 40: 370, 80: 352, 120: 349}, {0: 100, 40: 101, 80: 101, 120: 102}
_PLAN = """
[[experiment]]
id = "2.1"
title = "DoRA stability run"
adapter.method = "dora"

[[experiment]]
id = "2.2"
title = "attention and MLP"
after = ["2.1"]
when = "(stable and not accepted and falling) or guardrail_broken"
adapter.rank = 32

[[experiment]]
id = "3.1"
title = "a slower one"
after = ["2.1"]
when = "not accepted"
train.learning_rate = 5e-5
"""


@dataclass(frozen=True)
class Scene:
    """One state. `make` writes runs below a folder; `sees` is on the screen when they are read."""

    name: str
    make: Callable[[Path], None]
    sees: str
    plan: str = ""


def _run(root: Path, **options: object) -> RecordedRun:
    return RecordedRun(root, **options)  # type: ignore[arg-type]


def _spike(root: Path) -> None:
    _run(root, title="one step at 9.0").train(1000, spike_at=400).finish()


def _nan(root: Path) -> None:
    _run(root, title="one step was NaN").train(1000, nan_at=300).finish()


def _rejected(root: Path) -> None:
    _run(root, title="costs too much", heldout=_TOO_MUCH).train(1000).finish()


def _would_fail(root: Path) -> None:
    _run(root, title="costs too much", heldout=_TOO_MUCH).train(760)


def _cannot_pass(root: Path) -> None:
    run = _run(root, title="a plan of 120 steps", steps=120, domain=_SHORT_DOMAIN, heldout=_SHORT_HELDOUT).train(100)
    replace_link(run.paths.root, run.paths.best, "adapters/step-000080")


def _cjk(root: Path) -> None:
    _run(root, title="領域適応 한국어 日本語 中文 αβγ é", domain=GOOD_DOMAIN, heldout=GOOD_HELDOUT).train(1000).finish(
        "評価 100 % 完了\n一二三四五六七八九十 漢字とかな 한국어 로그\n"
    )


SCENES = (
    Scene("not-started", lambda root: root.mkdir(), "2.1", _PLAN),
    Scene("training", lambda root: _run(root).train(180) and None, "training"),
    Scene("would-pass", lambda root: _run(root).train(760) and None, "training"),
    Scene("would-fail", _would_fail, "training"),
    Scene("cannot-pass", _cannot_pass, "cannot pass"),
    Scene("accepted", lambda root: _run(root).train(1000).finish() and None, "✓ accepted"),
    Scene("rejected", _rejected, "✗ rejected"),
    Scene("30-runs", lambda root: many_runs(root, 30), "✓ accepted"),
    Scene("1000-runs", lambda root: many_runs(root, 1000), "✓ accepted"),
    Scene("spike", _spike, "✓ accepted"),
    Scene("nan", _nan, "✓ accepted"),
    Scene("cjk", _cjk, "✓ accepted"),
)
