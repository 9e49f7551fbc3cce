"""How an accepted adapter is taken away: where it lies, its hash, and the commands that load, merge and hear it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from core.runs.judged import Judged, commands
from core.scoring.evidence import Decision


@dataclass(frozen=True, slots=True)
class Part:
    """A heading and what stands below it, ready to be copied into a shell, or into Python."""

    title: str
    lines: tuple[str, ...]


def how_to_ship(judged: Judged) -> tuple[Part, ...]:
    """In the order in which one needs it; nothing for a run that was not accepted."""
    artifact, paths = judged.evidence.artifact, judged.snapshot.paths
    if judged.verdict.decision is not Decision.ACCEPTED or artifact is None:
        return ()
    model = judged.snapshot.settings.get("model")
    base, revision = (model.get("id"), model.get("revision")) if isinstance(model, Mapping) else (None, None)
    adapter = str(paths.best.absolute())
    named = ", ".join(filter(None, (json.dumps(str(base)), f"revision={json.dumps(revision)}" if revision else "")))
    again = dict(commands(judged.snapshot, paths))
    return (
        Part("Adapter", (adapter, f"hash {artifact.current_hash}, step {judged.verdict.best_step}")),
        Part(
            "Load it in Python (peft)",
            (
                "import transformers",
                "from peft import PeftModel",
                f"config = transformers.AutoConfig.from_pretrained({named})",
                f"base = getattr(transformers, config.architectures[0]).from_pretrained({named})",
                f"model = PeftModel.from_pretrained(base, {json.dumps(adapter)})",
            ),
        ),
        Part(
            "Merge it into the base model, and hear that",
            (_shell("lora-cli", "merge", str(paths.root), "-o", "merged"),),
        ),
        Part("Transcribe with it", (_shell("lora-cli", "transcribe", "talk.wav", "--adapter", adapter),)),
        Part("Score it again", tuple(text for name, text in again.items() if name.endswith("score again"))),
        Part("Judge it again from its files", (again["Verdict again"],)),
    )


def _shell(*words: str) -> str:
    return shlex.join(words)
