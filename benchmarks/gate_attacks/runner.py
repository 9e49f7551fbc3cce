"""Cases in their order: attack, ask the gate, ask one more command, and say what went wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.gate_attacks.attacks import EVIDENCE, Attack
from benchmarks.gate_attacks.cases import Done, command, figures, fresh, tree
from benchmarks.gate_attacks.material import Material
from benchmarks.gate_attacks.plan_attacks import PLANS


class Truth(Enum):
    """When the gate may still accept the run `a` after an attack. It may never accept `r`."""

    SAME_FIGURES = "with its true figures alone"
    NEVER = "never: the plan names other data, another model or other settings"


@dataclass
class Found:
    """What came of one case."""

    number: int
    attack: str
    target: str
    said: str
    code: int = 0
    failures: list[str] = field(default_factory=list)
    unnoticed: bool = False
    """`a` was accepted, with its true figures."""
    seconds: float = 0.0


def draw(random: Random) -> tuple[Attack, Truth, str]:
    """(an attack, when `a` may still be accepted, the run that is judged)"""
    attacks = [*EVIDENCE, *PLANS]
    [(attack, _)] = random.choices(attacks, [weight for _, weight in attacks])
    if any(attack is known for known, _ in PLANS):
        return attack, Truth.NEVER, "a"
    return attack, Truth.SAME_FIGURES, random.choice(("a", "r"))


def attacked(material: Material, folder: Path, number: int, truth: dict[str, Any]) -> Found:
    """Run the case of this number."""
    case = fresh(material, folder, number)
    attack, allowed, case.target = draw(case.random)
    with_state, required = case.random.random() < 0.5, case.random.random() < 0.5
    second = case.random.choice(("verify", "status", "prune", "card"))
    # A second copy and some odd files need the run where it was: what is not possible is another case.
    said = attack(case)
    found = Found(number, attack.__name__, case.target, said)
    before = tree(case.outside)
    gate = ["--headless", str(case.plan), "--gate", "--no-train", "--accept", case.target, "--json"]
    first = command(case, [*gate, *(["--require-data"] if required else [])], with_state)
    found.code, found.seconds = first.code, first.seconds
    found.failures += [f"gate: {fault}" for fault in first.faults]
    if first.code == 0:
        _accepted(found, first, allowed, required, truth)
    run = str(case.run)
    other = command(
        case,
        {
            "verify": ["verify", run],
            "status": ["status", str(case.plan), "--json"],
            "prune": ["queue", "prune", "--all", "--adapters", "--yes"],
            "card": ["export", "card", run],
        }[second],
        with_state,
    )
    found.failures += [f"{second}: {fault}" for fault in other.faults]
    # Other thresholds in run.json are what verify judges by; looser ones it says aloud.
    loosened = attack.__name__ == "thresholds" and "looser than the default" in other.out
    if second == "verify" and other.code == 0 and case.target == "r" and not loosened:
        found.failures.append("verify accepts a run that was rejected")
    after = tree(case.outside)
    if after != before:
        changed = sorted(name for name in before | after if before.get(name) != after.get(name))
        found.failures.append(f"{second} or the gate changed outside/{', '.join(changed[:3])}")
    return found


def _accepted(found: Found, gate: Done, allowed: Truth, required: bool, truth: dict[str, Any]) -> None:
    if found.target == "r":
        found.failures.append("FALSE ACCEPTANCE of a run that is rejected")
        return
    document = json.loads(gate.out)
    # What is not here can only be named, unless it was required.
    named = any("Not compared" in remark for remark in document["remarks"])
    if allowed is Truth.NEVER and (required or not named):
        found.failures.append("FALSE ACCEPTANCE by a plan that names something else")
        return
    if figures(document, "a") != truth:
        found.failures.append("FALSE ACCEPTANCE with figures that are not the run's")
        return
    found.unnoticed = True


def worker(arguments: tuple[Path, Path, Sequence[int], dict[str, Any]]) -> list[Found]:
    """The cases of these numbers, one after another."""
    material, folder, numbers, truth = arguments
    _load()
    found = []
    for number in numbers:
        try:
            found.append(attacked(Material(material), folder, number, truth))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            # the attack itself was not possible on this copy
            found.append(Found(number, "impossible", "", f"{type(error).__name__}: {error}"))
        if found[-1].failures:
            last = found[-1]
            print(f"case {number} {last.attack} ({last.target}) {last.said}: {'; '.join(last.failures)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _load() -> None:
    """Import what the commands import, so that forked processes have it."""
    import core.queue.report
    import core.runs.verify
    import core.scoring.assess
    import core.scoring.significance
    import lora_tui.__main__
    import lora_tui.export_command
    import lora_tui.headless
    import lora_tui.queue_command
    import lora_tui.status_command
    import lora_tui.verify_command

    _ = (core.queue.report, core.runs.verify, core.scoring.assess, core.scoring.significance, lora_tui.__main__)
    _ = (lora_tui.export_command, lora_tui.headless, lora_tui.queue_command, lora_tui.status_command)
