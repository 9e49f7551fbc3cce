"""Kill everything everywhere: `python -m benchmarks.kill_matrix [--short] [--resume] [--jobs N] [--only TEXT]`.

Real faces, a real supervisor and real trainers on the embedded model are killed with SIGKILL in every phase; every run
must end as the undisturbed one, byte for byte. The full matrix (46 cases, more than 100 kills) takes about 25 minutes
on two quiet cores, `--short` 90 seconds. Exit status 0: every case passed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kill_matrix.cases import Case, all_cases
from benchmarks.kill_matrix.compare import differences, fingerprint
from benchmarks.kill_matrix.kills import NO_CHILD, VICTIMS, Kill
from benchmarks.kill_matrix.material import clips, write_plan
from benchmarks.kill_matrix.world import PHASES, Failed, World

SECOND_ROW = '[[experiment]]\nid = "second"\ntrain.seed = 1\ntrain.steps = 2\ntrain.eval_every = 2\n'


@dataclass(slots=True)
class Outcome:
    """What came of a case."""

    case: str
    passed: bool
    why: str
    seconds: float
    kills: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Run the cases, print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kill_matrix", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--short", action="store_true", help="what CI runs")
    parser.add_argument("--resume", action="store_true", help="leave out what passed in the work folder already")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time; default: %(default)s")
    parser.add_argument(
        "--only", action="append", default=[], metavar="TEXT", help="cases with it in their name; repeatable"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of cases that passed, too")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lora-tui-kill-matrix")
    options = parser.parse_args()
    started = time.monotonic()
    named = [case for case in all_cases() if not options.only or any(text in case.name for text in options.only)]
    cases = [case for case in named if case.short or not options.short]
    work = options.work.absolute()
    if not options.resume:
        shutil.rmtree(work, ignore_errors=True)
    ledger = work / "outcomes.jsonl"
    done = [Outcome(**json.loads(line)) for line in _lines(ledger)]
    passed = {outcome.case for outcome in done if outcome.passed}
    if not (work / "material").exists():
        clips(work / "material")
    reference = _reference(work)
    with ThreadPoolExecutor(options.jobs) as pool:
        todo = [case for case in cases if not case.skipped and case.name not in passed]
        for outcome in pool.map(lambda case: _attempt(case, work, reference, options.keep), todo):
            done.append(outcome)
            with ledger.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            word = "pass" if outcome.passed else "FAIL"
            print(f"{word}  {outcome.seconds:6.1f} s  {outcome.case}  {outcome.why}", flush=True)
    latest = {outcome.case: outcome for outcome in done}
    return _report([latest[c.name] for c in cases if c.name in latest], cases, time.monotonic() - started)


def _reference(work: Path) -> dict[str, str]:
    """The fingerprint of the undisturbed run."""
    stored = work / "reference.json"
    if not stored.exists():
        world = World(work / "undisturbed", write_plan(work / "material"))
        try:
            if world.face().wait(600) != 0:
                raise SystemExit(f"the undisturbed run failed:\n{world.tail('face.log', 2000)}")
            stored.write_text(json.dumps(fingerprint(world.the_run())))
            stored.with_name("reference-no-checkpoints.json").write_text(
                json.dumps(fingerprint(world.the_run(), checkpoints=False))
            )
        finally:
            world.close()
    return dict(json.loads(stored.read_text()))


def _attempt(case: Case, work: Path, reference: dict[str, str], keep: bool) -> Outcome:
    name = case.name.replace(" ", "-").replace("(", "").replace(")", "")
    folder = work / "cases" / name
    shutil.rmtree(folder, ignore_errors=True)
    more = SECOND_ROW if case.rows > 1 else ""
    plan = write_plan(work / "material", f"plan-{name}.toml", case.retries, more)
    world, started = World(folder, plan), time.monotonic()
    kills: list[Kill] = []
    why = ""
    try:
        kills = case.deed(world, random.Random(case.name))
        why = _finish(world, case, reference)
    except Failed as failure:
        why = str(failure)
    except Exception:
        why = traceback.format_exc().strip().replace("\n", " | ")[-600:]
    finally:
        world.close()
    if not why and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = round(time.monotonic() - started, 1)
    return Outcome(case.name, not why, why, seconds, [asdict(kill) for kill in kills])


def _finish(world: World, case: Case, reference: dict[str, str]) -> str:
    """Let the run come to its end; what is wrong with it, or nothing."""
    face = world.face()
    code = face.wait(400)
    if code != 0:
        return f"the last face ended with {code}: {world.tail('face.log')}"
    world.until("quiet", lambda: not world.mine(), 30, 0.1)
    if (state := world.listed()["state"]) != "done":
        return f"`queue list` says {state} of a finished run"
    if world.most_trainers > case.trainers:
        return f"{world.most_trainers} trainers lived at once in one slot"
    folders = [run.name for run in world.runs.runs() if run.name.startswith("k-")]
    if len(folders) != 1:
        return f"one row has the run folders {folders}"
    ours = fingerprint(world.the_run(), checkpoints=case.checkpoints)
    theirs = {name: value for name, value in reference.items() if case.checkpoints or name != "checkpoints.events"}
    other = differences(ours, theirs)
    if other:
        return f"differs from the undisturbed run in {', '.join(other[:5])}{' …' if len(other) > 5 else ''}"
    left = [str(path.relative_to(world.runs.root)) for path in world.the_run().root.rglob("*.tmp")]
    return f"left half done: {', '.join(left)}" if left else ""


def _report(outcomes: list[Outcome], cases: list[Case], seconds: float) -> int:
    kills = [Kill(**kill) for outcome in outcomes for kill in outcome.kills]
    landed = Counter((kill.victim, kill.landed) for kill in kills)
    print("\nkills by the phase in which they landed")
    print("victim".ljust(12) + "".join(phase.rjust(15) for phase in PHASES))
    for victim in (*VICTIMS, "everything"):
        figures = [landed[victim, phase] for phase in PHASES]
        print(victim.ljust(12) + "".join(str(figure or "-").rjust(15) for figure in figures))
    print(f"({NO_CHILD})")
    beside = sum(kill.landed != kill.wanted for kill in kills)
    slow = max((kill.seconds_to_right_state for kill in kills), default=0.0)
    print(
        f"\n{len(kills)} kills, {beside} of them beside the wanted phase and repeated; slowest true state {slow:.1f} s"
    )
    for case in cases:
        if case.skipped:
            print(f"skipped  {case.name}: {case.skipped}")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"FAIL  {outcome.case}: {outcome.why}")
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases passed in {seconds / 60:.1f} min")
    print("FAIL" if failed or not outcomes else "PASS")
    return 1 if failed or not outcomes else 0


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
