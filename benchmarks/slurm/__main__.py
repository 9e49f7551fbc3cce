"""Kill a Slurm cluster under a run: `python -m benchmarks.slurm [--only TEXT] [--resume]`.

It starts a real cluster of two nodes on this machine (`cluster.py`), lets runs of the embedded model train there, kills
what takes part in each phase, and compares the end with an undisturbed run on this machine, byte for byte. About
20 minutes. Exit status 0: every case passed; 77: no cluster can be started here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kill_matrix.compare import differences, fingerprint
from benchmarks.kill_matrix.material import clips, write_plan
from benchmarks.kill_matrix.world import Failed, World
from benchmarks.slurm.cases import CASES, Case, Kill
from benchmarks.slurm.cluster import SlurmTestCluster, missing
from benchmarks.slurm.world import TESTS, SlurmWorld, begin, wait_up

SKIPPED = 77
MIN_JOB_AGE_S = 10


@dataclass(slots=True)
class Outcome:
    """What came of a case."""

    case: str
    passed: bool
    why: str
    seconds: float
    kills: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Run the cases, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases with it in their name")
    parser.add_argument("--resume", action="store_true", help="leave out what passed in the work folder already")
    parser.add_argument("--table", action="store_true", help="print what the work folder knows, run nothing")
    parser.add_argument("--fake", action="store_true", help="trainers that only write what trainers write; minutes")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lora-tui-slurm")
    options = parser.parse_args()
    if why := missing():
        print(f"skipped: {why}")
        return SKIPPED
    work = options.work.absolute()
    if not options.resume and not options.table:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    ledger = work / "outcomes.jsonl"
    done = [Outcome(**json.loads(line)) for line in (ledger.read_text().splitlines() if ledger.exists() else ())]
    passed = {outcome.case for outcome in done if outcome.passed}
    wanted = [case for case in CASES if not options.only or any(text in case.name for text in options.only)]
    todo = [] if options.table else [case for case in wanted if case.name not in passed]
    if todo:
        material = FakeMaterial(work / "material") if options.fake else Material(work / "material")
        reference = _reference(work, material)
        shutil.rmtree(work / "cluster", ignore_errors=True)
        with SlurmTestCluster(work / "cluster", min_job_age=MIN_JOB_AGE_S) as cluster:
            os.environ |= cluster.environment  # of supervisors that this process starts
            for case in todo:
                outcome = _attempt(case, work, reference, cluster, material)
                done.append(outcome)
                with ledger.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
                word = "pass" if outcome.passed else "FAIL"
                print(f"{word}  {outcome.seconds:6.1f} s  {outcome.case}  {outcome.why}", flush=True)
                wait_up(cluster)
    latest = {outcome.case: outcome for outcome in done}
    return _report([latest[case.name] for case in wanted if case.name in latest])


class Material:
    """Little of the embedded speech, the embedded model, and a plan of one run `k` on them."""

    fake = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            clips(folder)

    def plan(self, name: str) -> Path:
        """Of one case."""
        return write_plan(self.folder, name)

    def prepare(self, world: World) -> None:
        """Before anything is started."""


class FakeMaterial(Material):
    """What only looks like speech and a model, for FakeTrainers, which take half a minute over a run."""

    fake = True

    def __init__(self, folder: Path) -> None:
        sys.path[:0] = [str(TESTS), str(TESTS / "core" / "queue")]
        from plan_folder import HEAD, PlanFolder  # a kit of the tests

        self.folder, self._head = folder, HEAD
        if not folder.exists():
            folder.mkdir()
            PlanFolder(folder)

    def plan(self, name: str) -> Path:
        """Of one case."""
        queue = 'until = "all"\nretries = 50\npause_after = 0'
        head = self._head.format(queue=queue).replace("steps = 20\neval_every = 5", "steps = 600\neval_every = 200")
        path = self.folder / name
        path.write_text(f'{head}[[experiment]]\nid = "k"\n')
        return path

    def prepare(self, world: World) -> None:
        """Each attempt takes its time."""
        world.runs.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (world.runs.state / "fake.json").write_text('{"k": ["paced"]}')


def _reference(work: Path, material: Material) -> dict[str, str]:
    """The fingerprint of the undisturbed run on this machine, without any cluster."""
    stored = work / "reference.json"
    if not stored.exists():
        world = World(work / "undisturbed", material.plan("plan.toml"))
        material.prepare(world)
        try:
            if begin(world, fake=material.fake).wait(600) != 0:
                raise SystemExit(f"the undisturbed run failed:\n{world.tail('face.log', 2000)}")
            stored.write_text(json.dumps(fingerprint(world.the_run())))
        finally:
            world.close()
    return dict(json.loads(stored.read_text()))


def _attempt(
    case: Case, work: Path, reference: dict[str, str], cluster: SlurmTestCluster, material: Material
) -> Outcome:
    folder = work / "cases" / case.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    plan = material.plan(f"plan-{case.name.replace(' ', '-')}.toml")
    world, started = SlurmWorld(folder, plan, cluster, fake=material.fake), time.monotonic()
    material.prepare(world)
    kills: list[Kill] = []
    try:
        if case.armed:
            world.arm_sbatch()
        world.begin()
        kills.extend(case.deed(world))
        why = _finish(world, case, reference)
    except Failed as failure:
        why = str(failure)
    except Exception:
        why = traceback.format_exc().strip().replace("\n", " | ")[-600:]
    finally:
        world.close()
    return Outcome(case.name, not why, why, round(time.monotonic() - started, 1), [asdict(kill) for kill in kills])


def _finish(world: SlurmWorld, case: Case, reference: dict[str, str]) -> str:
    """Let the run come to its end; what is wrong with it, or nothing."""
    code = world.begin().wait(400)
    if code != 0:
        return f"the last face ended with {code}: {world.tail('face.log')}"
    world.until("the end of the supervisor", lambda: world.supervisor() is None, 120, 0.2)  # it writes the model card
    if (state := world.listed()["state"]) != "done":
        return f"`queue list` says {state} of a finished run"
    if world.most_trainers > case.trainers or world.most_jobs > 1:
        return f"{world.most_trainers} trainers lived at once, in {world.most_jobs} jobs"
    ours = fingerprint(world.the_run(), checkpoints=case.checkpoints)
    theirs = {name: value for name, value in reference.items() if case.checkpoints or name != "checkpoints.events"}
    other = differences(ours, theirs)
    return f"differs from the undisturbed run in {', '.join(other[:5])}" if other else ""


def _report(outcomes: list[Outcome]) -> int:
    kills = [(outcome.case, Kill(**kill)) for outcome in outcomes for kill in outcome.kills]
    print("\n| Killed | While it was | The queue says | After |\n|---|---|---|---|")
    for _, kill in kills:
        print(f"| {kill.what} | {kill.phase} | {kill.state} | {kill.seconds:.1f} s |")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"FAIL  {outcome.case}: {outcome.why}")
    slowest = max((kill.seconds for _, kill in kills), default=0.0)
    print(f"\n{len(kills)} kills in {len(outcomes)} runs, slowest true state {slowest:.1f} s: ", end="")
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs ended as the undisturbed one, byte for byte")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
