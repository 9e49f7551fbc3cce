"""Plans and runs in every state that the dashboard shows, for pictures of it: written without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks.dashboard.material import many_runs
from core.manifests.hashing import HashCache
from core.queue.execution import PlanExecution
from core.queue.gpu.available import NO_SLOT
from core.queue.journal import Journal, Start, Submitted, Wait
from core.queue.requests import Target
from core.runs.folder import replace_link
from core.system.locks import KernelLock
from core.system.process import current_process
from tests.core.queue.plan_folder import PlanFolder
from tests.lora_tui.dashboard.recorded import GOOD_DOMAIN, GOOD_HELDOUT, RecordedRun

_TOO_MUCH = {0: 100, 250: 104, 500: 112, 750: 119, 1000: 125}
"""Heldout errors that rise by 2.5 points."""
_SHORT_DOMAIN, _SHORT_HELDOUT = {0: 400, 40: 370, 80: 352, 120: 349}, {0: 100, 40: 101, 80: 101, 120: 102}
_PLAN = """
[[experiment]]
id = "2.1"
title = "DoRA stability run"
adapter.method = "dora"
train.steps = {steps}
train.eval_every = {every}

[[experiment]]
id = "2.2"
title = "attention and MLP"
after = ["2.1"]
when = "(stable and not accepted and falling) or guardrail_broken"
train.steps = 1000
train.eval_every = 250
adapter.rank = 32

[[experiment]]
id = "3.1"
title = "a slower one"
after = ["2.1"]
when = "not accepted"
train.steps = 1000
train.eval_every = 250
train.learning_rate = 5e-5
"""


@dataclass(frozen=True)
class Scene:
    """One state. `make` writes runs, of the plan where there is one, and gives what is held while it is shown."""

    name: str
    make: Callable[[PlanFolder], KernelLock | None]
    sees: str
    """On the screen when all is read."""
    plan: str = _PLAN.format(steps=1000, every=250)
    until: str = "accepted"
    """`queue.until` of the plan."""


def _first_run(folder: PlanFolder, **options: object) -> RecordedRun:
    """The run of the plan's first row."""
    return _run_of(_execution(folder), "2.1", **options)


def _execution(folder: PlanFolder) -> PlanExecution:
    execution = PlanExecution(folder.submission(), folder.runs, HashCache(folder.runs.hash_cache))
    execution.assign_all()
    return execution


def _run_of(execution: PlanExecution, key: str, **options: object) -> RecordedRun:
    """The run of a row of the plan."""
    first = execution.assigned[key]
    resolved = first.resolved
    planned = {"settings": asdict(resolved.settings), "hashes": resolved.hashes, "lines": resolved.lines}
    options = {"title": first.row.title, "steps": first.row.settings.train.steps} | options
    root, experiment = execution.runs.root, first.row.experiment
    return RecordedRun(root, experiment, first.identity, planned=planned, **options)  # type: ignore[arg-type]


def _at_work(folder: PlanFolder, run: RecordedRun, row: str = "2.1") -> KernelLock | None:
    """A queue with a supervisor that has started the run, whose trainer seems to be this process."""
    submission = folder.db.submit(folder.submission())
    log, name = Journal(folder.runs.decisions), submission.id
    log.append(Submitted(submission=name, plan=str(folder.plan)))
    process = current_process().to_json()
    log.append(Start(submission=name, row=row, run=run.paths.name, reason="in the plan's order", process=process))
    log.append(Wait(submission=name, reason=NO_SLOT))
    folder.runs.supervisor_lock.parent.mkdir(parents=True, exist_ok=True)
    return KernelLock.acquire(folder.runs.supervisor_lock)


def _trains(until: int, **options: object) -> Callable[[PlanFolder], KernelLock | None]:
    return lambda folder: _at_work(folder, _first_run(folder, **options).train(until))


def _ended(**options: object) -> Callable[[PlanFolder], None]:
    return lambda folder: _first_run(folder, **options).train(1000).finish() and None


def _cannot_pass(folder: PlanFolder) -> KernelLock | None:
    run = _first_run(folder, domain=_SHORT_DOMAIN, heldout=_SHORT_HELDOUT).train(100)
    replace_link(run.paths.root, run.paths.best, "adapters/step-000080")
    return _at_work(folder, run)


def _spike(folder: PlanFolder) -> None:
    _first_run(folder, title="one step at 9.0").train(1000, spike_at=400).finish()


def _nan(folder: PlanFolder) -> None:
    _first_run(folder, title="one step was NaN").train(1000, nan_at=300).finish()


def _cjk(folder: PlanFolder) -> None:
    run = _first_run(folder, domain=GOOD_DOMAIN, heldout=GOOD_HELDOUT).train(1000)
    run.finish("評価 100 % 完了\n一二三四五六七八九十 漢字とかな 한국어 로그\n")


def _queue_waits(folder: PlanFolder) -> KernelLock | None:
    """One run trains, others wait for their turn and for what it comes to, one is held."""
    run = _first_run(folder).train(180)
    lock = _at_work(folder, run)
    [submission] = folder.db.open_submissions()
    folder.db.ask("hold", [Target(submission.id, "3.2")], "held on request")
    return lock


def _thirty(folder: PlanFolder) -> KernelLock | None:
    """A sweep of 30 rates, of which the higher ones gain more and cost more: 17 have ended, one trains."""
    execution = _execution(folder)
    keys = [row.key for row in execution.rows]
    for number, key in enumerate(keys[:18]):
        gain = {step: error - 10 - 2 * number for step, error in GOOD_DOMAIN.items() if step}
        cost = {step: error + number - 3 for step, error in GOOD_HELDOUT.items() if step}
        run = _run_of(execution, key, domain={0: GOOD_DOMAIN[0]} | gain, heldout={0: GOOD_HELDOUT[0]} | cost)
        if number == 17:
            return _at_work(folder, run.train(760), key)
        run.train(1000).finish()
    return None


_RATES = ", ".join(f"{(n + 1) * 5e-6:.3g}" for n in range(30))
_SWEEP = f"""
[[experiment]]
id = "2.1"
title = "learning rate"
train.steps = 1000
train.eval_every = 250
sweep."train.learning_rate" = [{_RATES}]
"""
_MORE = """
[[experiment]]
id = "3.2"
title = "half the rate"
train.steps = 1000
train.eval_every = 250
train.learning_rate = 2e-5

[[experiment]]
id = "4.1"
title = "more replay"
train.steps = 1000
train.eval_every = 250
train.seed = 1
"""

SCENES = (
    Scene("not-started", lambda folder: folder.runs.root.mkdir(), "2.1"),
    Scene("training", _trains(180), "training"),
    Scene("would-pass", _trains(760), "training"),
    Scene("would-fail", _trains(760, heldout=_TOO_MUCH), "training"),
    Scene("cannot-pass", _cannot_pass, "cannot pass", _PLAN.format(steps=120, every=40)),
    Scene("queue-waits", _queue_waits, "training", _PLAN.format(steps=1000, every=250) + _MORE),
    Scene("accepted", _ended(), "✓ accepted"),
    Scene("rejected", _ended(heldout=_TOO_MUCH), "✗ rejected"),
    Scene("30-runs", _thirty, "✗ rejected", _SWEEP, "all"),
    Scene("1000-runs", lambda folder: many_runs(folder.runs.root, 1000), "✓ accepted", ""),
    Scene("spike", _spike, "✓ accepted"),
    Scene("nan", _nan, "✓ accepted"),
    Scene(
        "cjk",
        _cjk,
        "✓ accepted",
        _PLAN.replace("DoRA stability run", "領域適応 한국어 日本語 中文 αβγ é").format(steps=1000, every=250),
    ),
)
